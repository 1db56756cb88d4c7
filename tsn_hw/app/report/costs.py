"""Sections of a report about what a network costs: sweep, capacity, memory map, layers, the accelerator on a part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from export.c_code.estimate import estimate_c
from sim.cost import NetworkCost
from tsn_hw.app.hardware.choose import Chosen
from tsn_hw.app.hardware.costs import cost_blocks, hardware_blocks
from tsn_hw.app.hardware.microcontroller import c_blocks
from tsn_hw.app.hardware.synth import Synthesis, synthesis_blocks
from tsn_hw.app.learning.contents import capacity_blocks, layer_table, section_bits
from tsn_hw.app.output import Block, Cell, Figure, Gallery, Note, Section, Table, Value
from tsn_hw.app.output.plots import inline_svg, stacked_bars
from tsn_hw.app.report.memory_map import LayerMap, evenly, layer_maps, owner_picture, picture, readers_picture, swatches
from tsn_hw.app.report.sections import Subject
from tsn_hw.app.sweep.pareto import ACCURACY, Objective
from tsn_hw.app.sweep.plots import best_for, known_costs, pareto_plot, points_table
from tsn_hw.app.sweep.results import Sweep, widths
from tsn_hw.core.capacity import Capacity, capacity
from tsn_hw.core.errors import ExportError
from tsn_hw.core.network import PackedNetwork

MOST_C_WEIGHTS = 4_000_000
"""Weights of all tasks up to which a report tells what C takes."""
MOST_STAGES, MOST_SHARING = 16, 64
"""Most stages of growth, and owners of a layer, that are told; most tasks that have a row each.
Without these limits time and page would grow with the square of the tasks."""


def sweep(found: Sweep) -> Section:
    """What other widths would have given."""
    told = f"{len(found.rows)} networks from the same training; float weights reach {found.float_percent:.2f} %."
    if found.chosen is not None:
        row = found.rows[found.chosen]
        told += (
            f" Point {found.chosen} is the smallest network within the budget: code bits {widths(row)}, "
            f"{row['activation_bits']}-bit activations, {row[ACCURACY.column]:.2f} %."
        )
    charts = Gallery([_chart(found, cost) for cost in known_costs(found)])
    points = points_table(found, range(len(found.rows)), f"All {len(found.rows)} points")
    return Section("sweep", "Sweep", [Note(told), charts, points])


def _chart(found: Sweep, cost: Objective) -> Figure:
    shown = [row for row in found.rows if row.get(cost.column) is not None]
    best = "; ".join(f"{row[ACCURACY.column]:.2f} % at {row[cost.column]:,.2f}" for row in best_for(cost, shown))
    title = f"Accuracy against {cost.label}"
    alternative = f"{title}. {len(shown)} points; best for their cost: {best}"
    chart = inline_svg(pareto_plot(found, cost, on_page=True), alternative)
    return Figure(chart, f"{title}. Numbers beside the line are code bits.")


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
            *capacity_blocks(subject.sizes),
            layer_table(net, subject.sizes.body),
            *_maps(net, subject.names),
        ],
    )


def _growth(grown: Sequence[Capacity], names: Sequence[str]) -> Markup:
    stages = list(zip(names, grown, strict=True))
    described = "; ".join(f"{name} {sizes.file_bits // 8:,} bytes" for name, sizes in stages)
    stacks = {f"after {name}": [bits / 8 for bits in section_bits(sizes).values()] for name, sizes in stages}
    return inline_svg(
        stacked_bars(stacks, list(section_bits(grown[0])), "bytes"), f"File size after every task. {described}"
    )


def _growth_table(grown: Sequence[Capacity], names: Sequence[str], every: str) -> Table:
    rows: list[list[Value | Cell]] = []
    before = dict.fromkeys(section_bits(grown[0]), 0)
    for name, sizes in zip(names, grown, strict=True):
        bits = section_bits(sizes)
        added = [bits[section] - old for section, old in before.items()]
        rows.append([name, *added, sum(added), sizes.body_percent, sizes.total_percent])
        before = bits
    header = ["task", *section_bits(grown[0]), "all", "body % so far", "file % so far"]
    return Table.of_rows(header, rows, f"Bits that {every} added")


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
    return Table.of_rows(header, rows, "Body weights of an owner (row) that a task (column) reads")


# ------------------------------------------------------------------------------------------------ operations, hardware


def operations(costs: NetworkCost) -> Section:
    """What an inference takes beside float32, and what is stored."""
    told = "Energies are of arithmetic and memories on chip, by the table of docs/cost.md."
    return Section("layers", "Layers", [Note(told), *cost_blocks(costs, by_task=len(costs.tasks) <= MOST_SHARING)])


def hardware(chosen: Chosen) -> Section:
    """The accelerator on a part."""
    told = Note("An estimate, no synthesis; docs/cost.md says how good it is.")
    return Section("hardware", f"On {chosen.estimate.device.name}", [*hardware_blocks(chosen), told])


def microcontroller(net: PackedNetwork) -> Section:
    """The network in C, or why it has no place there."""
    weights = sum(layer.weight_count for t in range(len(net.tasks)) for _, layer, _ in net.run_order(t))
    if weights > MOST_C_WEIGHTS:
        told = f"More than {MOST_C_WEIGHTS:,} weights of all tasks; tsn-hw cost --target c tells what they take."
        blocks: list[Block] = [Note(told)]
    else:
        try:
            blocks = c_blocks(estimate_c(net, "balanced"))
        except ExportError as error:
            blocks = [Note(str(error))]
    return Section("c", "In C on a microcontroller", blocks)


GATES = (
    "The same accelerator in SystemVerilog, synthesized: cells counted, beside the estimate that was made before. "
    "Placed and routed designs have every port on a pin; their clock is that of paths from register to register."
)


def gates(projects: Sequence[Synthesis]) -> Section:
    """What synthesis measured of the RTL, and whether parts have enough of it."""
    return Section("gates", "In gates", [Note(GATES), *synthesis_blocks(projects)])
