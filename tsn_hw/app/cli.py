"""The command line. Each command reads, calls one function, and prints; bad input is one line and exit code 2."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tsn_hw import __version__
from tsn_hw.errors import SettingsError, TsnError

EXIT_DIFFERENT = 1
EXIT_BAD_INPUT = 2
DEFAULT_DEVICE = "xc7z020"

Result = tuple[str, Any, int]
"""What a command prints as text, the same as data for --json, and its exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 fine, 1 engines differ or a model is not supported, 2 bad input."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], Result] = options.command
    try:
        text, data, code = command(options)
    except (TsnError, OSError, MemoryError) as error:
        print(f"tsn-hw: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("tsn-hw: interrupted; training goes on with --resume", file=sys.stderr)
        return 130
    try:
        print(json.dumps(data, indent=1) if options.json else text, flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; what is left must not be flushed again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tsn-hw",
        description="TinySubNets on hardware: one network, many tasks, the same integers in every engine.",
        epilog="Start with 'tsn-hw demo'. Every command explains itself with --help. Exit code 2: bad input.",
    )
    parser.add_argument("--version", action="version", version=f"tsn-hw {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    demo = _command(commands, "demo", _demo, "the whole chain on bundled data, verified, in a few minutes")
    demo.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="folder for everything (default: %(default)s)"
    )
    demo.add_argument("--resume", action="store_true", help="go on where an interrupted demo stopped")
    _training_options(demo)

    train = _command(commands, "train", _train, "learn every task of a settings file, freeze, save")
    train.add_argument("settings", type=Path, help="TOML file; see examples/ and docs/training.md")
    train.add_argument("-o", "--out", type=Path, required=True, help="folder of the run; holds net.tsn at the end")
    train.add_argument("--resume", action="store_true", help="go on where a killed run stopped; ends in the same bytes")
    _training_options(train)

    show = _command(commands, "show", _show, "banks, tasks, bits per weight, sparsity, capacity, seals")
    show.add_argument("network", type=Path, help=".tsn file")

    onnx = _command(commands, "onnx", _onnx, "write one ONNX graph a task for stock onnxruntime, or check them")
    onnx.add_argument("network", type=Path, nargs="?", help=".tsn file")
    target = onnx.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--out", type=Path, help="folder for task_00.onnx, task_01.onnx ...")
    target.add_argument("--check", type=Path, metavar="FOLDER", help="check digests and golden logits of a folder")
    onnx.add_argument("--shared", action="store_true", help="keep the words of all tasks in one file, banks.bin")
    onnx.add_argument("--folded", action="store_true", help="also write decoded graphs: they start faster")
    onnx.add_argument(
        "--flavour",
        choices=["stock", "quant", "multithreshold"],
        default="stock",
        help="stock: for onnxruntime; quant: QONNX for qonnx and hls4ml; multithreshold: QONNX for FINN; the last two "
        "go into a folder qonnx of their own (default: %(default)s)",
    )
    onnx.add_argument(
        "--form",
        action="append",
        default=[],
        metavar="[LAYER=]FORM",
        help="how a layer, or every one, computes: quantized, float32 or integer (default: the fastest exact one)",
    )
    onnx.add_argument(
        "--replace", action="store_true", help="replace a banks.bin that other graphs read, and remove those graphs"
    )

    run = _command(commands, "run", _run, "classes of images from an exported graph alone")
    run.add_argument("graph", type=Path, help="task_00.onnx ...; a shared banks.bin lies beside it")
    run.add_argument("input", type=Path, nargs="+", help="image of the size that the graph takes, or .npy file")

    check = _command(
        commands, "check", _check, "whether a network, a run or a model of another tool is supported; exit 1 if not"
    )
    check.epilog = (
        "Every problem is told at once, with what to change. The data of settings must be there; a network of their "
        "size, drawn at random, is held against the back ends. Of an .onnx model every operator is judged."
    )
    check.add_argument(
        "model", type=Path, help=".tsn network; .toml settings, before training; or .onnx model of another tool"
    )

    check.add_argument(
        "--device", default=DEFAULT_DEVICE, help="part that hardware is sized for (default: %(default)s)"
    )

    _hls_options(_command(commands, "hls", _hls, "write an HLS accelerator project: C++, test bench, scripts, driver"))

    _cost_options(_command(commands, "cost", _cost, "operations, memory, energy, and the accelerator on a part"))
    _memory_options(_command(commands, "memories", _memories, "write the memories of an accelerator, or check them"))

    rtl = _command(commands, "rtl", _rtl, "write the accelerator in SystemVerilog, for simulation and synthesis")
    rtl.epilog = "docs/rtl.md explains the folder, the registers and the streams."
    rtl.add_argument("network", type=Path, help=".tsn file")
    rtl.add_argument("-o", "--out", type=Path, required=True, help="folder of the project; an earlier one is replaced")
    rtl.add_argument(
        "--folding", type=Path, required=True, help="PE, SIMD and memories of every unit, as in build/hls/folding.json"
    )

    synth = _command(commands, "synth", _synth, "synthesize an RTL project with yosys; resources beside the estimate")
    synth.add_argument("folder", type=Path, help="folder that tsn-hw rtl wrote")
    synth.add_argument("--target", choices=["xc7", "ecp5", "ice40"], required=True, help="family of parts")

    simulate = _command(commands, "simulate", _simulate, "integer inference and accuracy of one task")
    simulate.add_argument("network", type=Path, help=".tsn file")
    simulate.add_argument("--task", type=int, required=True, help="number of the task, from 0")
    source = simulate.add_mutually_exclusive_group()
    source.add_argument("--run", type=Path, help="training run whose test data is used (default: the file's folder)")
    source.add_argument("--input", type=Path, help=".npy file: uint8 images, or integers of the input format")

    sweep = _command(commands, "sweep", _sweep, "many bit-widths from one trained run: accuracy against cost")
    sweep.add_argument("settings", type=Path, help="TOML file; see examples/digits_sweep.toml and docs/sweep.md")
    sweep.add_argument("-o", "--out", type=Path, required=True, help="folder; a sweep that was stopped goes on in it")
    sweep.add_argument("--engine", choices=("processes", "dask"), default="processes", help="(default: %(default)s)")
    sweep.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes here (default: one a processor)")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster, such as tcp://127.0.0.1:8786")
    sweep.add_argument("--parquet", action="store_true", help="also write the table as a Parquet file")
    sweep.add_argument("--quiet", action="store_true", help="no progress bars")

    verify = _command(
        commands, "verify", _verify, "every engine against every other, bit for bit; exit 1 at the first difference"
    )
    verify.add_argument("network", type=Path, help=".tsn file")
    verify.add_argument("--run", type=Path, help="training run beside it (default: the file's folder, if it is one)")
    verify.add_argument("--samples", type=int, default=64, help="adversarial inputs a task (default: %(default)s)")
    verify.add_argument("--images", type=int, default=256, help="test images a task, with a run (default: %(default)s)")
    verify.add_argument("-o", "--out", type=Path, help="also write the result as JSON here")
    verify.add_argument("--quiet", action="store_true", help="no progress bars")
    verify.add_argument(
        "--rtl", type=Path, metavar="FOLDING", help="also simulate the RTL with this folding; slow, a few inputs a task"
    )

    paper = _command(
        commands, "bench", _bench_paper, "the paper's experiments, our figures beside the published ones; resumable"
    )
    paper.add_argument("suite", choices=["paper"], help="the experiments: the paper's tables")
    paper.add_argument("--preset", type=Path, required=True, help="settings file; see examples/ and docs/results.md")
    paper.add_argument("-o", "--out", type=Path, help="folder of runs and tables (default: build/paper/PRESET)")
    paper.add_argument(
        "--tables", default="1-8", help="such as 1-8 or 3,5,9; 9 compares methods (default: %(default)s)"
    )
    paper.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... (default: %(default)s)")
    _training_options(paper)
    return parser


def _command(commands: Any, name: str, function: Callable[..., Result], help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, description=f"{name}: {help_text}.")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=function)
    return parser


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _hls_options(hls: argparse.ArgumentParser) -> None:
    hls.epilog = (
        "'make csim' in the folder simulates it with g++ alone; its README.md says how to build, integrate and run it. "
        "The folding that was chosen is printed and kept in folding.json: change it, and give it back with --folding. "
        "docs/hls.md explains everything."
    )
    hls.add_argument("network", type=Path, help=".tsn file")
    hls.add_argument("-o", "--out", type=Path, required=True, help="folder of the project; an earlier one is replaced")
    hls.add_argument(
        "--device", default=DEFAULT_DEVICE, help="part that it must fit, of sim/devices.toml (default: %(default)s)"
    )
    hls.add_argument("--part", help="the same in full for the vendor's tools, with package and speed grade")
    hls.add_argument("--clock-mhz", type=float, help="clock of the accelerator (default: the device's)")
    hls.add_argument(
        "--limit-percent", type=float, help="share of every resource that the search may take (default: 80)"
    )
    folding = hls.add_mutually_exclusive_group()
    folding.add_argument(
        "--target-fps", type=float, help="smallest design of this rate (default: the fastest that fits)"
    )
    folding.add_argument("--folding", type=Path, help="take PE, SIMD, memories and masks from this file")
    hls.add_argument(
        "--masks",
        choices=["deep", "runtime", "none"],
        help="all tasks on chip, one at a time, or no masks (default: deep)",
    )
    hls.add_argument("--max-tasks", type=int, help="room for so many tasks (default: those of the network)")
    hls.add_argument("--samples", type=int, default=16, help="golden inputs a task (default: %(default)s)")
    hls.add_argument(
        "--patch",
        type=Path,
        metavar="OLD",
        help="write what the network adds to the memories of an accelerator that was built for this earlier one, with "
        "the same --folding, and the proof that earlier tasks read none of it",
    )


def _memory_options(memories: argparse.ArgumentParser) -> None:
    memories.epilog = (
        "memories.json in the folder says what every address and bit means; docs/word-format.md is the standard."
    )
    memories.add_argument("network", type=Path, nargs="?", help=".tsn file")
    target = memories.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--out", type=Path, help="folder for fc1.words.mem, fc1.mask.mem ... and memories.json")
    target.add_argument("--check", type=Path, metavar="FOLDER", help="check every file of a folder")
    memories.add_argument(
        "--folding", type=Path, help="PE, SIMD and masks of every layer, as in build/hls/folding.json"
    )
    memories.add_argument("--formats", metavar="mem,coe,...", help="formats to write (default: all)")


def _cost_options(cost: argparse.ArgumentParser) -> None:
    cost.epilog = (
        "Without --device: operations and memory beside float32. With it also cycles, area and what binds, for the "
        "folding of a file, the smallest of a rate, or the fastest that fits. docs/cost.md has every formula."
    )
    cost.add_argument("network", type=Path, nargs="?", help=".tsn file")
    cost.add_argument("--devices", action="store_true", help="list the parts instead, with their source")
    cost.add_argument("--device", help="part, as --devices lists them")
    cost.add_argument("--device-file", type=Path, help="TOML file with further parts, or changes to ours")
    folding = cost.add_mutually_exclusive_group()
    folding.add_argument("--target-fps", type=float, help="take the smallest folding of this rate")
    folding.add_argument("--folding", type=Path, help="take PE, SIMD, memories and masks from this file")
    cost.add_argument(
        "--save-folding", type=Path, metavar="FILE", help="write the folding, for --folding of tsn-hw hls"
    )
    cost.add_argument("--clock-mhz", type=float, help="clock of the accelerator (default: the device's)")
    cost.add_argument(
        "--limit-percent", type=float, help="share of every resource that the search may take (default: 80)"
    )
    cost.add_argument(
        "--masks",
        choices=["deep", "runtime", "none"],
        help="all tasks on chip, one at a time, or no masks (default: deep)",
    )
    cost.add_argument("--max-tasks", type=int, help="room for so many tasks (default: those of the network)")
    cost.add_argument(
        "--float-factor",
        type=float,
        default=9.0,
        help="what a float32 operation counts against 8 bits (default: %(default)g)",
    )
    cost.add_argument("--skip-zeros", action="store_true", help="count only products by weights that a task uses")
    cost.add_argument("--energy", type=Path, help="TOML file with other energies than sim/energy.toml")
    cost.add_argument("--coefficients", type=Path, help="JSON file with other coefficients than sim/coefficients.json")


def _demo(options: argparse.Namespace) -> Result:
    from tsn_hw.app.demo import report, run_demo

    result = run_demo(options.out, options.resume, options.quiet, options.device)
    return report(result, options.out), result.summary(), 0 if result.verification.passed else EXIT_DIFFERENT


def _train(options: argparse.Namespace) -> Result:
    from tsn_hw.app.commands import train_run

    return *train_run(options.settings, options.out, options.device, options.resume, options.quiet), 0


def _show(options: argparse.Namespace) -> Result:
    from tsn_hw.app.commands import show

    return *show(options.network), 0


def _onnx(options: argparse.Namespace) -> Result:
    from tsn_hw.app.deploy import check_graphs, read_forms, write_graphs, write_qonnx_graphs

    if (options.network is None) == (options.check is None):
        raise SettingsError("onnx: takes a network and --out, or --check alone")
    if options.flavour != "stock":
        for option in ("check", "shared", "folded", "replace", "form"):
            if getattr(options, option):
                raise SettingsError(f"--flavour {options.flavour}: --{option} is for stock graphs only")
        return *write_qonnx_graphs(options.network, options.out, options.flavour), 0
    if options.check is not None:
        return *check_graphs(options.check), 0
    if options.replace and not options.shared:
        raise SettingsError("--replace: only --shared writes a bank file")
    forms = read_forms(options.form)
    return *write_graphs(options.network, options.out, options.shared, options.folded, options.replace, forms), 0


def _run(options: argparse.Namespace) -> Result:
    from tsn_hw.app.deploy import run_on_files

    return *run_on_files(options.graph, options.input), 0


def _check(options: argparse.Namespace) -> Result:
    from sim.devices import device
    from tsn_hw.app.check import check_model

    checked = check_model(options.model, device(options.device))
    return checked.to_text(), checked.to_json(), 0 if checked.is_supported else EXIT_DIFFERENT


def _hls(options: argparse.Namespace) -> Result:
    from tsn_hw.app.hardware import write_project
    from tsn_hw.app.memories import write_patch

    wishes = _wishes(options, options.part)
    if options.patch is not None:
        if options.folding is None:
            raise SettingsError("--patch: needs the --folding that the accelerator was built with")
        return *write_patch(options.patch, options.network, options.folding, options.out), 0
    if options.samples < 1:
        raise SettingsError(f"--samples {options.samples}: must be at least 1")
    return *write_project(options.network, options.out, wishes, options.samples), 0


def _wishes(options: argparse.Namespace, part: str | None = None) -> Any:
    """What is asked of the hardware; options of the search do not go with a folding file."""
    from tsn_hw.app.hardware import HardwareWishes

    searched = {name: getattr(options, name) for name in _SEARCHED}
    given = [f"--{name.replace('_', '-')}" for name, value in searched.items() if value is not None]
    if options.folding is not None and given:
        raise SettingsError(f"{given[0]}: is for the search; the file of --folding says everything about the units")
    searched = {name: value for name, value in searched.items() if value is not None}
    return HardwareWishes(options.device, part, options.clock_mhz, options.folding, options.target_fps, **searched)


_SEARCHED = ("masks", "max_tasks", "limit_percent")


def _cost(options: argparse.Namespace) -> Result:
    from sim.cost import Rules
    from tsn_hw.app.costs import CostFiles, cost, list_devices

    if options.devices == (options.network is not None):
        raise SettingsError("cost: takes a network, or --devices alone")
    if options.devices:
        return *list_devices(options.device_file), 0
    wishes = None if options.device is None else _wishes(options)
    for name in ("target_fps", "folding", "save_folding", "clock_mhz", "device_file", "coefficients", *_SEARCHED):
        if options.device is None and getattr(options, name) is not None:
            raise SettingsError(f"--{name.replace('_', '-')}: is about an accelerator; name its part with --device")
    rules = Rules(options.float_factor, options.skip_zeros)
    files = CostFiles(options.device_file, options.energy, options.coefficients)
    return *cost(options.network, wishes, rules, files, options.save_folding), 0


def _memories(options: argparse.Namespace) -> Result:
    from export.memory_formats import MEMORY_FORMATS
    from tsn_hw.app.memories import check_memory_files, write_memory_files

    if options.check is not None:
        if (options.network, options.folding, options.formats) != (None, None, None):
            raise SettingsError("memories: --check takes a folder alone")
        return *check_memory_files(options.check), 0
    if options.network is None or options.folding is None:
        raise SettingsError("memories: takes a network, --folding and --out, or --check alone")
    formats = tuple(MEMORY_FORMATS) if options.formats is None else options.formats.split(",")
    return *write_memory_files(options.network, options.folding, options.out, formats), 0


def _rtl(options: argparse.Namespace) -> Result:
    from tsn_hw.app.rtl import write_rtl_project

    return *write_rtl_project(options.network, options.folding, options.out), 0


def _synth(options: argparse.Namespace) -> Result:
    from tsn_hw.app.rtl import synthesize_project

    return *synthesize_project(options.folder, options.target), 0


def _simulate(options: argparse.Namespace) -> Result:
    from tsn_hw.app.commands import simulate

    return *simulate(options.network, options.task, options.run, options.input), 0


def _sweep(options: argparse.Namespace) -> Result:
    from tsn_hw.app.sweep.engines import dask_cluster, processes
    from tsn_hw.app.sweep.run import run_sweep, told

    if options.jobs < 1:
        raise SettingsError(f"--jobs {options.jobs}: must be at least 1")
    if (options.engine == "dask") != (options.scheduler is not None):
        raise SettingsError("--engine dask and --scheduler go together")
    engine = processes(options.jobs) if options.scheduler is None else dask_cluster(options.scheduler)
    sweep = run_sweep(options.settings, options.out, engine, options.parquet, options.quiet)
    return *told(sweep, options.out), 0


def _verify(options: argparse.Namespace) -> Result:
    from tsn_hw.app.commands import verify_network

    for name in ("samples", "images"):
        if getattr(options, name) < 1:
            raise SettingsError(f"--{name} {getattr(options, name)}: must be at least 1")
    text, data = verify_network(
        options.network, options.run, options.samples, options.images, options.out, options.quiet, options.rtl
    )
    return text, data, 0 if data["passed"] else EXIT_DIFFERENT


def _bench_paper(options: argparse.Namespace) -> Result:
    from tsn_hw.app.paper import bench_paper

    if options.seeds < 1:
        raise SettingsError(f"--seeds {options.seeds}: must be at least 1")
    out = options.out or Path("build/paper") / options.preset.stem
    tables = _numbers(options.tables, "--tables")
    return *bench_paper(options.preset, out, tables, options.seeds, options.device, options.quiet), 0


def _numbers(text: str, option: str) -> set[int]:
    """The numbers that a list of numbers and ranges names.

    >>> sorted(_numbers("1-3,7", "--tables"))
    [1, 2, 3, 7]
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part.strip())
        if ends is None or int(ends[2] or ends[1]) < int(ends[1]):
            raise SettingsError(f"{option} {text!r}: must be numbers and ranges, such as 1-3,7")
        found |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found


if __name__ == "__main__":
    sys.exit(main())
