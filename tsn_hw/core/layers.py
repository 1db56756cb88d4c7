"""The kinds of layers: what connects to what, which shapes flow, and what every engine asks of a kind.

A kind states its facts here, once: how many tensors it reads, whether it computes (then it ends in a requantization),
its shapes, its weights, its operations and the bounds of its accumulators. No weights, no numbers of any task.

Shapes leave out the batch: (features,) or (channels, height, width). Weights are (out, in) or
(out, in / groups, kernel height, kernel width), as in torch and ONNX.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ExportError, NetworkError
from tsn_hw.core.records import exact

INPUT = -1
"""Index that stands for the input of the network in ``Layer.inputs``."""

MAX_ALIGNMENT = 40
"""Largest difference between the exponents of two operands of an Add: 16 bits shifted by it stay well within 63."""

Shape = tuple[int, ...]
Pair = tuple[int, int]


class Layer(ABC):
    """What a kind of layer states; the defaults are those of a kind that computes nothing and passes integers on.

    operands: tensors that it reads. computes: whether it gives accumulators, which a requantization ends.
    """

    operands: ClassVar[int] = 1
    computes: ClassVar[bool] = False
    name: str
    inputs: tuple[int, ...]

    def __post_init__(self) -> None:
        exact(self)

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return type(self).__name__

    @abstractmethod
    def output_shape(self, *sources: Shape) -> Shape:
        """Shape of its output; NetworkError where the inputs do not fit."""

    @property
    def weight_count(self) -> int:
        """Number of its weights."""
        return 0

    @property
    def multipliers(self) -> int:
        """Entries of the multiplier and the offset of its requantization: one an output channel, or one for all."""
        return 1

    def macs(self, source: Shape) -> int:
        """Multiply-accumulates of one inference of the dense layer, products with padding included."""
        return 0

    def products(self, source: Shape) -> Weighted | None:
        """The layer as a sum of products: itself, a convolution with ones, or None where it is no such sum."""
        return None

    def accumulator(self, inputs: Sequence[ActFormat], weights: Ints | None) -> tuple[Ints, Ints]:
        """Smallest and largest accumulator, (channels,) or (1,), with inputs of these formats (proven)."""
        raise NetworkError(f"layer {self.name!r}: {self.kind} accumulates nothing")


class _WithWeights(Layer):
    """What the kinds with weights have in common: a sum of products for every output channel."""

    computes = True

    @property
    @abstractmethod
    def weight_shape(self) -> Shape:
        """(out, in) or (out, in / groups, kernel height, kernel width)."""

    @property
    def channels(self) -> int:
        """Channels of its output."""
        return self.weight_shape[0]

    @property
    def fan_in(self) -> int:
        """Weights of one output channel."""
        return math.prod(self.weight_shape[1:])

    @property
    def weight_count(self) -> int:
        return math.prod(self.weight_shape)

    @property
    def multipliers(self) -> int:
        return self.channels

    def macs(self, source: Shape) -> int:
        return math.prod(self.output_shape(source)) * self.fan_in

    def accumulator(self, inputs: Sequence[ActFormat], weights: Ints | None) -> tuple[Ints, Ints]:
        if weights is None:
            raise NetworkError(f"layer {self.name!r}: the bounds of its accumulator need its weights")
        return arithmetic.accumulator_bounds(weights, inputs[0].range)


@dataclass(frozen=True)
class Linear(_WithWeights):
    """y = weights @ x."""

    name: str
    in_features: int
    out_features: int
    inputs: tuple[int] = (INPUT,)

    @property
    def weight_shape(self) -> Shape:
        return self.out_features, self.in_features

    def output_shape(self, *sources: Shape) -> Shape:
        (source,) = sources
        if source != (self.in_features,):
            raise NetworkError(f"layer {self.name!r}: takes ({self.in_features},), its input is {source}")
        return (self.out_features,)

    def products(self, source: Shape) -> Weighted | None:
        return self


@dataclass(frozen=True)
class Conv2d(_WithWeights):
    """Cross-correlation with zero padding, as torch and ONNX define it."""

    name: str
    in_channels: int
    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    inputs: tuple[int] = (INPUT,)
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            raise NetworkError(
                f"layer {self.name!r}: groups={self.groups} does not divide "
                f"{self.in_channels} input and {self.out_channels} output channels"
            )
        if min(self.padding) < 0:
            raise NetworkError(f"layer {self.name!r}: padding {self.padding} is negative")
        if len(self.dilation) != 2 or min(self.dilation) < 1:
            raise NetworkError(f"layer {self.name!r}: dilation {self.dilation} must be two numbers of at least 1")

    @property
    def weight_shape(self) -> Shape:
        return self.out_channels, self.in_channels // self.groups, *self.kernel

    @property
    def reach(self) -> Pair:
        """Rows and columns that a dilated kernel spans."""
        if min(self.kernel) < 1 or len(self.kernel) != 2:
            return self.kernel
        height, width = (step * (size - 1) + 1 for size, step in zip(self.kernel, self.dilation, strict=True))
        return height, width

    def output_shape(self, *sources: Shape) -> Shape:
        (source,) = sources
        if len(source) != 3 or source[0] != self.in_channels:
            raise NetworkError(f"layer {self.name!r}: takes ({self.in_channels}, height, width), its input is {source}")
        return self.out_channels, *_windows(self.name, source, self.reach, self.stride, self.padding)

    def products(self, source: Shape) -> Weighted | None:
        return self


@dataclass(frozen=True)
class MaxPool(Layer):
    """Maximum over windows of requantized integers; no padding."""

    name: str
    kernel: Pair
    stride: Pair
    inputs: tuple[int] = (INPUT,)

    def output_shape(self, *sources: Shape) -> Shape:
        (source,) = sources
        return source[:1] + _windows(self.name, source, self.kernel, self.stride)


@dataclass(frozen=True)
class AvgPool(Layer):
    """Sum over windows, then a requantization; no padding."""

    computes = True
    name: str
    kernel: Pair
    stride: Pair
    inputs: tuple[int] = (INPUT,)

    def output_shape(self, *sources: Shape) -> Shape:
        (source,) = sources
        return source[:1] + _windows(self.name, source, self.kernel, self.stride)

    def products(self, source: Shape) -> Weighted | None:
        return Conv2d(self.name, source[0], source[0], self.kernel, self.stride, groups=source[0], inputs=self.inputs)

    def accumulator(self, inputs: Sequence[ActFormat], weights: Ints | None) -> tuple[Ints, Ints]:
        low, high = arithmetic.accumulator_bounds(np.ones((1, 1), np.int64), inputs[0].range)
        return low * math.prod(self.kernel), high * math.prod(self.kernel)


@dataclass(frozen=True)
class Add(Layer):
    """Sum of two tensors on the finer of their grids, then a requantization (a skip connection)."""

    operands = 2
    computes = True
    name: str
    inputs: tuple[int, int]

    def output_shape(self, *sources: Shape) -> Shape:
        first, second = sources
        if first != second:
            raise NetworkError(f"layer {self.name!r}: adds {first} to {second}, the shapes must be equal")
        return first

    def accumulator(self, inputs: Sequence[ActFormat], weights: Ints | None) -> tuple[Ints, Ints]:
        exponents = [form.exponent for form in inputs]
        if abs(exponents[0] - exponents[1]) > MAX_ALIGNMENT:
            raise NetworkError(f"layer {self.name!r}: adds exponents {exponents}, at most {MAX_ALIGNMENT} apart")
        low, high = (
            arithmetic.align(np.array([first]), exponents[0], np.array([second]), exponents[1])
            for first, second in zip(inputs[0].range, inputs[1].range, strict=True)
        )
        return low, high


@dataclass(frozen=True)
class Flatten(Layer):
    """(channels, height, width) to (features,), channels first."""

    name: str
    inputs: tuple[int] = (INPUT,)

    def output_shape(self, *sources: Shape) -> Shape:
        (source,) = sources
        return (math.prod(source),)


@dataclass(frozen=True)
class Pad(Layer):
    """Zeros around a map: rows above, columns at the left, rows below, columns at the right.

    What convolutions and pools need whose padding differs between two sides; a pool has none of its own.
    """

    name: str
    padding: tuple[int, int, int, int]
    inputs: tuple[int] = (INPUT,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.padding) != 4 or min(self.padding) < 0:
            raise NetworkError(f"layer {self.name!r}: padding {self.padding} must be four numbers of at least 0")

    def output_shape(self, *sources: Shape) -> Shape:
        (source,) = sources
        if len(source) != 3:
            raise NetworkError(f"layer {self.name!r}: takes (channels, height, width), its input is {source}")
        top, left, bottom, right = self.padding
        return source[0], source[1] + top + bottom, source[2] + left + right


Weighted: TypeAlias = Linear | Conv2d
"""The kinds with weights."""
LAYER_KINDS: dict[str, type[Layer]] = {
    kind.__name__: kind for kind in (Linear, Conv2d, MaxPool, AvgPool, Add, Flatten, Pad)
}
"""Every kind by its name, as files write it."""


def refused(layer: Layer, engine: str) -> ExportError:
    """What an engine raises for a kind that it does not compute."""
    return ExportError(f"layer {layer.name!r}: kind {layer.kind} is not supported by {engine}")


def _windows(name: str, source: Shape, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Pair:
    if len(source) != 3:
        raise NetworkError(f"layer {name!r}: takes (channels, height, width), its input is {source}")
    if any(len(pair) != 2 for pair in (kernel, stride, padding)):
        raise NetworkError(f"layer {name!r}: kernel {kernel}, stride {stride} and padding {padding} must be pairs")
    if min(*kernel, *stride) < 1:
        raise NetworkError(f"layer {name!r}: kernel {kernel} and stride {stride} must be at least 1")
    height, width = (
        (size + 2 * pad - window) // step + 1
        for size, window, step, pad in zip(source[1:], kernel, stride, padding, strict=True)
    )
    if min(height, width) < 1:
        raise NetworkError(f"layer {name!r}: kernel {kernel} does not fit its input {source} with padding {padding}")
    return height, width
