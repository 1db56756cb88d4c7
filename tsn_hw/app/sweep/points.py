"""The points of a sweep: every combination of the values of its knobs, in order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tsn_hw.app.sweep.settings import Values
from tsn_hw.core.errors import SettingsError
from tsn_hw.learn.models import HEAD
from tsn_hw.learn.settings import Settings
from tsn_hw.learn.variants import Variant

MAX_POINTS = 10**6


@dataclass(frozen=True)
class Point:
    """One run, told by its keep ratio, and one variant of it."""

    keep_ratio: float
    variant: Variant

    def to_json(self) -> dict[str, Any]:
        """Plain values: the identity of a point in the results of one sweep."""
        return {"keep_ratio": self.keep_ratio} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self.variant).items()
        }


@dataclass(frozen=True)
class Space:
    """The knobs of a sweep, by name, each with its values in the order of the file. The last ones vary fastest."""

    layer_names: tuple[str, ...]
    knobs: Mapping[str, Sequence[Any]]

    def points(self) -> list[Point]:
        """All points, none twice; neighbours begin alike."""
        count = math.prod(len(values) for values in self.knobs.values())
        if count > MAX_POINTS:
            raise SettingsError(f"values: {count} combinations, at most {MAX_POINTS} are evaluated; use [search]")
        chosen = itertools.product(*self.knobs.values())
        return list(dict.fromkeys(self.point(dict(zip(self.knobs, values, strict=True))) for values in chosen))

    def point(self, chosen: Mapping[str, Any]) -> Point:
        """The point of one value a knob. A value without effect is left out: equal networks, equal points."""
        bits = tuple(chosen.get(f"layers.{name}", chosen.get("code_bits")) for name in self.layer_names)
        iterations = chosen["prune_iterations"]
        prune_drop = chosen["prune_drop"] if iterations else 0.0
        formats = chosen["centroid_bits"], chosen["activation_bits"]
        return Point(chosen["keep_ratio"], Variant(bits, *formats, iterations, prune_drop, chosen["qat_epochs"]))


def space_of(values: Values, settings: Settings, layer_names: tuple[str, ...]) -> Space:
    """The knobs of a sweep over a run with these settings; SettingsError where they do not fit it."""
    for layer in values.layers:
        if layer not in layer_names:
            raise SettingsError(f"values.layers.{layer}: no such layer; there are {', '.join(layer_names)}")
    layers = {HEAD: (settings.quantize.head_bits,)} | values.layers
    missing = [layer for layer in layer_names if layer not in layers]
    if missing and not values.code_bits:
        raise SettingsError(f"values: layer {missing[0]!r} has no widths; give code_bits, or layers.{missing[0]}")
    if values.keep_ratio and settings.train.keep_policy != "constant":
        policy = settings.train.keep_policy
        raise SettingsError(f"values.keep_ratio: a run with keep_policy = {policy!r} does not go by one ratio")
    knobs: dict[str, Sequence[Any]] = {
        "keep_ratio": values.keep_ratio or (settings.train.keep_ratio,),
        "prune_iterations": values.prune_iterations or (0,),
        "prune_drop": values.prune_drop or (settings.prune.tolerated_drop,),
        "qat_epochs": values.qat_epochs or (0,),
        "centroid_bits": values.centroid_bits or (settings.formats.centroid_bits,),
    }
    if missing:
        knobs["code_bits"] = values.code_bits
    knobs |= {f"layers.{name}": layers[name] for name in layer_names if name in layers}
    return Space(layer_names, knobs | {"activation_bits": values.activation_bits or (None,)})
