"""The contract in plain numpy: int64 loops to be read and compared with, not to be fast.

It shares nothing with any engine but the core: weights come from :meth:`PackedNetwork.weights`, rounding and
saturation from :mod:`tsn_hw.core.arithmetic`. Convolution and pooling are loops over the positions of the kernel. By
:func:`sums` the simulator tries the kernels of libraries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tsn_hw.core.arithmetic import Ints, requantize
from tsn_hw.core.gate import NO_EDGES, SATURATED, Component, Features, gates_of
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Pad, Pair, Weighted, refused
from tsn_hw.core.network import PackedNetwork


def run(net: PackedNetwork, task: int, x: Ints) -> dict[str, Ints]:
    """The requantized integers (batch, ...) of every layer that a task runs, by name; the last entry is the logits.

    ``x``: (batch, *net.input_shape), integers of ``net.input``.
    """
    values = {INPUT: x.astype(np.int64)}
    for index, layer, step in net.run_order(task):
        result = _accumulate(net, task, index, [values[source] for source in layer.inputs])
        values[index] = result if step.requantization is None else step.requantization(result)
    return {net.layers[index].name: value for index, value in values.items() if index != INPUT}


def _accumulate(net: PackedNetwork, task: int, index: int, sources: list[Ints]) -> Ints:
    """What a layer computes before its requantization."""
    x = sources[0]
    match layer := net.layers[index]:
        case Linear() | Conv2d():
            return sums(layer, x, net.weights(task, index))
        case MaxPool():
            largest: Ints = np.maximum.reduce([window for *_, window in _windows(x, layer.kernel, layer.stride)])
            return largest
        case AvgPool():
            total: Ints = np.add.reduce([window for *_, window in _windows(x, layer.kernel, layer.stride)])
            return total
        case Flatten():
            return x.reshape(len(x), -1)
        case Pad():
            top, left, bottom, right = layer.padding
            return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        case Add():
            aligned = [y << shift for y, shift in zip(sources, net.facts(task, index).left_shifts, strict=True)]
            return aligned[0] + aligned[1]
        case _:
            raise refused(layer, "the reference")


def sums(layer: Weighted, x: Ints, weights: Ints) -> Ints:
    """The accumulators (batch, out, ...) of a layer with weights, for integers x (batch, in, ...)."""
    if isinstance(layer, Linear):
        products: Ints = x @ weights.T
        return products
    top, left = layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    kernel = weights.reshape(layer.groups, -1, *weights.shape[1:])  # (groups, out, in, height, width)
    total: Ints = np.add.reduce(
        [
            np.einsum(
                "ngihw,goi->ngohw", window.reshape(len(x), layer.groups, -1, *window.shape[2:]), kernel[..., i, j]
            )
            for i, j, window in _windows(padded, layer.kernel, layer.stride, layer.dilation)
        ]
    )
    return total.reshape(len(x), -1, *total.shape[3:])


def _windows(x: Ints, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Iterator[tuple[int, int, Ints]]:
    """For every position (i, j) of the kernel, the (batch, channels, rows, columns) integers that it meets."""
    rows, columns = (  # up to the last start of a window
        stride[axis] * ((x.shape[2 + axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis]) + 1
        for axis in (0, 1)
    )
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = dilation[0] * i, dilation[1] * j
            yield i, j, x[:, :, top : top + rows : stride[0], left : left + columns : stride[1]]


def gate_scores(net: PackedNetwork, x: Ints) -> Ints:
    """How much every input looks like one of every task, (batch, tasks): see :mod:`tsn_hw.core.gate`.

    ``x``: (batch, *net.input_shape), integers of ``net.input``. Raises SettingsError where the network has no gates.
    """
    gates = gates_of(task.gate for task in net.tasks)
    features = gate_features(gates[0].features, x.astype(np.int64))
    scores = [[_component_scores(part, features) for part in gate.components] for gate in gates]
    return np.stack([np.maximum.reduce(parts) for parts in scores], axis=1)


def gate_features(features: Features, x: Ints) -> Ints:
    """The features (batch, features) of inputs."""
    if x.ndim == 2:
        return x >> features.shift
    pooled = np.add.reduce([window for *_, window in _windows(x, features.pool, features.pool)])
    found = [pooled.reshape(len(x), -1) >> features.shift]
    if features.edges != NO_EDGES:
        for axis in (3, 2):
            differences = np.abs(np.diff(x, axis=axis, append=np.take(x, [-1], axis)))
            windows = _windows(differences, features.edges, features.edges)
            sums = np.add.reduce([window for *_, window in windows]).sum(axis=1).reshape(len(x), -1)
            different, place = np.unique(4 * sums, return_inverse=True)
            roots = np.array([math.isqrt(value) for value in different.tolist()], np.int64)
            found.append(roots[place].reshape(sums.shape))
    return np.concatenate(found, axis=1)


def _component_scores(component: Component, features: Ints) -> Ints:
    score = component.bias + features @ component.linear
    for row, offset, shift in zip(component.map, component.offset, component.shift, strict=True):
        y = requantize(features @ row, np.array(1), offset, int(shift), SATURATED)
        score = score - y * y
    return score
