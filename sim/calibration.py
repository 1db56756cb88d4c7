"""Fits the coefficients of :mod:`sim.area` to syntheses that were measured, and says how far a fit can be trusted.

Coefficients are those of least relative squared error, none negative: what comes out negative is left out, and the rest
fitted again. The error that is told is of points that the fit has not seen: each is left out once.
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

LUT_FEATURES = (
    "heads", "loops", "row_bits", "shift_bits", "accumulator_bits", "sum_bits", "area", "port_bits",
    "list_bits", "codebooks",
)  # fmt: skip
FF_FEATURES = ("heads", "loops", "row_bits", "accumulator_bits", "lane_bits", "fabric_bits", "port_bits", "list_bits")


NOTHING = 1e-6
"""Coefficients below this are what rounding left."""


@dataclass(frozen=True)
class Measured:
    """A synthesis: features of what was measured, LUTs that other memories are counted with, LUTs and flip-flops."""

    features: Features
    memory_lut: int
    lut: int
    ff: int


def measured(design: Accelerator, device: Device, lut: int, ff: int) -> Measured:
    """What a synthesis of an accelerator for the family of a part tells the fit."""
    memories = [memory for unit in design.units for memory in design.memories_of(unit)]
    given = [features(design, unit, device) for unit in design.units]
    total = Features(**{field.name: sum(getattr(one, field.name) for one in given) for field in fields(Features)})
    codebooks = sum(place(memory, device).lut for memory in memories if memory.kind == "codebook")
    others = sum(place(memory, device).lut for memory in memories if memory.kind != "codebook")
    return Measured(replace(total, codebooks=codebooks), others, lut, ff)


def fit(points: Sequence[Measured], counted_lut: Features, counted_ff: Features, source: str) -> AreaModel:
    """The model of a family from its measured points; ``counted``: coefficients that no point tells of."""
    lut, lut_error = _fitted(points, LUT_FEATURES, lambda point: point.lut, lambda point: point.memory_lut)
    ff, ff_error = _fitted(points, FF_FEATURES, lambda point: point.ff, lambda _: 0)
    return AreaModel(source, len(points), _both(lut, counted_lut), lut_error, _both(ff, counted_ff), ff_error)


def _both(first: Features, second: Features) -> Features:
    return Features(*(getattr(first, field.name) + getattr(second, field.name) for field in fields(Features)))


def _fitted(
    points: Sequence[Measured],
    names: Sequence[str],
    measured: Callable[[Measured], int],
    known: Callable[[Measured], int],
) -> tuple[Features, float]:
    """Coefficients with four digits, and the mean error in percent of points that were left out."""
    table = np.array([[getattr(point.features, name) for name in names] for point in points], np.float64)
    total = np.array([measured(point) for point in points], np.float64)
    rest = total - np.array([known(point) for point in points], np.float64)
    table, rest = table / total[:, None], rest / total
    everyone = np.arange(len(points))
    errors = [
        abs(float(table[left] @ _non_negative(table[everyone != left], rest[everyone != left]) - rest[left]))
        for left in everyone
    ]
    values = [float(f"{value:.4g}") for value in _non_negative(table, rest)]
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
