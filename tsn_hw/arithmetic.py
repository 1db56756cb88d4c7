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

from tsn_hw.errors import NetworkError

Ints = NDArray[np.int64]
Carrier = Literal["float32", "float64", "int64"]

INT32 = (-(2**31), 2**31 - 1)
MAX_SHIFT = 62
FLOAT32_EXACT = 2**24
"""float32 holds every integer up to this magnitude, so sums that stay within it are exact."""
FLOAT64_EXACT = 2**53


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


def carrier(largest: int) -> Carrier:
    """The cheapest number type in which integers up to ``largest`` in magnitude are exact.

    >>> carrier(2**24), carrier(2**24 + 1), carrier(2**53 + 1)
    ('float32', 'float64', 'int64')
    """
    if largest <= FLOAT32_EXACT:
        return "float32"
    return "float64" if largest <= FLOAT64_EXACT else "int64"
