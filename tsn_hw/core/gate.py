"""Which task is it? A gate of a task scores how much an input looks like what the task was learned from.

*Features* of the input are the same for all tasks of a network, and integers:

* of every channel, sums over windows of ``pool`` that do not overlap, divided by 2**shift and rounded down;
* where ``edges`` is a window, behind them: of every such window, ``floor(2 * sqrt(sum))`` of the differences
  ``|x[i, j + 1] - x[i, j]|`` of all channels, then of ``|x[i + 1, j] - x[i, j]|``; behind the last column, or row, the
  difference is 0.

Rows and columns that fill no window are left out. The score of a task is the largest of its *components*, each of
which gives ``bias + linear · f - sum of y**2`` with ``y = saturate(round_half_even((map · f + offset) / 2**shift))`` in
8 bits: a linear score, as of features that are independent, or the logarithm of a normal distribution whose ``map``
turns features into independent ones. The task of an input is the first one with the largest score; of several inputs
of one task, the one with the largest sum. Scores fit int32; whoever computes them in float64 is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tsn_hw.core.arithmetic import (
    INT32,
    MAX_SHIFT,
    ActFormat,
    Ints,
    accumulator_bounds,
    magnitude,
    signed_bits,
)
from tsn_hw.core.arrays import exactly
from tsn_hw.core.errors import NetworkError, SettingsError
from tsn_hw.core.layers import Pair, Shape
from tsn_hw.core.records import exact

SATURATED = (-128, 127)
"""Smallest and largest y."""
LARGEST_SUM = 2**52
"""Of the magnitudes of a row's products and offset: float64 holds them, and what is added to round them."""
MAX_BITS, OFFSET_BITS, SHIFT_BITS = 16, 53, 6
"""Most bits of an entry of linear and map, and of an offset; bits of the shift of a row, in a file."""
NO_EDGES = (0, 0)


@dataclass(frozen=True)
class Features:
    """How inputs become features; the module says more.

    >>> features = Features(pool=(4, 4), shift=4, edges=(8, 8))
    >>> features.count((3, 32, 32)), features.range((3, 32, 32), ActFormat(8, False, -8))
    (224, (0, 442))
    """

    pool: Pair = (1, 1)
    shift: int = 0
    edges: Pair = NO_EDGES

    def __post_init__(self) -> None:
        exact(self)
        if min(self.pool) < 1:
            raise NetworkError(f"gate: pool {self.pool}: must be at least (1, 1)")
        if not 0 <= self.shift <= MAX_SHIFT:
            raise NetworkError(f"gate: shift {self.shift}, must be 0..{MAX_SHIFT}")
        if self.edges != NO_EDGES and min(self.edges) < 1:
            raise NetworkError(f"gate: edges {self.edges}: must be a window, or (0, 0) for none")

    def windows(self, shape: Shape) -> tuple[Pair, Pair]:
        """Rows and columns of windows of sums and of edges; NetworkError where an input is smaller than a window."""
        if len(shape) == 1:
            if (self.pool, self.edges) != ((1, 1), NO_EDGES):
                raise NetworkError(f"gate: inputs {shape} have no windows; pool must be (1, 1), edges (0, 0)")
            return (1, shape[0]), NO_EDGES
        pooled = shape[1] // self.pool[0], shape[2] // self.pool[1]
        differing = NO_EDGES if self.edges == NO_EDGES else (shape[1] // self.edges[0], shape[2] // self.edges[1])
        if min(pooled) < 1 or (self.edges != NO_EDGES and min(differing) < 1):
            raise NetworkError(f"gate: windows {self.pool} and {self.edges} do not fit inputs {shape}")
        return pooled, differing

    def count(self, shape: Shape) -> int:
        """Number of features of an input."""
        pooled, differing = self.windows(shape)
        return (shape[0] if len(shape) == 3 else 1) * math.prod(pooled) + 2 * math.prod(differing)

    def range(self, shape: Shape, form: ActFormat) -> Pair:
        """Smallest and largest feature that there can be."""
        low, high = form.range
        size = math.prod(self.pool)
        most = size * high >> self.shift
        if self.edges != NO_EDGES:
            most = max(most, math.isqrt(4 * shape[0] * math.prod(self.edges) * (high - low)))
        return size * low >> self.shift, most


@dataclass(frozen=True, eq=False)
class Component:
    """One way in which inputs of a task look.

    linear: (features,); map: (rows, features); offset, shift: (rows,). Row r reads the features up
    to number ``features - rows + r``, all others are 0: with as many rows as features, a triangle.
    """

    bias: int
    linear: Ints
    map: Ints
    offset: Ints
    shift: Ints

    def __post_init__(self) -> None:
        exact(self)
        for name in ("linear", "map", "offset", "shift"):
            object.__setattr__(self, name, exactly(getattr(self, name), np.int64, f"gate: {name}"))
        rows, features = self.map.shape if self.map.ndim == 2 else (-1, -1)
        shapes = self.linear.shape, self.offset.shape, self.shift.shape
        if shapes != ((features,), (rows,), (rows,)) or rows > features:
            raise NetworkError(f"gate: map {self.map.shape} with linear, offset and shift of {shapes}")
        if rows and not 0 <= int(self.shift.min()) <= int(self.shift.max()) <= MAX_SHIFT:
            raise NetworkError(f"gate: shifts {self.shift.min()}..{self.shift.max()}, must be 0..{MAX_SHIFT}")
        widest = max(self.bits[:2], default=0)
        if widest > MAX_BITS or self.bits[2] > OFFSET_BITS:
            raise NetworkError(
                f"gate: weights of {widest} bits, offsets of {self.bits[2]}, at most {MAX_BITS}, {OFFSET_BITS}"
            )
        if self.map[~stored(rows, features)].any():
            raise NetworkError("gate: a row of a map reads features behind its last one")

    @property
    def bits(self) -> tuple[int, int, int]:
        """Two's complement bits of linear, 0 where all of it is 0, of the map and of offsets, 0 without rows."""
        linear = signed_bits(self.linear) if self.linear.any() else 0
        return (linear, signed_bits(self.map), signed_bits(self.offset)) if len(self.map) else (linear, 0, 0)

    def bounds(self, reach: Pair) -> Pair:
        """Least and largest score that features within ``reach`` can give."""
        low, high = (int(end[0]) for end in accumulator_bounds(self.linear[None], reach))
        return self.bias + low - len(self.map) * SATURATED[0] ** 2, self.bias + high

    def largest_sum(self, reach: Pair) -> int:
        """The largest magnitude of a sum before it is shifted."""
        if not len(self.map):
            return 0
        return magnitude(*accumulator_bounds(self.map, reach)) + magnitude(self.offset)


def stored(rows: int, features: int) -> np.ndarray:
    """Which places (rows, features) of a map are read, bool."""
    return np.arange(features) <= np.arange(features - rows, features)[:, None]


@dataclass(frozen=True, eq=False)
class Gate:
    """The gate of one task."""

    features: Features
    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        if not self.components:
            raise NetworkError("gate: has no components")


def gates_of(gates: Iterable[Gate | None]) -> list[Gate]:
    """The gates of all tasks; SettingsError where there are none."""
    found = [gate for gate in gates if gate is not None]
    if not found:
        raise SettingsError("the network has no gates to tell its tasks apart; tsn-hw gate makes them")
    return found


def check_gates(gates: Mapping[str, Gate | None], shape: Shape, form: ActFormat) -> None:
    """Refuse gates, by the name of their task, that do not fit one another or inputs of this shape and format."""
    given = {name: gate for name, gate in gates.items() if gate is not None}
    for name, gate in given.items():
        first, *_ = given.values()
        if gate.features != first.features:
            raise NetworkError(f"task {name!r}: features of its gate {gate.features} are not those of other tasks")
        count, reach = gate.features.count(shape), gate.features.range(shape, form)
        if count * magnitude(*reach) >= LARGEST_SUM >> 6:
            raise NetworkError(
                f"task {name!r}: its gate has {count} features up to {magnitude(*reach)}: too many, too large"
            )
        for component in gate.components:
            _check_component(component, f"task {name!r}", count, reach)
    if given and len(given) < len(gates):
        without = next(name for name, gate in gates.items() if gate is None)
        raise NetworkError(f"task {without!r}: has no gate, as other tasks have")


def _check_component(component: Component, where: str, count: int, reach: Pair) -> None:
    """Refuse a component of another number of features, or whose numbers some engine cannot hold."""
    if component.linear.shape != (count,):
        raise NetworkError(f"{where}: gate of {len(component.linear)} features, the inputs have {count}")
    low, high = component.bounds(reach)
    largest = component.largest_sum(reach)
    if largest > LARGEST_SUM or not INT32[0] <= low <= high <= INT32[1]:
        raise NetworkError(
            f"{where}: its gate reaches sums of {largest} and scores {low}..{high}, must fit 2**52 and int32"
        )
