"""From a network to a hardware project: folding chosen or read, estimated, golden data, scripts, driver, reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from export import GoldenRun, write_hls
from export.hls.driver import driver_json, golden_npz
from export.hls.scripts import TEMPLATES, Target, render, scripts
from export.memories.files import memory_files
from export.project.folding_json import final_config_json, folding_json
from sim.resources import RESOURCE_NAMES, Estimate, Resources, UnitEstimate, capacities, clock_of, estimate_resources
from sim.search import Found, SearchLimits, search_folding
from tsn_hw.app.deploy.verify import adversarial_integers
from tsn_hw.app.hardware.platform import Platform, folding_of
from tsn_hw.app.output import Block, CommandResult, Note, Table, Value, table_text
from tsn_hw.core import artifact, reference
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError, SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Layout, MaskMode, Multiplier
from tsn_hw.hardware.pipeline import accelerator

GOLDEN_INPUTS = 8
"""Golden inputs of a task in the driver's data; the test bench has as many as the command asks for."""
BLOCK_BITS, ULTRA_BITS = 18 * 1024, 288 * 1024


@dataclass(frozen=True)
class HardwareRequest:
    """What a user asks of the hardware.

    folding: a file that says everything about the units; otherwise the folding is searched for: the smallest that
    makes ``target_fps`` inferences a second, or the fastest. layout: of the words of all units, or "auto": in every
    unit the one with which the search finds that. multiplier: "any" lets the search choose what multiplies.
    """

    platform: Platform
    clock_mhz: float | None = None
    folding: Path | None = None
    target_fps: float | None = None
    masks: MaskMode = "deep"
    max_tasks: int = 0
    limit_percent: float = 80.0
    layout: Layout | Literal["auto"] = "auto"
    multiplier: Literal["auto", "any"] = "any"


@dataclass(frozen=True)
class Chosen:
    """An accelerator, its estimate on a part, and how its folding was found."""

    accelerator: Accelerator
    estimate: Estimate
    how: str


def write_project(path: Path, folder: Path, request: HardwareRequest, samples: int) -> CommandResult:
    """Write the HLS project of a network, and tell what was chosen; FoldingError if it is too large for the part."""
    net, platform = artifact.load(path), request.platform
    if not platform.part:
        raise SettingsError(
            f"device {platform.device.name!r}: is none that Vitis HLS builds for; tsn-hw rtl writes SystemVerilog for "
            "every part"
        )
    target = Target(platform.part, clock_of(platform.device, request.clock_mhz))
    chosen = choose(net, request)
    if not chosen.estimate.fits:
        raise FoldingError(f"{chosen.how}: {too_large(chosen.estimate)}; fold more, or choose a larger --device")
    golden = [golden_run(net, task, samples) for task in range(len(net.tasks))]
    write_hls(chosen.accelerator, folder, golden=golden, extra_files=_extra_files(chosen, target, golden))
    return _result(chosen, target, folder)


def choose(net: PackedNetwork, request: HardwareRequest) -> Chosen:
    """The accelerator of a folding file, or the one that the search finds."""
    part, coefficients = request.platform.device, request.platform.coefficients
    if request.folding is not None:
        made = accelerator(net, folding_of(request.folding, net))
        estimate = estimate_resources(made, part, clock_mhz=request.clock_mhz, coefficients=coefficients)
        return Chosen(made, estimate, f"folding as {request.folding} says")
    found = _searched(net, request)
    wish = "fastest" if request.target_fps is None else f"smallest of {request.target_fps:g} inferences a second"
    how = f"folding chosen by search: the {wish} within {request.limit_percent:g} % of {part.name}"
    return Chosen(found.accelerator, found.estimate, how)


def _searched(net: PackedNetwork, request: HardwareRequest) -> Found:
    """What the search finds; where it finds nothing, the error says whether fewer masks on chip would help."""
    try:
        return search_folding(
            net,
            request.platform.device,
            target_fps=request.target_fps,
            mask=request.masks,
            max_tasks=request.max_tasks,
            limits=SearchLimits(
                request.limit_percent,
                request.clock_mhz,
                request.platform.coefficients,
                get_args(Layout) if request.layout == "auto" else (request.layout,),
                get_args(Multiplier) if request.multiplier == "any" else (request.multiplier,),
            ),
        )
    except FoldingError as error:
        if request.masks != "deep":
            raise
        try:
            _searched(net, replace(request, masks="runtime"))
        except FoldingError:
            raise error from None
        raise FoldingError(f"{error}; with --masks runtime, one task at a time on chip, there is one") from error


def golden_run(net: PackedNetwork, task: int, samples: int) -> GoldenRun:
    """Adversarial inputs of a task with all that follows from them in the int64 loop."""
    x = adversarial_integers(net, samples, seed=task)
    return GoldenRun(task, x, reference.run(net, task, x))


# --------------------------------------------------------------------------------------------------------------- files


def _extra_files(chosen: Chosen, target: Target, golden: Sequence[GoldenRun]) -> dict[str, bytes]:
    """Path and content of everything around the firmware: memories, scripts, driver, reports, README."""
    made, estimate = chosen.accelerator, chosen.estimate
    net = made.net
    texts = {
        "README.md": readme(chosen, target),
        "folding.json": folding_json(made.settings, net),
        "final_hw_config.json": final_config_json(made),
        "driver/driver.py": (TEMPLATES / "driver" / "driver.py").read_text(),
        "driver/accelerator.json": driver_json(
            made, target.clock_mhz, estimate.interval_cycles, estimate.latency_cycles, can_abort=False
        ),
        **{f"scripts/{name}": text for name, text in scripts(target).items()},
        **{f"report/{name}.json": json.dumps(values, indent=1) + "\n" for name, values in reports(estimate).items()},
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["driver/golden.npz"] = golden_npz(*driver_golden(made, golden))
    return files | {f"memories/{name}": content for name, content in memory_files(made).items()}


def driver_golden(made: Accelerator, golden: Sequence[GoldenRun]) -> tuple[Ints, Ints]:
    """Inputs (tasks, n, *shape) and logits (tasks, n, outputs) of the first golden inputs."""
    inputs = np.stack([run.inputs[:GOLDEN_INPUTS] for run in golden])
    logits = np.zeros((*inputs.shape[:2], made.head.rows), np.int64)
    for run in golden:
        values = list(run.layers.values())[-1][:GOLDEN_INPUTS]
        logits[run.task, :, : values.shape[1]] = values
    return inputs, logits


def reports(estimate: Estimate) -> dict[str, dict[str, Any]]:
    """Estimates under FINN's names, by the name of their file."""
    resources = {unit.unit: _resources_json(unit) for unit in estimate.units}
    total = dict(zip(("LUT", "FF", "BRAM_18K", "URAM", "DSP"), _counts(estimate.resources), strict=True))
    return {
        "estimate_layer_cycles": estimate.cycles,
        "estimate_layer_resources": resources | {"total": total},
        "estimate_network_performance": {
            "critical_path_cycles": estimate.latency_cycles,
            "max_cycles": estimate.interval_cycles,
            "max_cycles_node_name": estimate.bottleneck,
            "estimated_throughput_fps": estimate.inferences_per_second,
            "estimated_latency_ns": 1e3 * estimate.latency_us,
        },
    }


def _counts(resources: Resources) -> tuple[int, int, int, int, int]:
    return resources.lut, resources.ff, resources.bram, resources.uram, resources.dsp


def _resources_json(unit: UnitEstimate) -> dict[str, float]:
    """What FINN tells of a layer: resources, and the share of the bits of its block RAMs and UltraRAMs that it uses."""
    used = unit.resources

    def efficiency(kind: str, bits: int) -> float:
        stored = sum(placed.memory.bits * placed.memory.copies for placed in unit.memories if placed.storage == kind)
        return stored / bits if bits else 1.0

    return {
        "LUT": used.lut,
        "FF": used.ff,
        "BRAM_18K": used.bram,
        "BRAM_efficiency": efficiency("block", BLOCK_BITS * used.bram),
        "URAM": used.uram,
        "URAM_efficiency": efficiency("ultra", ULTRA_BITS * used.uram),
        "DSP": used.dsp,
    }


# ------------------------------------------------------------------------------------------------------------- telling


def _result(chosen: Chosen, target: Target, folder: Path) -> CommandResult:
    """What was written, with the folding and the estimate of every unit."""
    made, estimate = chosen.accelerator, chosen.estimate
    blocks: list[Block] = [
        Note(f"{chosen.how} ({target.part}, {target.clock_mhz:g} MHz)"),
        unit_table(made, estimate),
        Note(
            f"of {estimate.device.name}, estimated: {_shares(estimate)}\n"
            f"estimated {estimate.inferences_per_second:.1f} inferences a second, latency at most "
            f"{estimate.latency_us:.1f} us; {estimate.bottleneck} takes the most cycles, {estimate.interval_cycles}"
        ),
        Note(f"{folder}: make csim simulates it, README.md says how to build, integrate and run it"),
    ]
    values = {
        "folder": str(folder),
        "chosen": chosen.how,
        "device": estimate.device.name,
        "part": target.part,
        "clock_mhz": target.clock_mhz,
        "folding": json.loads(folding_json(made.settings, made.net)),
        "utilization_percent": estimate.utilization_percent,
        **reports(estimate),
    }
    return CommandResult(blocks, values)


def _shares(estimate: Estimate) -> str:
    """What share of everything that the part has is taken."""
    return ", ".join(f"{RESOURCE_NAMES[key]} {percent:.1f} %" for key, percent in estimate.utilization_percent.items())


def too_large(estimate: Estimate) -> str:
    """Of what there is too little, and by how much."""
    name, device = estimate.binding, estimate.device
    used, whole = getattr(estimate.resources, name), getattr(capacities(device), name)
    return f"does not fit {device.name}: takes {used} {RESOURCE_NAMES[name]} of {whole}"


def unit_table(made: Accelerator, estimate: Estimate) -> Table:
    """Folding, cycles and resources of every unit, and of all together."""
    rows: list[list[Value]] = []
    for unit, estimated in zip(made.units, estimate.units, strict=True):
        own = unit.settings
        masks = own.mask if own.layout == "dense" else f"lists{', runtime' * (own.mask == 'runtime')}"
        words: list[Value] = [own.folding.simd, own.ram_style, masks, own.multiplier]
        stored = words if unit.has_words else [None] * len(words)
        rows.append([unit.name, own.folding.pe, *stored, unit.cycles, *_counts(estimated.resources)])
    rows.append(["all", *[None] * 5, estimate.interval_cycles, *_counts(estimate.resources)])
    header = ["unit", "PE", "SIMD", "memory", "masks", "multiplier", "cycles", "LUT", "FF", "BRAM", "URAM", "DSP"]
    return Table.of_rows(header, rows, "Units")


def readme(chosen: Chosen, target: Target) -> str:
    """README.md of an exported folder."""
    made, estimate = chosen.accelerator, chosen.estimate
    stream = made.input
    tasks = [[number, task.name, len(task.classes)] for number, task in enumerate(made.net.tasks)]
    return render(
        "README.md.in",
        tasks=table_text(Table.of_rows(["task", "name", "classes"], tasks)),
        units=table_text(unit_table(made, estimate)),
        chosen=chosen.how.capitalize(),
        part=target.part,
        clock_mhz=f"{target.clock_mhz:g}",
        rate=f"{estimate.inferences_per_second:.1f}",
        latency_us=f"{estimate.latency_us:.1f}",
        shape=" x ".join(map(str, stream.shape)),
        format=f"{stream.bits} bits {'signed' if stream.signed else 'unsigned'}",
        container_bits=made.container_bits,
        outputs=made.head.rows,
        device=estimate.device.name,
        shares=_shares(estimate),
        load=LOADED if 0 in made.loads else ALWAYS_THERE,
    )


ALWAYS_THERE = "Every task is in the bitstream: choosing one costs nothing."
LOADED = (
    "Units whose masks are `runtime` hold one task at a time; `set_task` loads `tasks/task_00.load` ... over the bus."
)
