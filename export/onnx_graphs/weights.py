"""How the weights of a layer are stored in a graph: survivors only, or as words of the shared bank file.

Both end in a lookup that gives int8, or uint8 with zero point 128, where the layer computes on bytes, else integers in
float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, numpy_helper

from export.onnx_graphs.bank import (
    BANK_FILE,
    BankLayout,
    PlaneRun,
    Segment,
    addresses,
    code_planes,
    packed,
    position,
    words_digest,
)
from export.onnx_graphs.nodes import Graph, Tensor
from export.onnx_graphs.plan import BYTE_ZERO, Plan, centroid_dtype
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import BankLayer, Bytes, PackedNetwork


@dataclass(frozen=True)
class LayerWords:
    """The inputs of ``BankLookup``: tensors of code and mask planes, codes a row of the table, the table itself."""

    codes: str
    masks: str
    code_bits: int
    table: Ints
    digest: str | None
    """Of the words in the bank file, None where they are in the graph."""


def survivor_weights(graph: Graph, plan: Plan, layer: Weighted) -> Tensor:
    """Weights from the codes of the survivors, a mask and one codebook; an average pool sums with ones."""
    name, words = layer.name, plan.words
    if words is None:
        return _ones(graph, plan, layer)
    codes = words.code if len(words.code) else np.zeros(1, np.int64)  # no tensor is empty
    read = _codes(graph, f"{name}.", codes, words.widths)
    mask = graph.constant(f"{name}.mask", packed(words.mask.reshape(1, -1)))
    return _looked_up(graph, plan, layer, "CodebookLookup", [read, mask], words.codebook)


def bank_weights(graph: Graph, plan: Plan, layer: Weighted, words: LayerWords) -> Tensor:
    """Weights from words that lie at every position."""
    columns = graph.scalar(1 << words.code_bits, "int32")
    inputs = [words.codes, words.masks, _units(graph, words.code_bits), columns]
    return _looked_up(graph, plan, layer, "BankLookup", inputs, words.table.reshape(-1))


def _codes(graph: Graph, prefix: str, codes: Ints, widths: tuple[int, ...]) -> str:
    """Codes as bit planes: the low bits of all, and those that need more of them escape to a level of their own."""
    (bits, *wider), columns = widths, 1 << widths[0]
    planes = graph.constant(f"{prefix}codes", _planes(codes % columns, bits))
    read = graph.call(
        "ReadCodes", [planes, _units(graph, bits)], f"{prefix}low_codes" if wider else f"{prefix}read_codes"
    )
    if not wider:
        return read
    further = codes // columns - 1
    escapes = graph.constant(f"{prefix}escapes", packed((further >= 0)[None]))
    escaped = _codes(graph, f"{prefix}escaped_", further[further >= 0], tuple(wider))
    inputs = [read, escapes, escaped, graph.scalar(columns, "int32")]
    return graph.call("Escape", inputs, f"{prefix}read_codes")


def _looked_up(graph: Graph, plan: Plan, layer: Weighted, kind: str, inputs: list[str], centroids: Ints) -> Tensor:
    """Call a lookup; what pads the last byte of a layer is cut off."""
    name, shape = layer.name, _shape(plan, layer)
    codebook = _codebook(graph, plan, name, centroids)
    weights = Tensor(f"{name}.weights", codebook.dtype, codebook.zero_point)
    fitting = graph.constant(f"{name}.shape", shape)
    if layer.weight_count % 8 == 0:
        graph.call(kind, [*inputs, codebook.name, fitting], weights.name, f"{name}.words")
        return weights
    padded, flat = f"{name}.padded_weights", graph.shared("flat", np.array([-1]))
    graph.call(kind, [*inputs, codebook.name, flat], padded, f"{name}.words")
    ends = [graph.shared(f"up_to_{end}", np.array([end])) for end in (0, layer.weight_count)]
    cut = graph.node("Slice", [padded, *ends], f"{name}.flat_weights")
    graph.node("Reshape", [cut, fitting], weights.name)
    return weights


def shared_words(graph: Graph, net: PackedNetwork, task: int, layout: BankLayout) -> dict[int, LayerWords]:
    """Refer to the planes of the bank file that a task reads; gives the words of every layer that lies there."""
    found: dict[int, LayerWords] = {}
    own = position(net, task)
    for segment, layers in layout.task_segments(net, task):
        names = [net.layers[i].name for i in segment.layers]
        masks = _masks(graph, segment, own, names)
        for i in layers:
            memory, mask, name = net.words(task, i), net.mask(task, i), net.layers[i].name
            planes = code_planes(memory, own)
            codes = _external(graph, f"{name}.codes", segment.code_runs(i, planes), segment.layers[i])
            rows = segment.positions(own)
            row = np.searchsorted(rows, memory.owner)
            words = addresses(mask, row, memory.code.astype(np.int64), 1 << planes)
            table = _table(memory, rows, 1 << planes)
            found[i] = LayerWords(codes, masks[name], planes, table, words_digest(words))
    return found


def dense_words(graph: Graph, plan: Plan, layer: Weighted) -> LayerWords:
    """A layer that lies in the graph itself, its words stored as in a bank."""
    name, words = layer.name, plan.words
    assert words is not None  # a layer of a task
    dense = np.zeros(words.mask.shape, np.int64)
    dense[words.mask] = words.code
    codes = graph.constant(f"{name}.codes", _planes(dense.reshape(-1), words.code_bits))
    masks = graph.constant(f"{name}.masks", packed(words.mask.reshape(1, -1)))
    table = np.zeros((1, 1 << words.code_bits), np.int64)
    table[0, : len(words.codebook)] = words.codebook
    return LayerWords(codes, masks, words.code_bits, table, None)


def _masks(graph: Graph, segment: Segment, own: int, names: list[str]) -> dict[str, str]:
    """Mask planes of every layer of a segment, one row a task up to this one."""
    runs = segment.mask_runs(own)
    outputs = {name: f"{name}.masks" for name in names}
    if len(names) == 1:
        _external(graph, outputs[names[0]], runs, segment.mask_bytes)
        return outputs
    planes = _external(graph, f"{names[0]}.bank_masks", runs, segment.mask_bytes)
    sizes = graph.constant(f"{names[0]}.sizes", np.array(list(segment.layers.values()), np.int64))
    graph.node("Split", [planes, sizes], *outputs.values(), axis=2)
    return outputs


def _external(graph: Graph, name: str, runs: Sequence[PlaneRun], plane_bytes: int) -> str:
    """Planes of the bank file as one tensor (planes, 1, bytes)."""
    if len(runs) == 1:
        return graph.external(name, BANK_FILE, runs[0].offset, (runs[0].planes, 1, plane_bytes))
    parts = [
        graph.external(f"{name}{number}", BANK_FILE, run.offset, (run.planes, 1, plane_bytes))
        for number, run in enumerate(runs)
    ]
    return graph.node("Concat", parts, name, axis=0)


def _table(memory: BankLayer, rows: list[int], columns: int) -> Ints:
    """The codebooks of some owners, (rows, columns); zeros where undefined."""
    table = np.zeros((len(rows), columns), np.int64)
    for row, owner in zip(table, rows, strict=True):
        row[: len(memory.codebooks[owner])] = memory.codebooks[owner]
    return table


def _codebook(graph: Graph, plan: Plan, name: str, centroids: Ints) -> Tensor:
    """A codebook with its last entry for weights outside of the mask, in the type that the layer computes with."""
    entries = np.append(centroids, 0)
    if plan.has_int8_weights:
        return Tensor(graph.constant(f"{name}.codebook", entries.astype(np.int8)), "int8")
    if plan.form != "float32" and not plan.has_wide_weights:
        # what does not fit into a byte belongs to other owners, and this task reads none of it: its plan would be wide
        stored = (entries + BYTE_ZERO).astype(np.uint8)
        return Tensor(graph.constant(f"{name}.codebook", stored), "uint8", BYTE_ZERO)
    narrow = graph.constant(f"{name}.codebook", entries.astype(centroid_dtype(entries)))
    return Tensor(graph.node("Cast", [narrow], f"{name}.centroids", to=TensorProto.FLOAT), "float32")


def _shape(plan: Plan, layer: Weighted) -> Ints:
    """The shape of the weights; QLinearConv takes those of a Linear as a kernel of 1 x 1."""
    kernel = (1, 1) if plan.is_on_rows else ()
    return np.array([*layer.weight_shape, *kernel], np.int64)


def _ones(graph: Graph, plan: Plan, layer: Weighted) -> Tensor:
    dtype, zero_point = ("float32", 0) if plan.form == "float32" else ("uint8", BYTE_ZERO)
    if plan.has_int8_weights:
        dtype, zero_point = "int8", 0
    one = numpy_helper.from_array(np.array([1 + zero_point], dtype))
    shape = graph.constant(f"{layer.name}.shape", _shape(plan, layer))
    return Tensor(graph.node("ConstantOfShape", [shape], f"{layer.name}.weights", value=one), dtype, zero_point)


def _units(graph: Graph, code_bits: int) -> str:
    """The worth of every plane of a code."""
    return graph.shared(f"units_{code_bits}", (1 << np.arange(code_bits)).astype(np.uint8)[None])


def _planes(codes: Ints, code_bits: int) -> Bytes:
    """Codes (n,) as packed planes (code_bits, 1, n / 8)."""
    return packed((codes >> np.arange(code_bits)[:, None]) % 2 == 1)
