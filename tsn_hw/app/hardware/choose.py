"""From a network to a hardware project: folding chosen or read, estimated, golden data, scripts, driver, reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export import GoldenRun, write_hls
from export.hls.driver import driver_json, golden_npz
from export.hls.scripts import TEMPLATES, Target, render, scripts
from export.memories.files import memory_files
from export.project.folding_json import final_config_json, folding_json, read_folding
from sim.resources import RESOURCE_NAMES, Estimate, Resources, UnitEstimate, capacities, clock_of, estimate_resources
from sim.search import Found, search_folding
from tsn_hw.app.deploy.verify import adversarial_integers
from tsn_hw.app.hardware.platform import Platform
from tsn_hw.app.tables import table
from tsn_hw.core import artifact, reference
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError, SettingsError
from tsn_hw.core.files import read_bytes
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import MaskMode
from tsn_hw.hardware.pipeline import accelerator

GOLDEN_INPUTS = 8
"""Golden inputs of a task in the driver's data; the test bench has as many as the command asks for."""
BLOCK_BITS, ULTRA_BITS = 18 * 1024, 288 * 1024

Told = tuple[str, Any]


@dataclass(frozen=True)
class HardwareWishes:
    """What a user asks of the hardware.

    folding: a file that says everything about the units; otherwise the folding is searched for: the smallest that
    makes ``target_fps`` inferences a second, or the fastest.
    """

    platform: Platform
    clock_mhz: float | None = None
    folding: Path | None = None
    target_fps: float | None = None
    masks: MaskMode = "deep"
    max_tasks: int = 0
    limit_percent: float = 80.0


@dataclass(frozen=True)
class Chosen:
    """An accelerator, its estimate on a part, and how its folding was found."""

    accelerator: Accelerator
    estimate: Estimate
    how: str


@dataclass(frozen=True)
class Design:
    """An accelerator that was chosen, for the vendor's tools."""

    chosen: Chosen
    target: Target


def write_project(path: Path, folder: Path, wishes: HardwareWishes, samples: int) -> Told:
    """Write the HLS project of a network, and tell what was chosen."""
    net = artifact.load(path)
    design = design_of(net, wishes)
    golden = [_golden(net, task, samples) for task in range(len(net.tasks))]
    write_hls(design.chosen.accelerator, folder, golden=golden, extra_files=project_files(design, golden))
    return report(design, folder), report_json(design, folder)


def design_of(net: PackedNetwork, wishes: HardwareWishes) -> Design:
    """The accelerator that a user asks for, with its estimate; FoldingError if the part is too small for it."""
    platform = wishes.platform
    if not platform.part:
        raise SettingsError(
            f"device {platform.device.name!r}: is none that Vitis HLS builds for; tsn-hw rtl writes SystemVerilog for "
            "every part"
        )
    target = Target(platform.part, clock_of(platform.device, wishes.clock_mhz))
    chosen = choose(net, wishes)
    if not chosen.estimate.fits:
        raise FoldingError(f"{chosen.how}: {_too_large(chosen.estimate)}; fold more, or choose a larger --device")
    return Design(chosen, target)


def choose(net: PackedNetwork, wishes: HardwareWishes) -> Chosen:
    """The accelerator of a folding file, or the one that the search finds."""
    part, coefficients = wishes.platform.device, wishes.platform.coefficients
    if wishes.folding is not None:
        text = read_bytes(wishes.folding).decode(errors="replace")
        made = accelerator(net, read_folding(text, str(wishes.folding), net))
        estimate = estimate_resources(made, part, clock_mhz=wishes.clock_mhz, coefficients=coefficients)
        return Chosen(made, estimate, f"folding as {wishes.folding} says")
    found = _searched(net, wishes)
    wish = "fastest" if wishes.target_fps is None else f"smallest of {wishes.target_fps:g} inferences a second"
    how = f"folding chosen by search: the {wish} within {wishes.limit_percent:g} % of {part.name}"
    return Chosen(found.accelerator, found.estimate, how)


def _searched(net: PackedNetwork, wishes: HardwareWishes) -> Found:
    """What the search finds; where it finds nothing, the error says whether fewer masks on chip would help."""
    try:
        return search_folding(
            net,
            wishes.platform.device,
            target_fps=wishes.target_fps,
            clock_mhz=wishes.clock_mhz,
            limit_percent=wishes.limit_percent,
            mask=wishes.masks,
            max_tasks=wishes.max_tasks,
            coefficients=wishes.platform.coefficients,
        )
    except FoldingError as error:
        if wishes.masks != "deep":
            raise
        try:
            _searched(net, replace(wishes, masks="runtime"))
        except FoldingError:
            raise error from None
        raise FoldingError(f"{error}; with --masks runtime, one task at a time on chip, there is one") from error


def _golden(net: PackedNetwork, task: int, samples: int) -> GoldenRun:
    x = adversarial_integers(net, samples, seed=task)
    return GoldenRun(task, x, reference.run(net, task, x))


# --------------------------------------------------------------------------------------------------------------- files


def project_files(design: Design, golden: Sequence[GoldenRun]) -> dict[str, bytes]:
    """Path and content of everything around the firmware: memories, scripts, driver, reports, README."""
    made, estimate = design.chosen.accelerator, design.chosen.estimate
    net = made.net
    texts = {
        "README.md": readme(design),
        "folding.json": folding_json(made.settings, net),
        "final_hw_config.json": final_config_json(made),
        "driver/driver.py": (TEMPLATES / "driver" / "driver.py").read_text(),
        "driver/accelerator.json": driver_json(made, design.target, estimate.interval_cycles, estimate.latency_cycles),
        **{f"scripts/{name}": text for name, text in scripts(design.target).items()},
        **{f"report/{name}.json": json.dumps(values, indent=1) + "\n" for name, values in reports(estimate).items()},
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["driver/golden.npz"] = golden_npz(*_driver_golden(made, golden))
    return files | {f"memories/{name}": content for name, content in memory_files(made).items()}


def _driver_golden(made: Accelerator, golden: Sequence[GoldenRun]) -> tuple[Ints, Ints]:
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
    stored = {
        kind: sum(placed.memory.bits * placed.memory.copies for placed in unit.memories if placed.storage == kind)
        for kind in ("block", "ultra")
    }
    return {
        "LUT": used.lut,
        "FF": used.ff,
        "BRAM_18K": used.bram,
        "BRAM_efficiency": stored["block"] / (BLOCK_BITS * used.bram) if used.bram else 1.0,
        "URAM": used.uram,
        "URAM_efficiency": stored["ultra"] / (ULTRA_BITS * used.uram) if used.uram else 1.0,
        "DSP": used.dsp,
    }


# ------------------------------------------------------------------------------------------------------------- telling


def report(design: Design, folder: Path) -> str:
    """What was written, with the folding and the estimate of every unit."""
    estimate = design.chosen.estimate
    part = f"{design.target.part}, {design.target.clock_mhz:g} MHz"
    return "\n".join(
        [
            f"{design.chosen.how} ({part})",
            "",
            unit_table(design.chosen.accelerator, estimate),
            "",
            f"of {estimate.device.name}, estimated: {_shares(estimate)}",
            f"estimated {estimate.inferences_per_second:.1f} inferences a second, latency at most "
            f"{estimate.latency_us:.1f} us; {estimate.bottleneck} takes the most cycles, {estimate.interval_cycles}",
            "",
            f"{folder}: make csim simulates it, README.md says how to build, integrate and run it",
        ]
    )


def _shares(estimate: Estimate) -> str:
    """What share of everything that the part has is taken."""
    return ", ".join(f"{RESOURCE_NAMES[key]} {percent:.1f} %" for key, percent in estimate.utilization_percent.items())


def _too_large(estimate: Estimate) -> str:
    """Of what there is too little, and by how much."""
    name, device = estimate.binding, estimate.device
    used, whole = getattr(estimate.resources, name), getattr(capacities(device), name)
    return f"does not fit {device.name}: takes {used} {RESOURCE_NAMES[name]} of {whole}"


UNIT_HEADER = ["unit", "PE", "SIMD", "memory", "masks", "cycles", "LUT", "FF", "BRAM", "URAM", "DSP"]


def unit_table(made: Accelerator, estimate: Estimate) -> str:
    """Folding, cycles and resources of every unit as a table."""
    return table(UNIT_HEADER, unit_rows(made, estimate))


def unit_rows(made: Accelerator, estimate: Estimate) -> list[list[str | int | None]]:
    """The rows of that table, the last one of all units together."""
    rows: list[list[str | int | None]] = []
    for unit, estimated in zip(made.units, estimate.units, strict=True):
        own = unit.settings
        simd = own.folding.simd if unit.has_words else None
        stored = (own.ram_style, own.mask) if unit.has_words else (None, None)
        rows.append([unit.name, own.folding.pe, simd, *stored, unit.cycles, *_counts(estimated.resources)])
    rows.append(["all", None, None, None, None, estimate.interval_cycles, *_counts(estimate.resources)])
    return rows


def report_json(design: Design, folder: Path) -> dict[str, Any]:
    """The same as data."""
    made, estimate = design.chosen.accelerator, design.chosen.estimate
    return {
        "folder": str(folder),
        "chosen": design.chosen.how,
        "device": estimate.device.name,
        "part": design.target.part,
        "clock_mhz": design.target.clock_mhz,
        "folding": json.loads(folding_json(made.settings, made.net)),
        "utilization_percent": estimate.utilization_percent,
        **reports(estimate),
    }


def readme(design: Design) -> str:
    """README.md of an exported folder."""
    made, estimate = design.chosen.accelerator, design.chosen.estimate
    stream = made.input
    tasks = [[number, task.name, len(task.classes)] for number, task in enumerate(made.net.tasks)]
    return render(
        "README.md.in",
        tasks=table(["task", "name", "classes"], tasks),
        units=unit_table(made, estimate),
        chosen=design.chosen.how.capitalize(),
        part=design.target.part,
        clock_mhz=f"{design.target.clock_mhz:g}",
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
