"""Networks written down by hand: weights as arrays, one task, one bank."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import INPUT, Flatten, Layer, Linear, Shape, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task

U8 = ActFormat(8, signed=False, exponent=0)
S8 = ActFormat(8, signed=True, exponent=0)
U16 = ActFormat(16, signed=False, exponent=0)
S16 = ActFormat(16, signed=True, exponent=0)


def requantization(
    output: ActFormat | None, shift: int = 0, offset: ArrayLike = 0, multiplier: ArrayLike = 1, channels: int = 1
) -> Requantization:
    """A requantization whose scalars stand for every channel."""
    vectors = (np.broadcast_to(np.asarray(vector, np.int64), channels) for vector in (multiplier, offset))
    return Requantization(*vectors, shift, output)


def network(
    input_shape: Shape,
    form: ActFormat,
    layers: Sequence[tuple[Layer, ArrayLike | None, Requantization | None]],
    head: bool = True,
) -> PackedNetwork:
    """One task of (layer, weights, requantization) triples. Zero weights are unused.

    ``head`` appends a Flatten where it is needed and a head of two classes: the sum of the features, and nothing.
    """
    steps = list(layers)
    if head:
        shape = _output_shape(input_shape, [layer for layer, *_ in steps])
        if len(shape) == 3:
            steps.append((Flatten("flatten", (len(steps) - 1,)), None, None))
        features = math.prod(shape)
        weights = np.stack([np.ones(features, np.int64), np.zeros(features, np.int64)])
        steps.append((Linear("head", features, 2, (len(steps) - 1,)), weights, requantization(None, channels=2)))
    words = tuple(_words(np.asarray(w)) if isinstance(layer, Weighted) else None for layer, w, _ in steps)
    task = Task(
        "task0",
        0,
        tuple(f"class{i}" for i in range(steps[-1][0].channels)),  # type: ignore[union-attr]
        tuple(
            Step(None if words is None else np.asarray(w) != 0, r)
            for (_, w, r), words in zip(steps, words, strict=True)
        ),
    )
    return PackedNetwork(input_shape, form, tuple(layer for layer, *_ in steps), (Bank(words),), (task,))


def linear(weights: ArrayLike, requant: Requantization, form: ActFormat, head: bool = True) -> PackedNetwork:
    """One linear layer "fc"; without ``head`` it is the head itself."""
    array = np.asarray(weights)
    return network((array.shape[1],), form, [(Linear("fc", *array.shape[::-1]), array, requant)], head)


def _words(weights: np.ndarray) -> BankLayer:
    codebook = np.unique(weights[weights != 0])
    code = np.where(weights != 0, np.searchsorted(codebook, weights), 0)
    return BankLayer(np.where(weights != 0, 0, UNUSED).astype(np.int16), code.astype(np.uint8), (codebook,), 16, 0)


def _output_shape(input_shape: Shape, layers: list[Layer]) -> Shape:
    shapes: list[Shape] = []
    for layer in layers:
        shapes.append(layer.output_shape(*(input_shape if s == INPUT else shapes[s] for s in layer.inputs)))
    return shapes[-1]
