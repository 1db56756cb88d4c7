"""Sections of a report about what a network costs: sweep, capacity, memory map, layers, the accelerator on a part."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from sim.cost import NetworkCost, Operations
from sim.resources import RESOURCE_NAMES, RESOURCES, capacities
from tsn_hw.app.hardware.choose import UNIT_HEADER, Chosen, unit_rows
from tsn_hw.app.hardware.synth import Synthesis
from tsn_hw.app.report.blocks import Block, Cell, Figure, Gallery, Note, Section, Table, Value
from tsn_hw.app.report.charts import GREY, PALETTE, RED, Bars, Dots, Line, Scatter, bars, scatter
from tsn_hw.app.report.memory_map import LayerMap, evenly, layer_maps, owner_picture, picture, readers_picture, swatches
from tsn_hw.app.report.sections import Subject
from tsn_hw.app.sweep.pareto import ACCURACY, DEVICE, OPERATIONS, SIZE, Objective, front
from tsn_hw.app.sweep.plots import limit_of, widths
from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.summary import Sweep
from tsn_hw.core.capacity import Capacity, capacity
from tsn_hw.core.layers import Conv2d, Weighted
from tsn_hw.core.network import PackedNetwork

SECTIONS = ("codes", "codebooks", "masks", "heads", "requantization", "routing", "header")
MOST_STAGES, MOST_SHARING = 16, 64
"""Most stages of growth, and owners of a layer, that are told; most tasks of which everybody is set beside everybody.
Without these limits time and page would grow with the square of the tasks."""
SHAPES = {4: "circle", 8: "square", 16: "triangle"}

# -------------------------------------------------------------------------------------------------------------- sweep


def sweep(found: Sweep) -> Section:
    """What other widths would have given."""
    told = f"{len(found.rows)} networks from the same training; float weights reach {found.float_percent:.2f} %."
    if found.chosen is not None:
        row = found.rows[found.chosen]
        told += (
            f" Point {found.chosen} is the smallest network within the budget: code bits {widths(row)}, "
            f"{row['activation_bits']}-bit activations, {row[ACCURACY.column]:.2f} %."
        )
    known = [cost for cost in (SIZE, OPERATIONS, DEVICE) if any(row.get(cost.column) is not None for row in found.rows)]
    charts = [_chart(found, cost) for cost in known]
    return Section("sweep", "Sweep", [Note(told), Gallery(charts), _points(found)])


def _chart(found: Sweep, cost: Objective) -> Figure:
    shown = [row for row in found.rows if row.get(cost.column) is not None]
    best = sorted((shown[i] for i in front(shown, (ACCURACY, cost))), key=lambda row: float(row[cost.column]))
    steps = [(float(row[cost.column]), float(row[ACCURACY.column]), widths(row)) for row in best]
    title = f"Accuracy against {cost.label}"
    described = "; ".join(f"{accuracy:.2f} % at {at:,.2f}" for at, accuracy, _ in steps)
    chart = Scatter(
        title,
        f"{len(shown)} points; best for their cost: {described}",
        cost.label,
        ACCURACY.label,
        _dots(found, shown, cost),
        steps,
        _cost_limits(found, cost),
        _accuracy_lines(found),
    )
    return Figure(scatter(chart), f"{title}. Numbers beside the line are code bits.")


def _accuracy_lines(found: Sweep) -> list[Line]:
    lines = [Line(f"float weights, {found.float_percent:.2f} %", found.float_percent, GREY)]
    drop = found.budget.accuracy_drop
    if drop is not None:
        lines.append(Line(f"budget, {found.float_percent - drop:.2f} %", found.float_percent - drop, RED))
    return lines


def _cost_limits(found: Sweep, cost: Objective) -> list[Line]:
    limit, part = limit_of(cost, found.budget), found.budget.part
    if limit is None:
        return []
    return [Line(f"{part.device if part and cost is DEVICE else 'budget'}, {limit:g} %", limit, RED)]


def _dots(found: Sweep, rows: Sequence[Row], cost: Objective) -> list[Dots]:
    """Points by activation bits, and the chosen one again as a star."""
    kinds = [
        (f"{bits}-bit activations", shape, color, [row for row in rows if row["activation_bits"] == bits])
        for (bits, shape), color in zip(SHAPES.items(), PALETTE, strict=False)
    ]
    kinds.append((f"chosen: point {found.chosen}", "star", RED, [row for row in rows if row["point"] == found.chosen]))
    return [Dots(name, shape, color, _places(some, cost)) for name, shape, color, some in kinds if some]


def _places(rows: Sequence[Row], cost: Objective) -> list[tuple[float, float, str]]:
    """x, y and what is said of every row."""
    return [
        (
            float(row[cost.column]),
            float(row[ACCURACY.column]),
            f"point {row['point']}: code bits {widths(row)}, {row[ACCURACY.column]:.2f} %",
        )
        for row in rows
    ]


def _points(found: Sweep) -> Table:
    header = ["point", "code bits", "activations", "accuracy %", "file %", "MBOPs", "used weights", ""]
    rows: list[list[Value | Cell]] = []
    for row in found.rows:
        says = "chosen" if row["point"] == found.chosen else "front" if row["point"] in found.front else ""
        figures = [row[ACCURACY.column], row[SIZE.column], row[OPERATIONS.column] / 1e6, row["used_weights"]]
        rows.append([row["point"], widths(row), row["activation_bits"], *figures, says])
    return Table(f"All {len(rows)} points", header, rows, folded=True)


# ----------------------------------------------------------------------------------------------------------- capacity


def memory(subject: Subject) -> Section:
    """Where the bits are, how they grew, and who owns which weight."""
    net, counts = subject.net, evenly(len(subject.net.tasks), MOST_STAGES)
    grown = [capacity(net.first_tasks(count + 1)) for count in counts[:-1]] + [subject.sizes]
    names = [subject.names[count] for count in counts]
    every = "every task" if len(names) == len(net.tasks) else f"{len(names)} of {len(net.tasks)} tasks"
    return Section(
        "memory",
        "Capacity and memory",
        [
            Figure(_growth(grown, names), f"The file as it was after {every}, by section."),
            _growth_table(grown, names, every),
            _layer_table(subject),
            *_maps(net, subject.names),
        ],
    )


def _section_bits(sizes: Capacity) -> list[int]:
    return [getattr(sizes, f"{name}_bits") for name in SECTIONS]


def _growth(grown: Sequence[Capacity], names: Sequence[str]) -> Markup:
    described = "; ".join(f"{name} {sizes.file_bits // 8:,} bytes" for name, sizes in zip(names, grown, strict=True))
    stacks = [
        (f"after {name}", [bits / 8 for bits in _section_bits(sizes)]) for name, sizes in zip(names, grown, strict=True)
    ]
    return bars(Bars("File size after every task", described, SECTIONS, stacks, "bytes"))


def _growth_table(grown: Sequence[Capacity], names: Sequence[str], every: str) -> Table:
    rows: list[list[Value | Cell]] = []
    before = [0] * len(SECTIONS)
    for name, sizes in zip(names, grown, strict=True):
        bits = _section_bits(sizes)
        added = [new - old for new, old in zip(bits, before, strict=True)]
        rows.append([name, *added, sum(added), sizes.body_percent, sizes.total_percent])
        before = bits
    header = ["task", *SECTIONS, "all", "body % so far", "file % so far"]
    return Table(f"Bits that {every} added", header, rows)


def _layer_table(subject: Subject) -> Table:
    net = subject.net
    geometry = {layer.name: _geometry(layer) for layer in net.layers if isinstance(layer, Weighted)}
    rows: list[list[Value | Cell]] = []
    for layer in subject.sizes.layers:
        if not layer.is_head:
            used = 100 * layer.used / layer.weights
            owners = " ".join(map(str, layer.code_widths))
            bits = [layer.codes_bits, layer.codebooks_bits, layer.masks_bits, layer.bits / layer.weights]
            rows.append([layer.layer, layer.bank, geometry[layer.layer], layer.weights, used, owners, *bits])
    header = ["layer", "bank", "geometry", "weights", "used %", "code bits by owner"]
    return Table("Weight memories of the body", [*header, "codes", "codebooks", "masks", "bits a weight"], rows)


def _geometry(layer: Weighted) -> str:
    """Inputs to outputs, and the kernel."""
    if not isinstance(layer, Conv2d):
        return f"{layer.in_features} → {layer.out_features}"
    grouped = f", {layer.groups} groups" if layer.groups > 1 else ""
    return f"{layer.in_channels} → {layer.out_channels}, {layer.kernel[0]} × {layer.kernel[1]}{grouped}"


def _maps(net: PackedNetwork, names: Sequence[str]) -> list[Block]:
    """Pictures of every layer in every bank, and who reads whose weights."""
    blocks: list[Block] = []
    maps = layer_maps(net)
    for bank in range(len(net.banks)):
        members = [names[task] for task in net.bank_tasks(bank)]
        figures = []
        for layer in (layer for layer in maps if layer.bank == bank):
            figures += _map_figures(layer, members)
        title = "Who owns which weight, and how many tasks read it" + (f": bank {bank}" if len(net.banks) > 1 else "")
        blocks += [Note(f"{title}."), Figure(swatches(members), ""), Gallery(figures)]
        if len(members) <= MOST_SHARING:
            blocks.append(_sharing(net, bank, names))
        else:
            blocks.append(Note(f"Who reads whose weights is shown of at most {MOST_SHARING} tasks."))
    return blocks


def _map_figures(layer: LayerMap, members: Sequence[str]) -> list[Figure]:
    rows, columns = layer.owner.shape
    owned = (100 * np.bincount(layer.owner.ravel() + 1, minlength=len(members) + 1) / layer.owner.size).tolist()
    most = sorted(range(len(members)), key=lambda prefix: -owned[prefix + 1])[:MOST_STAGES]
    shares = [f"{members[prefix]} {owned[prefix + 1]:.1f} %" for prefix in sorted(most)]
    counts = (np.bincount(layer.readers.ravel(), minlength=len(members) + 1) / layer.readers.size).tolist()
    read = ", ".join(f"{100 * counts[count]:.1f} % by {count}" for count in evenly(len(counts), MOST_STAGES + 1))
    each = "" if layer.block == (1, 1) else f"; a pixel is {layer.block[0]} × {layer.block[1]} weights"
    owners = f"Owners of {rows} × {columns} weights of {layer.layer}: unused {owned[0]:.1f} %, {', '.join(shares)}"
    readers = f"Weights of {layer.layer} by the number of tasks that read them: {read}"
    return [
        Figure(picture(owner_picture(layer, len(members)), owners), f"{layer.layer}: owners{each}"),
        Figure(
            picture(readers_picture(layer, len(members)), readers),
            f"{layer.layer}: read by none (white) to all {len(members)} tasks (blue)",
        ),
    ]


def _sharing(net: PackedNetwork, bank: int, names: Sequence[str]) -> Table:
    """Body weights of every owner that every task of a bank reads."""
    members = net.bank_tasks(bank)
    counts = np.zeros((len(members), len(members)), np.int64)
    for reader, task in enumerate(members):
        for index in net.body:
            step = net.tasks[task].steps[index]
            if step is not None and step.mask is not None:
                owners = net.words(task, index).owner[step.mask]
                counts[:, reader] += np.bincount(owners, minlength=len(members))
    most = max(1, int(counts.max()))
    rows: list[list[Value | Cell]] = [
        [names[task], *(Cell(int(n), 0.8 * int(n) / most) if n else "" for n in counts[owner])]
        for owner, task in enumerate(members)
    ]
    header = ["owner", *(names[task] for task in members)]
    return Table("Body weights of an owner (row) that a task (column) reads", header, rows)


# ------------------------------------------------------------------------------------------------ operations, hardware


def operations(subject: Subject) -> Section:
    """What an inference takes, layer by layer, beside float32."""
    header = ["layer", "weight bits", "activation bits", "accumulator bits", "used %", "MACs", "BOPs", "BOPs float32"]
    header += ["pJ", "pJ float32", "memory bits", "buffer bits"]
    rows = [_operations_row(subject.costs, index) for index in range(len(subject.costs.units))]
    told = "One inference, on average over the tasks. Energies are of arithmetic alone, by the table of docs/cost.md."
    return Section("layers", "Layers", [Note(told), Table("Operations and memory on chip, by layer", header, rows)])


def _operations_row(costs: NetworkCost, index: int) -> list[Value | Cell]:
    unit, layers = costs.units[index], [task.layers[index] for task in costs.tasks]
    first, weights = layers[0], sum(layer.weights for layer in layers)
    integer = sum((layer.integer for layer in layers), Operations())
    float32 = sum((layer.float32 for layer in layers), Operations())
    used = 100 * sum(layer.used for layer in layers) / weights if weights else None
    figures = [integer.macs, integer.bops, float32.bops, integer.arithmetic_pj, float32.arithmetic_pj]
    bits = [first.weight_bits or None, first.act_bits, first.accumulator_bits or None]
    means = [round(figure / len(layers)) for figure in figures]
    return [unit.unit, *bits, used, *means, unit.images_bits, unit.buffers_bits]


def hardware(chosen: Chosen) -> Section:
    """The accelerator on a part."""
    estimate = chosen.estimate
    whole, shares = capacities(estimate.device), estimate.utilization_percent
    resources: list[list[Value | Cell]] = []
    for name, used, have in zip(RESOURCES, estimate.resources.counts, whole.counts, strict=True):
        share = Cell(shares[name], min(1.0, shares[name] / 100)) if math.isfinite(shares[name]) else Cell(None)
        resources.append([RESOURCE_NAMES[name], used, have, share])
    told = (
        f"{chosen.how[0].upper()}{chosen.how[1:]}: {estimate.inferences_per_second:,.0f} inferences a second at "
        f"{estimate.clock_mhz:g} MHz, latency at most {estimate.latency_us:,.1f} µs. "
        f"What binds: {RESOURCE_NAMES[estimate.binding]}. An estimate, no synthesis; docs/cost.md says how good it is."
    )
    units = Table("Units", UNIT_HEADER, unit_rows(chosen.accelerator, estimate))
    table = Table("Resources of the part", ["resource", "used", "available", "%"], resources)
    return Section("hardware", f"On {estimate.device.name}", [Note(told), table, units])


GATES = (
    "The same accelerator in SystemVerilog, synthesized: cells counted, beside the estimate that was made before. "
    "Placed and routed designs have every port on a pin; their clock is that of paths from register to register."
)


def gates(projects: Sequence[Synthesis]) -> Section:
    """What synthesis measured of the RTL, and whether parts have enough of it."""
    resources, clocks = list[list[Value | Cell]](), list[list[Value | Cell]]()
    for found in projects:
        for name, used in found.resources.items():
            percent = found.percent[name]
            share = Cell(percent, min(1.0, percent / 100)) if math.isfinite(percent) else Cell(None)
            estimated = found.estimated.resources.get(name)
            resources.append([found.device, RESOURCE_NAMES[name], used, estimated, found.available[name], share])
        fits = Cell(found.verdict, state="good" if found.fits else "bad")
        routed = found.routed
        made = "not placed" if routed is None else f"{routed.tool}, {routed.package}, seed {routed.seed}"
        clock = None if routed is None else routed.fmax_mhz
        clocks.append([found.device, fits, clock, found.clock_mhz, f"{found.tool}; {made}"])
    header = ["part", "resource", "measured", "estimated", "available", "%"]
    parts = Table("Parts", ["part", "", "MHz reached", "MHz assumed", "tools"], clocks)
    return Section("gates", "In gates", [Note(GATES), parts, Table("Measured and estimated", header, resources)])
