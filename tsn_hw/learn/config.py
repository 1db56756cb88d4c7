"""Settings files: TOML tables into the frozen settings of a run. Unknown keys and wrong types are errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import StrPath
from tsn_hw.core.records import build, read_json, read_toml
from tsn_hw.learn.bodies import read_onnx
from tsn_hw.learn.data.dataset import DataSet
from tsn_hw.learn.data.images import load_data
from tsn_hw.learn.data.own import Preparation
from tsn_hw.learn.data.tasks import TaskStream, mixed, permuted, split
from tsn_hw.learn.settings import RETIRED, DataSettings, Settings


def read_settings(path: StrPath) -> Settings:
    """Read a TOML settings file; relative data paths start at its folder.

    Raises FileError if it cannot be read, SettingsError for what it may not say: place, rule and value.
    """
    path = Path(path)
    values = read_toml(path)
    if isinstance(values.get("data"), dict):  # one data set may be written as a plain table
        values["data"] = [values["data"]]
    settings = build(Settings, values, str(path))
    data = tuple(replace(d, path=str((path.parent / d.path).resolve()) if d.path else "") for d in settings.data)
    return replace(settings, data=data, model=read_onnx(settings.model, path.parent))


def settings_from_json(path: Path) -> Settings:
    """Read the settings that a run's folder keeps; keys of routing that older runs had have no say any more."""
    values = read_json(path)
    if isinstance(values, dict) and isinstance(values.get("route"), dict):
        values["route"] = {key: value for key, value in values["route"].items() if key not in RETIRED}
    return build(Settings, values, str(path))


def stream_of(settings: Settings) -> TaskStream:
    """Load the data of a run and deal it out to tasks.

    Raises SettingsError for settings that contradict one another, DataError for files that are not what they should be.

    >>> stream = stream_of(Settings())
    >>> len(stream), stream.input_shape, stream.task(0).x_train.dtype
    (5, (1, 8, 8), dtype('uint8'))
    """
    return replace(_dealt(settings, [_load(data) for data in settings.data]), stored=True)


def _dealt(settings: Settings, sets: list[DataSet]) -> TaskStream:
    stream, shared = settings.stream, {"seed": settings.seed, "valid_share": settings.stream.validation_share}
    if stream.kind == "mixed":
        return mixed(sets, side=stream.side, channels=stream.channels, **shared)  # type: ignore[arg-type]
    if len(sets) != 1:
        raise SettingsError(f"stream.kind = {stream.kind!r}: needs exactly one data set, found {len(sets)}")
    if stream.kind == "split":
        return split(sets[0], stream.classes_per_task, **shared)  # type: ignore[arg-type]
    return permuted(sets[0], stream.tasks, natural_first=stream.natural_first, **shared)  # type: ignore[arg-type]


def _load(data: DataSettings) -> DataSet:
    path = Path(data.path) if data.path else None
    preparation = Preparation(data.normalize, data.fill, data.test_share)
    sizes = {"side": data.side or None, "limit": data.limit or None}
    return load_data(data.source, path, name=data.name or None, preparation=preparation, **sizes)
