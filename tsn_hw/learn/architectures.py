"""Shapes of networks: the body that all tasks of a bank share. Heads are added task by task.

Sources: method.md 1.14 (backbones, counted), decisions 17 and 26 (every body layer is maskable, activations are
quantized after batch norm).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tsn_hw.errors import SettingsError
from tsn_hw.layers import INPUT, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted


@dataclass(frozen=True)
class Architecture:
    """A body: layers in execution order, the last one giving the features that heads read.

    ``signed`` names the computing layers without a ReLU; ``dropout`` maps layers to the probability that an
    element of their output is dropped while training.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    batch_norm: bool = False
    signed: frozenset[str] = frozenset()
    dropout: dict[str, float] = field(default_factory=dict)

    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every layer, without the batch."""
        shapes: list[Shape] = []
        for layer in self.layers:
            shapes.append(layer.output_shape(*(self.input_shape if i == INPUT else shapes[i] for i in layer.inputs)))
        return tuple(shapes)

    @property
    def features(self) -> int:
        """Number of features that a head reads."""
        (features,) = self.shapes()[-1]
        return features

    @property
    def body_weights(self) -> int:
        """Number of maskable weights of one bank."""
        return sum(math.prod(layer.weight_shape) for layer in self.layers if isinstance(layer, Weighted))


class _Builder:
    """Appends layers one after the other and keeps the running shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.layers = shape, list[Layer]()

    @property
    def last(self) -> tuple[int]:
        return (len(self.layers) - 1,)

    def add(self, layer: Layer) -> None:
        self.shape = layer.output_shape(self.shape)  # type: ignore[call-arg]
        self.layers.append(layer)

    def flatten(self) -> None:
        if len(self.shape) == 3:
            self.add(Flatten("flatten", self.last))

    def linear(self, name: str, width: int) -> None:
        self.add(Linear(name, self.shape[0], width, self.last))


def mlp(
    input_shape: Shape, hidden: tuple[int, ...] = (100, 100), batch_norm: bool = False, dropout: float = 0.0
) -> Architecture:
    """A fully connected body; the paper's p-MNIST net is ``mlp((1, 28, 28), (100, 100))``: 88,400 weights.

    ``dropout`` acts on the input, where it does most for permuted pixels.
    """
    if not hidden or min(hidden) < 1:
        raise SettingsError(f"model 'mlp': hidden={hidden}, needs at least one width of at least 1")
    builder = _Builder(input_shape)
    builder.flatten()
    for number, width in enumerate(hidden, start=1):
        builder.linear(f"fc{number}", width)
    dropped = {"flatten": dropout} if dropout and len(input_shape) == 3 else {}
    return Architecture(input_shape, tuple(builder.layers), batch_norm, dropout=dropped)


def alexnet(
    input_shape: Shape,
    channels: tuple[int, ...] = (64, 128, 256),
    hidden: tuple[int, ...] = (2048, 2048),
    batch_norm: bool = True,
    dropout: float = 0.5,
) -> Architecture:
    """The reduced AlexNet: convolutions of kernel 4, 3, 2, each pooled by 2, then fully connected layers.

    At (3, 32, 32) it is the paper's net: 6,499,328 weights. Smaller images work too: kernels shrink to the
    map, and a map of one pixel is not pooled. Dropout follows the paper: ``dropout`` after the fully connected
    layers and the last convolution, 0.4 of it after the others.
    """
    if len(input_shape) != 3:
        raise SettingsError(f"model 'alexnet': needs images (channels, height, width), the data has {input_shape}")
    if not channels or not hidden or min(*channels, *hidden) < 1:
        raise SettingsError(f"model 'alexnet': channels={channels} and hidden={hidden} must hold widths of at least 1")
    builder, dropped = _Builder(input_shape), {}
    for number, width in enumerate(channels, start=1):
        height, breadth = builder.shape[1:]
        kernel = max(5 - number, 2)
        name = f"conv{number}"
        window = (min(kernel, height), min(kernel, breadth))
        builder.add(Conv2d(name, builder.shape[0], width, window, inputs=builder.last))
        dropped[name] = dropout if number == len(channels) else 0.4 * dropout
        if min(builder.shape[1:]) >= 2:
            builder.add(MaxPool(f"pool{number}", (2, 2), (2, 2), builder.last))
    builder.flatten()
    for number, width in enumerate(hidden, start=1):
        builder.linear(f"fc{number}", width)
        dropped[f"fc{number}"] = dropout
    return Architecture(input_shape, tuple(builder.layers), batch_norm, dropout=dropped if dropout else {})
