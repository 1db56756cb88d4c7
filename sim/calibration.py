"""Fits the coefficients of :mod:`sim.area` to syntheses that were measured, and says how far a fit can be trusted.

Coefficients are those of least relative squared error, none negative: what comes out negative is left out, and the rest
fitted again. What points do not tell apart stays near what hardware lets expect: a register is a flip-flop, a bit of a
sum is a LUT. The error that is told is of points that the fit has not seen: each is left out once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from sim.area import AreaModel, Features, features
from sim.devices import Device
from sim.memories import place
from tsn_hw.hardware.accelerator import Accelerator

FREE = ("heads", "loops")
"""Features that nothing is expected of."""
EXPECTED_FF = Features(register_bits=1, output_bits=1, delay_bits=1, lane_bits=1, fabric_bits=1)
EXPECTED_LUT = Features(port_bits=1, row_bits=0.5, shift_bits=1, sum_bits=1, list_bits=1, area=2, codebooks=1)
"""Of LUTs with four inputs: one for a bit of a sum or of a choice between two; two additions to six registers of a
requantization. LUTs with six inputs choose among four."""
EXPECTED_LUT_OF_SIX = replace(EXPECTED_LUT, delay_bits=0.2, shift_bits=0.5, list_bits=0.3)
WEIGHT = 0.07
"""Of what is expected: twice or none of it counts as much as a point that is off by this share."""


NOTHING = 1e-6
"""Coefficients below this are what rounding left."""


@dataclass(frozen=True)
class Measured:
    """A synthesis: features of what was measured, what other memories are counted with, LUTs and flip-flops."""

    features: Features
    memory_lut: int
    memory_ff: int
    lut: int
    ff: int


def measured(design: Accelerator, device: Device, lut: int, ff: int) -> Measured:
    """What a synthesis of an accelerator for the family of a part tells the fit."""
    memories = [memory for unit in design.units for memory in design.memories_of(unit)]
    given = [features(design, unit, device) for unit in design.units]
    total = Features(**{field.name: sum(getattr(one, field.name) for one in given) for field in fields(Features)})
    codebooks = sum(place(memory, device).lut for memory in memories if memory.kind == "codebook")
    others = [place(memory, device) for memory in memories if memory.kind != "codebook"]
    memory_lut, memory_ff = sum(placed.lut for placed in others), sum(placed.ff for placed in others)
    return Measured(replace(total, codebooks=codebooks), memory_lut, memory_ff, lut, ff)


def fit(points: Sequence[Measured], lut_inputs: int, counted_lut: Features, source: str) -> AreaModel:
    """The model of a family from its measured points; ``counted_lut``: coefficients that no point tells of."""
    expected = EXPECTED_LUT_OF_SIX if lut_inputs >= 6 else EXPECTED_LUT
    lut, lut_error = _fitted(points, expected, lambda point: (point.lut, point.memory_lut))
    ff, ff_error = _fitted(points, EXPECTED_FF, lambda point: (point.ff, point.memory_ff))
    return AreaModel(source, len(points), _both(lut, counted_lut), lut_error, ff, ff_error)


def _both(first: Features, second: Features) -> Features:
    return Features(*(getattr(first, field.name) + getattr(second, field.name) for field in fields(Features)))


def _fitted(
    points: Sequence[Measured], expected: Features, measured: Callable[[Measured], tuple[int, int]]
) -> tuple[Features, float]:
    """Coefficients with four digits, and the mean error in percent of points that were left out.

    measured: what a point took, and how much of it is known to be of memories.
    """
    likely = {field.name: getattr(expected, field.name) for field in fields(Features)}
    names = [name for name, value in likely.items() if value or name in FREE]
    table = np.array([[getattr(point.features, name) for name in names] for point in points], np.float64)
    total, known = np.array([measured(point) for point in points], np.float64).T
    table, rest = table / total[:, None], (total - known) / total
    rows = np.diag([WEIGHT / likely[name] if likely[name] else 0.0 for name in names])
    wishes = np.array([WEIGHT if likely[name] else 0.0 for name in names])

    def solved(some: NDArray[np.bool_]) -> NDArray[np.float64]:
        return _non_negative(np.concatenate([table[some], rows]), np.concatenate([rest[some], wishes]))

    everyone = np.arange(len(points))
    errors = [abs(float(table[left] @ solved(everyone != left) - rest[left])) for left in everyone]
    values = [float(f"{value:.4g}") for value in solved(everyone >= 0)]
    return Features(**dict(zip(names, values, strict=True))), float(f"{100 * sum(errors) / len(errors):.1f}")


def _non_negative(table: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of least squared error; while one is negative, the most negative becomes 0."""
    used = np.flatnonzero(table.any(axis=0))
    while True:
        values = np.zeros(table.shape[1])
        values[used] = np.linalg.lstsq(table[:, used], rest, rcond=None)[0]
        values[np.abs(values) < NOTHING] = 0
        if values.min() >= 0:
            return values
        used = used[used != values.argmin()]
