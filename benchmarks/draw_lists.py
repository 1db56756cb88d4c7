"""The picture of docs/word-format.md: the mask of a task, its list, and what every lane does in every cycle.

    python benchmarks/draw_lists.py docs/lists.svg

What it shows is computed by tsn_hw/hardware/lists.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.lists import escapes, gaps_of, list_lines, schedule

PE, SIMD, GAP_BITS = 2, 2, 2
LANES, STEP = PE * SIMD, (1 << GAP_BITS) - 1
MASK = np.array(
    [[0, 1, 0, 0, 0, 0, 1, 0],
     [1, 0, 0, 1, 0, 1, 0, 0],
     [0, 0, 1, 1, 0, 0, 0, 1],
     [0, 0, 0, 0, 0, 0, 0, 1],
     [0, 0, 0, 0, 0, 0, 0, 0],
     [0, 1, 0, 0, 0, 0, 0, 0]], bool,
)  # fmt: skip
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa7700")
CELL, LEFT, TOP, ENTRY, LINE = 22, 60, 70, 118, 30
LIST = LEFT + MASK.shape[1] * CELL + 180
TURNS = LIST + LANES * ENTRY + 14


def text(x: float, y: float, words: str, more: str = "") -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" {more}>{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    """A cell."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="#999"/>'


def matrix(rows: Ints) -> list[str]:
    """The mask, its used weights in the colour of the lane that has the row; ``rows``: of every fold and lane."""
    found = [text(LEFT, 28, "weights that a task uses", 'class="head"'), text(LEFT, TOP - 10, "column 0, 1, 2 …")]
    for row, of_row in enumerate(MASK):
        fold, lane = (int(part[0]) for part in np.nonzero(rows == row))
        y = TOP + row * (CELL + 6)
        found.append(text(LEFT - 8, y + 16, f"row {row}", 'text-anchor="end"'))
        cells = enumerate(of_row)
        found += [box(LEFT + c * CELL, y, CELL, CELL, COLOURS[lane] if used else "#fff") for c, used in cells]
        where = f"fold {fold}, lane {lane}"
        found.append(text(LEFT + len(of_row) * CELL + 8, y + 16, where, f'fill="{COLOURS[lane]}"'))
    return found


def entry(lane: int, y: float, gap: int, column: int, is_ended: bool) -> list[str]:
    """What a lane does in a cycle: a weight, a gap without one, or nothing more in this fold."""
    if gap != STEP:
        fill, colour, words = COLOURS[lane], "#fff", f"gap {gap}: column {column}"
    elif not is_ended:
        fill, colour, words = "#fff", COLOURS[lane], f"skips {STEP} columns"
    else:
        fill, colour, words = "#ddd", "#666", "no weight left"
    x = LIST + lane * ENTRY
    return [box(x, y, ENTRY, LINE, fill), text(x + 6, y + 20, words, f'fill="{colour}"')]


def fold_of(gaps: Ints, first: int, rows: Ints) -> list[str]:
    """The lines of a fold, (lines, lanes), from the cycle ``first`` on, and behind them the turns of its sums."""
    found, base = [], [0] * LANES
    for line, of_line in enumerate(gaps.tolist()):
        y = TOP + (first + line) * LINE
        found.append(text(LIST - 8, y + 20, f"cycle {first + line}", 'text-anchor="end"'))
        for lane, gap in enumerate(of_line):
            found += entry(lane, y, gap, base[lane] + gap, is_ended=bool((gaps[line:, lane] == STEP).all()))
            base[lane] += gap + (gap != STEP)
    end = TOP + (first + len(gaps)) * LINE
    found.append(f'<path d="M{LIST} {end}h{LANES * ENTRY}" stroke="#000" stroke-width="3"/>')
    for turn, of_turn in enumerate(rows.reshape(SIMD, PE).tolist()):
        named = ", ".join(str(row) for row in of_turn if row < len(MASK))
        found.append(text(TURNS, end + turn * LINE + 20, f"turn {turn}: {f'rows {named}' if named else 'no rows'}"))
    return found


def drawn() -> str:
    """The picture as SVG."""
    of_weights, _, gaps = gaps_of(MASK)
    entries = np.bincount(of_weights, escapes(gaps, GAP_BITS) + 1, len(MASK)).astype(np.int64)
    found, zeros = schedule(entries, PE, SIMD), np.zeros(MASK.shape, np.int64)
    lines, rows = list_lines(found, GAP_BITS, MASK, zeros, zeros), found.rows.reshape(-1, LANES)
    parts = [*matrix(rows), text(LIST, 28, "its list: a line a cycle", 'class="head"')]
    parts += [text(LIST + q * ENTRY + 6, TOP - 10, f"lane {q}", f'fill="{COLOURS[q]}"') for q in range(LANES)]
    parts += [text(TURNS, 28, "sums of the fold before", 'class="head"'), text(TURNS, TOP - 10, "requantized in turns")]
    ends = np.cumsum(found.fold_lines).tolist()
    for fold, (first, end) in enumerate(zip([0, *ends], ends, strict=False)):
        parts += fold_of(lines.gap[first:end], first, rows[fold])
    height, width = TOP + (found.lines + SIMD) * LINE + 12, TURNS + 215
    parts.append(text(LIST, height - 40, "Thick lines: a fold ends. While this list runs, the next vector"))
    parts.append(text(LIST, height - 20, "arrives, and the results of the one before leave."))
    style = "text{font:13px sans-serif}.head{font-weight:bold;font-size:15px}"
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawn(), encoding="utf-8")
