"""Pictures of a sweep: accuracy against what it costs, with the front, the budget and the chosen point."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from tsn_hw.app.sweep.pareto import ACCURACY, DEVICE, OPERATIONS, SIZE, Objective, front
from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.settings import Budget

GREY, RED = "#555555", "#D55E00"
MARKS = {4: ("#0072B2", "o"), 8: ("#E69F00", "s"), 16: ("#009E73", "^")}
"""Colour (of Okabe and Ito's palette) and shape by activation bits."""


def pictures(rows: Sequence[Row], chosen: int | None, float_percent: float, budget: Budget) -> dict[str, bytes]:
    """File name -> content, PNG and SVG, of accuracy against every cost. Same rows, same bytes."""
    return {
        f"pareto_{cost.name}.{form}": _picture(shown, cost, chosen, float_percent, budget, form)
        for cost in (SIZE, OPERATIONS, DEVICE)
        if (shown := {i: row for i, row in enumerate(rows) if row.get(cost.column) is not None})
        for form in ("png", "svg")
    }


def limit_of(cost: Objective, budget: Budget) -> float | None:
    """What a budget allows of a cost."""
    part = budget.part
    limits = {SIZE: budget.total_percent, DEVICE: None if part is None else part.limit_percent}
    return limits.get(cost)


def _picture(
    rows: Mapping[int, Row], cost: Objective, chosen: int | None, float_percent: float, budget: Budget, form: str
) -> bytes:
    """One picture of rows by their numbers."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "tsn-hw", "font.size": 10}):
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(float_percent, color=GREY, linestyle=":", label=f"float weights, {float_percent:.2f} %")
        if budget.accuracy_drop is not None:
            axes.axhline(float_percent - budget.accuracy_drop, color=RED, linestyle="--", linewidth=1, label="budget")
        limit = limit_of(cost, budget)
        if limit is not None:
            axes.axvline(limit, color=RED, linestyle="--", linewidth=1, label=f"at most {limit:g} %")
        _draw_points(axes, rows, cost)
        if chosen is not None and chosen in rows:
            (star,) = axes.plot(*_places([rows[chosen]], cost), "*", color=RED, label=f"chosen: point {chosen}")
            star.set(markersize=16, markeredgecolor="black")
        axes.set_xlabel(cost.label)
        axes.set_ylabel(ACCURACY.label)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
        file = io.BytesIO()
        no_date = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
        figure.savefig(file, format=form, dpi=130, metadata=no_date)
        return file.getvalue()


def _draw_points(axes: Any, rows: Mapping[int, Row], cost: Objective) -> None:
    """All points, and the line of those that none betters in accuracy and this cost, with their code bits."""
    shown = list(rows.values())
    best = sorted((shown[i] for i in front(shown, (ACCURACY, cost))), key=lambda row: float(row[cost.column]))
    axes.step(*_places(best, cost), where="post", color=GREY, linewidth=1, label="no point is better")
    for bits, (color, marker) in MARKS.items():
        of_width = [row for row in shown if row["activation_bits"] == bits]
        if of_width:
            places = _places(of_width, cost)
            axes.plot(*places, marker, color=color, markersize=6, alpha=0.8, label=f"{bits}-bit activations")
    for row in best:
        place = row[cost.column], row[ACCURACY.column]
        axes.annotate(widths(row), place, xytext=(4, 5), textcoords="offset points", fontsize=8)


def widths(row: Row) -> str:
    """Code bits of the body's layers, once where they are equal.

    >>> widths({"bits.fc1": 3, "bits.fc2": 3, "bits.head": 5}), widths({"bits.fc1": 3, "bits.fc2": 4, "bits.head": 5})
    ('3', '3-4')
    """
    bits = [str(value) for name, value in row.items() if name.startswith("bits.") and name != "bits.head"]
    return bits[0] if len(set(bits)) == 1 else "-".join(bits)


def _places(rows: Sequence[Row], cost: Objective) -> tuple[list[float], list[float]]:
    return [row[cost.column] for row in rows], [row[ACCURACY.column] for row in rows]
