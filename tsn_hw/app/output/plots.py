"""Pictures of results, drawn by matplotlib: the same figures give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's colours, which every kind of colour vision tells apart."""
GREY, RED = "#555555", "#D55E00"
FAR_BELOW_POINTS = 15
"""Percentage points below the best."""


def png(drawing: Drawing) -> bytes:
    """The file of a picture, cut to what is drawn."""
    file = io.BytesIO()
    drawing.savefig(file, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


def inline_svg(drawing: Drawing, alternative: str) -> Markup:
    """An SVG element as wide as its place on a page, with a text alternative; its letters stay text."""
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.hashsalt": "tsn-hw", "svg.fonttype": "none"}):
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    (box,) = re.findall(r'viewBox="[^"]*"', text)
    inside = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<defs>") : text.rindex("</svg>")])
    start = Markup('<svg {} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{}">')
    return start.format(Markup(box), alternative) + Markup(inside) + Markup("</svg>")


def stacked_bars(stacks: Mapping[str, Sequence[float]], parts: Sequence[str], unit: str) -> Drawing:
    """Horizontal bars of stacked parts, all on one scale, each with its name and sum above it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 0.45 * len(stacks) + 0.8), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(stacks))
    for color, part, values in zip(PALETTE, parts, zip(*stacks.values(), strict=True), strict=False):
        axes.barh(range(len(stacks)), values, 0.4, left, color=color, label=part)
        left += values
    for place, (name, whole) in enumerate(zip(stacks, left, strict=True)):
        axes.text(0, place - 0.3, f"{name}: {whole:,.0f} {unit}")
    axes.set_axis_off()
    axes.set(xlim=(0, left.max()), ylim=(len(stacks) - 0.75, -0.75))
    figure.legend(loc="outside lower left", ncols=3, frameon=False, borderaxespad=0)
    return figure


def accuracy_heat_map(matrix: NDArray[np.float64], names: Sequence[str], title: str) -> bytes:
    """PNG of an accuracy matrix: row = after learning a task, column = accuracy of a task, in percent."""
    from matplotlib.figure import Figure

    count = len(matrix)
    figure = Figure(figsize=(3.4 + 0.75 * count, 2.0 + 0.55 * count))
    axes = figure.add_subplot()
    known = matrix[~np.isnan(matrix)]
    low, high = float(np.floor(known.min())), float(np.ceil(known.max()))
    picture = axes.imshow(matrix, cmap="viridis", vmin=low, vmax=max(high, low + 1))
    for i, j in np.argwhere(~np.isnan(matrix)):
        dark = matrix[i, j] < (low + high) / 2
        axes.text(j, i, f"{matrix[i, j]:.1f}", ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(count), names, rotation=30, ha="right")
    axes.set_yticks(range(count), names)
    axes.set(xlabel="accuracy of task", ylabel="after learning task", title=title)
    figure.colorbar(picture, ax=axes, label="test accuracy (%)")
    return png(figure)


def methods_plot(points: Sequence[tuple[str, float, float]], title: str) -> bytes:
    """PNG of methods in the plane of body capacity (percent, logarithmic) and accuracy (percent).

    A point far below all others would press them into a line: the legend tells it, outside of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(7.0, 4.5))
    axes = figure.add_subplot()
    floor = max(acc for _, _, acc in points) - FAR_BELOW_POINTS
    for method in dict.fromkeys(name for name, _, _ in points):
        chosen = sorted((capacity, acc) for name, capacity, acc in points if name == method)
        shown = [place for place in chosen if place[1] >= floor]
        below = "".join(f", {acc:.1f} % at {capacity:.0f} %" for capacity, acc in chosen if acc < floor)
        axes.plot([x for x, _ in shown], [y for _, y in shown], marker="o", label=method + below)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="body capacity (% of one dense float32 body)", ylabel="mean test accuracy (%)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))  # beside the picture: it would hide points
    return png(figure)
