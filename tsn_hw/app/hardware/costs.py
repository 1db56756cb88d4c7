"""What ``tsn-hw cost`` tells: operations and memory beside float32, and the accelerator on a part."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.project.folding_json import folding_json
from sim.cost import NetworkCost, Operations, Rules, TaskCost, estimate_cost, read_energy
from sim.devices import devices
from sim.resources import RESOURCE_NAMES, capacities
from tsn_hw.app.hardware.choose import Chosen, HardwareRequest, choose, unit_table
from tsn_hw.app.output import Block, CommandResult, Note, Table, Value, share_cell, with_properties
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.hardware.pipeline import least_accelerator


def list_devices(user_file: Path | None) -> CommandResult:
    """All parts with what they have, and where that is written."""
    known = devices(user_file)
    records = [
        {"device": name} | asdict(capacities(part)) | {"clock_mhz": part.capacities.clock_mhz}
        for name, part in known.items()
    ]
    table = Table(records, {"device": "device"} | RESOURCE_NAMES | {"clock_mhz": "MHz assumed"})
    sources = "\n".join(f"{name}: {part.capacities.source}" for name, part in known.items())
    return CommandResult([table, Note(sources)], {name: asdict(part) for name, part in known.items()})


def cost(
    path: Path, request: HardwareRequest | None, rules: Rules, energy_file: Path | None, save_folding: Path | None
) -> CommandResult:
    """Cost of a network; with a request, of its accelerator on a part too."""
    energy = read_energy(energy_file)
    data = read_bytes(path)
    net = artifact.load(path)
    chosen = None if request is None else choose(net, request)
    design = least_accelerator(net) if chosen is None else chosen.accelerator
    costs = estimate_cost(design, stored=capacity(net, data), rules=rules, energy=energy)
    blocks = [Note(f"{path}: {len(net.tasks)} tasks, {len(net.banks)} banks"), *cost_blocks(costs)]
    values = {"operations": _operations(costs), "memory": _memory(costs)}
    if chosen is not None:
        blocks += hardware_blocks(chosen)
        values["hardware"] = _hardware(chosen)
        if save_folding is not None:
            write_atomically(save_folding, folding_json(design.settings, net).encode())
            blocks.append(Note(f"folding written to {save_folding}"))
    return CommandResult(blocks, values)


# ----------------------------------------------------------------------------------------------- operations and memory


_COMPARED = {
    "macs": "multiply-accumulates",
    "used_macs": "of them by used weights",
    "flops": "FLOPs",
    "bops": "bit operations",
    "parameter_bits": "bits of parameters, each read once",
    "activation_bits": "bits of activations, each read and written once",
    "on_chip_bits": "bits read from memories on chip",
    "arithmetic_pj": "pJ of arithmetic",
    "on_chip_pj": "pJ of memories on chip",
    "off_chip_pj": "pJ of parameters if they were in DRAM",
}
_STORED = {
    "unit": "bits of",
    "stored_codes_bits": "codes",
    "stored_codebooks_bits": "codebooks",
    "stored_masks_bits": "masks",
    "float32_bits": "float32",
}
_ON_CHIP = {
    "unit": "bits of",
    "codes_bits": "codes",
    "prefixes_bits": "prefixes",
    "gaps_bits": "gaps",
    "codebooks_bits": "codebooks",
    "masks_bits": "masks",
    "scales_bits": "scales",
    "task_words_bits": "task words",
    "buffers_bits": "buffers",
    "accumulators_bits": "accumulators",
}


def cost_blocks(costs: NetworkCost, by_task: bool = True) -> list[Block]:
    """Operations by layer, by task and beside float32, and memory by unit."""
    header = ["layer", "bits", "accumulator", "used %", "MACs", "FLOPs float32", "FLOPs", "BOPs float32", "BOPs"]
    layers = Table.of_rows(
        [*header, "pJ float32", "pJ"],
        [_layer_row(costs, index) for index in range(len(costs.units))],
        "Operations of one inference, over all tasks on average",
    )
    tasks = Table.of_rows(
        ["task", "used %", "MACs", "FLOPs", "BOPs", "parameter bits", "activation bits", "on-chip bits", "pJ"],
        [_task_row(task) for task in costs.tasks],
        "Operations of one inference, by task",
    )
    both = [(name, getattr(costs.integer, key), getattr(costs.float32, key)) for key, name in _COMPARED.items()]
    compared = Table.of_rows(
        ["one inference of every task", "integers", "float32", "%"],
        [[name, round(ours), round(theirs), 100 * ours / theirs if theirs else None] for name, ours, theirs in both],
        "Integers beside float32",
    )
    units = [asdict(unit) for unit in costs.units]
    total = {"unit": "all"} | {key: sum(unit[key] for unit in units) for key in units[0] if key != "unit"}
    stored = Table([*units, total], _STORED, "Memory of all tasks: the file")
    on_chip = Table([*units, total], _ON_CHIP, "Memory of all tasks: on chip")
    return [layers, *([tasks] if by_task else []), compared, stored, on_chip, Note(_sizes(costs))]


def _layer_row(costs: NetworkCost, index: int) -> list[Value]:
    """A unit, its operations averaged over the tasks (heads differ)."""
    layers = [task.layers[index] for task in costs.tasks]
    first = layers[0]
    integer = sum((layer.integer for layer in layers), Operations())
    float32 = sum((layer.float32 for layer in layers), Operations())
    weights = sum(layer.weights for layer in layers)
    used = 100 * sum(layer.used for layer in layers) / weights if weights else None
    bits = f"{first.weight_bits} x {first.act_bits}" if weights else str(first.act_bits)
    pairs = [(float32.flops, integer.flops), (float32.bops, integer.bops), (_energy(float32), _energy(integer))]
    figures = [integer.macs, *(figure for pair in pairs for figure in pair)]
    return [first.unit, bits, first.accumulator_bits or None, used, *(round(f / len(layers)) for f in figures)]


def _task_row(task: TaskCost) -> list[Value]:
    integer = task.integer
    used = 100 * integer.used_macs / integer.macs if integer.macs else None
    counts = [integer.macs, integer.flops, integer.bops, integer.parameter_bits, integer.activation_bits]
    return [task.task, used, *map(round, [*counts, integer.on_chip_bits, _energy(integer)])]


def _energy(operations: Operations) -> float:
    """Arithmetic and memories on chip."""
    return operations.arithmetic_pj + operations.on_chip_pj


def _sizes(costs: NetworkCost) -> str:
    """File and images, in words."""
    stored = costs.stored
    other = f"header {stored.header_bits}, requantization {stored.requantization_bits}, routing {stored.routing_bits}"
    other += f", gates {stored.gates_bits}" if stored.gates_bits else ""
    shares = {
        bits: f"{100 * bits / costs.float32_bits:.2f} % of one dense float32 network with all heads, "
        f"{100 * bits / costs.separate_float32_bits:.2f} % of one a task"
        for bits in (stored.file_bits, costs.images_bits)
    }
    return (
        f"file: {stored.file_bits} bits, of them {other}; {shares[stored.file_bits]}\n"
        f"images: {costs.images_bits} bits; {shares[costs.images_bits]}"
    )


def _operations(costs: NetworkCost) -> dict[str, Any]:
    tasks = [asdict(task) | {"integer": asdict(task.integer), "float32": asdict(task.float32)} for task in costs.tasks]
    return {"tasks": tasks, "integer": asdict(costs.integer), "float32": asdict(costs.float32)}


def _memory(costs: NetworkCost) -> dict[str, Any]:
    of_file = ("file_bits", "header_bits", "requantization_bits", "routing_bits", "gates_bits")
    of_network = ("images_bits", "float32_bits", "separate_float32_bits")
    return (
        {"units": [with_properties(unit) for unit in costs.units]}
        | {name: getattr(costs.stored, name) for name in of_file}
        | {name: getattr(costs, name) for name in of_network}
    )


# ------------------------------------------------------------------------------------------------------------ hardware


def hardware_blocks(chosen: Chosen) -> list[Block]:
    """Folding, cycles and area of every unit, and what share of the part they take."""
    estimate = chosen.estimate
    whole = asdict(capacities(estimate.device))
    used = zip(estimate.utilization_percent.items(), estimate.resources.counts, strict=True)
    rows = [[RESOURCE_NAMES[name], count, whole[name], share_cell(percent)] for (name, percent), count in used]
    verdict = f"{'' if estimate.fits else 'does not fit: '}{RESOURCE_NAMES[estimate.binding]} bind"
    return [
        Note(f"{estimate.device.name} at {estimate.clock_mhz:g} MHz, {chosen.how}"),
        unit_table(chosen.accelerator, estimate),
        Table.of_rows(["resource", "used", "available", "%"], rows, "Resources of the part"),
        Note(
            f"{verdict}\n{estimate.inferences_per_second:.1f} inferences a second ({estimate.bottleneck} takes "
            f"{estimate.interval_cycles} cycles), latency at most {estimate.latency_us:.1f} us"
        ),
    ]


def _hardware(chosen: Chosen) -> dict[str, Any]:
    """The same as data; a share is null where the part has nothing of what is used."""
    estimate = chosen.estimate
    shares = {name: None if math.isinf(share) else share for name, share in estimate.utilization_percent.items()}
    plain = ("clock_mhz", "binding", "fits", "interval_cycles", "bottleneck", "latency_cycles")
    return {
        "device": estimate.device.name,
        "chosen": chosen.how,
        "folding": json.loads(folding_json(chosen.accelerator.settings, chosen.accelerator.net)),
        "units": [
            asdict(unit)
            | {"resources": asdict(unit.resources), "inferences_per_second": 1e6 * estimate.clock_mhz / unit.cycles}
            for unit in estimate.units
        ],
        "resources": asdict(estimate.resources),
        "available": asdict(capacities(estimate.device)),
        "utilization_percent": shares,
        **{name: getattr(estimate, name) for name in (*plain, "inferences_per_second", "latency_us")},
    }
