"""The data of a run that nothing else makes again: kept in its folder, task by task.

``stream.json`` tells the tasks and how readings became values; ``data/task_00.safetensors`` ... hold the arrays.
Whoever needs the room may delete the arrays of finished tasks: later tasks are learned without them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tsn_hw.core.errors import DataError
from tsn_hw.core.files import write_atomically
from tsn_hw.core.records import build, read_json
from tsn_hw.learn.checkpoint import read_tensors, write_tensors
from tsn_hw.learn.data.tasks import TaskData, TaskStream
from tsn_hw.learn.folder import DATA, STREAM

ARRAYS = ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test")


@dataclass(frozen=True)
class KeptTask:
    """One task of ``stream.json``: ``offset`` and ``scale`` made values of readings, ``digest`` is of its data."""

    name: str
    classes: tuple[str, ...]
    images: tuple[int, int]
    digest: str
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()


@dataclass(frozen=True)
class KeptStream:
    """What ``stream.json`` says."""

    input_shape: tuple[int, ...]
    pixels: bool
    tasks: tuple[KeptTask, ...] = ()


def keep(folder: Path, number: int, data: TaskData) -> None:
    """Write the data of a task that is about to be learned, unless they are there."""
    task = KeptTask(
        data.name, data.classes, (len(data.x_train), len(data.x_valid)), data.digest, data.offset, data.scale
    )
    known = _read(folder) if (folder / STREAM).is_file() else KeptStream(data.shape, data.pixels)
    path = _path(folder, number)
    if known.tasks[number : number + 1] == (task,) and path.is_file():
        return
    write_tensors(path, {name: torch.from_numpy(np.array(getattr(data, name), order="C")) for name in ARRAYS}, {})
    kept = KeptStream(known.input_shape, known.pixels, (*known.tasks[:number], task))
    write_atomically(folder / STREAM, (json.dumps(asdict(kept), indent=1) + "\n").encode())


def kept_stream(folder: Path) -> TaskStream:
    """The stream of a run that keeps its data."""
    kept = _read(folder)

    def task(number: int) -> TaskData:
        path, told = _path(folder, number), kept.tasks[number]
        if not path.is_file():
            raise DataError(f"task {told.name!r}: its data were deleted: {path} is missing")
        tensors, _ = read_tensors(path, "data of a task", "learn the run again")
        arrays = {name: tensors[name].numpy() for name in ARRAYS}
        data = TaskData(told.name, told.classes, offset=told.offset, scale=told.scale, **arrays)
        if data.digest != told.digest:
            raise DataError(f"task {told.name!r}: {path} holds other data than {folder / STREAM} tells")
        return data

    names, classes = tuple(each.name for each in kept.tasks), tuple(each.classes for each in kept.tasks)
    images, digests = tuple(each.images for each in kept.tasks), tuple(each.digest for each in kept.tasks)
    return TaskStream(names, classes, images, kept.input_shape, task, kept.pixels, digests=digests)


def _path(folder: Path, number: int) -> Path:
    return folder / DATA.replace("*", f"{number:02d}")


def _read(folder: Path) -> KeptStream:
    return build(KeptStream, read_json(folder / STREAM), str(folder / STREAM))
