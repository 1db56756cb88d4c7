"""The picture of docs/word-format.md: the mask of a task, its list, and what every lane does in every cycle.

    python benchmarks/draw_lists.py docs/lists.svg

What it shows is computed by tsn_hw/hardware/lists.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.lists import Schedule, escapes, gaps_of, list_lines, schedule

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


def matrix(found: Schedule) -> list[str]:
    """The mask, its used weights in the colour of the lane that has the row."""
    parts = [text(LEFT, 28, "weights that a task uses", 'class="head"'), text(LEFT, TOP - 10, "column 0, 1, 2 …")]
    for row, of_row in enumerate(MASK):
        turn, q = divmod(found.rows.tolist().index(row), PE)
        lane, y = int(found.teams[turn]) * PE + q, TOP + row * (CELL + 6)
        parts.append(text(LEFT - 8, y + 16, f"row {row}", 'text-anchor="end"'))
        cells = enumerate(of_row)
        parts += [box(LEFT + c * CELL, y, CELL, CELL, COLOURS[lane] if used else "#fff") for c, used in cells]
        where = f"turn {turn}, lane {lane}"
        parts.append(text(LEFT + len(of_row) * CELL + 8, y + 16, where, f'fill="{COLOURS[lane]}"'))
    return parts


def entry(lane: int, y: float, gap: int, column: int, is_ended: bool) -> list[str]:
    """What a lane does in a cycle: a weight, a gap without one, or nothing more in this turn."""
    if gap != STEP:
        fill, colour, words = COLOURS[lane], "#fff", f"gap {gap}: column {column}"
    elif not is_ended:
        fill, colour, words = "#fff", COLOURS[lane], f"skips {STEP} columns"
    else:
        fill, colour, words = "#ddd", "#666", "no weight left"
    x = LIST + lane * ENTRY
    return [box(x, y, ENTRY, LINE, fill), text(x + 6, y + 20, words, f'fill="{colour}"')]


def of_lane(gaps: Ints, lane: int, bounds: list[tuple[int, int]]) -> list[str]:
    """What a lane does in all cycles, turn by turn, from the first line of each to the one behind its last."""
    parts = []
    for begin, end in bounds:
        column = 0
        for line in range(begin, end):
            gap = int(gaps[line])
            is_ended = bool((gaps[line:end] == STEP).all())
            parts += entry(lane, TOP + line * LINE, gap, column + gap, is_ended)
            column += gap + (gap != STEP)
    return parts


def ended(found: Schedule) -> list[str]:
    """A thick line where a turn ends, and the rows whose sums are then taken."""
    parts = []
    for turn, (team, end) in enumerate(zip(found.teams.tolist(), found.ends.tolist(), strict=True)):
        y, rows = TOP + (end + 1) * LINE, found.rows[turn * PE : (turn + 1) * PE].tolist()
        path = f"M{LIST + team * PE * ENTRY} {y}h{PE * ENTRY}"
        parts.append(f'<path d="{path}" stroke="#000" stroke-width="4"/>')
        parts.append(text(TURNS, y + 5, f"turn {turn}: rows {', '.join(map(str, rows))}, of team {team}"))
    return parts


def drawn() -> str:
    """The picture as SVG."""
    of_weights, _, gaps = gaps_of(MASK)
    entries = np.bincount(of_weights, escapes(gaps, GAP_BITS) + 1, len(MASK)).astype(np.int64)
    found, zeros = schedule(entries, PE, SIMD), np.zeros(MASK.shape, np.int64)
    lines = list_lines(found, LANES, GAP_BITS, MASK, zeros, zeros)
    parts = [*matrix(found), text(LIST, 28, "its list: a line a cycle", 'class="head"')]
    for lane in range(LANES):
        named = f"team {lane // PE}, lane {lane}"
        parts.append(text(LIST + lane * ENTRY + 6, TOP - 10, named, f'fill="{COLOURS[lane]}"'))
        spans = zip(found.teams.tolist(), found.begins.tolist(), found.ends.tolist(), strict=True)
        own = [(begin, end + 1) for team, begin, end in spans if team == lane // PE]
        idle = max((end for _, end in own), default=0), found.lines
        parts += of_lane(lines.gap[:, lane], lane, [*own, idle])
    for line in range(found.lines):
        parts.append(text(LIST - 8, TOP + line * LINE + 20, f"cycle {line}", 'text-anchor="end"'))
    parts += [text(TURNS, 28, "turns that end", 'class="head"'), text(TURNS, TOP - 10, "requantized one by one")]
    parts += ended(found)
    height, width = TOP + found.lines * LINE + 70, TURNS + 215
    parts.append(text(LIST, height - 40, "Thick lines: the turn of a team ends. While this list runs,"))
    parts.append(text(LIST, height - 20, "the next vector arrives, and the results of the one before leave."))
    style = "text{font:13px sans-serif}.head{font-weight:bold;font-size:15px}"
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawn(), encoding="utf-8")
