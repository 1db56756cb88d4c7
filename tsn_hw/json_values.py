"""Values of parsed JSON, each of its type and range, or an ArtifactError that says where."""

from __future__ import annotations

from typing import Any

from tsn_hw.errors import ArtifactError

MAX_PARTS = 4096
"""Most entries of a list that are read, where nothing else is said."""
_LARGEST = 2**63 - 1


def read_object(value: object, where: str, keys: set[str]) -> dict[str, Any]:
    """An object that has exactly these keys."""
    if not isinstance(value, dict):
        raise ArtifactError(f"{where}: must be an object, is {shown(value)}")
    for what, names in (("missing", keys - value.keys()), ("unknown", value.keys() - keys)):
        if names:
            raise ArtifactError(f"{where}: {what} key {shown(min(names))}")
    return value


def read_list(value: object, where: str, count: int | None = None, most: int = MAX_PARTS) -> list[Any]:
    """A list, of so many entries if a count is given."""
    if not isinstance(value, list):
        raise ArtifactError(f"{where}: must be a list, is {shown(value)}")
    if count is not None and len(value) != count:
        raise ArtifactError(f"{where}: {len(value)} entries, must be {count}")
    if len(value) > most:
        raise ArtifactError(f"{where}: {len(value)} entries, at most {most} are read")
    return value


def read_integers(value: object, where: str, count: int | None = None) -> list[int]:
    """A list of integers."""
    return [read_integer(entry, where) for entry in read_list(value, where, count)]


def read_integer(value: object, where: str, low: int = -_LARGEST, high: int = _LARGEST) -> int:
    """An integer within a range; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArtifactError(f"{where}: must be an integer, is {shown(value)}")
    if not low <= value <= high:
        raise ArtifactError(f"{where}: {shown(value)}, must be {low}..{high}")
    return value


def read_string(value: object, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ArtifactError(f"{where}: must be a string, is {shown(value)}")
    return value


def shown(value: object) -> str:
    """A value as it is shown in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
