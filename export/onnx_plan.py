"""How each layer of a task is computed exactly in ONNX, decided before a node is written.

The rule:

* A sum of products (Linear, Conv2d, AvgPool) takes the form "float32" if its accumulator is proven to stay within
  2**24: Gemm or Conv on integers in float32. Otherwise it takes the form "integer": MatMulInteger or ConvInteger on
  uint8 planes (uint8 by int8 is wrong on x86 processors without VNNI); activations and centroids of more than 8 bits
  are split into two bytes, and the partial sums are combined exactly.
* ``acc * multiplier + offset`` is computed in the cheapest type that is proven exact (`arithmetic.carrier`):
  float32, where it is folded into weights and bias, then float64, then int64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tsn_hw import arithmetic
from tsn_hw.arithmetic import FLOAT32_EXACT, INT32, ActFormat, Carrier, Ints
from tsn_hw.errors import ExportError
from tsn_hw.layers import Add, AvgPool, Conv2d, Linear, Weighted
from tsn_hw.network import Bools, Bytes, PackedNetwork, Requantization, code_bits

Form = Literal["float32", "integer"]


@dataclass(frozen=True)
class Words:
    """The survivors of one layer as ``CodebookLookup`` takes them.

    codes: (bits, survivors / 8), one row a bit of the code; mask: (weights / 8,); codebook: (entries,), ascending.
    """

    codes: Bytes
    mask: Bytes
    codebook: NDArray[Any]
    survivors: int


@dataclass(frozen=True)
class Plan:
    """One layer that computes, and how it does so exactly; the nodes are written from this alone.

    words: None where no weights are stored. form: None where no products are summed. carrier: the type of
    ``acc * multiplier + offset``, whose largest magnitude is ``bound``; ``accumulator`` is that of ``acc``.
    """

    layer: Linear | Conv2d | Add
    inputs: list[ActFormat]
    rank: int
    words: Words | None
    requantization: Requantization
    form: Form | None
    carrier: Carrier
    accumulator: int
    bound: int

    @property
    def has_wide_weights(self) -> bool:
        """Whether a centroid needs two bytes."""
        return self.words is not None and self.words.codebook.dtype == np.int16

    def scaled(self, values: Ints) -> NDArray[Any]:
        """Integers over 2**shift in the carrier, exactly; an int64 carrier shifts last and keeps them as they are."""
        if self.carrier == "int64":
            return values
        return np.ldexp(values.astype(np.float64), -self.requantization.shift).astype(self.carrier)

    def summary(self) -> dict[str, object]:
        """What ``metadata_props`` tell of the layer."""
        summary: dict[str, object] = {"carrier": self.carrier, "bound": self.bound}
        if self.form is not None:
            summary |= {"form": self.form, "accumulator": self.accumulator}
        if self.words is not None:
            summary |= {"code_bits": len(self.words.codes), "survivors": self.words.survivors}
        return summary


def plan_layer(net: PackedNetwork, task: int, index: int, forced: Form | None) -> Plan:
    """Apply the rule of the module's docstring to a layer that computes."""
    layer, step = net.layers[index], net.step(task, index)
    requantization = step.requantization
    assert requantization is not None  # checked at birth
    inputs = [net.format(task, source) for source in layer.inputs]
    words = None
    if isinstance(layer, Weighted):
        assert step.mask is not None  # checked at birth
        words = _words(net.weights(task, index), step.mask)
    elif isinstance(layer, AvgPool):
        channels = net.shapes[index][0]
        layer = Conv2d(layer.name, channels, channels, layer.kernel, layer.stride, groups=channels)
    assert isinstance(layer, Linear | Conv2d | Add)
    low, high = net.accumulator(task, index)
    accumulator = arithmetic.magnitude(low, high)
    bound = arithmetic.requantization_magnitude(low, high, requantization.multiplier, requantization.offset)
    form = None if isinstance(layer, Add) else forced or ("float32" if accumulator <= FLOAT32_EXACT else "integer")
    plan = Plan(
        layer=layer,
        inputs=inputs,
        rank=1 + len(net.shapes[index]),
        words=words,
        requantization=requantization,
        form=form,
        carrier=arithmetic.carrier(bound),
        accumulator=accumulator,
        bound=bound,
    )
    _check_form(plan)
    is_split = plan.has_wide_weights or inputs[0].bits > 8
    if form == "integer" and is_split and plan.carrier == "float32":
        return replace(plan, carrier="float64")  # partial sums of bytes may exceed what their total does not
    return plan


def _check_form(plan: Plan) -> None:
    layer = plan.layer
    if plan.form == "float32" and plan.accumulator > FLOAT32_EXACT:
        raise ExportError(
            f"layer {layer.name!r}: its accumulator reaches {plan.accumulator}, float32 is exact up to {FLOAT32_EXACT}"
        )
    if plan.form == "integer" and not isinstance(layer, Add):
        largest = 255 * 255 * math.prod(layer.weight_shape[1:])
        if largest > INT32[1]:
            raise ExportError(f"layer {layer.name!r}: sums of its uint8 products reach {largest}, must fit int32")


def _words(weights: Ints, mask: Bools) -> Words:
    """Codes of the survivors into the sorted distinct centroids that the task really reads: the narrowest code."""
    survivors = weights[mask] if mask.any() else np.zeros(1, np.int64)  # no tensor is empty; the mask hides the 0
    codebook, code = np.unique(survivors, return_inverse=True)
    bit = np.arange(code_bits(codebook), dtype=np.uint16)
    planes = (code.astype(np.uint16) >> bit[:, None]) & 1
    is_narrow = codebook[0] >= -128 and codebook[-1] <= 127
    return Words(
        codes=np.packbits(planes.astype(np.uint8), axis=1, bitorder="little"),
        mask=np.packbits(mask, bitorder="little"),
        codebook=codebook.astype(np.int8 if is_narrow else np.int16),
        survivors=int(mask.sum()),
    )
