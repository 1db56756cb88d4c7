"""What a stored network holds, as tables: its layers, its tasks, and where its bits are."""

from __future__ import annotations

from collections.abc import Sequence

from tsn_hw.app.output import Block, Cell, Note, Table, Value
from tsn_hw.core.capacity import Capacity, LayerCapacity
from tsn_hw.core.layers import Conv2d, Weighted
from tsn_hw.core.network import PackedNetwork, code_bits

SECTIONS = {
    "codes": "body codes",
    "codebooks": "body codebooks",
    "masks": "body masks",
    "heads": "heads",
    "requantization": "requantization",
    "routing": "routing memory",
    "gates": "gates",
    "header": "header",
}
"""What the bits of a file are, and what they are called."""


def section_bits(sizes: Capacity) -> dict[str, int]:
    """Bits of every section of a file, by the keys of :data:`SECTIONS`; gates where there are some."""
    bits = {name: getattr(sizes, f"{name}_bits") for name in SECTIONS}
    return {name: count for name, count in bits.items() if name != "gates" or count}


def capacity_blocks(sizes: Capacity) -> list[Block]:
    """Where the bits of a .tsn file are, and its shares of dense float32 networks."""
    dense = 32 * sizes.body_weights
    sections = section_bits(sizes).items()
    rows = [[SECTIONS[name], bits, 100 * bits / dense if dense else None] for name, bits in sections]
    told = (
        f"body capacity {sizes.body_percent:.2f} % of {sizes.body_weights} float32 weights "
        f"(by WSN's rule {sizes.wsn_rule_percent:.2f} %, owners instead of masks {sizes.prefix_rule_percent:.2f} %)\n"
        f"whole file {sizes.file_bits // 8} bytes: "
        f"{sizes.total_percent:.2f} % of one dense float32 network with all heads"
    )
    return [Table.of_rows(["section", "bits", "% of body"], rows, "Bits of the file"), Note(told)]


def layer_table(net: PackedNetwork, layers: Sequence[LayerCapacity]) -> Table:
    """Weight memories of layers in their banks."""
    geometry = {layer.name: _geometry(layer) for layer in net.layers if isinstance(layer, Weighted)}
    rows: list[list[Value | Cell]] = []
    for layer in layers:
        used, owners = 100 * layer.used / layer.weights, " ".join(map(str, layer.code_widths))
        bits = [layer.codes_bits, layer.codebooks_bits, layer.masks_bits, layer.bits / layer.weights]
        rows.append([layer.layer, layer.bank, geometry[layer.layer], layer.weights, used, owners, *bits])
    header = ["layer", "bank", "geometry", "weights", "used %", "code bits by owner"]
    return Table.of_rows([*header, "codes", "codebooks", "masks", "bits a weight"], rows, "Weight memories")


def _geometry(layer: Weighted) -> str:
    """Inputs to outputs, and the kernel."""
    if not isinstance(layer, Conv2d):
        return f"{layer.in_features} → {layer.out_features}"
    grouped = f", {layer.groups} groups" if layer.groups > 1 else ""
    return f"{layer.in_channels} → {layer.out_channels}, {layer.kernel[0]} × {layer.kernel[1]}{grouped}"


def task_table(net: PackedNetwork, sizes: Capacity, name: str = "", last: Sequence[Value] = ()) -> Table:
    """Weights of every task; ``name`` and ``last``: header and values of a further column."""
    rows: list[list[Value | Cell]] = []
    for number, task in enumerate(sizes.tasks):
        prefix = net.bank_tasks(task.bank).index(number)
        widths = {code_bits(net.words(number, i).codebooks[prefix]) for i in net.body if net.tasks[number].steps[i]}
        counts = [task.used, task.owned, task.used - task.owned]
        bits = " ".join(map(str, sorted(widths)))
        further = last[number : number + 1]
        classes = len(net.tasks[number].classes)
        rows.append([task.task, task.bank, classes, *counts, task.sparsity_percent, bits, *further])
    header = ["task", "bank", "classes", "used weights", "own", "shared", "sparsity %", "code bits"]
    return Table.of_rows([*header, name] if last else header, rows, "Tasks")
