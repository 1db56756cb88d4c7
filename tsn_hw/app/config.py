"""Settings files: TOML tables into the frozen settings of a run. Unknown keys and wrong types are errors."""

from __future__ import annotations

import json
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tsn_hw.errors import SettingsError
from tsn_hw.files import read_bytes
from tsn_hw.learn.data import DataSet, load_data
from tsn_hw.learn.settings import DataSettings, Settings
from tsn_hw.learn.tasks import Stream, mixed, permuted, split

T = TypeVar("T")


def read_settings(path: Path) -> Settings:
    """Read a TOML settings file; relative data paths start at its folder."""
    try:
        values = tomllib.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not a TOML file ({error})") from error
    if isinstance(values.get("data"), dict):  # one data set may be written as a plain table
        values["data"] = [values["data"]]
    settings = build(Settings, values, str(path))
    data = tuple(replace(d, path=str((path.parent / d.path).resolve()) if d.path else "") for d in settings.data)
    return replace(settings, data=data)


def settings_to_json(settings: Settings) -> str:
    """Settings as they are kept in a run's folder."""
    return json.dumps(asdict(settings), indent=1) + "\n"


def settings_from_json(path: Path) -> Settings:
    """Read the settings that a run's folder keeps."""
    try:
        values = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not JSON ({error})") from error
    return build(Settings, values, str(path))


def stream_of(settings: Settings) -> Stream:
    """Load the data and deal it out to tasks."""
    sets = [_load(data) for data in settings.data]
    stream, shared = settings.stream, {"seed": settings.seed, "valid_share": settings.stream.validation_share}
    if stream.kind == "mixed":
        return mixed(sets, side=stream.side, channels=stream.channels, **shared)  # type: ignore[arg-type]
    if len(sets) != 1:
        raise SettingsError(f"stream.kind = {stream.kind!r}: needs exactly one data set, found {len(sets)}")
    if stream.kind == "split":
        return split(sets[0], stream.classes_per_task, **shared)  # type: ignore[arg-type]
    return permuted(sets[0], stream.tasks, **shared)  # type: ignore[arg-type]


def _load(data: DataSettings) -> DataSet:
    path = Path(data.path) if data.path else None
    return load_data(data.source, path, name=data.name or None, side=data.side or None, limit=data.limit or None)


def build(kind: type[T], values: Any, where: str) -> T:
    """An instance of a settings dataclass from plain values; every error names the key."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: must be a table, found {type(values).__name__}")
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise SettingsError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
    arguments = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return kind(**arguments)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):  # True == 1 == 1.0
            raise SettingsError(f"{where} = {value!r}: must be one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{where} = {value!r}: must be a list")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where} = {value!r}: must be a table")
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin in (Union, types.UnionType):
        return value if value is None else _convert(arguments[0], value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SettingsError(f"{where} = {value!r}: must be {_NAMES.get(kind, kind.__name__)}")
    if kind is float and not math.isfinite(value):
        raise SettingsError(f"{where} = {value!r}: must be finite")
    if kind is str and "\0" in value:
        raise SettingsError(f"{where} = {value!r}: must not hold a null character")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
