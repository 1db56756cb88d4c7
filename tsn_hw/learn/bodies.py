"""The bodies that settings name: functions from the shape of an input and keywords to an architecture, in one table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tsn_hw.core.errors import SettingsError
from tsn_hw.core.layers import Shape
from tsn_hw.learn.architectures import Architecture, BodyBuilder
from tsn_hw.learn.settings import LayerSettings, ModelSettings


def mlp(
    input_shape: Shape, hidden: tuple[int, ...] = (100, 100), batch_norm: bool = False, dropout: float = 0.0
) -> Architecture:
    """A fully connected body; the paper's p-MNIST net is ``mlp((1, 28, 28), (100, 100))``: 88,400 weights.

    ``dropout`` acts on the input, where it does most for permuted pixels.
    """
    if not hidden or min(hidden) < 1:
        raise SettingsError(f"model 'mlp': hidden={hidden}, needs at least one width of at least 1")
    builder = BodyBuilder(input_shape, batch_norm)
    if len(builder.shape) == 3:
        builder.add(LayerSettings("Flatten", "flatten", dropout=dropout))
    _fully_connected(builder, hidden)
    return builder.build()


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
    builder = BodyBuilder(input_shape, batch_norm)
    for number, width in enumerate(channels, start=1):
        height, breadth = builder.shape[1:]
        size = max(5 - number, 2)
        kernel, share = (min(size, height), min(size, breadth)), dropout * (1.0 if number == len(channels) else 0.4)
        pooled = min(height - kernel[0], breadth - kernel[1]) >= 1
        dropped = 0.0 if pooled else share
        builder.add(LayerSettings("Conv2d", f"conv{number}", width=width, kernel=kernel, dropout=dropped))
        if pooled:
            builder.add(LayerSettings("MaxPool", f"pool{number}", kernel=(2, 2), dropout=share))
    builder.flatten()
    _fully_connected(builder, hidden, dropout)
    return builder.build()


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
    builder = BodyBuilder(input_shape, batch_norm)
    for number, width in enumerate(channels, start=1):
        builder.add(LayerSettings("Conv2d", f"conv{number}", (), width, (3, 3), (2, 2), (1, 1)))
    builder.flatten()
    _fully_connected(builder, hidden, dropout)
    return builder.build()


def resnet18(input_shape: Shape, width: int = 20, batch_norm: bool = True) -> Architecture:
    """ResNet-18 for small images: a 3x3 stem, four stages of two blocks, global average pooling.

    Widths 20, 32 and 64 have 1,090,140, 2,790,240 and 11,159,232 weights on three channels. The stem keeps images of
    up to 32 pixels at their size and halves larger ones, as the continual-learning literature does.
    """
    _require_images("resnet18", input_shape)
    if width < 1:
        raise SettingsError(f"model 'resnet18': width={width}, must be at least 1")
    builder, stride = BodyBuilder(input_shape, batch_norm), 1 if max(input_shape[1:]) <= 32 else 2
    builder.add(LayerSettings("Conv2d", "stem", (), width, (3, 3), (stride, stride), (1, 1)))
    for block in range(8):
        stage, first = divmod(block, 2)
        _residual(builder, f"block{block + 1}", width << stage, 2 if stage and not first else 1)
    builder.add(LayerSettings("AvgPool", "average", relu=True))
    return builder.build()


def _fully_connected(builder: BodyBuilder, widths: tuple[int, ...], dropout: float = 0.0) -> None:
    for number, width in enumerate(widths, start=1):
        builder.add(LayerSettings("Linear", f"fc{number}", width=width, dropout=dropout))


def _residual(builder: BodyBuilder, name: str, width: int, stride: int) -> None:
    """Two 3x3 convolutions and a skip connection, of kernel 1 where shapes change."""
    source = skip = builder.last
    strides, padding = (stride, stride), (1, 1)
    if stride != 1 or builder.shape[0] != width:
        skip = builder.add(LayerSettings("Conv2d", f"{name}_skip", (source,), width, (1, 1), strides, relu=False))
    builder.add(LayerSettings("Conv2d", f"{name}_conv1", (source,), width, (3, 3), strides, padding))
    last = builder.add(LayerSettings("Conv2d", f"{name}_conv2", (), width, (3, 3), (1, 1), padding, relu=False))
    builder.add(LayerSettings("Add", f"{name}_add", (skip, last)))


def listed(input_shape: Shape, layers: tuple[LayerSettings, ...], batch_norm: bool = False) -> Architecture:
    """A body of layers one after the other, as ``[[model.layers]]`` lists them."""
    builder = BodyBuilder(input_shape, batch_norm)
    for described in layers:
        builder.add(described)
    return builder.build()


def _require_images(model: str, input_shape: Shape) -> None:
    if len(input_shape) != 3:
        raise SettingsError(f"model {model!r}: needs images (channels, height, width), the data has {input_shape}")


def onnx(input_shape: Shape, path: str = "") -> Architecture:
    """The body of a float model in an ONNX file, for inputs of this shape."""
    return listed(input_shape, read_onnx(ModelSettings("onnx", path)).layers)


def read_onnx(model: ModelSettings, folder: Path = Path()) -> ModelSettings:
    """The body of an ONNX file by its layers, which a run keeps; any other as it is. Its path starts at a folder."""
    from tsn_hw.learn.onnx_files import onnx_body

    if model.kind != "onnx":
        return model
    if not model.path:
        raise SettingsError("model.path: is empty, must name the ONNX file of kind = 'onnx'")
    path = (folder / model.path).resolve()
    read = onnx_body(path, pretrained=model.pretrained).settings()
    return replace(read, path=str(path)) if model.pretrained else read


BODIES: dict[str, Callable[..., Architecture]] = {
    "mlp": mlp,
    "alexnet": alexnet,
    "tinynet": tinynet,
    "resnet18": resnet18,
    "layers": listed,
    "onnx": onnx,
}
"""Every body by its name in settings. It takes those of the keys of ``[model]`` that it has as parameters."""


def body_of(model: ModelSettings, input_shape: Shape) -> Architecture:
    """The body of the table ``[model]``, for inputs of this shape."""
    body = BODIES[model.kind]
    taken = inspect.signature(body).parameters
    if model.dropout and "dropout" not in taken:
        raise SettingsError(f"model.dropout = {model.dropout}: {model.kind!r} has none, must be 0")
    if model.pretrained and model.kind not in ("onnx", "layers"):
        raise SettingsError(f"model.pretrained: belongs to kind = 'onnx', the kind is {model.kind!r}")
    if model.path and "path" not in taken and not model.start:
        raise SettingsError(f"model.path: belongs to kind = 'onnx', the kind is {model.kind!r}")
    if model.layers and "layers" not in taken:
        raise SettingsError(f"model.layers: belong to kind = 'layers', the kind is {model.kind!r}")
    return body(input_shape, **{key: value for key, value in vars(model).items() if key in taken})
