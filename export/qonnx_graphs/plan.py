"""What a layer computes, as both QONNX flavours write it, and the proof that float32 holds it.

Readers of QONNX compute in float32, which is exact as long as every integer stays within 2**24. A layer that does not
is refused: the format has no wider carrier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import FLOAT32_EXACT, ActFormat, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Linear, Shape, Weighted
from tsn_hw.core.network import PackedNetwork


@dataclass(frozen=True)
class QonnxLayer:
    """y = saturate(round_half_even((acc * multiplier + offset) / 2**shift)), with multipliers above 0.

    operands: the weights of a Linear or Conv2d (an AvgPool sums with ones), or the two factors that bring the operands
    of an Add to one grid. The sign of a multiplier is moved into them: thresholds count upwards, and FINN takes no
    negative factor through them. A multiplier of 0 becomes operands of 0.

    low, high: smallest and largest ``acc``, (channels,) or (1,). unit: real value = integer * 2**unit, of
    ``acc * multiplier + offset``.
    """

    geometry: Linear | Conv2d | Add
    shape: Shape
    inputs: tuple[ActFormat, ...]
    operands: Ints
    multiplier: Ints
    offset: Ints
    shift: int
    output: ActFormat | None
    low: Ints
    high: Ints
    unit: int

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.geometry.name

    @property
    def bound(self) -> int:
        """The largest magnitude of ``acc * multiplier + offset``; that of ``acc`` is no larger."""
        return arithmetic.requantization_magnitude(self.low, self.high, self.multiplier, self.offset)


def qonnx_layer(net: PackedNetwork, task: int, index: int, logit_exponent: int) -> QonnxLayer:
    """What a layer that computes does for a task."""
    layer, requantization = net.layers[index], net.step(task, index).requantization
    assert requantization is not None  # checked at birth
    inputs = tuple(net.format(task, source) for source in layer.inputs)
    if isinstance(layer, Weighted):
        operands = net.weights(task, index)
    elif isinstance(layer, AvgPool):
        channels = net.shapes[index][0]
        layer = Conv2d(layer.name, channels, channels, layer.kernel, layer.stride, groups=channels)
        operands = np.ones(layer.weight_shape, np.int64)
    else:
        finer = min(form.exponent for form in inputs)
        operands = np.array([1 << (form.exponent - finer) for form in inputs])
    assert isinstance(layer, Linear | Conv2d | Add)
    sign = np.sign(requantization.multiplier)
    low, high = (bound * sign for bound in net.accumulator(task, index))
    exponent = logit_exponent if requantization.output is None else requantization.output.exponent
    return QonnxLayer(
        geometry=layer,
        shape=net.shapes[index],
        inputs=inputs,
        operands=operands * sign.reshape(-1, *[1] * (operands.ndim - 1)),
        multiplier=np.maximum(np.abs(requantization.multiplier), 1),
        offset=requantization.offset,
        shift=requantization.shift,
        output=requantization.output,
        low=np.minimum(low, high),
        high=np.maximum(low, high),
        unit=exponent - requantization.shift,
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
