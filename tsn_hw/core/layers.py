"""The geometry of layers: what connects to what, and which shapes flow. No weights, no numbers of any task.

Shapes leave out the batch: (features,) or (channels, height, width). Weights are (out, in) or
(out, in / groups, kernel height, kernel width), as in torch and ONNX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tsn_hw.core.errors import NetworkError
from tsn_hw.core.records import exact

INPUT = -1
"""Index that stands for the input of the network in ``Layer.inputs``."""

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Linear:
    """y = weights @ x."""

    name: str
    in_features: int
    out_features: int
    inputs: tuple[int] = (INPUT,)

    def __post_init__(self) -> None:
        exact(self)

    @property
    def weight_shape(self) -> Shape:
        return self.out_features, self.in_features

    @property
    def channels(self) -> int:
        return self.out_features

    def output_shape(self, source: Shape) -> Shape:
        if source != (self.in_features,):
            raise NetworkError(f"layer {self.name!r}: takes ({self.in_features},), its input is {source}")
        return (self.out_features,)

    def macs(self, source: Shape) -> int:
        """Multiply-accumulates of one inference of the dense layer."""
        return self.in_features * self.out_features


@dataclass(frozen=True)
class Conv2d:
    """Cross-correlation with zero padding, as torch and ONNX define it."""

    name: str
    in_channels: int
    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    inputs: tuple[int] = (INPUT,)

    def __post_init__(self) -> None:
        exact(self)
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            raise NetworkError(
                f"layer {self.name!r}: groups={self.groups} does not divide "
                f"{self.in_channels} input and {self.out_channels} output channels"
            )
        if min(self.padding) < 0:
            raise NetworkError(f"layer {self.name!r}: padding {self.padding} is negative")

    @property
    def weight_shape(self) -> Shape:
        return self.out_channels, self.in_channels // self.groups, *self.kernel

    @property
    def channels(self) -> int:
        return self.out_channels

    def output_shape(self, source: Shape) -> Shape:
        if len(source) != 3 or source[0] != self.in_channels:
            raise NetworkError(f"layer {self.name!r}: takes ({self.in_channels}, height, width), its input is {source}")
        return self.out_channels, *_windows(self.name, source, self.kernel, self.stride, self.padding)

    def macs(self, source: Shape) -> int:
        """Multiply-accumulates of one inference of the dense layer, products with padding included."""
        return math.prod(self.output_shape(source)) * math.prod(self.weight_shape[1:])


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows of requantized integers; no padding."""

    name: str
    kernel: Pair
    stride: Pair
    inputs: tuple[int] = (INPUT,)

    def __post_init__(self) -> None:
        exact(self)

    def output_shape(self, source: Shape) -> Shape:
        return source[:1] + _windows(self.name, source, self.kernel, self.stride)


@dataclass(frozen=True)
class AvgPool:
    """Sum over windows, then a requantization; no padding."""

    name: str
    kernel: Pair
    stride: Pair
    inputs: tuple[int] = (INPUT,)

    def __post_init__(self) -> None:
        exact(self)

    def output_shape(self, source: Shape) -> Shape:
        return source[:1] + _windows(self.name, source, self.kernel, self.stride)


@dataclass(frozen=True)
class Add:
    """Sum of two tensors on the finer of their grids, then a requantization (a skip connection)."""

    name: str
    inputs: tuple[int, int]

    def __post_init__(self) -> None:
        exact(self)

    def output_shape(self, first: Shape, second: Shape) -> Shape:
        if first != second:
            raise NetworkError(f"layer {self.name!r}: adds {first} to {second}, the shapes must be equal")
        return first


@dataclass(frozen=True)
class Flatten:
    """(channels, height, width) to (features,), channels first."""

    name: str
    inputs: tuple[int] = (INPUT,)

    def __post_init__(self) -> None:
        exact(self)

    def output_shape(self, source: Shape) -> Shape:
        return (math.prod(source),)


Weighted = Linear | Conv2d
Layer = Linear | Conv2d | MaxPool | AvgPool | Add | Flatten
LAYER_KINDS: dict[str, type[Layer]] = {kind.__name__: kind for kind in (Linear, Conv2d, MaxPool, AvgPool, Add, Flatten)}


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
