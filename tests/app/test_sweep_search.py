"""Searches ask for the same points every time, find better ones than chance, and look up what was evaluated."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.sweeping import HERE, sweep_file, sweep_into
from tsn_hw.app.sweep.points import Point, Space
from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.run import run_sweep
from tsn_hw.app.sweep.search import GENERATION, search
from tsn_hw.app.sweep.settings import Search

pytest.importorskip("optuna")

LAYERS = ("fc1", "fc2", "fc3", "head")
KNOBS: dict[str, Sequence[Any]] = {
    "keep_ratio": (0.4,),
    "prune_iterations": (0,),
    "prune_drop": (0.0,),
    "qat_epochs": (0,),
    "centroid_bits": (4, 5, 6, 7, 8),
    **{f"layers.{name}": range(1, 9) for name in LAYERS},
    "activation_bits": (4, 8, 16),
}
SPACE = Space(LAYERS, KNOBS)
"""61,440 points."""


def pretended(points: Sequence[Point]) -> list[Row]:
    """Accuracy that every layer limits by itself, and costs that grow with all widths."""
    rows = []
    for point in points:
        bits, act = point.variant.code_bits, point.variant.act_bits or 8
        accuracy = 99 - sum(2.0 ** (needed - width) for needed, width in zip((3, 2, 4, 5), bits, strict=True)) - 8 / act
        rows.append({"accuracy_percent": accuracy, "total_percent": float(sum(bits)), "bops": float(act * sum(bits))})
    return rows


def no_limit(_: Row) -> dict[str, float]:
    return {}


def test_the_same_search_asks_for_the_same_points_and_another_seed_for_others() -> None:
    first = search(SPACE, Search(points=30, seed=1), pretended, no_limit)
    assert search(SPACE, Search(points=30, seed=1), pretended, no_limit) == first
    assert search(SPACE, Search(points=30, seed=2), pretended, no_limit) != first
    assert len(set(first)) == len(first) <= 30
    assert search(SPACE, Search(points=10, seed=1), pretended, no_limit)[:GENERATION] == first[:GENERATION]


def test_points_of_a_generation_are_evaluated_together() -> None:
    asked: list[int] = []

    def evaluate(points: Sequence[Point]) -> list[Row]:
        asked.append(len(points))
        return pretended(points)

    search(SPACE, Search(points=20), evaluate, no_limit)
    assert asked == [GENERATION, GENERATION, 20 - 2 * GENERATION]


def test_a_search_learns_from_what_it_has_seen() -> None:
    """Of the points asked for last, far more keep a narrow budget than of points by chance."""

    def beyond_limits(row: Row) -> dict[str, float]:
        fits = row["bops"] < 300  # what cannot be told is infinitely far
        return {
            "accuracy": 94.0 - row["accuracy_percent"],
            "size": row["total_percent"] - 19 if fits else math.inf,
        }

    def within(points: Sequence[Point]) -> float:
        kept = [max(beyond_limits(row).values()) <= 0 for row in pretended(points)]
        return sum(kept) / len(kept)

    rng = np.random.default_rng(0)
    chance = [SPACE.point({name: rng.choice(values) for name, values in KNOBS.items()}) for _ in range(2000)]
    asked = search(SPACE, Search(points=120, seed=0), pretended, beyond_limits)
    assert 0 < within(chance) < 0.1
    assert within(asked[-40:]) > 0.5


def test_a_search_of_a_run_resumes_without_evaluating_anything_again(tmp_path: Path) -> None:
    values = """
[values]
layers.fc1 = [1, 2, 3, 4, 5, 6, 7, 8]
layers.head = [1, 2, 3, 4, 5, 6, 7, 8]
activation_bits = [4, 8, 16]
[search]
points = 12
seed = 3
[budget]
total_percent = 90
"""
    sweep = sweep_into(tmp_path, values)
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len(lines) == 1 + len(sweep.rows)
    assert 8 < len(sweep.rows) <= 12
    assert sweep.chosen is not None
    (tmp_path / "out" / "results.jsonl").write_text("".join(f"{line}\n" for line in lines[:6]))
    calls: list[int] = []

    def counting(function: Any, arguments: Any) -> Any:
        calls.extend(len(call[1]) for call in arguments if len(call) > 1)
        return HERE(function, arguments)

    again = run_sweep(sweep_file(tmp_path, values), tmp_path / "out", counting)
    assert again == sweep
    assert sum(calls) == len(sweep.rows) - 5
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["chosen"] == sweep.chosen
