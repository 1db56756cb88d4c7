"""The lists of a matrix unit that skips zeros: which lane computes which row when, and what stands in every line.

A unit has ``simd`` teams of ``pe`` lanes. Its rows make turns: the rows of every remainder by ``pe`` are sorted by
length, task by task, and those of equal rank, one of each remainder, make a turn. A team works on one turn after the
other: its lane q computes the row of remainder q, in as many lines as the longest of them has. Turns are dealt to teams
so that all teams end together, and no two turns end in the same line: there the sums of one team are taken, in the
order in which the scales stand. The place of a row is its number divided by ``pe``: the word of the output that it is a
part of.

An entry of a line is the word of a weight and the gap: the columns between it and the one before in its row. A gap of
nothing but ones is no weight. It skips as many columns as its value: an escape where a gap is wider, and filling.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.memory import index_bits
from tsn_hw.core.network import PackedNetwork

Mask = NDArray[np.bool_]


def escapes(gaps: Ints, gap_bits: int) -> Ints:
    """Entries without a weight that gaps need in front of the one with it, in a field of ``gap_bits``.

    >>> escapes(np.array([0, 2, 3, 7]), 2).tolist()
    [0, 0, 1, 2]
    """
    return gaps // ((1 << gap_bits) - 1)


def gaps_of(mask: Mask) -> tuple[Ints, Ints, Ints]:
    """Row, column and gap of every used weight of a mask (rows, columns), row by row.

    >>> [part.tolist() for part in gaps_of(np.array([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]], bool))]
    [[0, 0, 2, 2], [1, 4, 0, 1], [1, 2, 0, 0]]
    """
    rows, columns = np.nonzero(mask)
    before = np.concatenate([[-1], columns[:-1]])
    before[np.flatnonzero(np.diff(rows, prepend=-1))] = -1
    return rows, columns, columns - before - 1


@dataclass(frozen=True)
class RowLengths:
    """How long the rows of a unit are as lists, task by task; counted when it is first asked for, since few ask."""

    net: PackedNetwork
    layers: tuple[int, ...]
    _counted: dict[int, Ints] = field(default_factory=dict, compare=False, repr=False)

    def entries(self, arrange: Callable[[Mask], Ints], gap_bits: int) -> Ints:
        """(tasks, rows): entries of every row with gaps of so many bits; ``arrange`` makes rows, columns of a mask."""
        if not self._counted:
            for task, layer in enumerate(self.layers):
                mask = arrange(self.net.mask(task, layer)).astype(bool)
                rows, _, gaps = gaps_of(mask)
                for bits in gap_widths(mask.shape[1]):
                    found = self._counted.setdefault(bits, np.zeros((len(self.layers), len(mask)), np.int64))
                    found[task] = np.bincount(rows, escapes(gaps, bits) + 1, len(mask)).astype(np.int64)
        return self._counted[gap_bits]


def gap_widths(columns: int) -> range:
    """Widths that a gap may have; the last needs no escapes.

    >>> gap_widths(100), gap_widths(1)
    (range(2, 8), range(1, 2))
    """
    enough = index_bits(columns + 1)
    return range(min(2, enough), enough + 1)


@dataclass(frozen=True)
class Schedule:
    """Who computes what in the list of a task: turns in the order in which they end.

    places: (turns, pe) the place of the row of every lane. teams: (turns,) who works on it. begins, ends: (turns,) its
    first line, and its last.
    """

    places: Ints
    teams: Ints
    begins: Ints
    ends: Ints

    @property
    def lines(self) -> int:
        """Lines of the list."""
        return int(self.ends[-1]) + 1

    @cached_property
    def rows(self) -> Ints:
        """(turns * pe,) the row of every lane, turn by turn."""
        pe = self.places.shape[1]
        rows: Ints = (self.places * pe + np.arange(pe)).ravel()
        return rows


def _ranked(entries: Ints, pe: int) -> tuple[Ints, Ints]:
    """(turns, pe) places of the rows of every turn, and (turns,) lines that it takes: the longest first."""
    by_remainder = entries.reshape(-1, pe).T  # (pe, places)
    places = np.argsort(-by_remainder, axis=1, kind="stable")
    lengths = np.take_along_axis(by_remainder, places, axis=1).max(axis=0)
    return places.T, np.maximum(lengths, 1)


def fewest_lines(entries: Ints, pe: int, simd: int) -> int:
    """Lines that no schedule of rows of so many ``entries`` (rows,) goes below."""
    _, lengths = _ranked(entries, pe)
    return max(-(-int(lengths.sum()) // simd), int(lengths[0]), len(lengths))


def schedule(entries: Ints, pe: int, simd: int) -> Schedule:
    """The schedule of rows of so many ``entries`` (rows,), a multiple of ``pe``.

    >>> found = schedule(np.array([1, 5, 4, 0, 2, 7]), pe=2, simd=2)
    >>> found.places.tolist(), found.teams.tolist(), found.begins.tolist(), found.ends.tolist()
    ([[2, 0], [0, 1], [1, 2]], [1, 1, 0], [0, 5, 0], [4, 5, 6])
    """
    places, lengths = _ranked(entries, pe)
    begins, ends, teams = _shortest(lengths.tolist(), simd)
    order = np.argsort(ends)
    return Schedule(places[order], *(np.array(part)[order] for part in (teams, begins, ends)))


Spans = tuple[list[int], list[int], list[int]]
"""First line, last line and team of every turn."""


def _shortest(lengths: list[int], simd: int) -> Spans:
    """The shortest list of all that a search of the least room finds, by bisection; ``lengths``: the longest first."""
    low = max(-(-sum(lengths) // simd), len(lengths))
    high, best = low + lengths[0], None
    while low <= high:
        room = (low + high) // 2
        teams = _dealt(lengths, simd, room)
        if teams is None:
            low = room + 1
            continue
        found, high = _in_time(lengths, teams), room - 1
        if best is None or max(found[1]) < max(best[1]):
            best = found
    assert best is not None, "every turn fits where each team has room for its share and the longest"
    return best


def _dealt(lengths: list[int], simd: int, room: int) -> list[list[int]] | None:
    """The turns of every team, each where it fits best; None if a team cannot take so many lines."""
    rooms, teams = [(room, team) for team in range(simd)], [list[int]() for _ in range(simd)]
    for turn, length in enumerate(lengths):
        at = bisect.bisect_left(rooms, (length, 0))
        if at == len(rooms):
            return None
        left, team = rooms.pop(at)
        teams[team].append(turn)
        bisect.insort(rooms, (left - length, team))
    return teams


def _in_time(lengths: list[int], teams: list[list[int]]) -> Spans:
    """When every turn is worked on: a team takes the first of its turns whose end is free, or waits with the first."""
    taken = set[int]()
    begins, ends, owners = ([0] * len(lengths) for _ in range(3))
    for team in sorted(range(len(teams)), key=lambda team: -sum(lengths[turn] for turn in teams[team])):
        left, now = list(teams[team]), 0
        while left:
            turn = next((turn for turn in left if now + lengths[turn] - 1 not in taken), left[0])
            left.remove(turn)
            end = now + lengths[turn] - 1
            while end in taken:
                end += 1
            taken.add(end)
            begins[turn], ends[turn], owners[turn], now = now, end, team, end + 1
    return begins, ends, owners


@dataclass(frozen=True)
class ListLines:
    """The lines of a task's list.

    gap, code, prefix: (lines, lanes). ends: (lines,) 1 + the team whose turn ends, or 0.
    """

    gap: Ints
    code: Ints
    prefix: Ints
    ends: Ints


def list_lines(found: Schedule, lanes: int, gap_bits: int, mask: Mask, code: Ints, prefix: Ints) -> ListLines:
    """The lines of a list: the words of the weights that a mask uses, all (rows, columns), as a schedule says."""
    pe = found.places.shape[1]
    lane, first = np.zeros((2, len(mask)), np.int64)
    lane[found.rows] = (found.teams[:, None] * pe + np.arange(pe)).ravel()
    first[found.rows] = np.repeat(found.begins, pe)
    row, column, gap = gaps_of(mask)
    skipped = escapes(gap, gap_bits)
    taken = np.cumsum(skipped + 1)  # entries of all rows so far
    begins = np.searchsorted(row, np.arange(len(mask)))  # the first weight of every row
    before = np.concatenate([[0], taken])[begins]
    place = first[row] + taken - 1 - before[row], lane[row]
    step = (1 << gap_bits) - 1
    shape = found.lines, lanes
    lines = ListLines(
        np.full(shape, step), np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(found.lines, np.int64)
    )
    lines.gap[place] = gap - skipped * step
    lines.code[place], lines.prefix[place] = code[row, column], prefix[row, column]
    lines.ends[found.ends] = found.teams + 1
    return lines
