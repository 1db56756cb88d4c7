"""The lists of a matrix unit that skips zeros: which lane computes which row when, and what stands in every line.

A unit of ``pe`` x ``simd`` lanes works on its rows in folds. In a fold every lane computes one row whole, or none, and
a fold takes as many lines as its longest row. So that lanes end together, rows of about equal length share a fold:
those of every remainder by ``pe`` are sorted by their length, task by task. Lane ``turn * pe + q`` has a row of
remainder q; after the fold its sum is requantized in this turn, which is why a fold takes at least ``simd`` lines. The
place of a row is its number divided by ``pe``: the word of the output that it is a part of.

An entry of a line is the word of a weight and the gap: the columns between it and the one before in its row. A gap of
nothing but ones is no weight. It skips as many columns as its value: an escape where a gap is wider, and filling.
"""

from __future__ import annotations

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
    """Who computes what in the list of a task.

    places: (folds, simd, pe) the place of the row of every lane, turn by turn; ``row_folds`` where it has none.
    fold_lines: (folds,) lines that each fold takes.
    """

    places: Ints
    fold_lines: Ints
    row_folds: int

    @property
    def lines(self) -> int:
        """Lines of the list."""
        return int(self.fold_lines.sum())

    @cached_property
    def rows(self) -> Ints:
        """(folds * simd * pe,) the row of every lane, fold by fold; beyond the last row where there is none."""
        pe = self.places.shape[2]
        rows: Ints = (self.places * pe + np.arange(pe)).ravel()
        return rows


def schedule(entries: Ints, pe: int, simd: int) -> Schedule:
    """The schedule of rows of so many ``entries`` (rows,), a multiple of ``pe``.

    >>> found = schedule(np.array([1, 5, 4, 0, 2, 7]), pe=2, simd=2)
    >>> found.places.tolist(), found.fold_lines.tolist()
    ([[[1, 2], [2, 0]], [[0, 1], [3, 3]]], [7, 2])
    """
    by_remainder = entries.reshape(-1, pe).T  # (pe, places)
    row_folds = by_remainder.shape[1]
    folds = -(-row_folds // simd)
    places = np.full((pe, folds * simd), row_folds, np.int64)
    lengths = np.zeros((pe, folds * simd), np.int64)
    order = np.argsort(-by_remainder, axis=1, kind="stable")
    places[:, :row_folds], lengths[:, :row_folds] = order, np.take_along_axis(by_remainder, order, axis=1)
    fold_lines = np.maximum(simd, lengths.reshape(pe, folds, simd).max(axis=(0, 2)))
    return Schedule(places.reshape(pe, folds, simd).transpose(1, 2, 0), fold_lines, row_folds)


@dataclass(frozen=True)
class ListLines:
    """The lines of a task's list. gap, code, prefix: (lines, lanes). last: (lines,) 1 where a fold ends."""

    gap: Ints
    code: Ints
    prefix: Ints
    last: Ints


def list_lines(found: Schedule, gap_bits: int, mask: Mask, code: Ints, prefix: Ints) -> ListLines:
    """The lines of a list: the words of the weights that a mask uses, all (rows, columns), as a schedule says."""
    lanes = found.places.shape[1] * found.places.shape[2]
    last = np.cumsum(found.fold_lines) - 1
    lane, first = np.zeros((2, len(mask)), np.int64)
    is_row = found.rows < len(mask)
    lane[found.rows[is_row]] = np.tile(np.arange(lanes), len(last))[is_row]
    first[found.rows[is_row]] = np.repeat(last + 1 - found.fold_lines, lanes)[is_row]
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
    lines.last[last] = 1
    return lines
