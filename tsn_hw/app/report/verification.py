"""What ``tsn-hw verify`` wrote beside a network, read back as strictly as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tsn_hw.core.errors import SettingsError
from tsn_hw.core.records import Bounds, build, read_json

Count = Annotated[int, Bounds(0, 2**62)]


@dataclass(frozen=True)
class Compared:
    """A layer: integers that were compared, those that differ, and the first of them."""

    outputs: Count
    mismatches: Count
    first: str | None = None


@dataclass(frozen=True)
class ComparedTask:
    """A task on an engine."""

    digest: str
    layers: dict[str, Compared]


@dataclass(frozen=True)
class ComparedEngine:
    """An engine, or why it is absent."""

    absent: str | None = None
    tool: str | None = None
    cycles: dict[str, int] = field(default_factory=dict)
    mismatches: Count = 0
    inputs: Count = 0
    tasks: dict[str, ComparedTask] = field(default_factory=dict)


@dataclass(frozen=True)
class Verified:
    """The content of ``verify.json``."""

    passed: bool
    network: str
    mismatches: Count
    first_difference: str | None
    broken_seals: tuple[str, ...]
    changed_snapshots: tuple[str, ...]
    inputs: dict[str, int]
    engines: dict[str, ComparedEngine]
    metrics: Any = None


def read_verification(path: Path, network: bytes, tasks: Sequence[str]) -> Verified | str:
    """What was found of this very network, or why there is nothing; SettingsError where the file is damaged."""
    how = f"tsn-hw verify net.tsn -o {path.name}"
    if not path.is_file():
        return f"there is no {path.name} beside the network; {how} makes it"
    values = read_json(path)
    if isinstance(values, dict) and values.get("network") != hashlib.sha256(network).hexdigest():
        return f"the {path.name} beside the network is of another one; {how} makes it anew"
    found = build(Verified, values, str(path))
    for name, engine in found.engines.items():
        missing = [task for task in tasks if engine.absent is None and task not in engine.tasks]
        if missing:
            raise SettingsError(f"{path}: engines.{name}: has no task {missing[0]!r}; {how} makes it anew")
    return found
