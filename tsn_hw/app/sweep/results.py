"""Results of a sweep: one JSON line a point, appended as it comes, tables made of them, and the finished sweep.

Every line ends in the SHA-256 of what it says, so that a changed digit does not become a figure in a table. Only one
process appends, which its caller sees to. A line counts when its newline is there: what a kill left of the last one is
cut off, and its point is evaluated again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from tsn_hw.app.sweep.settings import Budget
from tsn_hw.core.errors import FileError, SettingsError, shown
from tsn_hw.core.records import Bounds, build, convert, parse_json, read_json

Row = dict[str, Any]


@dataclass
class Results:
    """Rows that are on disk, by the identity of their point (:func:`identity`)."""

    file: BinaryIO
    rows: dict[str, Row]

    def append(self, point: str, row: Row) -> None:
        """Add the row of a point; it is on disk when this returns."""
        self.file.write(line_of(point, row))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.rows[point] = row


def identity(values: Mapping[str, Any]) -> str:
    """Everything that the row of a point depends on, as one text.

    >>> identity({"bits": 2, "act": None})
    '{"act": null, "bits": 2}'
    """
    return json.dumps(values, sort_keys=True)


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """Open, or begin, a file of results for appending; FileError if it is damaged."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    with file:
        file.seek(0)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        file.truncate(whole)
        yield Results(file, rows_of(path, data[:whole]))


def rows_of(path: Path, data: bytes) -> dict[str, Row]:
    """The rows in the content of a file of results, by the identity of their point; FileError names a damaged line."""
    rows = {}
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        where = f"{path}, line {number}"
        try:
            entry = build(_Line, parse_json(line, where), where)
            point = identity(entry.point)
            if line_of(point, entry.result) != line:
                raise SettingsError(f"{where}: its SHA-256 does not match")
        except SettingsError as error:
            raise FileError(f"{where}: damaged; delete the line, and its point is done again") from error
        rows[point] = entry.result
    return rows


@dataclass(frozen=True)
class _Line:
    point: Row
    result: Row
    sha256: str


def line_of(point: str, row: Row) -> bytes:
    """The line of a point, given by its identity, and its row."""
    said = f'"point": {point}, "result": {json.dumps(row)}'
    return f'{{{said}, "sha256": "{hashlib.sha256(said.encode()).hexdigest()}"}}\n'.encode()


ACCURACY_COLUMN: dict[str, Any] = {"accuracy_percent": Annotated[float, Bounds(0, 100)]}
"""All that there is of float weights."""
COLUMNS = ACCURACY_COLUMN | {
    "total_percent": Annotated[float, Bounds(0, 10**12)],
    "bops": Annotated[float, Bounds(0, 10**18)],
    "used_weights": Annotated[int, Bounds(0, 2**62)],
    "sha256": str,
}
SHOWN_COLUMNS = COLUMNS | {"point": int, "activation_bits": Annotated[int, Bounds(1, 64)]}
_DIGEST = re.compile("[0-9a-f]{64}")


def check_row(row: Row, where: str, columns: Mapping[str, Any] = COLUMNS) -> None:
    """Refuse a row that lacks what tables and pictures are made of; SettingsError names the column."""
    for name, kind in columns.items():
        if name not in row:
            raise SettingsError(f"{where}: has no {name!r}")
        convert(kind, row[name], f"{where}: {name}")
    if row.get("device_percent") is not None:
        convert(Annotated[float, Bounds(0, 10**12)], row["device_percent"], f"{where}: device_percent")
    if "sha256" in columns and not _DIGEST.fullmatch(row["sha256"]):  # the name of its network's file
        raise SettingsError(f"{where}: sha256 = {shown(row['sha256'])}: must be 64 hexadecimal digits")


def widths(row: Row) -> str:
    """Code bits of the body's layers, once where they are equal.

    >>> widths({"bits.fc1": 3, "bits.fc2": 3, "bits.head": 5}), widths({"bits.fc1": 3, "bits.fc2": 4, "bits.head": 5})
    ('3', '3-4')
    """
    bits = [str(value) for name, value in row.items() if name.startswith("bits.") and name != "bits.head"]
    return bits[0] if len(set(bits)) == 1 else "-".join(bits)


def network_name(row: Row) -> str:
    """Name of the file of a row's network."""
    return f"{row['sha256'][:16]}.tsn"


def to_csv(rows: Sequence[Row]) -> bytes:
    """A table of rows that have the same columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def to_parquet(rows: Sequence[Row]) -> bytes:
    """The same table as a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------ finished sweeps


SUMMARY = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: a row a point, knobs first, in the order of their numbers.

    runs:          digests of the runs that the points were made of
    float_percent: mean test accuracy of the float weights, of the best of the runs
    front:         numbers of the points that no other betters
    chosen:        number of the smallest network within the budget; None without a budget, or if there is none
    """

    rows: tuple[Row, ...]
    runs: tuple[str, ...]
    float_percent: Annotated[float, Bounds(0, 100)]
    front: tuple[int, ...]
    budget: Budget
    chosen: int | None


def read_sweep_summary(folder: Path) -> Sweep:
    """The sweep of a folder; FileError or SettingsError if there is none."""
    path = folder / SUMMARY
    found = build(Sweep, read_json(path), str(path))
    for number, row in enumerate(found.rows):
        where = f"{path}: rows[{number}]"
        check_row(row, where, SHOWN_COLUMNS)
        bits = {name: value for name, value in row.items() if name.startswith("bits.")}
        if set(bits) <= {"bits.head"}:
            raise SettingsError(f"{where}: has no 'bits.' of a layer")
        for name, value in bits.items():
            convert(int, value, f"{where}: {name}")
    for number in (*found.front, *(() if found.chosen is None else (found.chosen,))):
        if not 0 <= number < len(found.rows):
            raise SettingsError(f"{path}: names point {number}, and has {len(found.rows)}")
    if not found.rows:
        raise SettingsError(f"{path}: has no rows")
    return found
