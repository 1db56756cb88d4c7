"""Shapes of networks: the body that all tasks of a bank share. Heads are added task by task.

Every layer with weights of a body can be masked; activations are quantized after batch norm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.errors import SettingsError, shown
from tsn_hw.core.layers import (
    INPUT,
    LAYER_KINDS,
    Add,
    AvgPool,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Pad,
    Shape,
    Weighted,
)
from tsn_hw.core.network import NAME
from tsn_hw.learn.settings import LayerSettings, ModelSettings

INPUT_NAME = "input"
"""What descriptions of layers call the input of the network."""


Weights: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Float weights by layer and what they are."""


def weights_digest(weights: Weights) -> str:
    """SHA-256 of weights, their names and shapes; empty if there are none."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(f"{name} {weights[name].shape} ".encode() + weights[name].tobytes())
    return found.hexdigest() if weights else ""


@dataclass(frozen=True)
class Architecture:
    """A body: layers in execution order, the last one giving the features that heads read.

    ``batch_norm`` says whether the layers with weights have a batch norm, or names those that do. ``signed`` names the
    computing layers without a ReLU; ``dropout`` maps layers to the probability that an element of their output is
    dropped while training; ``clips`` maps layers to the largest magnitude of their outputs (6 for a ReLU6).
    ``weights`` are those of the module that it was made of, if they were taken along: ``NAME.weight``, and
    ``NAME.bias`` or, with a batch norm, ``NAME.scale``, ``offset``, ``mean`` and ``variance``. Made with a
    :class:`BodyBuilder`, or layer by layer.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    batch_norm: bool | frozenset[str] = False
    signed: frozenset[str] = frozenset()
    dropout: dict[str, float] = field(default_factory=dict)
    clips: dict[str, float] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict, compare=False, repr=False)

    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every layer, without the batch."""
        shapes: list[Shape] = []
        for layer in self.layers:
            shapes.append(layer.output_shape(*(self.input_shape if i == INPUT else shapes[i] for i in layer.inputs)))
        return tuple(shapes)

    @cached_property
    def channels_last(self) -> bool:
        """Whether training may keep the channels of maps side by side in memory, which pools and convolutions prefer.

        Only for maps that torch is known to be right about: with two channels, or maps one pixel high or wide, 2.13
        corrupts its heap or computes garbage. Inputs have 3 channels or 8, maps a multiple of 8.
        """
        maps = [shape for shape in self.shapes() if len(shape) == 3]
        grouped = any(layer.groups > 1 for layer in self.layers if isinstance(layer, Conv2d))
        inputs = len(self.input_shape) == 3 and (self.input_shape[0] == 3 or self.input_shape[0] % 8 == 0)
        return bool(maps) and inputs and not grouped and all(c % 8 == 0 and min(h, w) > 1 for c, h, w in maps)

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

    def normalizes(self, layer: Layer) -> bool:
        """Whether a layer has a batch norm."""
        named = self.batch_norm
        return isinstance(layer, Weighted) and (named if isinstance(named, bool) else layer.name in named)

    def settings(self) -> ModelSettings:
        """The table ``[model]`` that describes this body, its weights by their digest: what a run keeps of it."""
        names = {INPUT: INPUT_NAME} | {index: layer.name for index, layer in enumerate(self.layers)}
        layers = tuple(self._described(layer, names) for layer in self.layers)
        return ModelSettings("layers", layers=layers, pretrained=bool(self.weights), start=weights_digest(self.weights))

    def _described(self, layer: Layer, names: dict[int, str]) -> LayerSettings:
        """One layer as a description has it."""
        described = LayerSettings(
            layer.kind,  # type: ignore[arg-type]
            layer.name,
            tuple(names[source] for source in layer.inputs),
            relu=layer.computes and layer.name not in self.signed,
            batch_norm=self.normalizes(layer),
            dropout=self.dropout.get(layer.name, 0.0),
            clip=self.clips.get(layer.name, 0.0),
        )
        if isinstance(layer, Weighted):
            described = replace(described, width=layer.channels)
        known = vars(layer)
        return replace(described, **{key: known[key] for key in WINDOW if key in known})


WINDOW = ("kernel", "stride", "padding", "dilation", "groups")
"""Fields that a layer and its description share."""


class BodyBuilder:
    """Makes a body of descriptions, one layer after the other, and keeps the running shape.

    >>> builder = BodyBuilder((1, 8, 8))
    >>> first = builder.add(LayerSettings("Conv2d", "conv1", width=4, kernel=(3, 3), padding=(1, 1)))
    >>> second = builder.add(LayerSettings("Conv2d", "conv2", width=4, kernel=(3, 3), padding=(1, 1), relu=False))
    >>> sum = builder.add(LayerSettings("Add", "add", (first, second)))
    >>> pool = builder.add(LayerSettings("AvgPool", "pool"))  # without a kernel: of the whole map
    >>> builder.build().features
    4
    """

    def __init__(self, input_shape: Shape, batch_norm: bool = False) -> None:
        """``input_shape`` has no batch; (channels, steps) are images of height 1. ``batch_norm``: one in all layers."""
        channels, *rest = input_shape
        self.input_shape: Shape = (channels, 1, *rest) if len(rest) == 1 else input_shape
        self.batch_norm = batch_norm
        self.layers, self.shapes, self.described = list[Layer](), list[Shape](), list[LayerSettings]()
        self.places = {INPUT_NAME: INPUT}

    @property
    def last(self) -> str:
        """Name of the layer that was added last."""
        return self.layers[-1].name if self.layers else INPUT_NAME

    @property
    def shape(self) -> Shape:
        """Shape of what that layer gives."""
        return self.shape_of(self.last)

    def shape_of(self, name: str) -> Shape:
        """Shape of what a layer gives, or of the input."""
        place = self.places[name]
        return self.input_shape if place == INPUT else self.shapes[place]

    def add(self, described: LayerSettings) -> str:
        """Append a layer; returns its name. Without ``inputs`` it reads the layer before.

        Padding that a kind does not have itself becomes a Pad in front of it, ``NAME.pad``. Raises SettingsError for
        what is no layer here, NetworkError where shapes do not fit.
        """
        name, inputs = described.name, described.inputs or (self.last,)
        sides = described.sides()
        symmetric = described.kind == "Conv2d" and sides[:2] == sides[2:]
        if any(sides) and not symmetric and described.kind != "Pad":
            inputs = (self.add(LayerSettings("Pad", f"{name}.pad", inputs, padding=sides)),)
            described = replace(described, inputs=inputs, padding=())
        if name in self.places or name == "head" or name.startswith("head_"):
            raise SettingsError(f"layer {name!r}: the name is taken")
        if not NAME.fullmatch(name):
            raise SettingsError(f"layer {shown(name)}: a name has 1..64 of letters, digits, '_', '.', '-'")
        for source in inputs:
            if source not in self.places:
                raise SettingsError(f"layer {name!r}: there is no layer {shown(source)} before it")
        wanted = LAYER_KINDS[described.kind].operands
        if len(inputs) != wanted:
            raise SettingsError(f"layer {name!r}: has {len(inputs)} inputs, must have {wanted}")
        shapes = [self.shape_of(source) for source in inputs]
        layer = _layer(described, shapes[0], tuple(self.places[source] for source in inputs))
        self.shapes.append(layer.output_shape(*shapes))
        self.places[name] = len(self.layers)
        self.layers.append(layer)
        self.described.append(described)
        return name

    def flatten(self) -> None:
        """Features of a map, channels first; nothing where they are flat already."""
        if len(self.shape) == 3:
            self.add(LayerSettings("Flatten", "flatten" if "flatten" not in self.places else f"{self.last}_flatten"))

    def build(self) -> Architecture:
        """The body; its last map is flattened. SettingsError if it has no weights."""
        if self.layers:
            self.flatten()
        if not any(isinstance(layer, Weighted) for layer in self.layers):
            raise SettingsError("model: the body has no layer with weights, needs one at least")
        computing = [d for layer, d in zip(self.layers, self.described, strict=True) if layer.computes]
        normalized = frozenset(d.name for d in computing if d.batch_norm)
        return Architecture(
            self.input_shape,
            tuple(self.layers),
            self.batch_norm or normalized,
            frozenset(d.name for d in computing if not d.relu),
            {d.name: d.dropout for d in self.described if d.dropout},
            {d.name: d.clip for d in computing if d.clip},
        )


def _layer(described: LayerSettings, source: Shape, inputs: tuple[int, ...]) -> Layer:
    """The layer of a description, with an input of this shape."""
    name, kind = described.name, described.kind
    if kind in ("Linear", "Conv2d") and described.width < 1:
        raise SettingsError(f"layer {name!r}: width = {described.width}, must be at least 1")
    if kind == "Linear" and len(source) != 1:
        raise SettingsError(f"layer {name!r}: a Linear reads features, its input is {source}; put a Flatten before it")
    if kind in ("Conv2d", "MaxPool", "AvgPool") and len(source) != 3:
        raise SettingsError(f"layer {name!r}: takes (channels, height, width), its input is {source}")
    only: tuple[int] = inputs[:1]  # type: ignore[assignment]
    match kind:
        case "Linear":
            return Linear(name, source[0], described.width, only)
        case "Conv2d":
            kernel, padding = described.pair("kernel", described.kernel), described.sides()[:2]
            stride, dilation = described.pair("stride", (1, 1)), described.pair("dilation", (1, 1))
            sizes = source[0], described.width, kernel, stride, padding
            return Conv2d(name, *sizes, described.groups, only, dilation)
        case "MaxPool" | "AvgPool":
            kernel = described.pair("kernel", source[1:])
            return (MaxPool if kind == "MaxPool" else AvgPool)(name, kernel, described.pair("stride", kernel), only)
        case "Add":
            return Add(name, inputs)  # type: ignore[arg-type]
        case "Pad":
            return Pad(name, described.sides(), only)
        case "Flatten":
            return Flatten(name, only)
