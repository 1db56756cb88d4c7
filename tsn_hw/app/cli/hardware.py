"""The commands around hardware: check, hls, cost, memories, rtl, synth."""

from __future__ import annotations

import argparse
from typing import Any

from tsn_hw.app.cli.command import (
    DEFAULT_DEVICE,
    RATE,
    Result,
    add_command,
    add_platform_options,
    path,
    real,
    require_device,
    whole,
)
from tsn_hw.core.errors import SettingsError


def add_hardware_commands(commands: Any) -> None:
    """Add them to the parser's commands."""
    check = add_command(
        commands, "check", _check, "whether a network, a run or a model of another tool is supported; exit 1 if not"
    )
    check.epilog = (
        "Every problem is told at once, with what to change. The data of settings must be there; a network of their "
        "size, drawn at random, is held against the back ends. Of an .onnx model every operator is judged."
    )
    check.add_argument(
        "model", type=path, help=".tsn network; .toml settings, before training; or .onnx model of another tool"
    )
    add_platform_options(check, "part that hardware is sized for", DEFAULT_DEVICE)

    _hls_options(
        add_command(commands, "hls", _hls, "write an HLS accelerator project: C++, test bench, scripts, driver")
    )

    _cost_options(add_command(commands, "cost", _cost, "operations, memory, energy, and the accelerator on a part"))
    _memory_options(add_command(commands, "memories", _memories, "write the memories of an accelerator, or check them"))

    rtl = add_command(commands, "rtl", _rtl, "write the accelerator in SystemVerilog, for simulation and synthesis")
    rtl.epilog = "docs/rtl.md explains the folder, the registers and the streams."
    rtl.add_argument("network", type=path, help=".tsn file")
    rtl.add_argument("-o", "--out", type=path, required=True, help="folder of the project; an earlier one is replaced")
    rtl.add_argument(
        "--folding",
        type=path,
        required=True,
        help="PE, SIMD and memories of every unit, as in build/hls/folding.json",
    )
    add_platform_options(rtl, "part to estimate in its family, instead of xc7z020, ecp5-85 or ice40-hx8k")

    _synth_options(
        add_command(commands, "synth", _synth, "synthesize an RTL project with yosys; resources beside the estimate")
    )
    calibrate = add_command(
        commands,
        "calibrate",
        _calibrate,
        "fit the estimates of LUTs and flip-flops to syntheses of one's own yosys",
        interrupted="the same command goes on where it was",
    )
    calibrate.epilog = (
        "Small accelerators are synthesized, half a minute each, and kept in the file of --runs: what was interrupted "
        "goes on there. The coefficients are for --coefficients of tsn-hw cost and tsn-hw rtl; docs/cost.md tells more."
    )
    calibrate.add_argument("-o", "--out", type=path, required=True, help="JSON file for the coefficients")
    calibrate.add_argument("--runs", type=path, required=True, help="file of runs, a line a synthesis")
    calibrate.add_argument(
        "--target", choices=["xc7", "ecp5", "ice40"], action="append", help="family, may be repeated (default: all)"
    )
    calibrate.add_argument(
        "--trials", type=whole(1, 10**4), default=48, help="accelerators a family (default: %(default)s)"
    )


def _synth_options(synth: argparse.ArgumentParser) -> None:
    synth.epilog = (
        "With --place-and-route nextpnr makes a bitstream and tells the clock that is reached; all ports are on pins "
        "of its choice. docs/rtl.md tells what is counted, and which tools it takes."
    )
    synth.add_argument("folder", type=path, help="folder that tsn-hw rtl wrote")
    synth.add_argument("--target", choices=["xc7", "ecp5", "ice40"], required=True, help="family of parts")
    what = "part that it is held against (default: xc7z020, ecp5-85, ice40-hx8k)"
    add_platform_options(synth, what, estimates=False)
    synth.add_argument("--place-and-route", action="store_true", help="on to a bitstream, with nextpnr: ecp5, ice40")
    synth.add_argument("--seed", type=whole(0, 2**31 - 1), help="of placement, with --place-and-route (default: 1)")


def _hls_options(hls: argparse.ArgumentParser) -> None:
    hls.epilog = (
        "'make csim' in the folder simulates it with g++ alone; its README.md says how to build, integrate and run it. "
        "The folding that was chosen is printed and kept in folding.json: change it, and give it back with --folding. "
        "docs/hls.md explains everything."
    )
    hls.add_argument("network", type=path, help=".tsn file")
    hls.add_argument("-o", "--out", type=path, required=True, help="folder of the project; an earlier one is replaced")
    add_platform_options(hls, "part that it must fit", f"{DEFAULT_DEVICE}, or that of --part")
    hls.add_argument(
        "--part", help="the part in full, with package and speed grade, for the vendor's tools (default: the device's)"
    )
    _accelerator_options(hls)
    hls.add_argument("--samples", type=whole(1, 10**4), default=16, help="golden inputs a task (default: %(default)s)")
    hls.add_argument(
        "--patch",
        type=path,
        metavar="OLD",
        help="write what the network adds to the memories of an accelerator that was built for this earlier one, with "
        "the same --folding, and the proof that earlier tasks read none of it",
    )


def _memory_options(memories: argparse.ArgumentParser) -> None:
    memories.epilog = (
        "memories.json in the folder says what every address and bit means; docs/word-format.md is the standard."
    )
    memories.add_argument("network", type=path, nargs="?", help=".tsn file")
    target = memories.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--out", type=path, help="folder for fc1.words.mem, fc1.mask.mem ... and memories.json")
    target.add_argument("--check", type=path, metavar="FOLDER", help="check every file of a folder")
    memories.add_argument(
        "--folding", type=path, help="PE, SIMD and masks of every layer, as in build/hls/folding.json"
    )
    memories.add_argument("--formats", metavar="mem,coe,...", help="formats to write (default: all)")


def _cost_options(cost: argparse.ArgumentParser) -> None:
    cost.epilog = (
        "Without --device: operations and memory beside float32. With it also cycles, area and what binds, for the "
        "folding of a file, the smallest of a rate, or the fastest that fits. docs/cost.md has every formula."
    )
    cost.add_argument("network", type=path, nargs="?", help=".tsn file")
    cost.add_argument("--devices", action="store_true", help="list the parts instead, with their source")
    add_platform_options(cost, "part that an accelerator is put on")
    _accelerator_options(cost)
    cost.add_argument(
        "--save-folding", type=path, metavar="FILE", help="write the folding, for --folding of tsn-hw hls"
    )
    cost.add_argument(
        "--float-factor",
        type=real(1e-3, 1e6),
        default=9.0,
        help="what a float32 operation counts against 8 bits (default: %(default)g)",
    )
    cost.add_argument("--skip-zeros", action="store_true", help="count only products by weights that a task uses")
    cost.add_argument("--energy", type=path, help="TOML file with other energies than sim/energy.toml")


def _accelerator_options(parser: argparse.ArgumentParser) -> None:
    """What is asked of an accelerator on a part; :func:`_wishes` reads it."""
    parser.add_argument("--clock-mhz", type=real(1, 1000), help="clock of the accelerator (default: the device's)")
    parser.add_argument(
        "--limit-percent", type=real(0.1, 100), help="share of every resource that the search may take (default: 80)"
    )
    folding = parser.add_mutually_exclusive_group()
    folding.add_argument("--target-fps", type=RATE, help="smallest design of this rate (default: the fastest)")
    folding.add_argument("--folding", type=path, help="take PE, SIMD, memories and masks from this file")
    parser.add_argument(
        "--masks",
        choices=["deep", "runtime", "none"],
        help="all tasks on chip, one at a time, or no masks (default: deep)",
    )
    parser.add_argument(
        "--max-tasks", type=whole(1, 1024), help="room for so many tasks (default: those of the network)"
    )


def _check(options: argparse.Namespace) -> Result:
    from tsn_hw.app.check.network import check_model
    from tsn_hw.app.hardware.platform import platform_of

    result = check_model(options.model, platform_of(options)).result()
    return *result, result.exit_code


def _hls(options: argparse.Namespace) -> Result:
    from tsn_hw.app.hardware.choose import write_project
    from tsn_hw.app.hardware.memories import write_patch

    wishes = _wishes(options)
    if options.patch is not None:
        if options.folding is None:
            raise SettingsError("--patch: needs the --folding that the accelerator was built with")
        return *write_patch(options.patch, options.network, options.folding, options.out), 0
    return *write_project(options.network, options.out, wishes, options.samples), 0


def _wishes(options: argparse.Namespace) -> Any:
    """What is asked of the hardware; options of the search do not go with a folding file."""
    from tsn_hw.app.hardware.choose import HardwareRequest
    from tsn_hw.app.hardware.platform import platform_of

    searched = {name: getattr(options, name) for name in _SEARCHED}
    given = [f"--{name.replace('_', '-')}" for name, value in searched.items() if value is not None]
    if options.folding is not None and given:
        raise SettingsError(f"{given[0]}: is for the search; the file of --folding says everything about the units")
    searched = {name: value for name, value in searched.items() if value is not None}
    return HardwareRequest(platform_of(options), options.clock_mhz, options.folding, options.target_fps, **searched)


_SEARCHED = ("masks", "max_tasks", "limit_percent")


def _cost(options: argparse.Namespace) -> Result:
    from sim.cost import Rules
    from tsn_hw.app.hardware.costs import cost, list_devices

    if options.devices == (options.network is not None):
        raise SettingsError("cost: takes a network, or --devices alone")
    if options.devices:
        return *list_devices(options.device_file), 0
    wishes = None if options.device is None else _wishes(options)
    about = ("target_fps", "folding", "save_folding", "clock_mhz", "device_file", "coefficients", *_SEARCHED)
    require_device(options, about)
    rules = Rules(options.float_factor, options.skip_zeros)
    return *cost(options.network, wishes, rules, options.energy, options.save_folding), 0


def _memories(options: argparse.Namespace) -> Result:
    from export.memories.formats import MEMORY_FORMATS
    from tsn_hw.app.hardware.memories import check_memory_files, write_memory_files

    if options.check is not None:
        if (options.network, options.folding, options.formats) != (None, None, None):
            raise SettingsError("memories: --check takes a folder alone")
        return *check_memory_files(options.check), 0
    if options.network is None or options.folding is None:
        raise SettingsError("memories: takes a network, --folding and --out, or --check alone")
    formats = tuple(MEMORY_FORMATS) if options.formats is None else options.formats.split(",")
    return *write_memory_files(options.network, options.folding, options.out, formats), 0


def _rtl(options: argparse.Namespace) -> Result:
    from tsn_hw.app.hardware.platform import platform_of
    from tsn_hw.app.hardware.rtl import PARTS, write_rtl_project

    platforms = {family: platform_of(options, part) for family, part in PARTS.items()}
    if options.device is not None:
        asked = platform_of(options)
        family = asked.device.family_name
        if family not in platforms:
            raise SettingsError(f"device {options.device!r}: is of family {family}; RTL is for {', '.join(platforms)}")
        platforms[family] = asked
    return *write_rtl_project(options.network, options.folding, options.out, platforms), 0


def _calibrate(options: argparse.Namespace) -> Result:
    from tsn_hw.app.hardware.calibrate import calibrate

    targets = options.target or ["xc7", "ecp5", "ice40"]
    return *calibrate(options.runs, options.out, list(dict.fromkeys(targets)), options.trials), 0


def _synth(options: argparse.Namespace) -> Result:
    from tsn_hw.app.hardware.platform import platform_of
    from tsn_hw.app.hardware.rtl import PARTS
    from tsn_hw.app.hardware.synth import synthesize_project

    if options.seed is not None and not options.place_and_route:
        raise SettingsError("--seed: is about placement; it goes with --place-and-route")
    seed = None if not options.place_and_route else 1 if options.seed is None else options.seed
    part = platform_of(options, options.device or PARTS[options.target])
    return *synthesize_project(options.folder, options.target, part.device, seed), 0
