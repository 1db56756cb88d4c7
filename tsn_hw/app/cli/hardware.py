"""The commands around hardware: check, hls, cost, memories, rtl, synth, board, calibrate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tsn_hw.app.cli.command import (
    DeviceOptions,
    EstimatedDeviceOptions,
    Family,
    File,
    Folder,
    Out,
    Rate,
    flag,
    real,
    whole,
)
from tsn_hw.app.output import CommandResult
from tsn_hw.core.errors import SettingsError

if TYPE_CHECKING:
    from tsn_hw.app.hardware.choose import HardwareRequest
    from tsn_hw.app.hardware.platform import Platform


@Parameter(name="*")
@dataclass(frozen=True)
class VendorPart(EstimatedDeviceOptions):
    """The options that name a part for the vendor's tools."""

    part: str | None = None
    """the part in full, with package and speed grade, for the vendor's tools (default: the device's)"""


@Parameter(name="*")
@dataclass(frozen=True)
class AcceleratorOptions:
    """What is asked of an accelerator on a part."""

    clock_mhz: Annotated[float | None, real(1, 1000)] = None
    """clock of the accelerator (default: the device's)"""
    folding: File | None = None
    """take PE, SIMD, memories and masks from this file"""
    target_fps: Rate | None = None
    """smallest design of this rate (default: the fastest)"""
    limit_percent: Annotated[float | None, real(0.1, 100)] = None
    """share of every resource that the search may take (default: 80)"""
    masks: Literal["deep", "runtime", "none"] | None = None
    """deep: all tasks on chip, as without this option; runtime: one at a time; none: no masks"""
    layout: Literal["dense", "lists", "auto"] | None = None
    """auto: in every layer the better of both, as without this option; dense: a word at every place; lists: of the used
    weights, so that no cycle goes to others"""
    multiplier: Literal["auto", "any"] | None = None
    """auto: one for every product, of what the synthesis tool chooses; any, as without this option: where DSPs limit
    the design, also of LUTs, or one DSP for two products"""
    max_tasks: Annotated[int | None, whole(1, 1024)] = None
    """room for so many tasks (default: those of the network)"""

    def request(self, platform: Platform) -> HardwareRequest:
        """The same for hardware of a platform; options of the search do not go with a folding file."""
        from tsn_hw.app.hardware.choose import HardwareRequest

        searched = {name: value for name, value in vars(self).items() if value is not None}
        clock_mhz, folding = searched.pop("clock_mhz", None), searched.pop("folding", None)
        if folding is not None and searched:
            raise SettingsError(
                f"{flag(next(iter(searched)))}: is for the search; the file of --folding says everything about the "
                "units"
            )
        return HardwareRequest(platform, clock_mhz, folding, **searched)


def check(model: File, /, *, part: EstimatedDeviceOptions = EstimatedDeviceOptions()) -> CommandResult:
    """Whether a network, a run or a model of another tool is supported; exit 1 if not.

    Every problem is told at once, with what to change. The data of settings must be there; a network of their size,
    drawn at random, is held against the back ends, on an xc7z020 without --device. Of an .onnx model every operator
    is judged.

    Args:
        model: .tsn network; .toml settings, before training; or .onnx model of another tool
    """
    from tsn_hw.app.check.network import check_model

    return check_model(model, part.platform()).result()


def hls(
    network: File,
    /,
    *,
    out: Out,
    part: VendorPart = VendorPart(),
    design: AcceleratorOptions = AcceleratorOptions(),
    samples: Annotated[int, whole(1, 10**4)] = 16,
    patch: Annotated[File | None, Parameter(metavar="OLD")] = None,
) -> CommandResult:
    """Write an HLS accelerator project: C++, test bench, scripts, driver.

    'make csim' in the folder simulates it with g++ alone; its README.md says how to build, integrate and run it. The
    folding that was chosen is printed and kept in folding.json: change it, and give it back with --folding. Without
    --device it is for an xc7z020, or for the device of --part. docs/hls.md explains everything.

    Args:
        network: .tsn file
        out: folder of the project; an earlier one is replaced
        samples: golden inputs a task
        patch: write what the network adds to the memories of an accelerator that was built for this earlier one, with
            the same --folding, and the proof that earlier tasks read none of it
    """
    from tsn_hw.app.hardware.choose import write_project
    from tsn_hw.app.hardware.memories import write_patch

    request = design.request(part.platform(part=part.part))
    if patch is None:
        return write_project(network, out, request, samples)
    if design.folding is None:
        raise SettingsError("--patch: needs the --folding that the accelerator was built with")
    return write_patch(patch, network, design.folding, out)


@Parameter(name="*")
@dataclass(frozen=True)
class Counting:
    """How operations and energy are counted."""

    float_factor: Annotated[float, real(1e-3, 1e6)] = 9.0
    """what a float32 operation counts against 8 bits"""
    skip_zeros: bool = False
    """count only products by weights that a task uses"""
    energy: File | None = None
    """TOML file with other energies than sim/energy.toml"""


@Parameter(name="*")
@dataclass(frozen=True)
class CostTarget:
    """What the network runs on."""

    target: Literal["hardware", "c"] = "hardware"
    """an accelerator, or C on a microcontroller"""
    optimize: Literal["size", "balanced", "speed"] | None = None
    """of C: what decides how weights lie in flash, as for tsn-hw c (default: balanced)"""
    save_folding: File | None = None
    """write the folding, for --folding of tsn-hw hls"""


def cost(
    network: File | None = None,
    /,
    *,
    devices: bool = False,
    part: EstimatedDeviceOptions = EstimatedDeviceOptions(),
    design: AcceleratorOptions = AcceleratorOptions(),
    counting: Counting = Counting(),
    of: CostTarget = CostTarget(),
) -> CommandResult:
    """Operations, memory, energy, and the accelerator on a part; or flash, RAM and cycles of a microcontroller.

    Without --device: operations and memory beside float32. With it also cycles, area and what binds, for the folding
    of a file, the smallest of a rate, or the fastest that fits. docs/cost.md has every formula.

    Args:
        network: .tsn file
        devices: list the parts instead, with their source
    """
    from sim.cost import Rules
    from tsn_hw.app.hardware.costs import cost, list_devices
    from tsn_hw.app.hardware.microcontroller import c_cost

    if devices == (network is not None):
        raise SettingsError("cost: takes a network, or --devices alone")
    if network is None:
        return list_devices(part.device_file)
    part.require_device(coefficients=part.coefficients, save_folding=of.save_folding, **vars(design))
    if of.target == "c":
        if part.device is not None or counting != Counting():
            raise SettingsError("cost --target c: knows no --device and nothing of how operations are counted")
        return c_cost(network, of.optimize or "balanced")
    if of.optimize is not None:
        raise SettingsError("--optimize: is about C; add --target c")
    request = None if part.device is None else design.request(part.platform())
    rules = Rules(counting.float_factor, counting.skip_zeros)
    return cost(network, request, rules, counting.energy, of.save_folding)


def memories(
    network: File | None = None,
    /,
    *,
    out: Out | None = None,
    check: Folder | None = None,
    folding: File | None = None,
    formats: Annotated[str | None, Parameter(metavar="mem,coe,...")] = None,
) -> CommandResult:
    """Write the memories of an accelerator, or check them.

    memories.json in the folder says what every address and bit means; docs/word-format.md is the standard.

    Args:
        network: .tsn file
        out: folder for fc1.words.mem, fc1.mask.mem ... and memories.json
        check: check every file of a folder
        folding: PE, SIMD and masks of every layer, as in build/hls/folding.json
        formats: formats to write (default: all)
    """
    from export.memories.formats import MEMORY_FORMATS
    from tsn_hw.app.hardware.memories import check_memory_files, write_memory_files

    if check is not None:
        if (network, out, folding, formats) != (None, None, None, None):
            raise SettingsError("memories: --check takes a folder alone")
        return check_memory_files(check)
    if network is None or folding is None or out is None:
        raise SettingsError("memories: takes a network, --folding and --out, or --check alone")
    chosen = tuple(MEMORY_FORMATS) if formats is None else formats.split(",")
    return write_memory_files(network, folding, out, chosen)


def rtl(
    network: File, /, *, out: Out, folding: File, part: EstimatedDeviceOptions = EstimatedDeviceOptions()
) -> CommandResult:
    """Write the accelerator in SystemVerilog, for simulation and synthesis.

    It is estimated on an xc7z020, an ecp5-85 and an ice40-hx8k; --device names another part of its family. docs/rtl.md
    explains the folder, the registers and the streams.

    Args:
        network: .tsn file
        out: folder of the project; an earlier one is replaced
        folding: PE, SIMD and memories of every unit, as in build/hls/folding.json
    """
    from tsn_hw.app.hardware.platform import platform
    from tsn_hw.app.hardware.rtl import PARTS, write_rtl_project

    def estimated(name: str) -> Platform:
        return platform(name, None, part.device_file, part.coefficients)

    platforms = {family: estimated(name) for family, name in PARTS.items()}
    if part.device is not None:
        asked = estimated(part.device)
        family = asked.device.family_name
        if family not in platforms:
            raise SettingsError(f"device {part.device!r}: is of family {family}; RTL is for {', '.join(platforms)}")
        platforms[family] = asked
    return write_rtl_project(network, folding, out, platforms)


def synth(
    folder: Folder,
    /,
    *,
    target: Family,
    part: DeviceOptions = DeviceOptions(),
    place_and_route: bool = False,
    seed: Annotated[int | None, whole(0, 2**31 - 1)] = None,
) -> CommandResult:
    """Synthesize an RTL project with yosys; resources beside the estimate.

    It is held against an xc7z020, ecp5-85 or ice40-hx8k without --device. With --place-and-route nextpnr makes a
    bitstream and tells the clock that is reached; all ports are on pins of its choice. docs/rtl.md tells what is
    counted, and which tools it takes.

    Args:
        folder: folder that tsn-hw rtl wrote
        target: family of parts
        place_and_route: on to a bitstream, with nextpnr: ecp5, ice40
        seed: of placement, with --place-and-route (default: 1)
    """
    from tsn_hw.app.hardware.platform import platform
    from tsn_hw.app.hardware.rtl import PARTS
    from tsn_hw.app.hardware.synth import synthesize_project

    if seed is not None and not place_and_route:
        raise SettingsError("--seed: is about placement; it goes with --place-and-route")
    placed = None if not place_and_route else 1 if seed is None else seed
    device = platform(part.device or PARTS[target], device_file=part.device_file).device
    return synthesize_project(folder, target, device, placed)


def board(
    network: File,
    /,
    *,
    out: Out,
    board: Annotated[str, Parameter(metavar="NAME")],
    folding: File | None = None,
    board_file: File | None = None,
) -> CommandResult:
    """From a network to a bitstream for a board, by open tools alone, with a driver for its host.

    Boards: ulx3s, colorlight-i5, icebreaker, ice40hx8k-b-evn. The host classifies over the board's serial line, with a
    program that runs the whole board in simulation, too. Where a tool is missing the project is written all the same.
    docs/boards.md tells more.

    Args:
        network: .tsn file
        out: folder of the project; an earlier one is replaced
        board: name of the board
        folding: take PE, SIMD and memories from this file (default: the smallest that is as fast as the line)
        board_file: TOML file with further boards, in the form of hls_templates/boards/boards.toml
    """
    from tsn_hw.app.hardware.board import write_board

    return write_board(network, out, board, folding, board_file)


def calibrate(
    *,
    out: Out,
    runs: File,
    target: tuple[Family, ...] = ("xc7", "ecp5", "ice40"),
    trials: Annotated[int, whole(1, 10**4)] = 48,
) -> CommandResult:
    """Fit the estimates of LUTs and flip-flops to syntheses of one's own yosys.

    Small accelerators are synthesized, half a minute each, and kept in the file of --runs: what was interrupted goes
    on there. The coefficients are for --coefficients of tsn-hw cost and tsn-hw rtl; docs/cost.md tells more.

    Args:
        out: JSON file for the coefficients
        runs: file of runs, a line a synthesis
        target: family, may be repeated (default: all)
        trials: accelerators a family
    """
    from tsn_hw.app.hardware.calibrate import calibrate

    return calibrate(runs, out, list(dict.fromkeys(target)), trials)
