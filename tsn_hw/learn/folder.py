"""The folder of a run: what lies in it, whose it is, and what of it may be replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from tsn_hw.core.errors import TrainingError
from tsn_hw.learn.checkpoint import COMMITTED, Position, read_checkpoint
from tsn_hw.learn.checkpoint import FILE as CHECKPOINT
from tsn_hw.learn.settings import RETIRED, DataSettings, Formats, ModelSettings, Settings

SETTINGS = "settings.json"
STREAM = "stream.json"
DATA = "data/task_*.safetensors"
PRETRAINED = "pretrained.safetensors"
NETWORK = "net.tsn"
RECORDS = "training.json"
SNAPSHOTS = "tasks/after_*.tsn"
LATER = {"layers", "path", "pretrained", "start", "input_bits", "input_signed", "input_exponent"}
LATER |= {"normalize", "fill", "test_share"}
"""Keys that settings did not have when the first runs were made."""
FILES = (
    CHECKPOINT,
    COMMITTED,
    NETWORK,
    RECORDS,
    SETTINGS,
    SNAPSHOTS,
    "alone/task_*.tsn",
    "trained/task_*.safetensors",
    STREAM,
    DATA,
    PRETRAINED,
)


def snapshot_path(folder: Path, task: int) -> Path:
    """Where a run keeps the network as it stood after a task."""
    return folder / SNAPSHOTS.replace("*", f"{task:02d}")


def settings_to_json(settings: Settings) -> str:
    """Settings as they are kept in a run's folder."""
    return json.dumps(asdict(settings), indent=1) + "\n"


def settings_digest(settings: Settings) -> str:
    """SHA-256 of all settings but the places of files: the identity of a run."""
    values = asdict(settings)
    for data in values["data"]:
        del data["path"]  # a run may be moved together with its data
    if settings.model.kind == "layers":
        values["model"]["path"] = ""  # whose weights are known by their digest
    if not settings.route.enabled:
        values["route"] |= RETIRED  # a run that routes nothing is the same one
    older = ((values["formats"], Formats()), (values["model"], ModelSettings()))
    for table, default in (*older, *((data, DataSettings()) for data in values["data"])):
        for key in LATER & table.keys():  # unless it is used, an older run is the same one
            if table[key] == getattr(default, key):
                del table[key]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def digests(settings: Settings) -> list[str]:
    """Identities of the runs that may go on with these settings: their own, and those of streams that only grew.

    >>> from tsn_hw.learn.settings import StreamSettings
    >>> two, three = (Settings(stream=StreamSettings(tasks=tasks)) for tasks in (2, 3))
    >>> settings_digest(two) in digests(three), settings_digest(three) in digests(two)
    (True, False)
    """
    return [settings_digest(settings), *map(settings_digest, _shorter(settings))]


def _shorter(settings: Settings) -> Iterator[Settings]:
    stream = settings.stream
    if stream.kind == "permuted":
        for tasks in range(stream.tasks - 1, 0, -1):
            yield replace(settings, stream=replace(stream, tasks=tasks))
    elif stream.kind == "mixed":  # a task a data set; a split stream grows with its data, not with its settings
        for tasks in range(len(settings.data) - 1, 0, -1):
            yield replace(settings, data=settings.data[:tasks])


def open_run(folder: Path, settings: Settings, resume: bool) -> tuple[Position, dict[str, Tensor]] | None:
    """The checkpoint of a run of these settings that is to be resumed; None where no run is; all else is refused."""
    if (folder / CHECKPOINT).exists():
        if not resume:
            raise TrainingError(f"{folder} holds a run already: go on with --resume, or choose another folder")
        return read_checkpoint(folder, digests(settings))
    if (folder / NETWORK).exists() or any(folder.glob(SNAPSHOTS)):
        raise TrainingError(
            f"{folder} holds networks, but no {CHECKPOINT} to go on from: choose another folder, or delete it"
        )
    return None


def discard(folder: Path, partial: bool) -> None:
    """Remove what a run wrote into a folder, or only what a kill left of it: ``partial`` files, never renamed."""
    for pattern in FILES:
        place, _, name = pattern.rpartition("/")
        for path in (folder / place).glob(f".{name}.new" if partial else name):  # as write_atomically names them
            path.unlink()
