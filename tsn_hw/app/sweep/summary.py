"""What a finished sweep found, as it is kept in ``sweep.json`` and read by the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tsn_hw.app.sweep.results import SHOWN_COLUMNS, Row, check_row
from tsn_hw.app.sweep.settings import Budget
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.records import Bounds, build, convert, read_json

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
