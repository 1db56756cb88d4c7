"""Frozen dataclasses from the plain values of TOML and JSON files: unknown keys, missing keys, wrong types are errors.

A field may be an int, float, str or bool, a Literal, a tuple of any length, a dict, another dataclass, or one of these
or None; or Any, of which nothing is checked.
"""

from __future__ import annotations

import json
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tsn_hw.errors import SettingsError
from tsn_hw.files import read_bytes

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; FileError or SettingsError if it cannot be read."""
    try:
        return tomllib.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not a TOML file ({error})") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file; FileError or SettingsError if it cannot be read."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not JSON ({error})") from error


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key; anything else in ``above`` replaces what is below.

    >>> merged({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}})
    {'a': {'x': 1, 'y': 4}, 'b': 3}
    """
    both = dict(below)
    for key, value in above.items():
        old = below.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def build(kind: type[T], values: Any, where: str) -> T:
    """An instance of a dataclass from plain values; every error names the key.

    >>> from tsn_hw.folding import Folding
    >>> build(Folding, {"pe": 4}, "folding.json: fc1")
    Folding(pe=4, simd=1)
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: must be a table, found {type(values).__name__}")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise SettingsError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise SettingsError(f"{where}: has no {name!r}")
    arguments = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return kind(**arguments)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
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
