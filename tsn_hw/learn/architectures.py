"""Shapes of networks: the body that all tasks of a bank share. Heads are added task by task.

Every layer with weights of a body can be masked; activations are quantized after batch norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from tsn_hw.core.errors import SettingsError
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted


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

    @cached_property
    def weighted(self) -> dict[int, Weighted]:
        """The layers with weights by their index."""
        return {index: layer for index, layer in enumerate(self.layers) if isinstance(layer, Weighted)}

    @property
    def body_weights(self) -> int:
        """Number of maskable weights of one bank."""
        return sum(layer.weight_count for layer in self.weighted.values())

    def head(self, name: str, classes: int) -> Linear:
        """The layer that gives the logits of one task."""
        return Linear(name, self.features, classes, (len(self.layers) - 1,))


class _Builder:
    """Appends layers one after the other and keeps the running shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.layers = shape, list[Layer]()

    @property
    def last(self) -> tuple[int]:
        return (len(self.layers) - 1,)

    def add(self, layer: Layer) -> None:
        self.shape = layer.output_shape(self.shape)
        self.layers.append(layer)

    def flatten(self) -> None:
        if len(self.shape) == 3:
            self.add(Flatten("flatten", self.last))

    def linear(self, name: str, width: int) -> None:
        self.add(Linear(name, self.shape[0], width, self.last))

    def classifier(self, hidden: tuple[int, ...], dropout: float) -> dict[str, float]:
        """Fully connected layers at the end of a convolutional body; returns their dropout."""
        self.flatten()
        for number, width in enumerate(hidden, start=1):
            self.linear(f"fc{number}", width)
        return {f"fc{number}": dropout for number in range(1, len(hidden) + 1)}

    def residual(self, name: str, width: int, stride: int) -> list[str]:
        """Two 3x3 convolutions and a skip connection, of kernel 1 where shapes change; returns the signed layers."""
        source, (channels, *_) = self.last, self.shape
        signed, skip = [f"{name}_conv2"], source
        if stride != 1 or channels != width:
            self.layers.append(Conv2d(f"{name}_skip", channels, width, (1, 1), (stride, stride), inputs=source))
            signed, skip = [*signed, f"{name}_skip"], self.last
        self.layers.append(Conv2d(f"{name}_conv1", channels, width, (3, 3), (stride, stride), (1, 1), inputs=source))
        self.shape = self.layers[-1].output_shape(self.shape)
        self.add(Conv2d(f"{name}_conv2", width, width, (3, 3), (1, 1), (1, 1), inputs=self.last))
        self.layers.append(Add(f"{name}_add", (*skip, *self.last)))
        return signed


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
    layers and the last convolution, 0.4 of it after the others; here after their pooling, where there is a quarter to
    draw for.
    """
    _require_images("alexnet", input_shape)
    if not channels or not hidden or min(*channels, *hidden) < 1:
        raise SettingsError(f"model 'alexnet': channels={channels} and hidden={hidden} must hold widths of at least 1")
    builder, dropped = _Builder(input_shape), {}
    for number, width in enumerate(channels, start=1):
        height, breadth = builder.shape[1:]
        kernel = max(5 - number, 2)
        name = f"conv{number}"
        window = (min(kernel, height), min(kernel, breadth))
        builder.add(Conv2d(name, builder.shape[0], width, window, inputs=builder.last))
        if min(builder.shape[1:]) >= 2:
            name = f"pool{number}"
            builder.add(MaxPool(name, (2, 2), (2, 2), builder.last))
        dropped[name] = dropout if number == len(channels) else 0.4 * dropout
    dropped |= builder.classifier(hidden, dropout)
    return Architecture(input_shape, tuple(builder.layers), batch_norm, dropout=dropped if dropout else {})


def tinynet(
    input_shape: Shape,
    channels: tuple[int, ...] = (160, 160, 160, 160),
    hidden: tuple[int, ...] = (640, 640),
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> Architecture:
    """TinyNet: convolutions of kernel 3 and stride 2 instead of pooling, then fully connected layers.

    At (3, 64, 64) it is the paper's net: 2,743,520 weights. ``dropout`` acts after the fully connected layers.
    """
    _require_images("tinynet", input_shape)
    if not channels or not hidden or min(*channels, *hidden) < 1:
        raise SettingsError(f"model 'tinynet': channels={channels} and hidden={hidden} must hold widths of at least 1")
    builder = _Builder(input_shape)
    for number, width in enumerate(channels, start=1):
        builder.add(Conv2d(f"conv{number}", builder.shape[0], width, (3, 3), (2, 2), (1, 1), inputs=builder.last))
    dropped = builder.classifier(hidden, dropout)
    return Architecture(input_shape, tuple(builder.layers), batch_norm, dropout=dropped if dropout else {})


def resnet18(input_shape: Shape, width: int = 20, batch_norm: bool = True) -> Architecture:
    """ResNet-18 for small images: a 3x3 stem, four stages of two blocks, global average pooling.

    Widths 20, 32 and 64 have 1,090,140, 2,790,240 and 11,159,232 weights on three channels. The stem keeps images of
    up to 32 pixels at their size and halves larger ones, as the continual-learning literature does.
    """
    _require_images("resnet18", input_shape)
    if width < 1:
        raise SettingsError(f"model 'resnet18': width={width}, must be at least 1")
    builder, signed = _Builder(input_shape), list[str]()
    stride = 1 if max(input_shape[1:]) <= 32 else 2
    builder.add(Conv2d("stem", input_shape[0], width, (3, 3), (stride, stride), (1, 1)))
    for block in range(8):
        stage, first = divmod(block, 2)
        signed += builder.residual(f"block{block + 1}", width << stage, 2 if stage and not first else 1)
    builder.add(AvgPool("average", builder.shape[1:], builder.shape[1:], builder.last))  # type: ignore[arg-type]
    builder.flatten()
    return Architecture(input_shape, tuple(builder.layers), batch_norm, frozenset(signed))


def _require_images(model: str, input_shape: Shape) -> None:
    if len(input_shape) != 3:
        raise SettingsError(f"model {model!r}: needs images (channels, height, width), the data has {input_shape}")


BODIES: dict[str, Callable[..., Architecture]] = {body.__name__: body for body in (mlp, alexnet, tinynet, resnet18)}
"""Every body by its name in settings. It takes those of the keys of ``[model]`` that it has as parameters."""
