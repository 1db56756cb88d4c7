"""What ``tsn-hw verify`` finds and keeps in ``verify.json``, which is read back as strictly as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tsn_hw.app.output import Block, Cell, Note, Table, Value
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.records import Bounds, build, read_json

Count = Annotated[int, Bounds(0, 2**62)]
REFERENCE = "int64 loop"
MOST_COLUMNS = 10
"""Most tasks that a table has a column for; more are told together."""


@dataclass(frozen=True)
class LayerResult:
    """How one layer of one task compared: outputs seen, outputs that differ, and the first of them."""

    outputs: Count
    mismatches: Count = 0
    first: str | None = None


@dataclass(frozen=True)
class TaskResult:
    """A task on an engine: SHA-256 of all integers that it gave, and how its layers compared."""

    digest: str
    layers: dict[str, LayerResult]

    @property
    def mismatches(self) -> int:
        """Outputs of all layers that differ."""
        return sum(layer.mismatches for layer in self.layers.values())


@dataclass
class EngineResult:
    """One engine: why it is absent, or the most inputs that a task saw, and what it gave for every task.

    Of simulated hardware also the simulator, and the cycles of every task.
    """

    absent: str | None = None
    tool: str | None = None
    cycles: dict[str, int] = field(default_factory=dict)
    mismatches: Count = 0
    inputs: Count = 0
    tasks: dict[str, TaskResult] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without what does not apply."""
        values = {"absent": self.absent} if self.absent is not None else asdict(self)
        return {name: value for name, value in values.items() if value is not None and value != {}}


@dataclass(frozen=True)
class Verification:
    """The content of ``verify.json``; ``network`` is the SHA-256 of the file that it is about.

    passed: no integer differs, and every task reads what it read when it was learned.
    """

    passed: bool
    network: str
    mismatches: Count
    first_difference: str | None
    broken_seals: tuple[str, ...]
    changed_snapshots: tuple[str, ...]
    inputs: dict[str, int]
    engines: dict[str, EngineResult]
    metrics: Any = None

    @classmethod
    def of(
        cls,
        network: str,
        engines: dict[str, EngineResult],
        broken_seals: Sequence[str],
        changed_snapshots: Sequence[str],
        inputs: dict[str, int],
    ) -> Verification:
        """What follows from the results of all engines, and from seals and snapshots."""
        mismatches = sum(engine.mismatches for engine in engines.values())
        broken, changed = tuple(broken_seals), tuple(changed_snapshots)
        passed = not (mismatches or broken or changed)
        return cls(passed, network, mismatches, next(_differences(engines), None), broken, changed, inputs, engines)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        engines = {"engines": {name: engine.to_json() for name, engine in self.engines.items()}}
        return {name: value for name, value in (vars(self) | engines).items() if name != "metrics" or value is not None}


def _differences(engines: Mapping[str, EngineResult]) -> Iterator[str]:
    """Engine, task, layer and place of the first difference of every layer that has one."""
    for engine, result in engines.items():
        for task, found in result.tasks.items():
            for name, layer in found.layers.items():
                if layer.first is not None:
                    yield f"{engine}, task {task!r}, layer {name!r}: {layer.first}"


def read_verification(path: Path, network: bytes, tasks: Sequence[str]) -> Verification | str:
    """What was found of this very network, or why there is nothing; SettingsError where the file is damaged."""
    how = f"tsn-hw verify net.tsn -o {path.name}"
    if not path.is_file():
        return f"there is no {path.name} beside the network; {how} makes it"
    values = read_json(path)
    if isinstance(values, dict) and values.get("network") != hashlib.sha256(network).hexdigest():
        return f"the {path.name} beside the network is of another one; {how} makes it anew"
    found = build(Verification, values, str(path))
    for name, engine in found.engines.items():
        missing = [task for task in tasks if engine.absent is None and task not in engine.tasks]
        if missing:
            raise SettingsError(f"{path}: engines.{name}: has no task {missing[0]!r}; {how} makes it anew")
    return found


def verification_blocks(found: Verification, tasks: Sequence[str]) -> list[Block]:
    """Every engine with what differs, task by task where they fit a line, and everything that is wrong."""
    groups = [[task] for task in tasks] if len(tasks) <= MOST_COLUMNS else [list(tasks)]
    rows: list[list[Value | Cell]] = []
    told = []
    for name, engine in found.engines.items():
        if engine.absent is not None:
            rows.append([name, None, *[""] * len(groups), Cell(engine.absent, state="absent")])
            continue
        cells = [_compared([engine.tasks[task] for task in group], name == REFERENCE) for group in groups]
        rows.append([name, engine.inputs, *cells, f"{engine.mismatches:,}"])
        if engine.tool is not None:
            told.append(f"{name}: {engine.tool}; cycles of all inputs of a task: {_cycles(engine.cycles)}")
        wrong = [task for task in tasks if engine.tasks[task].mismatches] if len(groups) < len(tasks) else []
        told += [f"{name} differs in {_listed(wrong)}"] if wrong else []
    told += [f"FIRST DIFFERENCE: {found.first_difference}"] if found.first_difference else []
    told += [f"BROKEN SEAL: task {name!r}" for name in found.broken_seals]
    told += [f"CHANGED: {text}" for text in found.changed_snapshots]
    columns = list(tasks) if len(groups) == len(tasks) else [f"all {len(tasks)} tasks"]
    header = ["engine", "inputs a task", *columns, "differences"]
    table = Table.of_rows(header, rows, f"Integers that differ from the {REFERENCE}")
    return [table, Note("\n".join(told))] if told else [table]


def _cycles(of: Mapping[str, int]) -> str:
    if len(of) <= MOST_COLUMNS:
        return ", ".join(map(str, of.values()))
    return f"{min(of.values())} to {max(of.values())}"


def _listed(tasks: Sequence[str]) -> str:
    more = len(tasks) - MOST_COLUMNS
    return ", ".join(tasks[:MOST_COLUMNS]) + (f" and {more} tasks more" if more > 0 else "")


def _compared(results: Sequence[TaskResult], is_reference: bool) -> Cell:
    outputs = sum(layer.outputs for result in results for layer in result.layers.values())
    if is_reference:
        return Cell(f"{outputs:,} integers")
    mismatches = sum(result.mismatches for result in results)
    return Cell(f"{mismatches:,} of {outputs:,}", state="bad" if mismatches else "good")
