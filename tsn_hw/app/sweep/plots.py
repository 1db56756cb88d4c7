"""Pictures of a sweep: accuracy against what it costs, with the front, the float weights and the chosen point."""

from __future__ import annotations

import io
from collections.abc import Sequence

from tsn_hw.app.sweep.pareto import ACCURACY, OBJECTIVES, Objective, front
from tsn_hw.app.sweep.results import Row

MARKS = {4: ("#0072B2", "o"), 8: ("#E69F00", "s"), 16: ("#009E73", "^")}
"""Colour (of Okabe and Ito's palette) and shape by activation bits."""


def pictures(rows: Sequence[Row], chosen: int | None, float_percent: float) -> dict[str, bytes]:
    """File name -> content, PNG and SVG, of accuracy against every other objective. Same rows, same bytes."""
    files = {}
    for cost in OBJECTIVES:
        if cost is not ACCURACY:
            for form in ("png", "svg"):
                files[f"pareto_{cost.name}.{form}"] = _picture(rows, cost, chosen, float_percent, form)
    return files


def _picture(rows: Sequence[Row], cost: Objective, chosen: int | None, float_percent: float, form: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "tsn-hw", "font.size": 10}):
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(float_percent, color="#555555", linestyle=":", label=f"float weights, {float_percent:.2f} %")
        best = sorted(front(rows, (ACCURACY, cost)), key=lambda number: rows[number][cost.column])
        axes.step(*_places(rows, best, cost), where="post", color="#555555", linewidth=1, label="no point is better")
        for bits, (color, marker) in MARKS.items():
            shown = [number for number, row in enumerate(rows) if row["activation_bits"] == bits]
            if shown:
                label = f"{bits}-bit activations"
                axes.plot(*_places(rows, shown, cost), marker, color=color, markersize=6, alpha=0.8, label=label)
        for number in best:
            x, y = rows[number][cost.column], rows[number][ACCURACY.column]
            axes.annotate(widths(rows[number]), (x, y), xytext=(4, 5), textcoords="offset points", fontsize=8)
        if chosen is not None:
            (star,) = axes.plot(*_places(rows, [chosen], cost), "*", color="#D55E00", label=f"chosen: point {chosen}")
            star.set(markersize=16, markeredgecolor="black")
        axes.set_xlabel(cost.label)
        axes.set_ylabel(ACCURACY.label)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
        file = io.BytesIO()
        no_date = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
        figure.savefig(file, format=form, dpi=130, metadata=no_date)
        return file.getvalue()


def widths(row: Row) -> str:
    """Code bits of the body's layers, once where they are equal.

    >>> widths({"bits.fc1": 3, "bits.fc2": 3, "bits.head": 5}), widths({"bits.fc1": 3, "bits.fc2": 4, "bits.head": 5})
    ('3', '3-4')
    """
    bits = [str(value) for name, value in row.items() if name.startswith("bits.") and name != "bits.head"]
    return bits[0] if len(set(bits)) == 1 else "-".join(bits)


def _places(rows: Sequence[Row], numbers: Sequence[int], cost: Objective) -> tuple[list[float], list[float]]:
    return [rows[i][cost.column] for i in numbers], [rows[i][ACCURACY.column] for i in numbers]
