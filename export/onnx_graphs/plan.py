"""How each layer of a task is computed exactly in ONNX, decided before a node is written.

A sum of products (Linear, Conv2d, AvgPool) has three forms:

* "quantized": on uint8, and one operator also adds the offset, scales, rounds and saturates. Activations and centroids
  have at most 8 bits, and offsets are multiples of their multipliers, so that the whole is ``(acc + bias) * multiplier
  / 2**shift``. Runtimes compute that in float32: every step of every channel's staircase is proven to lie where it
  must (`arithmetic.exact_in_float32`). It is QLinearConv; a Linear with one multiplier that float32 holds too is Gemm
  between DequantizeLinear and QuantizeLinear, of which runtimes make one operator. A head may be such a Gemm without
  the latter.
* "float32": Gemm or Conv on integers in float32. It needs ``acc`` within 2**24.
* "integer": MatMulInteger or ConvInteger on uint8; activations and centroids of more than 8 bits are split into two
  bytes, and the partial sums are combined exactly.

It takes the first of them that is proven exact, which is the fastest on onnxruntime (``benchmarks/bench_onnx.py``):
"quantized", then "float32", then "integer"; a Linear whose operands are bytes prefers "integer" to "float32".

An Add is "quantized", between DequantizeLinear and QuantizeLinear, where both operands and the result have at most 8
bits, it has no multiplier and no offset, and float32 holds the aligned sum with its zero points; else "float32", which
needs the sum within 2**24; else "integer", in float64 or int64.

Weights on bytes are int8 in the form "quantized" where two products of a byte fit 16 bits: runtimes take half to three
quarters of the time. x86 processors without VNNI saturate larger pairs, so that other weights are uint8 with zero
point 128, exact everywhere. All forms but "quantized" compute ``acc * multiplier + offset`` in the cheapest type that
is proven exact (`arithmetic.carrier`): float32, where it is folded into weights and bias, then float64, then int64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import FLOAT32_EXACT, INT32, Carrier, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.facts import FloatRequantization, LayerFacts
from tsn_hw.core.layers import Add, Flatten, Linear, MaxPool, Pad, Weighted, refused
from tsn_hw.core.network import MAX_CODE_BITS, Bools, PackedNetwork, Requantization, code_bits

BYTE_ZERO = 128
"""Zero point of a byte that carries a signed integer."""
LEVEL_BITS = 8 * 250
"""About what the nodes and tensors of one more level of codes add to a file."""
FIELD_BITS = 8 * 150
"""About what those of one more field of a level add: one of 8, 4, 2 or 1 bits, of which a byte holds whole ones."""

PAIR_LIMIT = 2**15 - 1
"""The largest sum of two products of bytes that x86 processors without VNNI hold."""

Form = Literal["quantized", "float32", "integer"]
MOVED = (Flatten, MaxPool, Pad)
"""Layers that only move and compare integers: they need no plan."""
Forms = Form | Mapping[str, Form] | None
"""Forced forms: one of all layers that compute, or some by layer; None: the rule's choice."""


@dataclass(frozen=True)
class Words:
    """The weights of one layer as one task sees them.

    mask: weight-shaped; codebook: the distinct centroids that the task really reads, at least one, frequent ones
    first; code: (survivors,), index of every weight under the mask into the codebook.
    """

    mask: Bools
    codebook: Ints
    code: Ints

    @property
    def code_bits(self) -> int:
        """The narrowest width of a code, where all have the same."""
        return code_bits(self.codebook)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Widths of the smallest levels of codes, see :func:`code_levels`."""
        return code_levels(np.bincount(self.code, minlength=len(self.codebook)))[1]


@dataclass(frozen=True)
class Plan:
    """One layer that computes, and how it does so exactly; the nodes are written from this alone.

    layer: what it computes, average pooling as a convolution; its name is that in the graph. words: None where no
    weights are stored. float_requantization: in the form "quantized". carrier: in the other forms, the type of
    ``acc * multiplier + offset``.
    """

    facts: LayerFacts
    layer: Weighted | Add
    words: Words | None
    form: Form
    carrier: Carrier | Literal["int32"]
    float_requantization: FloatRequantization | None = None

    @property
    def has_wide_weights(self) -> bool:
        """Whether a centroid needs two bytes."""
        return self.words is not None and centroid_dtype(self.words.codebook) == np.int16

    @property
    def fits_float32(self) -> bool:
        """Whether float32 holds every sum of products, with multipliers and offset folded in."""
        return self.carrier == "float32" and self.facts.accumulator <= FLOAT32_EXACT

    @property
    def is_gemm(self) -> bool:
        """Whether a Linear is a Gemm on bytes; runtimes know no other scale a channel there."""
        return (
            isinstance(self.layer, Linear)
            and self.fits_float32
            and len(compact(self.facts.requantization.multiplier)) == 1
        )

    @property
    def is_on_rows(self) -> bool:
        """Whether a Linear is a QLinearConv, which sees samples as the rows of an image."""
        return self.form == "quantized" and isinstance(self.layer, Linear) and not self.is_gemm

    @property
    def is_wide(self) -> bool:
        """Whether a product has an operand of two bytes."""
        return self.has_wide_weights or self.facts.inputs[0].bits > 8

    @property
    def has_int8_weights(self) -> bool:
        """Whether its weights are int8 without a zero point: exact on every processor, and faster."""
        source, largest = self.facts.inputs[0], 1 if self.words is None else arithmetic.magnitude(self.words.codebook)
        largest_byte = source.range[1] + (BYTE_ZERO if source.signed else 0)
        return self.form == "quantized" and 2 * largest_byte * largest <= PAIR_LIMIT

    def scaled(self, values: Ints) -> NDArray[Any]:
        """Integers over 2**shift in the carrier, exactly; integer carriers shift last and keep them as they are."""
        if self.carrier in ("int32", "int64"):
            return values.astype(self.carrier)
        return np.ldexp(values.astype(np.float64), -self.facts.requantization.shift).astype(self.carrier)

    def summary(self) -> dict[str, object]:
        """What ``metadata_props`` tell of the layer."""
        facts = self.facts
        summary: dict[str, object] = {"form": self.form, "accumulator": facts.accumulator, "bound": facts.bound}
        if facts.output is not None:
            summary["bits"] = facts.output.bits
        if self.words is not None:
            summary["code_bits"] = self.words.widths if len(self.words.widths) > 1 else self.words.widths[0]
        return summary


def check_forms(net: PackedNetwork, forms: Forms) -> None:
    """Refuse forms of layers that a network does not have, or that compute nothing, with ExportError."""
    if isinstance(forms, Mapping):
        layers = {layer.name: layer for layer in net.layers}
        for name in forms:
            if name not in layers:
                raise ExportError(f"form of layer {name!r}: the network has no such layer")
            if not layers[name].computes:
                raise ExportError(f"form of layer {name!r}: it computes nothing")


def plan_layer(net: PackedNetwork, task: int, index: int, forms: Forms = None) -> Plan:
    """Apply the rule of the module's docstring to a layer that computes; a forced form is tried alone.

    Raises ExportError where no form, or not the forced one, is exact.
    """
    if not net.layers[index].computes:
        raise refused(net.layers[index], "ONNX")
    facts = net.facts(task, index)
    forced = forms.get(facts.name) if isinstance(forms, Mapping) else forms
    layer = facts.products or facts.layer
    if not isinstance(layer, Weighted | Add):
        raise refused(layer, "ONNX")
    words = _words(net.weights(task, index), net.mask(task, index)) if isinstance(facts.layer, Weighted) else None
    plan = Plan(facts, layer, words, form="integer", carrier=facts.carrier)
    return _with_form(plan, _float_requantization(plan), forced)


def _with_form(plan: Plan, found: FloatRequantization | str, forced: Form | None) -> Plan:
    """Choose the form of a layer, or check the forced one."""
    forms: list[Form] = ["quantized", "float32", "integer"]
    if isinstance(plan.layer, Linear) and not plan.is_wide:
        forms = ["quantized", "integer", "float32"]
    obstacles = {form: _obstacle(plan, found, form) for form in forms}
    exact = [form for form in forms if obstacles[form] is None]
    form: Form = forced or (exact[0] if exact else "integer")
    if obstacles[form] is not None:
        raise ExportError(f"layer {plan.layer.name!r}: the form {form!r} is not exact: {obstacles[form]}")
    plan = replace(plan, form=form)
    if form == "quantized" and isinstance(found, FloatRequantization):
        return replace(plan, float_requantization=found)
    if form == "integer" and plan.carrier == "float32" and (plan.is_wide or isinstance(plan.layer, Add)):
        return replace(plan, carrier="float64")  # sums of bytes may exceed what their total does not
    if form == "integer" and not plan.is_wide and _is_raw(plan.facts.requantization):
        return replace(plan, carrier="int32")
    return plan


def _obstacle(plan: Plan, found: FloatRequantization | str, form: Form) -> str | None:
    """Why a form does not hold a layer exactly, with the value; None if it does."""
    largest = 0 if isinstance(plan.layer, Add) else 255 * 255 * plan.layer.fan_in
    if form != "float32" and largest > INT32[1]:
        return f"sums of uint8 products reach {largest}, must fit int32"
    if form == "float32" and plan.facts.accumulator > FLOAT32_EXACT:
        return f"its accumulator reaches {plan.facts.accumulator}, at most {FLOAT32_EXACT}"
    return found if form == "quantized" and isinstance(found, str) else None


def _float_requantization(plan: Plan) -> FloatRequantization | str:
    """What the quantized form computes, proven to be the contract's integers; or why it is not."""
    output = plan.facts.output
    if output is None and not plan.is_gemm:
        return "its logits are no bytes, and it is no Gemm of one scale within float32"
    bits = [form.bits for form in (output, *plan.facts.inputs) if form is not None]
    if plan.has_wide_weights or max(bits) > 8:
        return "activations or centroids have more than 8 bits"
    if isinstance(plan.layer, Add):
        return _float_requantization_of_add(plan)
    return plan.facts.float_requantization(keep_multipliers=plan.is_gemm)


def _float_requantization_of_add(plan: Plan) -> FloatRequantization | str:
    """Runtimes may take zero points off after the operands are scaled: float32 has to hold all of it."""
    zero_points = sum(BYTE_ZERO << shift for shift in plan.facts.left_shifts)
    largest = plan.facts.bound + zero_points + (BYTE_ZERO << plan.facts.requantization.shift)
    multiplier, offset = plan.facts.requantization.multiplier, plan.facts.requantization.offset
    if (multiplier != 1).any() or offset.any():
        return "it has a multiplier or an offset"
    if largest > FLOAT32_EXACT:
        return f"its sum with zero points reaches {largest}, at most {FLOAT32_EXACT}"
    return FloatRequantization(multiplier, offset)


def _is_raw(requantization: Requantization) -> bool:
    """Whether logits are sums plus offset, nothing else: they fit int32."""
    has_scale = requantization.shift > 0 or (requantization.multiplier != 1).any()
    return requantization.output is None and not has_scale


def _words(weights: Ints, mask: Bools) -> Words:
    survivors = weights[mask] if mask.any() else np.zeros(1, np.int64)  # no tensor is empty; the mask hides the 0
    codebook, code, counts = np.unique(survivors, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return Words(mask, codebook[order], np.argsort(order)[code][: int(mask.sum())])


def code_levels(counts: Ints) -> tuple[int, tuple[int, ...]]:
    """The smallest code for entries of falling frequency: its size in bits, and the width of each of its levels.

    A level of width b holds the low b bits of every code. Where it is not the last, the codes that reach 2**b escape:
    a bit a code tells which, and the next level holds ``code // 2**b - 1`` of those alone. No level is wider than 8
    bits, which a byte holds.

    >>> code_levels(np.full(16, 1000))
    (64000, (4,))
    >>> code_levels(np.repeat([4000, 100], [4, 28]))
    (68000, (2, 3))
    >>> code_levels(np.full(512, 1))
    (6864, (8, 1))
    """
    bits, total = code_bits(counts), int(counts.sum())
    choices: list[tuple[int, tuple[int, ...]]] = [(bits * total, (bits,))] if bits <= MAX_CODE_BITS else []
    for low in range(1, min(bits, MAX_CODE_BITS + 1)):
        groups = np.add.reduceat(counts[1 << low :], np.arange(0, len(counts) - (1 << low), 1 << low))
        size, widths = code_levels(groups)
        choices.append(((low + 1) * total + size + LEVEL_BITS, (low, *widths)))
    return min((size + FIELD_BITS * (widths[0].bit_count() - 1), widths) for size, widths in choices)


@dataclass(frozen=True)
class CodeLevels:
    """The levels of so many codes, by their widths, and the integers that they are read as.

    These differ from the codes where some escape: a reader puts what comes from further levels above the low bits, and
    :attr:`none`, which nothing there is read as, where nothing comes.

    >>> CodeLevels(6, (1, 1, 1)).read_as.tolist()
    [4, 5, 0, 1, 2, 3]
    """

    entries: int
    widths: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Width of the first level."""
        return self.widths[0]

    @cached_property
    def further(self) -> CodeLevels | None:
        """The levels of the codes that escape."""
        return CodeLevels((self.entries - 1) >> self.bits, self.widths[1:]) if len(self.widths) > 1 else None

    @cached_property
    def none(self) -> int:
        """The smallest integer that no code of the further levels is read as."""
        read = np.zeros(0, np.int64) if self.further is None else self.further.read_as
        return int(np.setdiff1d(np.arange(len(read) + 1), read)[0])

    @cached_property
    def read_as(self) -> Ints:
        """The integer of every code, (entries,)."""
        codes = np.arange(self.entries)
        if self.further is None:
            return codes
        above: Ints = np.append(self.none, self.further.read_as)[codes >> self.bits]
        return above << self.bits | codes % (1 << self.bits)


def compact(vector: Ints) -> Ints:
    """One entry if all are equal.

    >>> compact(np.array([3, 3])).tolist(), compact(np.array([3, 4])).tolist()
    ([3], [3, 4])
    """
    return vector[:1] if (vector == vector[0]).all() else vector


def centroid_dtype(centroids: Ints) -> np.dtype[Any]:
    """int8 where it holds all centroids, otherwise int16."""
    return np.dtype(np.int8 if centroids.min() >= -128 and centroids.max() <= 127 else np.int16)
