"""The integer contract: the only place in Python that rounds, saturates or bounds.

Every engine computes these integers, and engines are compared with ``==``:

1. ``acc = sum(weight * activation)``, exact;
2. ``y = saturate(round_half_even((acc * multiplier + offset) / 2**shift))``;
3. float carriers are used only where :func:`carrier` proves them exact.

All functions are pure numpy on int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsn_hw.core.errors import NetworkError
from tsn_hw.core.records import exact

Ints = NDArray[np.int64]
Carrier = Literal["float32", "float64", "int64"]

INT32 = (-(2**31), 2**31 - 1)
MAX_SHIFT = 62
FLOAT32_EXACT = 2**24
"""float32 holds every integer up to this magnitude, so sums that stay within it are exact."""
FLOAT64_EXACT = 2**53
_FLOAT32_SHIFT = 40
"""Larger shifts are left to wider types: their steps lie beyond all sums of int32."""


@dataclass(frozen=True)
class ActFormat:
    """An activation format: integers of ``bits`` bits; real value = integer * 2**exponent.

    >>> ActFormat(bits=8, signed=False, exponent=-8).range
    (0, 255)
    """

    bits: int
    signed: bool
    exponent: int

    def __post_init__(self) -> None:
        exact(self)
        if not 1 <= self.bits <= 16:
            raise NetworkError(f"activation format: {self.bits} bits, must be 1..16")
        if not -64 <= self.exponent <= 64:
            raise NetworkError(f"activation format: exponent {self.exponent}, must be -64..64")

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        if self.signed:
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1


def round_shift(value: Ints, shift: int) -> Ints:
    """value / 2**shift, rounded half to even (IEEE 754, ONNX Round, AP_RND_CONV), in integers.

    >>> round_shift(np.array([-6, -2, 2, 6, 10]), 2).tolist()
    [-2, 0, 0, 2, 2]
    """
    if shift == 0:
        return value
    half = 1 << (shift - 1)  # value + half - 1 + (odd quotient) carries into the quotient when it must round up
    return (value + (half - 1) + ((value >> shift) & 1)) >> shift


def saturate(value: Ints, bounds: tuple[int, int]) -> Ints:
    """Clip to the smallest and largest integer of a format."""
    return np.clip(value, *bounds)


def requantize(acc: Ints, multiplier: Ints, offset: Ints, shift: int, bounds: tuple[int, int]) -> Ints:
    """Scale accumulators by multiplier / 2**shift after adding the offset, round half to even, saturate.

    ``multiplier`` and ``offset`` must broadcast against ``acc``; see :func:`per_channel`.

    >>> requantize(np.array([5, 6, 7, 900]), np.array(1), np.array(0), 1, (0, 255)).tolist()
    [2, 3, 4, 255]
    """
    return saturate(round_shift(acc * multiplier + offset, shift), bounds)


def per_channel(vector: Ints, dims: int) -> Ints:
    """View a (channels,) or (1,) vector so that it broadcasts over a batch-first array of ``dims`` axes."""
    return vector.reshape(1, -1, *[1] * (dims - 2))


def align(a: Ints, a_exponent: int, b: Ints, b_exponent: int) -> Ints:
    """a + b on the finer of the two power-of-two grids (exact).

    >>> align(np.array([3]), -2, np.array([5]), -4).tolist()
    [17]
    """
    finer = min(a_exponent, b_exponent)
    return (a << (a_exponent - finer)) + (b << (b_exponent - finer))


def quantize(real: ArrayLike, form: ActFormat) -> Ints:
    """Real numbers to the integers of a format: round half to even, saturate.

    >>> quantize([0.5, 0.501953125, 2.0], ActFormat(8, False, -8)).tolist()
    [128, 128, 255]
    """
    values = np.asarray(real, dtype=np.float64)
    if not np.isfinite(values).all():
        raise NetworkError("quantize: the input holds NaN or infinity")
    with np.errstate(over="ignore"):  # what overflows saturates
        scaled = np.ldexp(values, -form.exponent)
    return saturate(np.rint(np.clip(scaled, -(2.0**62), 2.0**62)).astype(np.int64), form.range)


def nearest(real: ArrayLike) -> Ints:
    """The integers nearest to real numbers, half to even: how multipliers and offsets become integers.

    >>> nearest([0.5, 1.5, -2.4]).tolist()
    [0, 2, -2]
    """
    rounded = np.rint(np.asarray(real, dtype=np.float64))
    if not (np.abs(rounded) < 2.0**62).all():  # false for NaN too
        raise NetworkError("nearest: a value is NaN or reaches 2**62")
    return rounded.astype(np.int64)


def accumulator_bounds(weights: Ints, bounds: tuple[int, int]) -> tuple[Ints, Ints]:
    """Smallest and largest accumulator of each output channel, for activations within ``bounds``.

    Zero always counts as a possible activation (padding, partial sums), so every partial sum, in any
    order of summation, stays within the returned values.

    ``weights``: (out, ...). Returns two arrays of shape (out,).

    >>> accumulator_bounds(np.array([[2, -3]]), (0, 10))
    (array([-30]), array([20]))
    """
    low, high = min(bounds[0], 0), max(bounds[1], 0)
    rows = weights.reshape(len(weights), -1)
    positive = np.where(rows > 0, rows, 0).sum(axis=1, dtype=np.int64)
    negative = np.where(rows < 0, rows, 0).sum(axis=1, dtype=np.int64)
    return positive * low + negative * high, positive * high + negative * low


def magnitude(*bounds: Ints | int) -> int:
    """The largest absolute value among bounds, as a Python integer (no overflow)."""
    return max((max(abs(int(np.max(b))), abs(int(np.min(b)))) for b in bounds), default=0)


def signed_bits(*values: Ints | int) -> int:
    """The narrowest two's complement width that holds all values.

    >>> signed_bits(0), signed_bits(-128, 127), signed_bits(128)
    (1, 8, 9)
    """
    low, high = (int(choose([choose(v) for v in values])) for choose in (np.min, np.max))
    return 1 + max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length())


def requantization_magnitude(low: Ints, high: Ints, multiplier: Ints, offset: Ints) -> int:
    """The largest |acc * multiplier| + |offset| for accumulators within [low, high], without overflow."""
    largest = 0
    channels = np.broadcast(low, multiplier, offset)
    for smallest_acc, factor, add in channels:
        largest = max(largest, abs(int(smallest_acc)) * abs(int(factor)) + abs(int(add)))
    for largest_acc, factor, add in np.broadcast(high, multiplier, offset):
        largest = max(largest, abs(int(largest_acc)) * abs(int(factor)) + abs(int(add)))
    return largest


def exact_in_float32(multiplier: Ints, shift: int, bounds: tuple[int, int], low: Ints, high: Ints) -> NDArray[np.bool_]:
    """Whether float32 requantizes as the contract does, channel by channel, with one multiplication by a scale.

    ``float32(value) * float32(multiplier / 2**shift)``, rounded half to even and saturated, must be the contract's
    integer for every ``value`` of a channel within [low, high] (all vectors (channels,)). Both are staircases that
    only rise (a negative multiplier mirrors them), so they are equal if they are equal at both sides of every step of
    the contract's.

    >>> multiplier, reach = np.array([1505, 1506, 1507]), np.full(3, 2**20)
    >>> exact_in_float32(multiplier, 22, (0, 255), -reach, reach).tolist()
    [False, True, True]
    """
    factor = np.abs(multiplier)[:, None]
    if shift > _FLOAT32_SHIFT or not factor.all():
        return np.zeros(multiplier.shape, np.bool_)
    scale = np.ldexp(factor.astype(np.float64), -shift).astype(np.float32)
    step = np.arange(bounds[0] + 1, bounds[1] + 1)
    quotient, rest = np.divmod((2 * step - 1) << shift, 2 * factor)
    first = quotient + ((rest > 0) | (step % 2 == 1))  # the smallest value that the contract rounds to the step
    lowest, highest = (np.where(multiplier < 0, a, b)[:, None] for a, b in ((-high, low), (-low, high)))
    on, below = np.maximum(first, lowest), np.minimum(first - 1, highest)
    on_step, below_step = (np.rint(value.astype(np.float32) * scale) for value in (on, below))
    equal = ((on > highest) | (on_step >= step)) & ((below < lowest) | (below_step < step))
    exact: NDArray[np.bool_] = equal.all(axis=1)
    return exact


def nearest_in_float32(
    multiplier: Ints, offset: Ints, shift: int, bounds: tuple[int, int], low: Ints, high: Ints
) -> tuple[Ints, Ints]:
    """The multipliers next to given ones that float32 requantizes exactly, and offsets that are multiples of them.

    ``low``, ``high``: smallest and largest accumulator. A channel that has no such multiplier within 1/16 of its own
    keeps what it had. All vectors (channels,).

    >>> reach = np.array([2**20])
    >>> nearest_in_float32(np.array([1504]), np.array([4000]), 22, (0, 255), -reach, reach)
    (array([1506]), array([4518]))
    """
    multiplier, offset = multiplier.copy(), offset.copy()
    wanted, wanted_offset = multiplier.copy(), offset.copy()
    left = np.abs(wanted) >= 1
    for distance in range(int(np.abs(wanted).max()) // 16 + 1):
        for change in {distance, -distance}:
            tried = wanted + change
            bias = nearest(wanted_offset / np.where(tried == 0, 1, tried))
            fits = left & (np.abs(change) * 16 <= np.abs(wanted)) & (tried != 0)
            fits &= exact_in_float32(np.where(tried == 0, 1, tried), shift, bounds, low + bias, high + bias)
            multiplier[fits], offset[fits] = tried[fits], (tried * bias)[fits]
            left &= ~fits
        if not left.any():
            break
    return multiplier, offset


def carrier(largest: int) -> Carrier:
    """The cheapest number type in which integers up to ``largest`` in magnitude are exact.

    >>> carrier(2**24), carrier(2**24 + 1), carrier(2**53 + 1)
    ('float32', 'float64', 'int64')
    """
    if largest <= FLOAT32_EXACT:
        return "float32"
    return "float64" if largest <= FLOAT64_EXACT else "int64"
