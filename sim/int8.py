"""Linear and convolution on oneDNN's int8 kernels (uint8 activations, int8 weights), behind a known-answer test.

Processors without VNNI add pairs of products in saturating 16-bit registers: 255 * 127 * 2 does not fit and most
sums come out wrong, 255 * 64 * 2 fits. So the test finds the range of weights for which this processor is exact.
The kernels requantize through float32: exact while every value that they meet there is an integer within 2**24.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim.plan import WeightRange
from tsn_hw import arithmetic
from tsn_hw.arithmetic import Ints
from tsn_hw.layers import Conv2d, Linear, Weighted

_RANGES: tuple[WeightRange, ...] = ((-128, 127), (-64, 64))
_UINT8 = (0, 255)


def int8_kernel(
    layer: Weighted, weights: Ints, factor: NDArray[np.float64], bias: NDArray[np.float64], dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """x -> layer(x) * factor + bias a channel: float32, or uint8 (rounded half to even, saturated) by ``dtype``."""
    words = torch.from_numpy(weights.astype(np.int8))
    scale, add = (torch.from_numpy(vector.astype(np.float32)) for vector in (factor, bias))
    zero = torch.zeros(len(weights), dtype=torch.int32, device="cpu")
    after = (dtype, "none", [], "")  # no operation after the requantization
    window: tuple[object, ...] = ()
    if isinstance(layer, Conv2d):
        window = layer.stride, layer.padding, (1, 1), layer.groups
        packed, run = torch.ops.onednn.qconv_prepack(words, scale, 1.0, 0, *window), torch.ops.onednn.qconv2d_pointwise
    else:
        packed, run = torch.ops.onednn.qlinear_prepack(words, None), torch.ops.onednn.qlinear_pointwise

    def kernel(x: Tensor) -> Tensor:
        result: Tensor = run(x.to(torch.uint8), 1.0, 0, packed, scale, zero, add, *window, 1.0, 0, *after)
        return result

    return kernel


@cache
def int8_weight_range() -> WeightRange | None:
    """The weights for which this processor's int8 kernels give every known answer; None if there are none."""
    if not hasattr(torch.ops.onednn, "qlinear_pointwise") or not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        return None
    return next((allowed for allowed in _RANGES if all(_answers(layer, allowed) for layer in _TEST_LAYERS)), None)


_TEST_LAYERS: tuple[Weighted, ...] = (
    Linear("long rows", 256, 64),
    Linear("odd sizes", 37, 5),
    Conv2d("wide", 16, 48, (4, 4)),
    Conv2d("few channels", 3, 16, (3, 3), (2, 1), (1, 1)),
)


def _answers(layer: Weighted, allowed: WeightRange) -> bool:
    """Whether the kernel gives the integers of the contract on extremes, both signs, ties and saturation."""
    rng = np.random.default_rng(0)
    low, high = allowed
    weights = rng.integers(low, high + 1, layer.weight_shape)
    weights[0], weights[1] = high, low
    weights[2].flat[::2], weights[2].flat[1::2] = high, low
    source = (layer.in_features,) if isinstance(layer, Linear) else (layer.in_channels, 6, 6)
    for batch in (1, 17):
        x = rng.integers(0, 256, (batch, *source))
        x[0] = 255
        if not _agrees(layer, weights, x):
            return False
    return True


def _agrees(layer: Weighted, weights: Ints, x: Ints) -> bool:
    exact = _int64(layer, weights, x)
    channels = np.arange(layer.channels)
    for shift, dtype, bounds in ((8, torch.uint8, _UINT8), (12, torch.uint8, _UINT8), (0, torch.float32, None)):
        multiplier = np.where(channels % 4 == 3, -1, 1)
        offset = np.where(channels % 2, 1 << shift >> 1, 3 * channels)  # half a step: every multiple becomes a tie
        scale = 2.0**-shift
        given = int8_kernel(layer, weights, multiplier * scale, offset * scale, dtype)(torch.from_numpy(x))
        wanted = [arithmetic.per_channel(vector, exact.ndim) for vector in (multiplier, offset)]
        expected = arithmetic.requantize(exact, *wanted, shift, bounds or arithmetic.INT32)
        if not np.array_equal(given.numpy(), expected):
            return False
    return True


def _int64(layer: Weighted, weights: Ints, x: Ints) -> Ints:
    kernel = torch.from_numpy(weights)
    if isinstance(layer, Linear):
        return (torch.from_numpy(x) @ kernel.T).numpy()
    return torch.conv2d(torch.from_numpy(x), kernel, None, layer.stride, layer.padding, 1, layer.groups).numpy()
