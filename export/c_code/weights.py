"""How the weights of a layer lie in flash: lists of those that a task uses, or a shared memory and masks.

A list has an entry a weight: how many places it lies behind the one before, its gap, and its value. The places of all
channels follow one another, so that no list has to say where a channel ends. A gap that is too long for its field is
crossed by entries of value 0. A list without gaps has all weights.
A shared memory has the value of every weight that any task of a bank uses, and each task a bit a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tsn_hw.core.arithmetic import Ints, signed_bits
from tsn_hw.core.memory import index_bits, pack_fields
from tsn_hw.core.network import Bools

Optimize = Literal["size", "balanced", "speed"]
LONGEST_GAP_BITS = 8
PAIRED_BITS = 12
"""Of an entry of which two take three bytes."""
DENSE = 0.6
"""Share of weights that are not 0 from which on a list without gaps runs faster, of all weights of a Linear."""


@dataclass(frozen=True, eq=False)
class Values:
    """How a value is written: as a place in a table, or as itself where ``entry_bytes`` is 0."""

    bits: int
    entry_bytes: int = 0
    table: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def codes(self, values: Ints) -> Ints:
        """What stands for each value in a field of ``bits``."""
        return np.searchsorted(self.table, values) if self.entry_bytes else values & ((1 << self.bits) - 1)

    @property
    def data(self) -> bytes:
        """The table."""
        return self.table.astype(f"<i{self.entry_bytes}").tobytes() if self.entry_bytes else b""


@dataclass(frozen=True, eq=False)
class WeightList:
    """The used weights of one task in one layer."""

    gap_bits: int
    values: Values
    gaps: Ints
    entries: Ints

    @property
    def size_bytes(self) -> int:
        """Bytes of flash."""
        return -(-len(self.gaps) * (self.gap_bits + self.values.bits) // 8) + len(self.values.data)

    @property
    def data(self) -> bytes:
        """The entries: of each the gap first, then the value."""
        fields = np.stack([self.gaps, self.values.codes(self.entries)], axis=1)
        return pack_low_first(fields, np.broadcast_to([self.gap_bits, self.values.bits], fields.shape))


@dataclass(frozen=True, eq=False)
class SharedWords:
    """The weights of a layer that any task of a bank uses; 0 elsewhere."""

    values: Values
    entries: Ints

    @property
    def size_bytes(self) -> int:
        """Bytes of flash, without the masks."""
        return -(-len(self.entries) * self.values.bits // 8) + len(self.values.data)

    @property
    def data(self) -> bytes:
        """The words, in the order of the weights."""
        return pack_low_first(self.values.codes(self.entries), self.values.bits)


def pack_low_first(values: ArrayLike, widths: ArrayLike) -> bytes:
    """Fields without gaps, each from its lowest bit on, the first in the lowest bits of the first byte.

    >>> pack_low_first([1, 2, 3], 4).hex()
    '2103'
    """
    fields = np.asarray(values).astype(np.uint64).ravel()
    bits = np.broadcast_to(np.asarray(widths), np.shape(values)).ravel().astype(np.int64)
    padding = -int(bits.sum()) % 8
    return pack_fields(np.append(fields, np.uint64(0))[::-1], np.append(bits, padding)[::-1])[::-1]


def weight_list(weights: Ints, optimize: Optimize) -> WeightList:
    """The list of a task's weights in a layer, with the widths of gap and value that are smallest, or run fastest."""
    flat, is_linear = weights.ravel(), weights.ndim == 2
    if optimize == "speed":
        is_dense = is_linear and np.count_nonzero(flat) >= DENSE * len(flat)
        gap_bits = 0 if is_dense else LONGEST_GAP_BITS
        found = _list(flat, gap_bits, Values(8 if signed_bits(flat) <= 8 else 16))
        return _even(found) if gap_bits else found
    smallest = min(
        (_list(flat, gap_bits) for gap_bits in range(LONGEST_GAP_BITS + 1)), key=lambda made: made.size_bytes
    )
    table = np.unique(np.append(flat, 0))
    bits = index_bits(len(table))
    if optimize == "balanced" and is_linear and smallest.gap_bits and signed_bits(table) <= 8 and bits <= 8:
        gap_bits = min(PAIRED_BITS - bits, LONGEST_GAP_BITS)
        return _even(_list(flat, gap_bits, Values(PAIRED_BITS - gap_bits, 1, table)))
    return smallest


def shared_words(masked: Sequence[tuple[Bools, Ints]], optimize: Optimize) -> SharedWords:
    """The weights that any of some tasks uses, from the mask and the weights of each."""
    joined = np.zeros(masked[0][1].size, np.int64)
    for mask, weights in masked:  # tasks that use the same weight agree on its value
        joined[mask.ravel()] = weights[mask]
    is_bytes = optimize != "size" and masked[0][1].ndim == 2 and signed_bits(joined) <= 8
    return SharedWords(Values(8) if is_bytes else _values(joined), joined)


def _list(flat: Ints, gap_bits: int, values: Values | None = None) -> WeightList:
    if gap_bits == 0:  # of all weights, those behind the last used one too
        gaps, entries = np.zeros(len(flat), np.int64), flat
    else:
        gaps, entries = _entries(flat, gap_bits)
    return WeightList(gap_bits, values or _values(entries), gaps, entries)


def _even(found: WeightList) -> WeightList:
    """A list of an even number of entries, for loops that take two at a time: the last one again, with value 0."""
    filler = np.zeros(len(found.gaps) % 2, np.int64)
    return replace(found, gaps=np.append(found.gaps, filler), entries=np.append(found.entries, filler))


def _entries(flat: Ints, gap_bits: int) -> tuple[Ints, Ints]:
    """Gaps and values of the entries."""
    places, longest = np.flatnonzero(flat), (1 << gap_bits) - 1
    crossings, rest = np.divmod(np.diff(places, prepend=-1) - 1, longest)
    ends = np.cumsum(crossings + 1)
    entries, gaps = (np.zeros(int(ends[-1]) if len(ends) else 0, np.int64) for _ in range(2))
    gaps[:] = longest
    gaps[ends - 1], entries[ends - 1] = rest + 1, flat[places]
    return gaps, entries


def _values(entries: Ints) -> Values:
    """A table of the values that are there, or the values themselves where they are no wider than their places."""
    table = np.unique(entries) if len(entries) else np.zeros(1, np.int64)
    direct, bits = signed_bits(table), index_bits(len(table))
    return Values(direct) if direct <= bits else Values(bits, 1 if direct <= 8 else 2, table)
