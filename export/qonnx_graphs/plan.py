"""What a layer computes, as both QONNX flavours write it, and the proof that float32 holds it.

Readers of QONNX compute in float32, which is exact as long as every integer stays within 2**24. A layer that does not
is refused: the format has no wider carrier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tsn_hw.core.arithmetic import FLOAT32_EXACT, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.facts import LayerFacts
from tsn_hw.core.layers import Add, Weighted, refused
from tsn_hw.core.network import PackedNetwork


@dataclass(frozen=True, eq=False)
class QonnxLayer(LayerFacts):
    """The facts of a layer, rewritten so that its multipliers are above 0.

    operands: the weights of a Linear or Conv2d (an AvgPool sums with ones), or the two factors that bring the operands
    of an Add to one grid. The sign of a multiplier is moved into them: thresholds count upwards, and FINN takes no
    negative factor through them. A multiplier of 0 becomes operands of 0.

    unit: real value = integer * 2**unit, of ``acc * multiplier + offset``.
    """

    geometry: Weighted | Add
    operands: Ints
    unit: int


def qonnx_layer(net: PackedNetwork, task: int, index: int, logit_exponent: int) -> QonnxLayer:
    """What a layer that computes does for a task."""
    if not net.layers[index].computes:
        raise refused(net.layers[index], "QONNX")
    facts, scales = net.facts(task, index), net.requantization(task, index)
    geometry = facts.products or facts.layer
    if not isinstance(geometry, Weighted | Add):
        raise refused(geometry, "QONNX")
    if isinstance(geometry, Add):
        operands = np.array([1 << shift for shift in facts.left_shifts])
    elif isinstance(facts.layer, Weighted):
        operands = net.weights(task, index)
    else:
        operands = np.ones(geometry.weight_shape, np.int64)
    sign = np.sign(scales.multiplier)
    low, high = facts.low * sign, facts.high * sign
    exponent = logit_exponent if facts.output is None else facts.output.exponent
    return QonnxLayer(
        facts.layer,
        facts.inputs,
        facts.sources,
        facts.shape,
        replace(scales, multiplier=np.maximum(np.abs(scales.multiplier), 1)),
        low=np.minimum(low, high),
        high=np.maximum(low, high),
        geometry=geometry,
        operands=operands * sign.reshape(-1, *[1] * (operands.ndim - 1)),
        unit=exponent - scales.shift,
    )


def check_exact(layer: QonnxLayer, what: str, largest: int) -> None:
    """Raise ExportError where integers of a layer leave what float32 holds exactly."""
    if largest > FLOAT32_EXACT:
        raise ExportError(
            f"layer {layer.name!r}: {what} reaches {largest}, QONNX holds integers up to {FLOAT32_EXACT} exactly"
        )


def integer_bits(*integers: Ints | int) -> int:
    """Bits of the narrowest two's complement that holds integers; at least 2, because 1 means -1 and 1 in QONNX.

    >>> integer_bits(-128, 127), integer_bits(128), integer_bits(0)
    (8, 9, 2)
    """
    low, high = min(int(np.min(i)) for i in integers), max(int(np.max(i)) for i in integers)
    return max(2, 1 + max(high, -low - 1).bit_length())
