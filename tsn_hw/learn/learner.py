"""The loop in Python: a body, tasks and functions of your own into the folder of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from tsn_hw.core.errors import DataError, SettingsError, TrainingError
from tsn_hw.core.files import StrPath
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.callbacks import Callbacks, RunOptions
from tsn_hw.learn.checkpoint import FILE as CHECKPOINT
from tsn_hw.learn.checkpoint import read_checkpoint
from tsn_hw.learn.config import settings_from_json
from tsn_hw.learn.data.dataset import DataSet
from tsn_hw.learn.data.own import own_stream
from tsn_hw.learn.data.tasks import TaskData, TaskStream
from tsn_hw.learn.folder import SETTINGS, STREAM, digests
from tsn_hw.learn.kept import kept_stream
from tsn_hw.learn.ready import check_trainable
from tsn_hw.learn.run import Run, device_of
from tsn_hw.learn.settings import ModelSettings, Settings

Body: TypeAlias = Architecture | ModelSettings | None
"""A body, or the table that describes one; None is that of the settings."""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """What a run ends in: the packed network, and for every task what training.json holds."""

    network: PackedNetwork
    records: tuple[dict[str, Any], ...]


def train(
    body: Body,
    stream: TaskStream | Iterable[DataSet | TaskData],
    settings: Settings,
    folder: StrPath,
    callbacks: Callbacks = Callbacks(),
    options: RunOptions = RunOptions(),
) -> TrainedRun:
    """Learn every task of a stream, or of an iterator of data sets, into the folder of a run.

    ``folder`` gets all that the command line's ``train`` writes, and data of your own beside it, so that report,
    simulate, sweep and verify take it for a run. Same arguments, same machine, same bytes: also when the run is killed
    at any moment and resumed. A finished run whose stream has grown goes on with the new tasks; the old ones stay.

    Raises SettingsError for what cannot be trained, before anything is written; FileError if another process writes
    into the folder; TrainingError if it holds a run and ``options.resume`` is off, or a run of other settings.
    """
    tasks = stream if isinstance(stream, TaskStream) else own_stream(stream, settings.seed, _share(settings))
    wanted = _with_body(settings, body, tasks)
    check_trainable(wanted, tasks, device_of(options.device))
    run = Run(wanted, tasks, Path(folder), options, callbacks, body.weights if isinstance(body, Architecture) else {})
    run.execute()
    return TrainedRun(run.network(), run.position.records)


class Learner:
    """A run that gets its tasks one at a time, over months and by any number of processes: its state is its folder."""

    def __init__(
        self,
        body: Body,
        settings: Settings,
        folder: StrPath,
        callbacks: Callbacks = Callbacks(),
        options: RunOptions = RunOptions(),
    ) -> None:
        self.body, self.settings, self.folder = body, settings, Path(folder)
        self.callbacks, self.options = callbacks, replace(options, resume=True)
        if settings.train.keep_policy == "equal_remaining":
            raise SettingsError("train.keep_policy = 'equal_remaining': is of a known number of tasks, take another")

    def add_task(self, data: DataSet | TaskData) -> TrainedRun:
        """Learn one more task; one that was begun and stopped goes on. Earlier tasks stay, byte for byte.

        Raises DataError if inputs are not of the shape and kind of earlier tasks, TrainingError for a task that is
        learned already, or while another one is begun.
        """
        task = own_stream([data], self.settings.seed, _share(self.settings)).task(0)
        stream = self._stream(task)
        return train(self.body, stream, self._settings(), self.folder, self.callbacks, self.options)

    def _stream(self, task: TaskData) -> TaskStream:
        """The tasks of the folder, and the new one."""
        if not (self.folder / STREAM).is_file():
            return own_stream([task])
        kept, done = kept_stream(self.folder), self._done()
        if task.name in kept.names[:done]:
            raise TrainingError(f"task {task.name!r}: is learned already; a new task needs a name of its own")
        if len(kept) > done and kept.names[done] != task.name:
            raise TrainingError(f"task {kept.names[done]!r} was begun and is not finished; add it again first")
        if (task.shape, task.pixels) != (kept.input_shape, kept.pixels):
            kinds = {True: "pixels", False: "values"}
            raise DataError(
                f"task {task.name!r}: inputs are {kinds[task.pixels]} {task.shape}, those of earlier tasks "
                f"{kinds[kept.pixels]} {kept.input_shape}"
            )
        return TaskStream(
            (*kept.names[:done], task.name),
            (*kept.classes[:done], task.classes),
            (*kept.images[:done], (len(task.x_train), len(task.x_valid))),
            kept.input_shape,
            lambda number: task if number == done else kept.task(number),
            kept.pixels,
            digests=(*kept.digests[:done], task.digest),
        )

    def _done(self) -> int:
        """Number of finished tasks."""
        if not (self.folder / CHECKPOINT).is_file():
            return 0
        position, _ = read_checkpoint(self.folder, digests(_with_body(self._settings(), self.body, None)))
        return position.task

    def _settings(self) -> Settings:
        """The settings, with the input format that the first task has fixed."""
        if not (self.folder / SETTINGS).is_file() or self.settings.formats.input_exponent is not None:
            return self.settings
        first = settings_from_json(self.folder / SETTINGS).formats
        told = {key: getattr(first, key) for key in ("input_bits", "input_signed", "input_exponent")}
        return replace(self.settings, formats=replace(self.settings.formats, **told))


def _with_body(settings: Settings, body: Body, stream: TaskStream | None) -> Settings:
    """Settings that describe the body; SettingsError if it takes other inputs than the tasks have."""
    if body is None:
        return settings
    if isinstance(body, ModelSettings):
        return replace(settings, model=body)
    if stream is not None and body.input_shape != stream.input_shape:
        raise SettingsError(f"body: takes inputs {body.input_shape}, the tasks have {stream.input_shape}")
    return replace(settings, model=body.settings())


def _share(settings: Settings) -> float:
    return settings.stream.validation_share
