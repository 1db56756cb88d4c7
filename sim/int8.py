"""Linear and convolution on oneDNN's int8 kernels (uint8 activations, int8 weights), behind a known-answer test.

Processors without VNNI add pairs of products in saturating 16-bit registers: 255 * 127 * 2 does not fit and most
sums come out wrong; 255 * 64 * 2 and 15 * 127 * 2 fit. So the test finds how large products may be here.
The kernels requantize through float32: exact while every value that they meet there is an integer within 2**24.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsn_hw import arithmetic
from tsn_hw.arithmetic import Ints
from tsn_hw.layers import Conv2d, Linear, Weighted

_PRODUCT_LIMITS = (255 * 128, (2**15 - 1) // 2)
"""Every uint8 * int8 product; every product of which two fit 16 bits."""
_UINT8 = (0, 255)


def int8_kernel(
    layer: Weighted, weights: Ints, factor: NDArray[np.float64], bias: NDArray[np.float64], dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """x -> layer(x) * factor + bias a channel: float32, or uint8 (rounded half to even, saturated) by ``dtype``."""
    words = torch.from_numpy(weights.astype(np.int8))
    scale, add = (torch.from_numpy(vector.astype(np.float32)) for vector in (factor, bias))
    zero = torch.zeros(len(weights), dtype=torch.int32, device="cpu")
    after: tuple[object, ...] = (dtype, "none", [], "")  # no operation after the requantization
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
def int8_product_limit() -> int:
    """The largest activation * weight for which this processor's int8 kernels are exact, by test; 0 without kernels."""
    if not hasattr(torch.ops.onednn, "qlinear_pointwise") or not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        return 0
    return next((limit for limit in _PRODUCT_LIMITS if all(_answers(layer, limit) for layer in _TEST_LAYERS)), 0)


_TEST_LAYERS: tuple[Weighted, ...] = (
    Linear("long rows", 256, 64),
    Linear("odd sizes", 37, 5),
    Conv2d("wide", 16, 48, (4, 4)),
    Conv2d("few channels", 3, 16, (3, 3), (2, 1), (1, 1)),
)


def _answers(layer: Weighted, limit: int) -> bool:
    """Whether the kernel gives the integers of the contract on extremes, both signs, ties and saturation."""
    rng = np.random.default_rng(0)
    source = (layer.in_features,) if isinstance(layer, Linear) else (layer.in_channels, 6, 6)
    for largest, batch in ((255, 1), (255, 17), (127, 17), (15, 17)):
        high = min(127, limit // largest)
        low = max(-128, -(limit // largest))
        weights = rng.integers(low, high + 1, layer.weight_shape)
        weights[0], weights[1] = high, low
        weights[2].flat[::2], weights[2].flat[1::2] = high, low
        x = rng.integers(0, largest + 1, (batch, *source))
        x[0] = largest
        if not _agrees(layer, weights, x):
            return False
    return True


def _agrees(layer: Weighted, weights: Ints, x: Ints) -> bool:
    exact = _int64(layer, weights, x)
    channels = np.arange(layer.channels)
    for shift, dtype, bounds in (
        (8, torch.uint8, _UINT8),
        (12, torch.uint8, _UINT8),
        (0, torch.float32, arithmetic.INT32),
    ):
        multiplier = np.where(channels % 4 == 3, -1, 1)
        offset = np.where(channels % 2, 1 << shift >> 1, 3 * channels)  # half a step: every multiple becomes a tie
        scale = 2.0**-shift
        given = int8_kernel(layer, weights, multiplier * scale, offset * scale, dtype)(torch.from_numpy(x))
        factor, add = (arithmetic.per_channel(vector, exact.ndim) for vector in (multiplier, offset))
        expected = arithmetic.requantize(exact, factor, add, shift, bounds)
        if not np.array_equal(given.numpy(), expected):
            return False
    return True


def _int64(layer: Weighted, weights: Ints, x: Ints) -> Ints:
    kernel = torch.from_numpy(weights)
    if isinstance(layer, Linear):
        return (torch.from_numpy(x) @ kernel.T).numpy()
    return torch.conv2d(torch.from_numpy(x), kernel, None, layer.stride, layer.padding, 1, layer.groups).numpy()
