"""What a packed network is made of: the words of a bank, and how a task reads and requantizes them.

All parts are frozen dataclasses over read-only arrays of exact integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.arrays import exactly, frozen
from tsn_hw.core.errors import NetworkError
from tsn_hw.core.gate import Gate
from tsn_hw.core.records import exact

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

UNUSED = -1
"""Owner of a weight that no task uses. It is never encoded in a word: the masks say it."""
MAX_CODE_BITS = 8

NO_CODEBOOK: Ints = frozen(np.zeros(0, np.int64))
"""The codebook of an owner that owns nothing: one array for all, because most owners own nothing of a head."""


def code_bits(codebook: Ints) -> int:
    """Width of a code into a codebook: 0 for an empty one, otherwise at least 1.

    >>> [code_bits(np.zeros(entries, np.int64)) for entries in (0, 1, 2, 3, 16)]
    [0, 1, 1, 2, 4]
    """
    return max(1, (len(codebook) - 1).bit_length()) if len(codebook) else 0


def _codebook(book: Ints, owner: int) -> Ints:
    book = exactly(book, np.int64, f"codebook {owner}")
    return book if len(book) else NO_CODEBOOK


@dataclass(frozen=True, eq=False)
class BankLayer:
    """The weight memory of one layer in one bank.

    owner:     weight-shaped; prefix of the owner, or UNUSED
    code:      weight-shaped; index into the owner's codebook (0 where unused)
    codebooks: one a task of the bank, in its order: integer centroids, empty where the task owns nothing here
    exponent:  real weight = centroid * 2**exponent, for all owners
    """

    owner: NDArray[np.int16]
    code: NDArray[np.uint8]
    codebooks: tuple[Ints, ...]
    centroid_bits: int
    exponent: int

    def __post_init__(self) -> None:
        exact(self)
        object.__setattr__(self, "owner", exactly(self.owner, np.int16, "owner plane"))
        object.__setattr__(self, "code", exactly(self.code, np.uint8, "code plane"))
        books = tuple(
            book if book is NO_CODEBOOK else _codebook(book, owner) for owner, book in enumerate(self.codebooks)
        )
        object.__setattr__(self, "codebooks", books)

    @property
    def centroid_range(self) -> tuple[int, int]:
        return -(1 << (self.centroid_bits - 1)), (1 << (self.centroid_bits - 1)) - 1

    @cached_property
    def owned(self) -> tuple[tuple[int, Ints], ...]:
        """Prefix and codebook of every owner that has one."""
        return tuple((owner, book) for owner, book in enumerate(self.codebooks) if book is not NO_CODEBOOK)

    def first_owners(self, count: int) -> BankLayer:
        """What the first owners wrote: later words are unused."""
        kept = self.owner < count
        owner, code = np.where(kept, self.owner, UNUSED), np.where(kept, self.code, 0)
        return BankLayer(owner, code, self.codebooks[:count], self.centroid_bits, self.exponent)

    def extends(self, earlier: BankLayer) -> bool:
        """Whether all that owners of an earlier memory wrote stands here as it stood there."""
        if (self.centroid_bits, self.exponent) != (earlier.centroid_bits, earlier.exponent):
            return False
        then, count = earlier.owner != UNUSED, len(earlier.codebooks)
        planes = ((self.owner, earlier.owner), (self.code, earlier.code))
        books = zip(self.codebooks, earlier.codebooks, strict=False)
        return (
            (self.owner.shape, len(self.codebooks[:count])) == (earlier.owner.shape, count)
            and all(new is old or np.array_equal(new[then], old[then]) for new, old in planes)
            and all(new is old or np.array_equal(new, old) for new, old in books)
        )

    def check(self, where: str, shape: tuple[int, ...], owners: int) -> None:
        """Refuse a memory that is not one of weights of this shape and so many owners."""
        for what, plane in (("owner", self.owner), ("code", self.code)):
            if plane.shape != shape:
                raise NetworkError(f"{where}: {what} plane has shape {plane.shape}, the weights {shape}")
        if not 4 <= self.centroid_bits <= 16:
            raise NetworkError(f"{where}: {self.centroid_bits} centroid bits, must be 4..16")
        if not -64 <= self.exponent <= 64:
            raise NetworkError(f"{where}: exponent {self.exponent}, must be -64..64")
        if len(self.codebooks) != owners:
            raise NetworkError(f"{where}: {len(self.codebooks)} codebooks for {owners} tasks")
        if self.owner.min() < UNUSED or self.owner.max() >= owners:
            raise NetworkError(f"{where}: owners {self.owner.min()}..{self.owner.max()}, the bank has {owners} tasks")
        self._check_codes(where)

    def _check_codes(self, where: str) -> None:
        """Refuse codebooks that are too large or leave the range of centroids, and codes beyond their codebook."""
        low, high = self.centroid_range
        for owner, book in self.owned:
            if len(book) > 1 << MAX_CODE_BITS:
                raise NetworkError(f"{where}: codebook {owner} has {len(book)} entries, at most {1 << MAX_CODE_BITS}")
            if book.min() < low or book.max() > high:
                raise NetworkError(f"{where}: codebook {owner} leaves the {self.centroid_bits}-bit range {low}..{high}")
        entries = self._entries
        wrong = self.code >= entries[self.owner]
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise NetworkError(
                f"{where}: code {self.code[place]} at {place} exceeds the {entries[self.owner[place]]} entries "
                f"of codebook {self.owner[place]}"
            )

    def centroids(self) -> Ints:
        """The centroid of every weight, weight-shaped; 0 where no task uses it."""
        start, books = self._flat
        centroids: Ints = books[start[self.owner] + self.code]
        return centroids

    @cached_property
    def _flat(self) -> tuple[Ints, Ints]:
        """Where the codebook of every owner begins, and all codebooks: that of UNUSED last, a single 0."""
        start = np.concatenate([[0], np.cumsum(self._entries[:-1])])
        return start, np.concatenate([*(book for _, book in self.owned), [0]])

    @cached_property
    def _entries(self) -> Ints:
        """How many entries the codebook of every owner has; last 1, of UNUSED, whose code is 0."""
        entries = np.zeros(len(self.codebooks) + 1, np.int64)
        for owner, book in self.owned:
            entries[owner] = len(book)
        entries[-1] = 1
        return entries

    @cached_property
    def table(self) -> Ints:
        """The flat codebook table, (owners, 2**widest code): row ``prefix``, column ``code``; zeros where undefined."""
        columns = 1 << max((code_bits(book) for book in self.codebooks), default=0)
        table = np.zeros((max(1, len(self.codebooks)), columns), np.int64)
        for row, book in zip(table, self.codebooks, strict=False):
            row[: len(book)] = book
        return frozen(table)


@dataclass(frozen=True, eq=False)
class Bank:
    """One weight memory: an entry a layer of the network, None where the bank holds no weights for it."""

    layers: tuple[BankLayer | None, ...]


@dataclass(frozen=True, eq=False)
class Requantization:
    """y = saturate(round_half_even((acc * multiplier + offset) / 2**shift)).

    ``multiplier`` and ``offset`` have one entry an output channel (weighted layers) or one entry (AvgPool, Add).
    ``output`` None marks a head: raw int32 logits.
    """

    multiplier: Ints
    offset: Ints
    shift: int
    output: ActFormat | None

    def __post_init__(self) -> None:
        exact(self)
        object.__setattr__(self, "multiplier", exactly(self.multiplier, np.int64, "multiplier"))
        object.__setattr__(self, "offset", exactly(self.offset, np.int64, "offset"))

    def check(self, where: str, entries: int) -> None:
        """Refuse vectors of another number of entries, and numbers that no engine holds."""
        for what, vector in (("multiplier", self.multiplier), ("offset", self.offset)):
            if vector.shape != (entries,):
                raise NetworkError(f"{where}: {what} has shape {vector.shape}, must be ({entries},)")
        for multiplier in (int(self.multiplier.min()), int(self.multiplier.max())):
            if not -(1 << 15) <= multiplier < 1 << 15:
                raise NetworkError(f"{where}: multiplier {multiplier} needs more than 16 bits")
        if not 0 <= self.shift <= arithmetic.MAX_SHIFT:
            raise NetworkError(f"{where}: shift {self.shift}, must be 0..{arithmetic.MAX_SHIFT}")

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest output."""
        return arithmetic.INT32 if self.output is None else self.output.range

    def __call__(self, acc: Ints) -> Ints:
        """Requantize a batch of accumulators (batch, channels, ...)."""
        multiplier, offset = (arithmetic.per_channel(v, acc.ndim) for v in (self.multiplier, self.offset))
        return arithmetic.requantize(acc, multiplier, offset, self.shift, self.bounds)


@dataclass(frozen=True, eq=False)
class Step:
    """How one task runs one layer: a mask for weighted layers, a requantization for all that compute."""

    mask: Bools | None = None
    requantization: Requantization | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            object.__setattr__(self, "mask", exactly(self.mask, np.bool_, "mask"))


@dataclass(frozen=True, eq=False)
class Task:
    """One task: its bank, its classes (in the order of the logits), and a step a layer, None where it does not run.

    ``routing`` is what the learner keeps to route later tasks into banks (statistics or samples, in its own
    format). Inference never reads it; it is stored, counted, and outside the seal. ``gate`` scores how much an input
    looks like one of this task; None where the network has no gates.
    """

    name: str
    bank: int
    classes: tuple[str, ...]
    steps: tuple[Step | None, ...]
    routing: bytes = b""
    gate: Gate | None = None

    def __post_init__(self) -> None:
        exact(self)
