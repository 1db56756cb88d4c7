"""How much hardware every unit of an accelerator gets: folding, mask memory, memory type. Numbers only, no network.

A matrix unit computes ``pe`` rows times ``simd`` columns in a cycle (FINN's words). It has
``rows / pe * columns / simd`` lines of weights, and takes as many cycles for a vector. Units without weights work on
``pe`` channels in a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tsn_hw.core.errors import FoldingError, shown
from tsn_hw.core.records import exact

MaskMode = Literal["deep", "runtime", "none"]
Layout = Literal["dense", "lists"]
Multiplier = Literal["auto", "lut", "packed"]
RamStyle = Literal["auto", "block", "distributed", "ultra"]
ROOM = {"max_tasks": 4096, "max_banks": 4096, "code_bits": 8, "max_classes": 2**20}
"""The most that there may be room for: as many as a file may have."""


@dataclass(frozen=True)
class Folding:
    """Rows (``pe``) and columns (``simd``) that a unit computes in parallel."""

    pe: int
    simd: int = 1

    def __post_init__(self) -> None:
        exact(self, FoldingError)
        if min(self.pe, self.simd) < 1:
            raise FoldingError(f"folding: pe={self.pe}, simd={self.simd}: both must be at least 1")


@dataclass(frozen=True)
class UnitSettings:
    """What one unit gets.

    mask: "deep" holds the masks of all tasks on chip; "runtime" only those parameters that the current task reads, and
    they are loaded over the bus when the task changes; "none" where every task uses every word.
    ram_style: what the words and masks are stored in, in FINN's terms.
    layout: of the words of a unit with weights: "dense", a word at every place and masks; or "lists" of the weights
    that each task uses, so that no cycle goes to the others.
    multiplier: what multiplies words and activations: "auto", a multiplier for every product, of what the synthesis
    tool chooses; "lut", LUTs alone; "packed", a DSP for the products of two rows with the same activation.
    lines: lines that the lists have room for, those of all tasks together; with mask "runtime", of one. 0: as many as
    there are.
    """

    folding: Folding
    mask: MaskMode = "deep"
    ram_style: RamStyle = "auto"
    layout: Layout = "dense"
    lines: int = 0
    multiplier: Multiplier = "auto"


@dataclass(frozen=True)
class HardwareSettings:
    """Settings of every unit, by name, and what there shall be room for: tasks, banks, bits of a code, classes.

    0: no more than there is; :data:`ROOM` has the most. With ``max_tasks`` the widths of all fields have room for what
    a later task may need, and stay the same until the last task has come: see :mod:`tsn_hw.hardware.units`.
    """

    units: Mapping[str, UnitSettings] = field(default_factory=dict)
    max_tasks: int = 0
    max_banks: int = 0
    code_bits: int = 0
    max_classes: int = 0

    def __post_init__(self) -> None:
        exact(self, FoldingError)
        for what, most in ROOM.items():
            if not 0 <= getattr(self, what) <= most:
                raise FoldingError(f"{what}={shown(getattr(self, what))}: must be 0..{most}")


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, smallest first.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return tuple(sorted({*small, *(number // n for n in small)}))


def nearest_divisors(number: int, wanted: int) -> tuple[int, ...]:
    """The legal choices around a wanted one: the largest divisor below and the smallest above.

    >>> nearest_divisors(100, 3), nearest_divisors(100, 4), nearest_divisors(10, 70)
    ((2, 4), (4,), (10,))
    """
    legal = divisors(number)
    if wanted in legal:
        return (wanted,)
    return tuple([d for d in legal if d < wanted][-1:] + [d for d in legal if d > wanted][:1])


def check_divides(unit: str, what: str, value: int, whole: int, of_what: str) -> None:
    """Refuse a parallelism that does not divide what it works on, with the nearest that do."""
    if whole % value:
        nearest = " or ".join(map(str, nearest_divisors(whole, value)))
        raise FoldingError(f"layer {unit!r}: {what}={value} does not divide its {whole} {of_what}; nearest: {nearest}")
