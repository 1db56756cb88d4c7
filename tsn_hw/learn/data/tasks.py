"""Task streams: what is learned one task after another. A stream builds a task when it is asked for it.

Everything random comes from ``numpy.random.default_rng([seed, task])``, so a task is the same whichever tasks were
built before it, and the same in every process. The validation part is taken from the training part only; the test
part is the data set's, entire.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsn_hw.core.errors import DataError, SettingsError
from tsn_hw.core.layers import Shape
from tsn_hw.learn.data.dataset import DataSet
from tsn_hw.learn.data.files import Images, Inputs, Labels, resized

Indices = NDArray[np.intp]
Convert = Callable[[Inputs], Inputs]


@dataclass(frozen=True, eq=False)
class TaskData:
    """The data of one task: inputs, and int64 labels (N,) into ``classes``.

    Inputs are uint8 pixels or float32 values, (N, channels, height, width) or (N, features); ``offset`` and ``scale``
    made them of readings (:class:`DataSet`). The arrays are the task's own: nothing else holds them.
    """

    name: str
    classes: tuple[str, ...]
    x_train: Inputs
    y_train: Labels
    x_valid: Inputs
    y_valid: Labels
    x_test: Inputs
    y_test: Labels
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def shape(self) -> Shape:
        """(features,) or (channels, height, width)."""
        return self.x_train.shape[1:]

    @property
    def pixels(self) -> bool:
        """Whether inputs are pixels, not values."""
        return self.x_train.dtype == np.uint8

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all that learning looks at: training and validation part."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_valid, self.y_valid):
            digest.update(repr(array.shape).encode() + array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class TaskStream:
    """Tasks in the order in which they are learned, all with inputs of one shape.

    ``images`` counts the inputs of every task's training and validation part; ``pixels`` says whether they are pixels
    and not values, ``stored`` whether the settings or the folder of a run make the stream again.
    """

    names: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    images: tuple[tuple[int, int], ...]
    input_shape: Shape
    build: Callable[[int], TaskData]
    pixels: bool = True
    stored: bool = False
    digests: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def task(self, index: int) -> TaskData:
        """The data of task 0, 1, ..., built anew by every call."""
        if not 0 <= index < len(self):
            raise SettingsError(f"task {index}: the stream has tasks 0..{len(self) - 1}")
        return self.build(index)

    def digest(self, index: int) -> str:
        """The digest of a task's data, which are built only where nothing tells it."""
        return self.digests[index] if self.digests else self.task(index).digest


def permuted(data: DataSet, tasks: int, *, seed: int, valid_share: float, natural_first: bool = False) -> TaskStream:
    """Every task is the whole data set with its pixels in another fixed order, the same in all channels.

    The first task is permuted as well, as in the literature, unless ``natural_first``.

    >>> from tsn_hw.learn.data.images import digits
    >>> stream = permuted(digits(), 3, seed=0, valid_share=0.1)
    >>> stream.names, stream.input_shape, stream.task(2).x_train.shape
    (('digits-permuted-0', 'digits-permuted-1', 'digits-permuted-2'), (1, 8, 8), (1297, 1, 8, 8))
    """
    if tasks < 1:
        raise SettingsError(f"permuted: {tasks} tasks, must be at least 1")
    channels = data.shape[0] if len(data.shape) > 1 else 1

    def permutation(index: int, rng: np.random.Generator) -> Convert:
        order = rng.permutation(math.prod(data.shape) // channels)
        if natural_first and index == 0:
            order.sort()
        return lambda images: images.reshape(len(images), channels, -1)[:, :, order].reshape(images.shape)

    parts = [_Part(f"{data.name}-permuted-{index}", data, range(len(data.classes))) for index in range(tasks)]
    return _stream(parts, data.shape, permutation, seed, valid_share)


def split(
    data: DataSet, classes_per_task: int, *, seed: int, valid_share: float, order: Sequence[int] | None = None
) -> TaskStream:
    """Every task has ``classes_per_task`` classes of the data set; its labels count from 0.

    ``order`` lists the labels of the data set as they are dealt to the tasks, all or some of them; None means 0, 1, ...

    >>> from tsn_hw.learn.data.images import digits
    >>> split(digits(), 2, seed=0, valid_share=0.1, order=[9, 0, 3, 4]).classes
    (('9', '0'), ('3', '4'))
    """
    labels = list(range(len(data.classes)) if order is None else order)
    if not set(labels) <= set(range(len(data.classes))) or len(set(labels)) < len(labels) or not labels:
        raise SettingsError(f"split: order {labels} must list different labels of 0..{len(data.classes) - 1}")
    if classes_per_task < 1 or len(labels) % classes_per_task:
        raise SettingsError(f"split: {len(labels)} classes do not divide into tasks of {classes_per_task}")
    dealt = [labels[start : start + classes_per_task] for start in range(0, len(labels), classes_per_task)]
    parts = [_Part(f"{data.name}-split-{index}", data, task) for index, task in enumerate(dealt)]
    return _stream(parts, data.shape, lambda *_: lambda images: images, seed, valid_share)


def mixed(sets: Sequence[DataSet], *, side: int, channels: int, seed: int, valid_share: float) -> TaskStream:
    """Every task is another data set, brought to (channels, side, side).

    Images are resized as Pillow does (bilinear, aspect ratio not kept); grey becomes three equal channels. Colour is
    not made grey. Values are left as they are: those of all sets must be of one shape.
    """
    names = tuple(data.name for data in sets)
    if not sets or len(set(names)) < len(names):
        raise SettingsError(
            f"mixed: data sets {', '.join(names) or 'none'}: must be at least one, each with its own name"
        )
    if min(side, channels) < 1:
        raise SettingsError(f"mixed: side {side} and channels {channels}, must be at least 1")
    if not all(data.pixels and len(data.shape) == 3 for data in sets):
        if len({(data.shape, data.pixels) for data in sets}) > 1:
            told = ", ".join(f"{data.name!r} {'pixels' if data.pixels else 'values'} {data.shape}" for data in sets)
            raise SettingsError(f"mixed: inputs of different shapes or kinds ({told}); bring all sets to one")
        parts = [_Part(data.name, data, range(len(data.classes))) for data in sets]
        return _stream(parts, sets[0].shape, lambda *_: lambda inputs: inputs, seed, valid_share)
    for data in sets:
        if data.shape[0] not in (1, channels):
            raise SettingsError(f"mixed: data {data.name!r} has {data.shape[0]} channels, the stream has {channels}")
    parts = [_Part(data.name, data, range(len(data.classes))) for data in sets]

    def convert(images: Inputs) -> Inputs:
        return _resized_images(images.astype(np.uint8, copy=False), side).repeat(channels // images.shape[1], axis=1)

    return _stream(parts, (channels, side, side), lambda *_: convert, seed, valid_share)


@dataclass(frozen=True)
class _Part:
    """The labels of a data set that become the classes 0, 1, ... of one task."""

    name: str
    data: DataSet
    labels: Sequence[int]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.data.classes[label] for label in self.labels)


def _stream(
    parts: list[_Part],
    shape: Shape,
    conversion: Callable[[int, np.random.Generator], Convert],
    seed: int,
    valid_share: float,
) -> TaskStream:
    """One task a part; ``conversion`` draws what is done to the images of a task."""
    if seed < 0:
        raise SettingsError(f"seed {seed}: must be at least 0")
    if not 0 < valid_share < 1:
        raise SettingsError(f"valid_share {valid_share}: must lie between 0 and 1")

    def build(index: int) -> TaskData:
        rng = np.random.default_rng([seed, index])
        return _task(parts[index], conversion(index, rng), valid_share, rng)

    names, classes = tuple(part.name for part in parts), tuple(part.classes for part in parts)
    images = tuple(_images(part, valid_share) for part in parts)
    return TaskStream(names, classes, images, shape, build, parts[0].data.pixels)


def whole(data: DataSet, seed: int, valid_share: float) -> TaskData:
    """A data set as one task; what becomes its validation part depends on its name, not on its place in a stream."""
    part = _Part(data.name, data, range(len(data.classes)))
    stream = _stream(
        [part], data.shape, lambda *_: lambda inputs: inputs, zlib.crc32(data.name.encode()) + seed, valid_share
    )
    return stream.task(0)


def stratified(labels: Labels, share: float, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Indices that stay and indices that leave, each ascending: of every class a random ``share`` leaves.

    Of n images floor(n * share + 1/2) leave, at least 1, at most n - 1.

    >>> stay, leave = stratified(np.array([0, 0, 0, 0, 1, 1]), 0.25, np.random.default_rng(0))
    >>> len(stay), np.array([0, 0, 0, 0, 1, 1])[leave].tolist()
    (4, [0, 1])
    """
    leaves = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        leaves[rng.permutation(members)[: _leaving(len(members), share)]] = True
    return np.flatnonzero(~leaves), np.flatnonzero(leaves)


def _leaving(images: int, share: float) -> int:
    """How many of a class's images leave."""
    return min(max(1, int(images * share + 0.5)), images - 1)


def _images(part: _Part, valid_share: float) -> tuple[int, int]:
    """Training and validation images of a task; DataError if a class has too few of them."""
    train, test = (np.bincount(y, minlength=len(part.data.classes)) for y in (part.data.y_train, part.data.y_test))
    for label, name in zip(part.labels, part.classes, strict=True):
        if train[label] < 2 or test[label] < 1:
            raise DataError(
                f"task {part.name!r}: class {name!r} has {train[label]} training and {test[label]} test images, "
                "must have at least 2 (one to train on, one to validate with) and 1"
            )
    leaving = sum(_leaving(int(train[label]), valid_share) for label in part.labels)
    return int(train[list(part.labels)].sum()) - leaving, leaving


def _task(part: _Part, convert: Convert, valid_share: float, rng: np.random.Generator) -> TaskData:
    """The images of a task, its labels renumbered, with a validation part of their own."""
    data, number = part.data, np.full(len(part.data.classes), -1, np.int64)
    number[list(part.labels)] = np.arange(len(part.labels))
    train, test = (np.flatnonzero(number[y] >= 0) for y in (data.y_train, data.y_test))
    stay, leave = (train[indices] for indices in stratified(data.y_train[train], valid_share, rng))
    return TaskData(
        part.name,
        part.classes,
        *(convert(data.x_train[stay]), number[data.y_train[stay]]),
        *(convert(data.x_train[leave]), number[data.y_train[leave]]),
        *(convert(data.x_test[test]), number[data.y_test[test]]),
        data.offset,
        data.scale,
    )


def _resized_images(images: Images, side: int) -> Images:
    """(N, channels, height, width) to (N, channels, side, side), every channel by itself."""
    if images.shape[2:] == (side, side):
        return images
    planes = images.reshape(-1, *images.shape[2:])
    small = [np.asarray(resized(Image.fromarray(plane), side, side)) for plane in planes]
    return np.stack(small).reshape(*images.shape[:2], side, side)
