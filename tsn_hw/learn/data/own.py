"""Data of your own: arrays, torch data sets and iterators, made into data sets and streams of tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.errors import DataError, SettingsError, warn
from tsn_hw.learn.data.dataset import DataSet
from tsn_hw.learn.data.files import Inputs, Labels
from tsn_hw.learn.data.tasks import TaskData, TaskStream, stratified, whole

LARGEST_INTEGER = 2**24
"""Integers up to this magnitude are float32 values as they are."""
Part: TypeAlias = tuple[Any, Any] | Iterable[Any]
"""Inputs and labels as two arrays, or a data set of pairs (input, label), such as torch's."""


@dataclass(frozen=True)
class Preparation:
    """What is done to data of your own before anything is learned of them.

    normalize:  every channel (of tables every feature) loses its mean and is divided by its standard deviation, both of
                the training part; the data set keeps the two, because a device has to do the same.
    fill:       the value that stands for a missing one (NaN), after normalization; None refuses missing values.
    test_share: share of every class that becomes the test part, where there is none.
    """

    normalize: bool = False
    fill: float | None = None
    test_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.test_share < 1:
            raise SettingsError(f"test_share {self.test_share}: must be at least 0 and below 1")
        if self.fill is not None and not np.isfinite(self.fill):
            raise SettingsError(f"fill {self.fill}: must be a finite number")


def own_data(
    name: str,
    train: Part,
    test: Part | None = None,
    classes: Iterable[str] | None = None,
    preparation: Preparation = Preparation(),
) -> DataSet:
    """A data set of arrays, or of anything that gives pairs (input, label), such as a torch data set.

    Inputs are uint8 pixels, (N, height, width), (N, height, width, 1 or 3) or (N, channels, height, width), or numbers
    of any type: (N, features), signals (N, channels, steps), which become (channels, 1, steps), or
    (N, channels, height, width). Labels are integers, strings or one-hot rows; ``classes`` names the labels 0, 1, ...,
    without it they are named as they are. Raises DataError for what cannot be learned, in one line.

    >>> rng = np.random.default_rng(0)
    >>> signals, labels = rng.normal(size=(8, 6, 50)), ["ok", "worn"] * 4
    >>> data = own_data("pumps", (signals, labels), preparation=Preparation(test_share=0.5))
    >>> data.shape, data.classes, data.x_test.dtype, data.y_test.tolist()
    ((6, 1, 50), ('ok', 'worn'), dtype('float32'), [0, 0, 1, 1])
    """
    where = f"data {name!r}"
    x_train, y_train = _arrays(f"{where}, train part", train)
    if test is not None:
        x_test, y_test = _arrays(f"{where}, test part", test)
    elif preparation.test_share:
        chosen = np.unique(y_train, return_inverse=True)[1].astype(np.int64)
        stay, leave = stratified(chosen, preparation.test_share, np.random.default_rng(0))
        x_test, y_test, x_train, y_train = x_train[leave], y_train[leave], x_train[stay], y_train[stay]
    else:
        raise DataError(f"{where}: has no test part; give one, or test_share, such as 0.2, to take it from training")
    meaning, names = _meaning(f"{where}, train part", y_train, None if classes is None else tuple(classes))
    train_labels = _numbers(f"{where}, train part", y_train, meaning, names)
    test_labels = _numbers(f"{where}, test part", y_test, meaning, names)
    _check_classes(where, train_labels, test_labels, names)
    offset, scale, x_train, x_test = _prepared(where, x_train, x_test, preparation)
    return DataSet(name, x_train, train_labels, x_test, test_labels, names, offset, scale)


def own_stream(sets: Iterable[DataSet | TaskData], seed: int = 0, valid_share: float = 0.1) -> TaskStream:
    """A stream of a task a data set, in their order; all have inputs of one shape and kind.

    A random ``valid_share`` of every class of the training part becomes the validation part; :class:`TaskData` that
    bring one keep it. Raises DataError where shapes, kinds or names do not go together.

    >>> tables = [own_data(n, (np.eye(4) + i, [0, 1, 0, 1]), (np.eye(2, 4), [0, 1])) for i, n in enumerate("ab")]
    >>> stream = own_stream(tables)
    >>> stream.names, stream.input_shape, stream.task(1).x_valid.dtype
    (('a', 'b'), (4,), dtype('float32'))
    """
    tasks = [whole(data, seed, valid_share) if isinstance(data, DataSet) else data for data in sets]
    if not tasks:
        raise DataError("the stream has no task")
    shape, pixels = tasks[0].shape, tasks[0].pixels
    for number, task in enumerate(tasks):
        if task.name in [other.name for other in tasks[:number]]:
            raise DataError(f"task {task.name!r}: two tasks have this name, every task needs its own")
        if (task.shape, task.pixels) != (shape, pixels):
            raise DataError(
                f"task {task.name!r}: inputs are {_kind(task.pixels)} {task.shape}, those of task {tasks[0].name!r} "
                f"{_kind(pixels)} {shape}; bring all tasks to one shape, for example by resampling or padding"
            )
    images = tuple((len(task.x_train), len(task.x_valid)) for task in tasks)
    names, classes = tuple(task.name for task in tasks), tuple(task.classes for task in tasks)
    return TaskStream(names, classes, images, shape, tasks.__getitem__, pixels)


def _kind(pixels: bool) -> str:
    return "pixels" if pixels else "values"


def _arrays(where: str, part: Part) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs in the shape of a network's, of their own type, and labels, from two arrays or from pairs."""
    if isinstance(part, tuple) and len(part) == 2:
        x, y = (np.asarray(array) for array in part)
    else:
        counted = hasattr(part, "__len__") and hasattr(part, "__getitem__")
        pairs = [part[i] for i in range(len(part))] if counted else list(part)  # type: ignore[index, arg-type]
        if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in pairs):
            raise DataError(f"{where}: must be two arrays (inputs, labels), or give pairs (input, label)")
        if not pairs:
            raise DataError(f"{where}: holds no input")
        shapes = {np.shape(x) for x, _ in pairs}
        if len(shapes) > 1:
            raise DataError(
                f"{where}: inputs have different shapes, such as {' and '.join(map(str, sorted(shapes)[:2]))}"
            )
        x, y = np.stack([np.asarray(x) for x, _ in pairs]), np.asarray([np.asarray(y) for _, y in pairs])
    if len(x) != len(y):
        raise DataError(f"{where}: {len(x)} inputs and {len(y)} labels")
    return shaped(where, x), _plain(where, y)


def shaped(where: str, x: NDArray[Any]) -> NDArray[Any]:
    """Inputs as (N, features) or (N, channels, height, width): uint8 pixels as they are, other numbers as float32."""
    if x.dtype.kind not in "uifb" or x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(
            f"{where}: inputs are {x.dtype} {x.shape}, must be numbers (N, features), (N, channels, steps) or "
            "(N, channels, height, width), or uint8 images (N, H, W) or (N, H, W, C), none of them 0"
        )
    if x.dtype == np.uint8:
        if x.ndim == 4 and x.shape[3] in (1, 3):
            return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        return x[:, None] if x.ndim == 3 else x
    if x.dtype.kind in "ui" and max(abs(int(x.min())), abs(int(x.max()))) > LARGEST_INTEGER:
        raise DataError(f"{where}: holds integers beyond 2**24; scale them and give floats")
    values = x.astype(np.float32)
    return values[:, :, None] if x.ndim == 3 else values


def _plain(where: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels as integers or strings (N,)."""
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.ndim == 2 and labels.dtype.kind in "uifb":
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise DataError(f"{where}: labels of two axes must be one-hot, one 1 and else 0 in every row")
        numbers: NDArray[np.int64] = labels.argmax(axis=1).astype(np.int64)
        return numbers
    if labels.ndim != 1 or labels.dtype.kind not in "uibU":
        told = f"{labels.dtype} {labels.shape}"
        raise DataError(f"{where}: labels are {told}, must be integers or strings (N,), or one-hot rows")
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


def _meaning(
    where: str, labels: NDArray[Any], classes: tuple[str, ...] | None
) -> tuple[dict[int | str, int], tuple[str, ...]]:
    """What number every label of the training part means, and the names of the classes."""
    found = np.unique(labels).tolist()
    if classes is None:
        return {label: number for number, label in enumerate(found)}, tuple(map(str, found))
    if labels.dtype.kind == "U":
        return {name: number for number, name in enumerate(classes)}, classes
    if found[-1] >= len(classes):
        raise DataError(f"{where}: labels {found[0]}..{found[-1]} need {found[-1] + 1} class names, got {len(classes)}")
    return {number: number for number in range(len(classes))}, classes


def _numbers(where: str, labels: NDArray[Any], meaning: dict[int | str, int], names: tuple[str, ...]) -> Labels:
    """Labels as numbers of classes."""
    if unknown := [label for label in np.unique(labels).tolist() if label not in meaning]:
        raise DataError(f"{where}: label {unknown[0]!r} is none of the classes {', '.join(names)} of the training part")
    return np.array([meaning[label] for label in labels.tolist()], np.int64)


def _check_classes(where: str, y_train: Labels, y_test: Labels, names: tuple[str, ...]) -> None:
    """Two classes or more, and each with examples: two to train and validate with, one to test with."""
    if len(names) < 2:
        raise DataError(f"{where}: has one class, {names[0]!r}; a task needs at least two")
    train, test = (np.bincount(y, minlength=len(names)) for y in (y_train, y_test))
    for label, name in enumerate(names):
        if train[label] < 2 or test[label] < 1:
            raise DataError(
                f"{where}: class {name!r} has {train[label]} training and {test[label]} test examples, must have at "
                "least 2 and 1; leave the class out, or bring more"
            )


def _prepared(
    where: str, train: NDArray[Any], test: NDArray[Any], preparation: Preparation
) -> tuple[tuple[float, ...], tuple[float, ...], NDArray[Any], NDArray[Any]]:
    """Offset, scale, and both parts normalized and without missing values, as far as the preparation says so."""
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    if preparation.normalize:
        offset, scale = _moments(where, train.astype(np.float32))
        train, test = (normalized(part, offset, scale) for part in (train, test))
    if preparation.fill is not None and train.dtype == np.float32:
        fill = np.float32(preparation.fill)
        train, test = (np.where(np.isnan(part), fill, part) for part in (train, test))
    return offset, scale, train, test


def _moments(where: str, values: NDArray[np.float32]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, missing values left out; 1 where a channel never changes."""
    axes = (0, *range(2, values.ndim))
    known = ~np.isnan(values)
    if not known.any(axis=axes).all():
        channel = int(np.flatnonzero(~known.any(axis=axes))[0])
        raise DataError(f"{where}: channel {channel} has no value at all in training; leave it out")
    mean = np.asarray(np.nanmean(values, axis=axes, dtype=np.float64))
    deviation = np.asarray(np.nanstd(values, axis=axes, dtype=np.float64))
    constant = np.flatnonzero(deviation <= 1e-12 * np.abs(mean))
    if len(constant):
        warn(f"{where}: channels {', '.join(map(str, constant))} never change in training, and become 0")
    deviation[constant] = 1.0
    return tuple(map(float, mean)), tuple(map(float, deviation))


def normalized(x: NDArray[Any], offset: tuple[float, ...], scale: tuple[float, ...]) -> Inputs:
    """Readings (N, channels, ...) as the values that a network has learned from: (reading - offset) / scale.

    >>> normalized(np.array([[3.0, 10.0]]), (1.0, 10.0), (2.0, 1.0)).tolist()
    [[1.0, 0.0]]
    """
    view = (1, -1, *[1] * (x.ndim - 2))
    means, scales = np.array(offset).reshape(view), np.array(scale).reshape(view)
    values: Inputs = ((x - means) / scales).astype(np.float32)
    return values
