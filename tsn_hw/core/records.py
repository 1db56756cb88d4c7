"""What files say, read strictly: JSON and TOML as frozen dataclasses, or one line that names place, rule and value.

A field may be an int, float, str or bool, a Literal, a tuple of one length or of any, a dict, another dataclass, or one
of these or None; or Any, of which nothing is checked. ``Annotated[int, Bounds(0, 7)]`` limits a number, and so the
number of entries of a tuple. Keys that are unknown, missing or stand twice are errors.
"""

from __future__ import annotations

import json
import math
import operator
import tomllib
import types
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tsn_hw.core.errors import NetworkError, SettingsError, TsnError, brief, shown
from tsn_hw.core.files import StrPath, read_bytes

T = TypeVar("T")
Wrong = type[TsnError]


@dataclass(frozen=True)
class Bounds:
    """Least and largest value of a number, or number of entries of a tuple."""

    low: int
    high: int

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


INTEGER = Bounds(1 - 2**63, 2**63 - 1)
"""Every integer that is read, where nothing narrower is said."""


def read_toml(path: StrPath) -> dict[str, Any]:
    """The tables of a TOML file; FileError or SettingsError if it cannot be read."""
    try:
        return tomllib.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not a TOML file ({brief(str(error))})") from error


def read_json(path: StrPath, error: Wrong = SettingsError) -> Any:
    """The value of a JSON file; FileError, or an error of this kind, if it cannot be read."""
    return parse_json(read_bytes(path), str(path), error)


def parse_json(data: bytes | str, where: str, error: Wrong = SettingsError) -> Any:
    """The value of a JSON text: no key twice, no NaN, no number beyond 64 bits, no half of a surrogate pair.

    >>> parse_json('{"a": 1, "a": 2}', "x.json")
    Traceback (most recent call last):
    tsn_hw.core.errors.SettingsError: x.json: not JSON ('a' stands there twice)
    """
    try:
        text = (data if isinstance(data, str) else data.decode()).removeprefix("\ufeff")  # a byte order mark
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float
        )
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not JSON ({brief(str(problem))})") from problem
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different; plain JSON would keep the last of two."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise SettingsError(f"{shown(key)} stands there twice")
        values[key] = value
    return values


def _integer(digits: str) -> int:
    if len(digits) > 20 or int(digits) not in INTEGER:
        raise SettingsError(f"{brief(digits, 40)} is beyond 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise SettingsError(f"{brief(digits, 40)} is no finite number")
    return value


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


def build(kind: type[T], values: Any, where: str, error: Wrong = SettingsError) -> T:
    """An instance of a dataclass from plain values; every error names the key.

    >>> from tsn_hw.hardware.folding import Folding
    >>> build(Folding, {"pe": 4}, "folding.json: fc1")
    Folding(pe=4, simd=1)
    """
    if not isinstance(values, Mapping):
        raise error(f"{where}: must be a table, found {type(values).__name__}")
    hints, known = _hints(kind), _fields(kind)  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise error(f"{where}: unknown key {shown(key)}; known are {', '.join(known)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise error(f"{where}: has no {name!r}")
    arguments = {key: convert(hints[key], value, f"{where}: {key}", error) for key, value in values.items()}
    try:
        return kind(**arguments)
    except TsnError as problem:
        raise error(f"{where}: {problem}") from problem


def convert(kind: Any, value: Any, where: str, error: Wrong = SettingsError) -> Any:
    """A plain value as a value of a field of this type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        inner, bounds = arguments
        found = convert(inner, value, where, error)
        if isinstance(found, tuple) and len(found) not in bounds:
            raise error(f"{where}: {len(found)} entries, must be {bounds.low}..{bounds.high}")
        if isinstance(found, int | float) and found not in bounds:
            raise error(f"{where} = {shown(value)}: must be {bounds.low}..{bounds.high}")
        return found
    if is_dataclass(kind):
        return build(kind, value, where, error)  # type: ignore[arg-type]
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):  # True == 1 == 1.0
            raise error(f"{where} = {shown(value)}: must be one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, where, error)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise error(f"{where} = {shown(value)}: must be a table")
        return {key: convert(arguments[1], item, f"{where}.{brief(key, 40)}", error) for key, item in value.items()}
    if origin in (Union, types.UnionType):
        return value if value is None else convert(arguments[0], value, where, error)
    return _plain(kind, value, where, error)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str, error: Wrong) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise error(f"{where} = {shown(value)}: must be a list")
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise error(f"{where}: {len(value)} entries, must be {len(kinds)}")
    return tuple(
        convert(kind, item, f"{where}[{i}]", error) for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _plain(kind: Any, value: Any, where: str, error: Wrong) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and kind in (int, float) and value not in INTEGER:
        raise error(f"{where} = {shown(value)}: is beyond 64 bits")
    if kind is float and is_number:
        return float(value)
    if not isinstance(value, kind) or (kind is int and not is_number):
        raise error(f"{where} = {shown(value)}: must be {_NAMES.get(kind, kind.__name__)}")
    if kind is float and not math.isfinite(value):
        raise error(f"{where} = {shown(value)}: must be finite")
    if kind is str and "\0" in value:
        raise error(f"{where} = {shown(value)}: must not hold a null character")
    return value


def exact(record: Any, error: Wrong = NetworkError) -> None:
    """In a frozen dataclass that is being made: Python's integers for all that are equal to one, numpy's above all.

    Of every field that is an int or a bool, or a tuple of these. What is no integer is refused.
    """
    for name, kind in _hints(type(record)).items():  # type: ignore[arg-type]
        value = getattr(record, name)
        try:
            whole = _exact(kind, value)
        except TypeError as problem:
            where = f"{type(record).__name__} {getattr(record, 'name', '')}".strip()
            raise error(f"{where}: {name} = {shown(value)}: must be of whole numbers") from problem
        if whole is not value:
            object.__setattr__(record, name, whole)


def _exact(kind: Any, value: Any) -> Any:
    if kind is int:
        return value if type(value) is int else int(operator.index(value))
    if kind is bool:
        return value if type(value) is bool else bool(operator.index(value.item() if hasattr(value, "item") else value))
    if get_origin(kind) is tuple and get_args(kind)[0] is int:
        if type(value) is tuple and all(type(entry) is int for entry in value):
            return value
        return tuple(_exact(int, entry) for entry in value)
    return value


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _fields(kind: Hashable) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(kind)}  # type: ignore[arg-type]


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
