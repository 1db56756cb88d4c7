"""Bits of the registers of a unit's module in SystemVerilog, by what they are for: what its logic is estimated from.

They are those of ``hls_templates/rtl``, as far as they are many: counters and handshakes of a unit are not counted, and
of products only what :mod:`sim.area` adds where no DSP takes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tsn_hw.core.memory import index_bits


@dataclass(frozen=True)
class Tags:
    """What goes along with a value through the stages of a unit: which of ``tasks``, and what differs of its shift."""

    tasks: int
    shift_bits: int

    @property
    def task_bits(self) -> int:
        """Width of a task."""
        return index_bits(self.tasks)


@dataclass(frozen=True)
class Registers:
    """Bits of registers.

    delays: what only waits until it is needed: tags, offsets, of lists also weights. vectors: activations that are held
    for several rows. lanes: beside multipliers: weights, sums of two and of four products, sums of lists. sums: of
    these those that an adder makes. accumulators: of rows, and of channels. finding: columns, words and activations
    that lanes of lists find by themselves.
    """

    delays: int = 0
    vectors: int = 0
    lanes: int = 0
    sums: int = 0
    accumulators: int = 0
    finding: int = 0


def distinct_bits(width_bits: int, words: int) -> int:
    """How many bits of a memory of few words can differ from one another: synthesis makes one of those that do not.

    >>> distinct_bits(44, 4), distinct_bits(44, 100)
    (14, 44)
    """
    return width_bits if words > width_bits.bit_length() else min(width_bits, (1 << words) - 2)
