"""A body that is read from a module of another tool: its layers so far, which later operators may still change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsn_hw.core.errors import BodyError, NetworkError
from tsn_hw.core.layers import Shape
from tsn_hw.learn.architectures import INPUT_NAME, Architecture, BodyBuilder
from tsn_hw.learn.settings import LayerKind, LayerSettings

EPSILON = 1e-5
"""Of our batch norms; the scale of a norm with another one is changed so that the function is the same."""
COMPUTING = ("Conv2d", "Linear", "AvgPool", "Add")


@dataclass(frozen=True)
class Window:
    """Kernel, stride, padding (top, left, bottom, right) and dilation, of two dimensions.

    ``grown``: whether the padding is more than was asked for, because windows at the end are cut off.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    grown: bool = False

    @classmethod
    def of(cls, kernel: Any, stride: Any, padding: Any, dilation: Any, rank: int = 2) -> Window:
        """The window of a module; one of one dimension is along the last axis.

        >>> Window.of((3,), (1,), "same", (2,)).padding
        (0, 2, 0, 2)
        """
        rank = len(kernel) if isinstance(kernel, tuple) else rank
        kernels, strides, dilations = (_pair(given, rank, 1) for given in (kernel, stride, dilation))
        if padding == "same":
            total = [step * (size - 1) for size, step in zip(kernels, dilations, strict=True)]
            top, left = (size // 2 for size in total)
            sides = top, left, total[0] - top, total[1] - left
        else:
            top, left = _pair(0 if padding == "valid" else padding, rank, 0)
            sides = top, left, top, left
        return cls(kernels, strides, sides, dilations)

    def up_to(self, sizes: tuple[int, ...], wanted: tuple[int, ...]) -> Window:
        """The window of a pool that gives maps of these sizes: with more padding at the end, where it counts up."""
        sizes, wanted = (1,) * (2 - len(sizes)) + tuple(sizes), (1,) * (2 - len(wanted)) + tuple(wanted)
        top, left, bottom, right = self.padding
        spans = [(out - 1) * step + size for out, step, size in zip(wanted, self.stride, self.kernel, strict=True)]
        missing = [max(0, spans[0] - sizes[0] - top - bottom), max(0, spans[1] - sizes[1] - left - right)]
        padding = top, left, bottom + missing[0], right + missing[1]
        return replace(self, padding=padding, grown=any(missing))


@dataclass(frozen=True)
class Norm:
    """A batch norm by its parts, as torch names them; no weight is a gain of 1, no bias an offset of 0."""

    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any
    eps: float = EPSILON


class Draft:
    """Layers by name, in order, and their numbers."""

    def __init__(self) -> None:
        self.layers: dict[str, LayerSettings] = {}
        self.weights: dict[str, NDArray[np.float32]] = {}

    def build(self, input_shape: Shape) -> Architecture:
        """The body of all layers. Where a sum or a mean cannot be negative, it ends in a ReLU, which spares a sign."""
        builder = BodyBuilder(input_shape)
        for described in self.layers.values():
            unsigned = described.kind in ("AvgPool", "Add") and self.is_nonnegative(described.name)
            builder.add(replace(described, relu=described.relu or unsigned))
        return replace(builder.build(), weights=self.weights)

    def append(self, kind: LayerKind, name: str, inputs: tuple[str, ...], **fields: Any) -> str:
        """A layer at the end, by a name that is free."""
        stem = name if name not in ("head", INPUT_NAME) and not name.startswith("head_") else f"body.{name}"
        name, number = stem[-60:], 1
        while name in self.layers:
            number += 1
            name = f"{stem[-60:]}_{number}"
        self.layers[name] = LayerSettings(kind, name, inputs, **({"relu": False} | fields))
        return name

    def weighted(self, name: str, source: str, part: Any, window: Window | None = None) -> str:
        """A Linear, or with a window a convolution, that has the weight, bias and groups of a module."""
        values = _floats(part.weight)
        if window is None:
            name = self.append("Linear", name, (source,), width=len(values))
        else:
            name = self.convolution(name, source, len(values), window, part.groups)
            values = values if values.ndim == 4 else values[:, :, None]
        self.weights[f"{name}.weight"] = values
        if part.bias is not None:
            self.weights[f"{name}.bias"] = _floats(part.bias)
        return name

    def convolution(self, name: str, source: str, width: int, window: Window, groups: int) -> str:
        """A convolution, without weights yet."""
        fields = {key: getattr(window, key) for key in ("kernel", "stride", "padding", "dilation")}
        return self.append("Conv2d", name, (source,), width=width, groups=groups, **fields)

    def pool(self, kind: LayerKind, name: str, source: str, window: Window, counted: bool = True) -> str:
        """A pool; its padding must count as zeros, which ``counted`` says of a mean."""
        outside = any(window.padding)
        if max(window.dilation) > 1:
            raise NetworkError("has a dilation, which pools do not have here")
        if kind == "AvgPool" and outside and (not counted or window.grown):
            raise NetworkError("leaves padding out of its mean; use count_include_pad=True and no ceil_mode, or none")
        if kind == "MaxPool" and outside and not self.is_nonnegative(source):
            raise NetworkError("pads what may be negative; put a ReLU before it, or pad the convolution")
        return self.append(kind, name, (source,), kernel=window.kernel, stride=window.stride, padding=window.padding)

    def add(self, name: str, first: str, second: str) -> str:
        """The sum of two layers."""
        return self.append("Add", name, (first, second))

    def flatten(self, name: str, source: str) -> str:
        """Features of a map."""
        return self.append("Flatten", name, (source,))

    def is_sum(self, name: str) -> bool:
        """Whether a layer has weights, and nothing behind them yet."""
        return self.is_open(name) and not self.layers[name].batch_norm

    def is_open(self, name: str) -> bool:
        """Whether a layer has weights, and nothing but perhaps a batch norm behind them yet."""
        layer = self.layers.get(name)
        if layer is None or layer.kind not in ("Conv2d", "Linear"):
            return False
        return not (layer.relu or layer.clip or layer.dropout)

    def shift(self, name: str, values: Any) -> None:
        """Add constants to the sums of a layer, or to what its batch norm gives."""
        key = f"{name}.{'offset' if self.layers[name].batch_norm else 'bias'}"
        self.weights[key] = self.weights.get(key, np.float32(0)) + _floats(values)

    def normalize(self, name: str, norm: Any) -> None:
        """A batch norm behind a layer: gain, offset, mean and variance of :data:`EPSILON`; it takes the bias in.

        None is one whose numbers are not asked for.
        """
        self.layers[name] = replace(self.layers[name], batch_norm=True)
        if norm is None:
            return
        mean, variance = _floats(norm.running_mean), _floats(norm.running_var)
        scale = np.ones_like(mean) if norm.weight is None else _floats(norm.weight)
        offset = np.zeros_like(mean) if norm.bias is None else _floats(norm.bias)
        bias = self.weights.pop(f"{name}.bias", np.zeros_like(mean))
        correction = np.sqrt((variance.astype(np.float64) + EPSILON) / (variance.astype(np.float64) + norm.eps))
        made = {"scale": (scale * correction).astype(np.float32), "offset": offset, "mean": mean - bias}
        self.weights |= {f"{name}.{key}": value for key, value in (made | {"variance": variance}).items()}

    def computing(self, name: str) -> str:
        """The layer that computes what a pool of maxima or a flattening passes on."""
        while name != INPUT_NAME and self.layers[name].kind not in COMPUTING:
            (name,) = self.layers[name].inputs
        return name

    def is_nonnegative(self, name: str) -> bool:
        """Whether a layer gives no negative numbers; of the input that is not known."""
        if name == INPUT_NAME:
            return False
        layer = self.layers[name]
        if layer.relu:
            return True
        return layer.kind not in ("Conv2d", "Linear") and all(map(self.is_nonnegative, layer.inputs))

    def is_cut(self, name: str, low: float, high: float) -> bool:
        """Whether saturation at two ends may change what a layer gives; a ReLU changes nothing that is not negative."""
        return not (low == 0 and np.isinf(high) and self.is_nonnegative(name))

    def rectify(self, name: str, low: float, high: float) -> None:
        """A ReLU, from 0 on, or saturation at +-high, at the end of a layer that computes."""
        if name == INPUT_NAME:
            raise NetworkError("stands in front of the first layer; clip the data before the network")
        if not (low == 0 or low == -high) or not high > 0:
            raise NetworkError(f"saturates at {low:g} and {high:g}; must begin at 0 or be the same on both sides")
        layer, relu = self.layers[name], low == 0
        clip = layer.clip if np.isinf(high) else min(high, layer.clip or high)
        if layer.dropout or (layer.clip and not layer.relu and relu and clip != layer.clip):
            raise NetworkError("stands behind a Dropout or another clip; put it right behind the layer that computes")
        self.layers[name] = replace(layer, relu=layer.relu or relu, clip=clip)

    def drop(self, name: str, share: float) -> None:
        """Dropout behind a layer."""
        if self.layers[name].dropout:
            raise NetworkError("drops what another Dropout has dropped; one is enough")
        if share > 0.9:
            raise NetworkError(f"drops {share:g} of all values; at most 0.9")
        self.layers[name] = replace(self.layers[name], dropout=share)

    def take_head(self, name: str) -> None:
        """Take the last layer away: its weights go by the name of the head."""
        if name == INPUT_NAME or self.layers[name].kind != "Linear" or not self.is_sum(name):
            raise NetworkError(
                "must end in a Linear without ReLU or batch norm: the head, which gives logits; a module that gives "
                "features is taken whole with head=False"
            )
        if any(name in layer.inputs for layer in self.layers.values()):
            raise NetworkError(f"reads its head {name!r} elsewhere too; nothing but the output may")
        (source,) = self.layers.pop(name).inputs
        for key in ("weight", "bias"):
            if f"{name}.{key}" in self.weights:
                self.weights[f"head.{key}"] = self.weights.pop(f"{name}.{key}")
        if source != next(reversed(self.layers), INPUT_NAME):
            raise NetworkError(f"has layers that its head does not read, which reads {source!r}; remove them")


def _floats(tensor: Any) -> NDArray[np.float32]:
    """A copy of a tensor of torch or numpy as float32."""
    values = tensor.detach().cpu().float().numpy() if isinstance(tensor, torch.Tensor) else tensor
    found = np.array(values, np.float32)
    if not np.isfinite(found).all():
        raise BodyError("weights: some are no finite numbers")
    return found


def _pair(given: Any, rank: int, neutral: int) -> tuple[int, int]:
    """(height, width) of an int or a tuple; what has one dimension is along the last axis."""
    values = tuple(given) if isinstance(given, tuple | list) else (given,) * rank
    values = (neutral,) * (2 - len(values)) + values
    return int(values[0]), int(values[1])
