"""Codebooks: 1-D k-means of weights, solved exactly by dynamic programming instead of by random restarts.

In one dimension an optimal cluster is an interval of the sorted values, so the best k clusters follow from the
best k-1 clusters of every prefix (Wang and Song, "Ckmeans.1d.dp", The R Journal 3/2, 2011). The position of the
best last cut only grows with the prefix, which makes one such step O(n log n) and vectorizable.

Weights and integer centroids are in units of the layer's grid: real weight = unit * 2**exponent. A value halfway
between two centroids takes the larger one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import NetworkError
from tsn_hw.core.network import MAX_CODE_BITS, Bytes

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

MAX_CUTS = 2**13
"""Largest number of cells that are clustered exactly; it covers the half-unit cells of 12-bit bounds."""
COARSE_CUTS = 2**11
"""About how many places are tried first where there are more cells."""
REACH = 8
"""How many steps a cut may move at once when a coarse optimum is refined."""


def fit_codebook(values: ArrayLike, bits: int, bounds: tuple[int, int]) -> Ints:
    """The at most 2**bits integer centroids within ``bounds`` that have the least squared error: (entries,), ascending.

    Values saturate into the bounds first. Between integer centroids every decision threshold is a multiple of one
    half, so a histogram of half-unit cells loses nothing, and the result is the global optimum for bounds of up to
    12 bits. Of more cells the optimum over about COARSE_CUTS places is refined: no small joint move of all thresholds
    improves the result, but it is not proven to be the global optimum.
    Every entry is the nearest one of some value; no values give an empty codebook.

    Raises NetworkError for values that are not finite and for bits outside 1..8.

    >>> fit_codebook([-3.2, -3.1, 0.4, 7.0, 8.0, 300.0], bits=2, bounds=(-128, 127)).tolist()
    [-3, 0, 8, 127]
    """
    if not 1 <= bits <= MAX_CODE_BITS:
        raise NetworkError(f"codebook: {bits} code bits, must be 1..{MAX_CODE_BITS}")
    saturated = np.clip(_finite(values).ravel(), *bounds)
    if saturated.size == 0:
        return np.zeros(0, np.int64)
    index = _half_cells(saturated, bounds)
    counts, totals = np.bincount(index), np.bincount(index, weights=saturated)
    occupied = np.flatnonzero(counts)
    levels = np.unique((occupied + 1) // 2 + bounds[0])  # the nearest integers, halves up
    if len(levels) <= 1 << bits:
        return levels.astype(np.int64)
    cells = _Cells(occupied / 2 + bounds[0], _prefix(counts[occupied]), _prefix(totals[occupied]))
    centroids = np.unique(_cluster(cells, 1 << bits))
    return centroids[np.unique(_nearest(cells.start, centroids))].astype(np.int64)


def nearest_code(values: ArrayLike, codebook: Ints) -> Bytes:
    """Index of the nearest entry of an ascending codebook, shaped as ``values``; halfway takes the larger entry.

    Raises NetworkError for values that are not finite, and for a codebook that is empty, too long or not ascending.

    >>> nearest_code([-9.0, 0.9, 1.0, 1.5, 99.0], np.array([-1, 1, 2])).tolist()
    [0, 1, 1, 2, 2]
    """
    units = _finite(values)
    if not 1 <= len(codebook) <= 1 << MAX_CODE_BITS:
        raise NetworkError(f"codebook: {len(codebook)} entries, must be 1..{1 << MAX_CODE_BITS}")
    if (codebook[:-1] >= codebook[1:]).any():
        raise NetworkError(f"codebook: entries {codebook.tolist()} are not ascending")
    low, high = int(codebook[0]), int(codebook[-1])
    table = _nearest(np.arange(2 * low, 2 * high + 1) / 2, codebook)  # five times faster than a search for each value
    return table[_half_cells(units, (low, high))]


def squared_error(values: ArrayLike, codebook: Ints) -> float:
    """Sum of the squared distances of the values to their nearest entries.

    >>> squared_error([-9.0, 0.5, 1.5], np.array([-1, 1, 2]))
    64.5
    """
    units = _finite(values)
    if units.size == 0:
        return 0.0
    return float(np.square(units - codebook[nearest_code(units, codebook)]).sum())


@dataclass(frozen=True, eq=False)
class _Cells:
    """Values summarized as n ascending cells that no cluster needs to split; prefix sums have n + 1 entries."""

    start: Floats
    count: Floats
    total: Floats


def _cluster(cells: _Cells, entries: int) -> Floats:
    """Integer centroids of the best clustering of the cells, more than ``entries``, into that many intervals."""
    cuts = _candidate_cuts(cells)
    chosen, error = _best_cuts(cells, cuts, entries)
    if len(cuts) <= len(cells.start):
        chosen = _refine(cells, cuts, chosen, error)
    return np.rint(np.diff(cells.total[chosen]) / np.diff(cells.count[chosen]))


def _candidate_cuts(cells: _Cells) -> Indices:
    """Where clusters may begin and end: everywhere, or at about COARSE_CUTS places.

    Those are as dense as the thresholds of a good quantizer with many levels: the cube root of the density of the
    values (Panter and Dite, Proc. IRE 39, 1951), which keeps far outliers apart as well as the crowd.
    """
    n = len(cells.start)
    if n <= MAX_CUTS:
        return np.arange(n + 1)
    gaps = np.diff(cells.start, append=cells.start[-1])
    density = _prefix(np.cbrt(np.diff(cells.count) * gaps**2))
    cuts = np.searchsorted(density, np.linspace(0, density[-1], COARSE_CUTS))
    return np.union1d(cuts, [0, n])


def _refine(cells: _Cells, cuts: Indices, chosen: Indices, least: float) -> Indices:
    """Move the inner cuts jointly, each to the best of its nearby cells, at ever finer steps down to single cells."""
    spacing = np.diff(cuts)[np.searchsorted(cuts, chosen[1:-1]) - 1]
    step = -(-spacing // REACH)
    while True:
        nearby = chosen[1:-1, None] + step[:, None] * np.arange(-REACH, REACH + 1)
        moved, error = _best_nearby(cells, np.clip(nearby, 0, len(cells.start)))
        if error < least:
            chosen, least = moved, error
        elif step.max() > 1:
            step = -(-step // REACH)
        else:
            return chosen


def _best_nearby(cells: _Cells, nearby: Indices) -> tuple[Indices, float]:
    """The best cuts with the inner ones out of the places (inner cuts, places) of each, and their error."""

    def spans(begin: Indices, end: Indices) -> Floats:
        weight, moment = cells.count[end] - cells.count[begin], cells.total[end] - cells.total[begin]
        return np.where(weight > 0, _errors(np.maximum(weight, 1), moment), np.inf)

    ends = [*nearby, np.array([len(cells.start)])]
    error, steps = spans(np.zeros(1, np.intp), ends[0]), []
    for begin, end in itertools.pairwise(ends):
        candidates = error[:, None] + spans(begin[:, None], end)
        steps.append(candidates.argmin(axis=0))
        error = candidates.min(axis=0)
    place, chosen = 0, [len(cells.start)]
    for places, where in zip(reversed(nearby), reversed(steps), strict=True):
        place = int(where[place])
        chosen.append(int(places[place]))
    return np.array([0, *reversed(chosen)]), float(error[0])


def _best_cuts(cells: _Cells, cuts: Indices, entries: int) -> tuple[Indices, float]:
    """The entries + 1 of ``cuts`` that bound the best clusters, and its error, by dynamic programming over prefixes.

    Errors leave out the sum of squares of the values, which is the same for all clusterings.
    """
    count, total = cells.count[cuts], cells.total[cuts]
    last = len(cuts) - 1
    ends = np.arange(1, last + 1)
    error = np.concatenate([[np.inf], _errors(count[ends] - count[0], total[ends] - total[0])])
    steps = []
    for left in range(entries - 2, -1, -1):
        error, begins = _extend(error, count, total) if left else _extend_to_last(error, count, total)
        steps.append(begins)
    chosen = [last]
    for begins in reversed(steps):
        chosen.append(int(begins[chosen[-1]]))
    return cuts[[0, *reversed(chosen)]], float(error[last])


def _errors(weight: Floats, moment: Floats) -> Floats:
    """The error of clusters that hold so many values with such sums, around whole centroids."""
    centroid = np.rint(moment / weight)
    return centroid * (centroid * weight - 2 * moment)


def _extend_to_last(error: Floats, count: Floats, total: Floats) -> tuple[Floats, Indices]:
    """What :func:`_extend` gives, for the last end alone: nobody reads the others of the last cluster."""
    last = len(error) - 1
    best, where = np.full(last + 1, np.inf), np.zeros(last + 1, np.intp)
    candidates = error[:last] + _errors(count[last] - count[:last], total[last] - total[:last])
    where[last] = candidates.argmin()
    best[last] = candidates[where[last]]
    return best, where


def _extend(error: Floats, count: Floats, total: Floats) -> tuple[Floats, Indices]:
    """Add one cluster: for every end r the least error[c] + that of cells c to r, over c < r, and its smallest such c.

    The best c does not fall as r grows (the error satisfies the quadrangle inequality, with rounded centroids too), so
    ends are solved at ever finer strides, each searching only between its solved neighbours.
    """
    last = len(error) - 1
    best, where = np.full(last + 1, np.inf), np.zeros(last + 1, np.intp)
    stride = 1 << (last.bit_length() - 1)
    while stride:
        ends = np.arange(stride, last + 1, 2 * stride)
        low = where[ends - stride]
        after = ends + stride
        high = np.minimum(ends - 1, np.where(after <= last, where[np.minimum(after, last)], last))
        lengths = high - low + 1
        first = np.cumsum(lengths) - lengths
        begins = np.arange(first[-1] + lengths[-1]) - np.repeat(first - low, lengths)
        candidates = error[begins] + _errors(
            np.repeat(count[ends], lengths) - count[begins], np.repeat(total[ends], lengths) - total[begins]
        )
        best[ends] = np.minimum.reduceat(candidates, first)
        hits = np.flatnonzero(candidates == np.repeat(best[ends], lengths))
        where[ends] = begins[hits[np.searchsorted(hits, first)]]
        stride //= 2
    return best, where


def _half_cells(values: Floats, bounds: tuple[int, int]) -> Indices:
    """Index of the half-unit cell of every value: cell i holds low + i/2 <= value < low + (i + 1)/2.

    Values below the bounds fall into the first cell, values above into the last, which starts at ``high``.
    """
    low, high = bounds
    return (np.floor(2 * np.clip(values, low, high)) - 2 * low).astype(np.intp)


def _nearest(values: Floats, codebook: Ints | Floats) -> Bytes:
    return np.searchsorted((codebook[:-1] + codebook[1:]) / 2, values, side="right").astype(np.uint8)


def _prefix(amounts: NDArray[np.float64] | NDArray[np.int64]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(amounts, dtype=np.float64)])


def _finite(values: ArrayLike) -> Floats:
    units = np.asarray(values, np.float64)
    if not np.isfinite(units).all():
        raise NetworkError(f"codebook: {np.count_nonzero(~np.isfinite(units))} of {units.size} values are not finite")
    return units
