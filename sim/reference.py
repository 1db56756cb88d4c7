"""The contract in plain numpy: int64 loops to be read and compared with, not to be fast.

It shares nothing with the fast simulator but the core: weights come from :meth:`PackedNetwork.weights`, rounding
and saturation from :mod:`tsn_hw.arithmetic`. Convolution and pooling are loops over the positions of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tsn_hw import arithmetic
from tsn_hw.arithmetic import Ints
from tsn_hw.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Pair
from tsn_hw.network import PackedNetwork


def run(net: PackedNetwork, task: int, x: Ints) -> dict[str, Ints]:
    """The requantized integers (batch, ...) of every layer that a task runs, by name; the last entry is the logits.

    ``x``: (batch, *net.input_shape), integers of ``net.input``.
    """
    values = {INPUT: x.astype(np.int64)}
    for index, layer, step in net.run_order(task):
        result = _accumulate(net, task, index, layer, *(values[source] for source in layer.inputs))
        values[index] = result if step.requantization is None else step.requantization(result)
    return {net.layers[index].name: value for index, value in values.items() if index != INPUT}


def _accumulate(net: PackedNetwork, task: int, index: int, layer: Layer, x: Ints, other: Ints | None = None) -> Ints:
    """What a layer computes before its requantization."""
    match layer:
        case Linear():
            return x @ net.weights(task, index).T
        case Conv2d():
            return _convolve(layer, x, net.weights(task, index))
        case MaxPool():
            return np.max([window for _, window in _windows(x, layer.kernel, layer.stride)], axis=0)
        case AvgPool():
            return np.sum([window for _, window in _windows(x, layer.kernel, layer.stride)], axis=0)
        case Flatten():
            return x.reshape(len(x), -1)
        case Add():
            assert other is not None  # an Add has two inputs
            first, second = (net.format(task, source).exponent for source in layer.inputs)
            return arithmetic.align(x, first, other, second)


def _convolve(layer: Conv2d, x: Ints, weights: Ints) -> Ints:
    """(batch, in, height, width) and (out, in / groups, kh, kw) to (batch, out, rows, columns)."""
    (top, left), inputs, outputs = layer.padding, *weights.shape[1::-1]
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    outputs //= layer.groups
    groups = []
    for group in range(layer.groups):
        source = padded[:, group * inputs : (group + 1) * inputs]
        kernel = weights[group * outputs : (group + 1) * outputs]
        groups.append(
            sum(
                np.einsum("oi,nihw->nohw", kernel[:, :, i, j], window)
                for (i, j), window in _windows(source, layer.kernel, layer.stride)
            )
        )
    return np.concatenate(groups, axis=1)


def _windows(x: Ints, kernel: Pair, stride: Pair) -> Iterator[tuple[Pair, Ints]]:
    """For every position of the kernel, the (batch, channels, rows, columns) integers that it meets."""
    rows, columns = (
        (size - window) // step + 1 for size, window, step in zip(x.shape[2:], kernel, stride, strict=True)
    )
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield (
                (i, j),
                x[:, :, i : i + rows * stride[0] : stride[0], j : j + columns * stride[1] : stride[1]][
                    :, :, :rows, :columns
                ],
            )
