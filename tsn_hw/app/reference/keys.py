"""Every key of the files that a user writes: its type, its default, and the sentence that stands below its field."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from sim.cost import EnergyTable
from sim.devices import Capacities, Family
from tsn_hw.app.sweep.settings import SweepSettings
from tsn_hw.core.records import Bounds
from tsn_hw.learn.settings import Settings

NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Key:
    """One key of a table. ``default``: as TOML writes it; empty where the key is required or stands for nothing."""

    name: str
    kind: str
    default: str
    required: bool
    meaning: str


@dataclass(frozen=True)
class KeyTable:
    """A table of a file: its name, empty at the top, whether it is a list of tables, what it is, and its keys."""

    name: str
    repeated: bool
    about: str
    keys: tuple[Key, ...]

    @property
    def header(self) -> str:
        """As TOML writes it; empty at the top."""
        brackets = ("[[", "]]") if self.repeated else ("[", "]")
        return self.name.join(brackets) if self.name else ""


@dataclass(frozen=True)
class KeyFile:
    """A kind of file: a word for it, what reads it, and its tables."""

    title: str
    read_by: str
    tables: tuple[KeyTable, ...]


def key_files() -> tuple[KeyFile, ...]:
    """All TOML files that a user writes.

    >>> [(file.title, len(file.tables)) for file in key_files()]
    [('Settings of a run', 10), ('A sweep', 5), ('Parts', 2), ('Energies', 6)]
    """
    parts = (*_tables(Family, "family.NAME"), *_tables(Capacities, "device.NAME"))
    return (
        KeyFile("Settings of a run", "tsn-hw train, check and bench", tuple(_tables(Settings))),
        KeyFile("A sweep", "tsn-hw sweep", tuple(_tables(SweepSettings))),
        KeyFile("Parts", "--device-file", parts),
        KeyFile("Energies", "--energy", tuple(_tables(EnergyTable))),
    )


def meanings(kind: type) -> dict[str, str]:
    """The text below every field of a dataclass, in one line.

    >>> meanings(Settings)["seed"]
    'Of everything random; the same seed gives the same bytes.'
    """
    (described,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(described, ast.ClassDef)
    found = {}
    for statement, below in itertools.pairwise(described.body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _tables(kind: type, name: str = "", about: str = "", repeated: bool = False) -> Iterator[KeyTable]:
    """The table of a dataclass, then those of its fields that are tables themselves."""
    hints, told = get_type_hints(kind, include_extras=True), meanings(kind)
    keys: list[Key] = []
    below: list[KeyTable] = []
    for field in fields(kind):
        table = _table(hints[field.name])
        if table is None:
            default = _default(field)
            required = field.default is MISSING and field.default_factory is MISSING
            keys.append(Key(field.name, _kind(hints[field.name]), default, required, told[field.name]))
        else:
            inner = f"{name}.{field.name}" if name else field.name
            is_list = get_origin(hints[field.name]) is tuple
            below += _tables(table, inner, f"{told[field.name]} {_about(table)}", is_list)
    if keys:
        yield KeyTable(name, repeated, about or _about(kind), tuple(keys))
    yield from below


def _about(kind: type) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _table(hint: Any) -> type | None:
    """The dataclass that a field holds, one or many or none of; None if it holds anything else."""
    kinds = [hint, *get_args(hint)]
    return next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)


def _default(field: Field[Any]) -> str:
    """The default as TOML writes it; empty where there is none."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return "" if value is MISSING or value is None else json.dumps(value)


def _kind(hint: Any) -> str:
    """What a value of a type is, in words.

    >>> _kind(tuple[int, ...]), _kind(Annotated[float, Bounds(0, 7)]), _kind(Literal["a", "b"]), _kind(int | None)
    ('list of whole numbers', 'number, 0..7', 'one of "a", "b"', 'whole number')
    """
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        kind, bounds = arguments
        assert isinstance(bounds, Bounds)
        return f"{_kind(kind)}, {bounds.low}..{bounds.high}"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(json.dumps(choice) for choice in arguments)}"
    if get_origin(hint) is tuple:
        return f"list of {_many(arguments[0])}"
    if get_origin(hint) is dict:
        return f"table of {_many(arguments[1])} by name"
    return NAMES[hint] if hint in NAMES else _kind(arguments[0])


def _many(hint: Any) -> str:
    inner = _kind(hint)
    if inner.startswith("one of "):
        return inner.removeprefix("one of ")
    first, comma, rest = inner.partition(",")
    head, of, tail = first.partition(" of ")
    return f"{head}s{of}{tail}{comma}{rest}"


def commented_settings() -> str:
    """A settings file of a run with every key, its default, and what it means.

    >>> print(commented_settings().split("[prune]")[1].split("[quantize]")[0].splitlines()[2])
    iterations = 20
    """
    (run, *_) = key_files()
    lines = ["# Settings of a run: tsn-hw train FILE -o build/run. What is left out has the default that stands here."]
    for table in run.tables:
        if table.repeated and any(key.required for key in table.keys):
            continue  # a list that begins empty
        lines += ["", table.header] if table.header else [""]
        for key in table.keys:
            told = f"{key.meaning} ({key.kind})"
            lines += textwrap.wrap(told.replace("``", "`"), 118, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"{key.name} = {key.default}" if key.default else f"# {key.name} =")
    return "\n".join(lines) + "\n"
