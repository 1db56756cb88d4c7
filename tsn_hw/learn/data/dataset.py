"""A data set: inputs and labels of a training and a test part, wherever they came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.errors import DataError
from tsn_hw.core.layers import Shape
from tsn_hw.learn.data.files import Inputs, Labels

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True, eq=False)
class DataSet:
    """Inputs and labels of a training and a test part; read-only arrays, checked when it is made.

    x_train, x_test: uint8 pixels or float32 values, (inputs, features) or (inputs, channels, height, width)
    y_train, y_test: int64 (inputs,); label i means ``classes[i]``
    offset, scale: what made values of readings, one a channel or feature: value = (reading - offset) / scale; () if
    nothing did
    """

    name: str
    x_train: Inputs
    y_train: Labels
    x_test: Inputs
    y_test: Labels
    classes: tuple[str, ...]
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DataError(f"data name {self.name!r}: must be 1..40 of letters, digits, '_', '.', '-'")
        for part, images, labels in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            _check_part(f"data {self.name!r}, {part} part", images, labels, len(self.classes))
        train, test = ((x.dtype, x.shape[1:]) for x in (self.x_train, self.x_test))
        if train != test:
            told = [f"{shape}" if train[0] == test[0] else f"{dtype} {shape}" for dtype, shape in (train, test)]
            raise DataError(f"data {self.name!r}: training images are {told[0]}, test images {told[1]}")
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"data {self.name!r}: class names repeat: {', '.join(self.classes)}")
        for array in ("x_train", "y_train", "x_test", "y_test"):
            view = getattr(self, array).view()
            view.setflags(write=False)
            object.__setattr__(self, array, view)

    @property
    def shape(self) -> Shape:
        """(features,) or (channels, height, width)."""
        return self.x_train.shape[1:]

    @property
    def pixels(self) -> bool:
        """Whether inputs are pixels, not values."""
        return self.x_train.dtype == np.uint8


def limited(data: DataSet, per_class: int) -> DataSet:
    """At most ``per_class`` images of every class in each part: images i*n//per_class of its n, in their order."""

    def kept(labels: Labels) -> NDArray[np.intp]:
        chosen = []
        for label in range(len(data.classes)):
            members = np.flatnonzero(labels == label)
            count = min(per_class, len(members))
            chosen.append(members[np.arange(count) * len(members) // max(count, 1)])
        return np.sort(np.concatenate(chosen))

    train, test = kept(data.y_train), kept(data.y_test)
    x_train, y_train, x_test, y_test = data.x_train[train], data.y_train[train], data.x_test[test], data.y_test[test]
    return replace(data, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def with_numbered_classes(
    name: str, x_train: Inputs, y_train: NDArray[np.integer[Any]], x_test: Inputs, y_test: NDArray[np.integer[Any]]
) -> DataSet:
    """A data set whose classes are consecutive numbers, often from 0 or 1; its labels then count from 0."""
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    numbers = np.unique(y_train)
    if (np.diff(numbers) != 1).any():
        raise DataError(
            f"data {name!r}: training labels {numbers[0]}..{numbers[-1]} are only {len(numbers)} different ones, "
            "must be consecutive"
        )
    first = numbers[0] if len(numbers) else 0
    return DataSet(name, x_train, y_train - first, x_test, y_test - first, tuple(str(number) for number in numbers))


def _check_part(where: str, inputs: Inputs, labels: Labels, classes: int) -> None:
    if inputs.dtype not in (np.uint8, np.float32) or inputs.ndim not in (2, 4) or 0 in inputs.shape:
        raise DataError(
            f"{where}: images are {inputs.dtype} {inputs.shape}, must be uint8 or float32 (N, features) or "
            "(N, C, H, W), none of them 0"
        )
    if inputs.dtype == np.float32 and (count := int((~np.isfinite(inputs)).reshape(len(inputs), -1).any(axis=1).sum())):
        raise DataError(f"{where}: {count} of {len(inputs)} inputs hold NaN or infinity; give fill, such as 0, for NaN")
    if labels.dtype != np.int64 or labels.shape != inputs.shape[:1]:
        raise DataError(f"{where}: labels are {labels.dtype} {labels.shape}, must be int64 ({len(inputs)},)")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{where}: labels {labels.min()}..{labels.max()}, must be 0..{classes - 1}")
