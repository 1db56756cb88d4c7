"""Plain-text tables and pictures of results."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.capacity import Capacity


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned: numbers to the right, all else to the left.

    >>> print(table(["task", "accuracy"], [["a", 97.5], ["b", 100.0]]))
    task  accuracy
    a        97.50
    b       100.00
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[c], int | float | None) for row in rows) for c in range(len(header))]
    widths = [max(len(row[c]) for row in [list(header), *cells]) for c in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join(line(row) for row in [list(header), *cells])


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def capacity_table(sizes: Capacity) -> str:
    """Where the bits of a .tsn file are, and its shares of dense float32 networks."""
    dense = 32 * sizes.body_weights
    rows: list[list[object]] = [
        [name, bits, 100 * bits / dense if dense else None]
        for name, bits in (
            ("body codes", sizes.codes_bits),
            ("body codebooks", sizes.codebooks_bits),
            ("body masks", sizes.masks_bits),
            ("heads", sizes.heads_bits),
            ("requantization", sizes.requantization_bits),
            ("routing memory", sizes.routing_bits),
            ("header", sizes.header_bits),
        )
    ]
    total = f"{sizes.total_percent:.2f} % of one dense float32 network with all heads"
    return (
        f"{table(['section', 'bits', '% of body'], rows)}\n"
        f"body capacity {sizes.body_percent:.2f} % of {sizes.body_weights} float32 weights "
        f"(by WSN's rule {sizes.wsn_rule_percent:.2f} %, owners instead of masks {sizes.prefix_rule_percent:.2f} %)\n"
        f"whole file {sizes.file_bits // 8} bytes: {total}"
    )


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
    axes.set_xlabel("accuracy of task")
    axes.set_ylabel("after learning task")
    axes.set_title(title)
    figure.colorbar(picture, ax=axes, label="test accuracy (%)")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


FAR_BELOW_POINTS = 15
"""Percentage points below the best."""


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
    axes.set_xlabel("body capacity (% of one dense float32 body)")
    axes.set_ylabel("mean test accuracy (%)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))  # beside the picture: it would hide points
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()
