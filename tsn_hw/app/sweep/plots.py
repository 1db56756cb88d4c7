"""Pictures of a sweep, accuracy against what it costs with the front and the budget, and the table of its points."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tsn_hw.app.output import Cell, Table, Value
from tsn_hw.app.output.plots import GREY, RED
from tsn_hw.app.sweep.pareto import ACCURACY, DEVICE, OPERATIONS, SIZE, Objective, front
from tsn_hw.app.sweep.results import Row, Sweep, network_name, widths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = {4: ("#0072B2", "o"), 8: ("#E69F00", "s"), 16: ("#009E73", "^")}
"""Colour (of Okabe and Ito's palette) and shape by activation bits."""


def pictures(sweep: Sweep) -> dict[str, bytes]:
    """File name -> content, PNG and SVG, of accuracy against every cost. Same rows, same bytes."""
    from matplotlib import rc_context

    files = {}
    for cost in known_costs(sweep):
        for form, no_date in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            file = io.BytesIO()
            with rc_context({"svg.hashsalt": "tsn-hw", "font.size": 10}):
                pareto_plot(sweep, cost).savefig(file, format=form, dpi=130, metadata=no_date)
            files[f"pareto_{cost.name}.{form}"] = file.getvalue()
    return files


def known_costs(sweep: Sweep) -> list[Objective]:
    """The costs that some point has a figure of."""
    return [cost for cost in (SIZE, OPERATIONS, DEVICE) if any(row.get(cost.column) is not None for row in sweep.rows)]


def best_for(cost: Objective, rows: Sequence[Row]) -> list[Row]:
    """The rows that none betters in accuracy and this cost, the cheapest first."""
    return sorted((rows[i] for i in front(rows, (ACCURACY, cost))), key=lambda row: float(row[cost.column]))


def pareto_plot(sweep: Sweep, cost: Objective, on_page: bool = False) -> Figure:
    """Accuracy against a cost; ``on_page``: with a legend below, in letters that a phone can show."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(5, 4.2) if on_page else (7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    _draw_limits(axes, sweep, cost)
    shown = {i: row for i, row in enumerate(sweep.rows) if row.get(cost.column) is not None}
    _draw_points(axes, list(shown.values()), cost, 10 if on_page else 8)
    if sweep.chosen in shown:
        place = _places([shown[sweep.chosen]], cost)
        (star,) = axes.plot(*place, "*", color=RED, label=f"chosen: point {sweep.chosen}")
        star.set(markersize=16, markeredgecolor="black")
    axes.set(xlabel=cost.label, ylabel=ACCURACY.label)
    if cost is OPERATIONS:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    if on_page:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    else:
        axes.legend(loc="lower right", fontsize=8)
    return figure


def _draw_limits(axes: Any, sweep: Sweep, cost: Objective) -> None:
    budget, best = sweep.budget, sweep.float_percent
    axes.axhline(best, color=GREY, linestyle=":", label=f"float weights, {best:.2f} %")
    if budget.accuracy_drop is not None:
        least = best - budget.accuracy_drop
        axes.axhline(least, color=RED, linestyle="--", linewidth=1, label=f"budget, {least:.2f} %")
    device, device_limit = (budget.part.device, budget.part.limit_percent) if budget.part else ("", None)
    name, limit = {SIZE: ("budget", budget.total_percent), DEVICE: (device, device_limit)}.get(cost, ("", None))
    if limit is not None:
        axes.axvline(limit, color=RED, linestyle="--", linewidth=1, label=f"{name}, {limit:g} %")


def _draw_points(axes: Any, shown: Sequence[Row], cost: Objective, letters: int) -> None:
    """All points, and the line of those that none betters in accuracy and this cost, with their code bits."""
    best = best_for(cost, shown)
    axes.step(*_places(best, cost), where="post", color=GREY, linewidth=1, label="no point is better")
    for bits, (color, marker) in MARKS.items():
        of_width = [row for row in shown if row["activation_bits"] == bits]
        if of_width:
            places = _places(of_width, cost)
            axes.plot(*places, marker, color=color, markersize=6, alpha=0.8, label=f"{bits}-bit activations")
    for row in best:
        place = row[cost.column], row[ACCURACY.column]
        axes.annotate(widths(row), place, xytext=(4, 5), textcoords="offset points", fontsize=letters)


def _places(rows: Sequence[Row], cost: Objective) -> tuple[list[float], list[float]]:
    return [row[cost.column] for row in rows], [row[ACCURACY.column] for row in rows]


def points_table(sweep: Sweep, numbers: Iterable[int], caption: str = "") -> Table:
    """Some points: their widths, what they reach and cost, and whether the budget chooses them."""
    rows: list[list[Value | Cell]] = []
    for number in numbers:
        row = sweep.rows[number]
        says = "chosen" if number == sweep.chosen else "front" if number in sweep.front else ""
        figures = [row[ACCURACY.column], row[SIZE.column], row[OPERATIONS.column] / 1e6, row["used_weights"]]
        bits = [widths(row), row.get("bits.head"), row["activation_bits"]]
        rows.append([row["point"], *bits, *figures, says, network_name(row)])
    header = ["point", "code bits", "head", "activations", "accuracy %", "file % of float32", "MBOPs", "used weights"]
    return Table.of_rows([*header, "", "network"], rows, caption, folded=bool(caption))
