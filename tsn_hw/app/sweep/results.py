"""Results of a sweep: one JSON line a point, appended as it comes, and tables made of them.

Only one process appends, which its caller sees to. A line counts when its newline is there: what a kill left of the
last one is cut off, and its point is evaluated again.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tsn_hw.errors import EngineError, FileError

Row = dict[str, Any]


@dataclass
class Results:
    """Rows that are on disk, by the identity of their point (:func:`identity`)."""

    file: BinaryIO
    rows: dict[str, Row]

    def append(self, point: str, row: Row) -> None:
        """Add the row of a point; it is on disk when this returns."""
        self.file.write(f'{{"point": {point}, "result": {json.dumps(row)}}}\n'.encode())
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
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            entry = json.loads(line)
            rows[identity(entry["point"])] = dict(entry["result"])
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{path}, line {number}: damaged; delete the line, and its point is done again") from error
    return rows


def to_csv(rows: Sequence[Row]) -> bytes:
    """A table of rows that have the same columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def require_pyarrow() -> None:
    """EngineError if pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise EngineError("--parquet needs pyarrow: pip install 'tsn-hw[sweep]'")


def to_parquet(rows: Sequence[Row]) -> bytes:
    """The same table as a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()
