"""What a finished sweep found, as it is kept in ``sweep.json`` and read by the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.settings import Budget
from tsn_hw.records import build, read_json

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
    float_percent: float
    front: tuple[int, ...]
    budget: Budget
    chosen: int | None


def read_sweep_summary(folder: Path) -> Sweep:
    """The sweep of a folder; FileError or SettingsError if there is none."""
    path = folder / SUMMARY
    return build(Sweep, read_json(path), str(path))
