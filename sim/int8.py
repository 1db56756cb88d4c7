"""Linear and convolution on oneDNN's int8 kernels (uint8 activations, int8 weights); :mod:`sim.proof` tries them.

Processors without VNNI add pairs of products in saturating 16-bit registers: 255 * 127 * 2 does not fit and most
sums come out wrong; 255 * 64 * 2 and 15 * 127 * 2 fit.
The kernels requantize through float32: exact while every value that they meet there is an integer within 2**24.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsn_hw.core.layers import Conv2d, Weighted

PAIR_LIMIT, PRODUCT_LIMIT = (2**15 - 1) // 2, 255 * 128
"""The largest product of which two fit 16 bits, and the largest of all."""


def int8_kernel(
    layer: Weighted,
    weights: NDArray[np.signedinteger[Any]],
    factor: NDArray[np.float64],
    bias: NDArray[np.float64],
    dtype: torch.dtype,
) -> Callable[[Tensor], Tensor]:
    """x -> layer(x) * factor + bias a channel: float32, or uint8 (rounded half to even, saturated) by ``dtype``."""
    words = torch.from_numpy(weights.astype(np.int8))
    scale, add = (torch.from_numpy(vector.astype(np.float32)) for vector in (factor, bias))
    zero = torch.zeros(len(weights), dtype=torch.int32, device="cpu")
    after: tuple[object, ...] = (dtype, "none", [], "")  # no operation after the requantization
    window: tuple[object, ...] = ()
    if isinstance(layer, Conv2d):
        window = layer.stride, layer.padding, layer.dilation, layer.groups
        packed, run = torch.ops.onednn.qconv_prepack(words, scale, 1.0, 0, *window), torch.ops.onednn.qconv2d_pointwise
    else:
        packed, run = torch.ops.onednn.qlinear_prepack(words, None), torch.ops.onednn.qlinear_pointwise

    def kernel(x: Tensor) -> Tensor:
        result: Tensor = run(x.to(torch.uint8), 1.0, 0, packed, scale, zero, add, *window, 1.0, 0, *after)
        return result

    return kernel


def available() -> bool:
    """Whether this torch has the kernels."""
    return hasattr(torch.ops.onednn, "qlinear_pointwise") and hasattr(torch.ops.onednn, "qconv2d_pointwise")
