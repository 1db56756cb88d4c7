"""What ``tsn-hw cost`` tells: operations and memory beside float32, and the accelerator on a part."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.project.folding_json import folding_json
from sim.cost import NetworkCost, Operations, Rules, TaskCost, UnitMemory, estimate_cost, read_energy
from sim.devices import devices
from sim.resources import RESOURCE_NAMES, RESOURCES, Estimate, capacities
from tsn_hw.app.hardware.choose import Chosen, HardwareWishes, choose, unit_table
from tsn_hw.app.tables import table
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.hardware.pipeline import least_accelerator

Told = tuple[str, Any]


def list_devices(user_file: Path | None) -> Told:
    """All parts with what they have, and where that is written."""
    known = devices(user_file)
    rows = [[name, *capacities(part).counts, part.capacities.clock_mhz] for name, part in known.items()]
    header = ["device", *(RESOURCE_NAMES[name] for name in RESOURCES), "MHz assumed"]
    sources = "\n".join(f"{name}: {part.capacities.source}" for name, part in known.items())
    return f"{table(header, rows)}\n\n{sources}", {name: asdict(part) for name, part in known.items()}


def cost(
    path: Path, wishes: HardwareWishes | None, rules: Rules, energy_file: Path | None, save_folding: Path | None = None
) -> Told:
    """Cost of a network; with wishes, of its accelerator on a part too."""
    energy = read_energy(energy_file)
    data = read_bytes(path)
    net = artifact.load(path)
    chosen = None
    if wishes is None:
        design = least_accelerator(net)
    else:
        chosen = choose(net, wishes)
        design = chosen.accelerator
    costs = estimate_cost(design, stored=capacity(net, data), rules=rules, energy=energy)
    told = [f"{path}: {len(net.tasks)} tasks, {len(net.banks)} banks", _operations_text(costs), _memory_text(costs)]
    result = {"operations": _operations_json(costs), "memory": _memory_json(costs)}
    if chosen is not None:
        told.append(hardware_text(chosen))
        result["hardware"] = hardware_json(chosen)
        if save_folding is not None:
            write_atomically(save_folding, folding_json(design.settings, net).encode())
            told.append(f"folding written to {save_folding}")
    return "\n\n".join(told), result


# ---------------------------------------------------------------------------------------------------------- operations


_COMPARED = (
    ("multiply-accumulates", "macs"),
    ("of them by used weights", "used_macs"),
    ("FLOPs", "flops"),
    ("bit operations", "bops"),
    ("bits of parameters, each read once", "parameter_bits"),
    ("bits of activations, each read and written once", "activation_bits"),
    ("bits read from memories on chip", "on_chip_bits"),
    ("pJ of arithmetic", "arithmetic_pj"),
    ("pJ of memories on chip", "on_chip_pj"),
    ("pJ of parameters if they were in DRAM", "off_chip_pj"),
)


def _operations_text(costs: NetworkCost) -> str:
    header = ["layer", "bits", "accumulator", "used %", "MACs", "FLOPs float32", "FLOPs", "BOPs float32", "BOPs"]
    layers = table([*header, "pJ float32", "pJ"], [_layer_row(costs, index) for index in range(len(costs.units))])
    tasks = table(
        ["task", "used %", "MACs", "FLOPs", "BOPs", "parameter bits", "activation bits", "on-chip bits", "pJ"],
        [[task.task, *_task_figures(task)] for task in costs.tasks],
    )
    both = table(
        ["one inference of every task", "integers", "float32", "%"],
        [
            [name, _whole(getattr(costs.integer, key)), _whole(getattr(costs.float32, key)), _percent(costs, key)]
            for name, key in _COMPARED
        ],
    )
    return f"Operations of one inference, over all tasks on average\n{layers}\n\n{tasks}\n\n{both}"


def _layer_row(costs: NetworkCost, index: int) -> list[object]:
    """A unit, its operations averaged over the tasks (heads differ)."""
    layers = [task.layers[index] for task in costs.tasks]
    first, count = layers[0], len(layers)
    integer = sum((layer.integer for layer in layers), Operations())
    float32 = sum((layer.float32 for layer in layers), Operations())
    weights = sum(layer.weights for layer in layers)
    used = 100 * sum(layer.used for layer in layers) / weights if weights else None
    bits = f"{first.weight_bits} x {first.act_bits}" if weights else str(first.act_bits)
    pairs = [(float32.flops, integer.flops), (float32.bops, integer.bops), (_energy(float32), _energy(integer))]
    figures = [_whole(figure / count) for pair in pairs for figure in pair]
    return [first.unit, bits, first.accumulator_bits or None, used, _whole(integer.macs / count), *figures]


def _task_figures(task: TaskCost) -> list[object]:
    integer = task.integer
    used = 100 * integer.used_macs / integer.macs if integer.macs else None
    counts = [integer.macs, integer.flops, integer.bops, integer.parameter_bits, integer.activation_bits]
    return [used, *map(_whole, [*counts, integer.on_chip_bits, _energy(integer)])]


def _energy(operations: Operations) -> float:
    """Arithmetic and memories on chip."""
    return operations.arithmetic_pj + operations.on_chip_pj


def _percent(costs: NetworkCost, key: str) -> float | None:
    ours, theirs = getattr(costs.integer, key), getattr(costs.float32, key)
    return 100 * ours / theirs if theirs else None


def _whole(figure: float) -> int:
    return round(figure)


def _operations_json(costs: NetworkCost) -> dict[str, Any]:
    tasks = [
        {
            "task": task.task,
            "integer": asdict(task.integer),
            "float32": asdict(task.float32),
            "layers": [asdict(layer) for layer in task.layers],
        }
        for task in costs.tasks
    ]
    return {"tasks": tasks, "integer": asdict(costs.integer), "float32": asdict(costs.float32)}


# -------------------------------------------------------------------------------------------------------------- memory


def _memory_text(costs: NetworkCost) -> str:
    rows: list[list[object]] = [[unit.unit, *_memory_figures(unit)] for unit in costs.units]
    rows.append(["all", *map(sum, zip(*map(_memory_figures, costs.units), strict=True))])
    header = ["bits of", "stored codes", "codebooks", "masks", "images: codes", "prefixes", "codebooks", "masks"]
    header += ["scales", "task words", "buffers", "accumulators", "float32"]
    stored = costs.stored
    other = f"header {stored.header_bits}, requantization {stored.requantization_bits}, routing {stored.routing_bits}"
    return "\n".join(
        [
            "Memory of all tasks",
            table(header, rows),
            f"file: {stored.file_bits} bits, of them {other}; "
            f"{_share(stored.file_bits, costs.float32_bits)} of one dense float32 network with all heads, "
            f"{_share(stored.file_bits, costs.separate_float32_bits)} of one a task",
            f"images: {costs.images_bits} bits; {_share(costs.images_bits, costs.float32_bits)} of one dense float32 "
            f"network with all heads, {_share(costs.images_bits, costs.separate_float32_bits)} of one a task",
        ]
    )


def _memory_figures(unit: UnitMemory) -> Sequence[int]:
    figures = asdict(unit)
    del figures["unit"]
    return list(figures.values())


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


def _memory_json(costs: NetworkCost) -> dict[str, Any]:
    stored = costs.stored
    units = [asdict(unit) | {"stored_bits": unit.stored_bits, "images_bits": unit.images_bits} for unit in costs.units]
    return {
        "units": units,
        "file_bits": stored.file_bits,
        "header_bits": stored.header_bits,
        "requantization_bits": stored.requantization_bits,
        "routing_bits": stored.routing_bits,
        "images_bits": costs.images_bits,
        "float32_bits": costs.float32_bits,
        "separate_float32_bits": costs.separate_float32_bits,
    }


# ------------------------------------------------------------------------------------------------------------ hardware


def hardware_text(chosen: Chosen) -> str:
    """Folding, cycles and area of every unit, and what share of the part they take."""
    estimate = chosen.estimate
    whole, shares = capacities(estimate.device), estimate.utilization_percent
    rows: list[list[object]] = [
        [RESOURCE_NAMES[name], used, available, None if math.isinf(shares[name]) else shares[name]]
        for name, used, available in zip(RESOURCES, estimate.resources.counts, whole.counts, strict=True)
    ]
    binding = RESOURCE_NAMES[estimate.binding]
    verdict = f"{binding} bind" if estimate.fits else f"does not fit: {binding} bind"
    return "\n".join(
        [
            f"{estimate.device.name} at {estimate.clock_mhz:g} MHz, {chosen.how}",
            unit_table(chosen.accelerator, estimate),
            "",
            table(["estimated", "used", "available", "%"], rows),
            verdict,
            f"{estimate.inferences_per_second:.1f} inferences a second ({estimate.bottleneck} takes "
            f"{estimate.interval_cycles} cycles), latency at most {estimate.latency_us:.1f} us",
        ]
    )


def hardware_json(chosen: Chosen) -> dict[str, Any]:
    """The same as data; a share is null where the part has nothing of what is used."""
    estimate = chosen.estimate
    shares = {name: None if math.isinf(share) else share for name, share in estimate.utilization_percent.items()}
    return {
        "device": estimate.device.name,
        "clock_mhz": estimate.clock_mhz,
        "chosen": chosen.how,
        "folding": json.loads(folding_json(chosen.accelerator.settings, chosen.accelerator.net)),
        "units": _units_json(estimate),
        "resources": asdict(estimate.resources),
        "available": asdict(capacities(estimate.device)),
        "utilization_percent": shares,
        "binding": estimate.binding,
        "fits": estimate.fits,
        "interval_cycles": estimate.interval_cycles,
        "bottleneck": estimate.bottleneck,
        "latency_cycles": estimate.latency_cycles,
        "inferences_per_second": estimate.inferences_per_second,
        "latency_us": estimate.latency_us,
    }


def _units_json(estimate: Estimate) -> list[dict[str, Any]]:
    return [
        {
            "unit": unit.unit,
            "cycles": unit.cycles,
            "inferences_per_second": 1e6 * estimate.clock_mhz / unit.cycles,
            "resources": asdict(unit.resources),
            "logic": asdict(unit.logic),
            "memories": [asdict(placed) for placed in unit.memories],
        }
        for unit in estimate.units
    ]
