"""How the weights of a layer are stored in a graph: survivors only, or as words of the shared bank file.

Both end in a lookup of bytes, which become int8 or stay uint8 with zero point 128, where the layer computes on bytes,
else in one of integers in float32. GatherElements looks them up, which runtimes do five times as fast as Gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from export.onnx_graphs.plan import BYTE_ZERO, LEVEL_BITS, CodeLevels, Plan, centroid_dtype
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import MAX_CODE_BITS, BankLayer, Bools, PackedNetwork

FIELDS = (8, 4, 2, 1)
"""Bits of the fields that codes are made of: a byte holds whole ones."""


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
    levels = CodeLevels(len(words.codebook), words.widths)
    entries = np.zeros(levels.read_as.max() + 1, np.int64)
    entries[levels.read_as] = words.codebook
    dtype = "uint8" if len(entries) <= 1 << MAX_CODE_BITS else "int32"
    codes = _codes(graph, name, words.code, levels, _Kind(dtype))
    mask, bits = _mask(graph, name, words.mask.reshape(-1))
    return _looked_up(graph, plan, layer, "CodebookLookup", [codes, mask], (entries, bits))


def _mask(graph: Graph, layer: str, mask: Bools) -> tuple[str, int]:
    """A mask as bytes, and its bits with padding; of a sparse one, the bytes that are not 0 and a mask of those."""
    plane = packed(mask[None])
    sparse = packed(np.pad(mask, (0, -mask.size % 64))[None]).reshape(-1)
    used = sparse != 0
    if len(used) // 8 + int(used.sum()) + LEVEL_BITS // 8 >= plane.size:
        return graph.constant(f"{layer}.mask", plane), 8 * plane.size
    held = graph.constant(f"{layer}.mask", np.append(0, sparse[used]).astype(np.uint8)[None])  # behind one for nobody
    inputs = [graph.constant(f"{layer}.used_bytes", packed(used[None])), held, graph.scalar(0, "uint8")]
    return graph.call("Place", inputs, f"{layer}.mask_bytes"), 8 * len(used)


def bank_weights(graph: Graph, plan: Plan, layer: Weighted, words: LayerWords) -> Tensor:
    """Weights from words that lie at every position."""
    columns = graph.scalar(1 << words.code_bits, "int32")
    inputs = [words.codes, words.masks, _units(graph, words.code_bits), columns]
    return _looked_up(graph, plan, layer, "BankLookup", inputs, (words.table, -(-layer.weight_count // 8) * 8))


@dataclass(frozen=True)
class _Kind:
    """How codes are read: their element type, how far they are shifted left, and how many levels lie before."""

    dtype: str
    shift: int = 0
    level: int = 0

    @property
    def number(self) -> str:
        """What the names of tensors end with."""
        return str(self.level or "")


def _codes(graph: Graph, layer: str, codes: Ints, levels: CodeLevels, kind: _Kind) -> str:
    """Codes (n,) behind one for nobody, as a tensor of a kind.

    The low bits of all lie in fields of bytes; codes that need more of them escape to a level of their own.
    """
    codes, bits, start = np.pad(codes, (1, -(len(codes) + 1) % 8)), levels.bits, 0
    whole, end = "", kind.number
    for width in (width for width in FIELDS if bits & width):
        name = f"{layer}.codes{end}{f'_{start}' if start else ''}"
        part = _field(graph, name, (codes >> start) % (1 << width), width, replace(kind, shift=kind.shift + start))
        whole = graph.node("BitwiseOr", [whole, part], f"{name}_whole") if start else part
        start += width
    if levels.further is None:
        return whole
    further = codes >> bits
    escapes = graph.constant(f"{layer}.escapes{end}", packed((further > 0)[None]))
    inner = replace(kind, shift=kind.shift + bits, level=kind.level + 1)
    escaped = _codes(graph, layer, further[further > 0] - 1, levels.further, inner)
    none = graph.scalar(levels.none << inner.shift, kind.dtype)
    return graph.call("Escape", [whole, escapes, escaped, none], f"{layer}.escaped{end}")


def _field(graph: Graph, name: str, field: Ints, width: int, kind: _Kind) -> str:
    """A field of every code: the lowest of all bytes, then the next."""
    lanes = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    content = np.bitwise_or.reduce(field.reshape(len(lanes), -1) << lanes, axis=0, keepdims=True)
    read = graph.constant(name, content.astype(np.uint8))
    if len(lanes) > 1:
        inputs = [read, graph.shared(f"shifts_{width}", lanes), graph.scalar((1 << width) - 1, "uint8")]
        read = graph.call("ReadFields", inputs, f"{name}_read")
    if kind.dtype == "int32":
        whole = graph.node("Cast", [read], f"{name}_int32", to=TensorProto.INT32)
        return graph.node("Mul", [whole, graph.scalar(1 << kind.shift, kind.dtype)], f"{name}_up")
    if kind.shift:
        return graph.node("BitShift", [read, graph.scalar(kind.shift, kind.dtype)], f"{name}_up", direction="LEFT")
    return read


def _looked_up(
    graph: Graph, plan: Plan, layer: Weighted, kind: str, inputs: list[str], found: tuple[Ints, int]
) -> Tensor:
    """Call a lookup in so many entries that finds so many weights; what pads a layer is cut off."""
    name, codebook = layer.name, _codebook(graph, plan, layer.name, found[0])
    inputs = [*inputs, codebook.name, graph.scalar(codebook.zero_point, codebook.dtype)]
    others = [f"{name}.words", f"{name}.used"] if kind == "BankLookup" else []
    weights, fitting = f"{name}.weights", graph.constant(f"{name}.shape", _shape(plan, layer))
    shaped = f"{name}.weight_bytes" if plan.has_int8_weights else weights
    if layer.weight_count == found[1]:
        graph.call(kind, [*inputs, fitting], shaped, *others)
    else:
        flat, padded = graph.shared("flat", np.array([-1])), f"{name}.padded_weights"
        graph.call(kind, [*inputs, flat], padded, *others)
        ends = [graph.shared(f"up_to_{end}", np.array([end])) for end in (0, layer.weight_count)]
        graph.node("Reshape", [graph.node("Slice", [padded, *ends], f"{name}.flat_weights"), fitting], shaped)
    if plan.has_int8_weights:
        return Tensor(graph.node("Cast", [shaped], weights, to=TensorProto.INT8), "int8")
    return replace(codebook, name=weights)


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
    bits = (dense.reshape(-1) >> np.arange(words.code_bits)[:, None]) % 2 == 1
    codes = graph.constant(f"{name}.codes", packed(bits).reshape(1, words.code_bits, -1))
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
    """Planes of the bank file as one tensor (1, planes, bytes)."""
    if len(runs) == 1:
        return graph.external(name, BANK_FILE, runs[0].offset, (1, runs[0].planes, plane_bytes))
    parts = [
        graph.external(f"{name}{number}", BANK_FILE, run.offset, (1, run.planes, plane_bytes))
        for number, run in enumerate(runs)
    ]
    return graph.node("Concat", parts, name, axis=1)


def _table(memory: BankLayer, rows: list[int], columns: int) -> Ints:
    """The codebooks of some owners, (rows, columns); zeros where undefined."""
    table = np.zeros((len(rows), columns), np.int64)
    for row, owner in zip(table, rows, strict=True):
        row[: len(memory.codebooks[owner])] = memory.codebooks[owner]
    return table


def _codebook(graph: Graph, plan: Plan, name: str, entries: Ints) -> Tensor:
    """A codebook (1, entries): bytes, of two's complement or with a zero point, or float32, as the layer computes."""
    entries = entries.reshape(1, -1)
    if plan.form != "float32" and not plan.has_wide_weights:
        # what does not fit into a byte belongs to other owners, and this task reads none of it: its plan would be wide
        zero_point = 0 if plan.has_int8_weights else BYTE_ZERO
        return Tensor(graph.constant(f"{name}.codebook", (entries + zero_point).astype(np.uint8)), "uint8", zero_point)
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
