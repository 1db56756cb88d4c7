"""A packed network as a pipeline of hardware units: what each computes, in which order, and how wide everything is.

HLS, RTL, memory files, cost and cycle models all read this; the numbers stand here once.

**Units.** Every layer of the body but Flatten becomes a unit, and the heads of all tasks together become one: it has
the rows of the largest, and for each task the words of its own head. Units are connected by streams.

**Order.** A stream carries pixels in raster order, channels innermost. So a matrix unit sees its columns in the order
(kernel row, kernel column, channel), or, behind a Flatten, (row, column, channel). A grouped convolution is computed
as the dense one whose words outside of the groups no task uses.

**Lines.** A matrix unit of C columns with folding pe x simd works on lines: line ``nf * (C / simd) + sf`` holds the
pe * simd weights of rows ``nf * pe + p`` and columns ``sf * simd + s``, in lane ``p * simd + s``.

**Regions.** The words of a unit lie in regions of one line memory: one region a bank, in the head one a task. A word is
``prefix | code``, the code in the low bits, and addresses the codebook of its region. In the head a word is a code
alone, because a head belongs to one task; so it is where all owners of a bank have the same codebook.

**Room for later tasks.** With ``max_tasks`` every width is the larger of what today's tasks need and a reserve that
follows from formats alone, so that it stays as it is while tasks come: prefixes for ``max_tasks`` owners, codes of
``code_bits``, a head of ``max_classes`` rows, accumulators for every sum that the formats allow (of an Add: with one
operand shifted left by :data:`SPARE_ALIGNMENT`), multipliers of 16 bits if the unit has any, offsets as wide as the
product.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import INPUT, Pair, Shape
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import HardwareSettings, UnitSettings

LOGIT_BITS = 32
SMALL_MEMORY_BITS = 1024
"""Memories up to this size become LUTs unless told otherwise: the default of Vitis HLS for FIFOs (UG1399)."""
MULTIPLIER_BITS = 16
"""Width that holds every multiplier of a network."""
SPARE_ALIGNMENT = 8
"""Left shift of an operand of an Add that there is always room for where later tasks may come."""
SHIFT_BITS = 6
"""Width of a stored shift: 0..62, and of the left shifts that align the operands of an Add."""


@dataclass(frozen=True)
class Stream:
    """Activations on their way: pixels in raster order, channels innermost."""

    shape: Shape
    bits: int
    signed: bool

    @property
    def channels(self) -> int:
        """Activations of one pixel; a vector is one pixel."""
        return self.shape[0]

    @property
    def positions(self) -> int:
        """Pixels of one inference."""
        return math.prod(self.shape[1:])

    @property
    def elements(self) -> int:
        """Activations of one inference."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Window:
    """A sliding window over a stream of pixels, ``lanes`` channels a word, and its schedule.

    It loads the rows that its first output row needs, and the first row in any case: where padding comes first, what it
    sends must still wait for the call whose input it is. Then, for every output row, it sends the windows of that row
    while it loads what the next row needs (after the last row: what is left). Rows lie in a ring of
    ``kernel[0] + stride[0]`` rows. Every step takes one cycle, and loads and sends at most one word.
    """

    source: Shape
    kernel: Pair
    stride: Pair
    padding: Pair
    output: Pair
    lanes: int

    @property
    def words_per_pixel(self) -> int:
        return self.source[0] // self.lanes

    @property
    def words_per_row(self) -> int:
        return self.source[2] * self.words_per_pixel

    @property
    def words_per_window(self) -> int:
        return math.prod(self.kernel) * self.words_per_pixel

    @property
    def buffer_words(self) -> int:
        """Words of ``lanes`` activations in the ring of rows."""
        return (self.kernel[0] + self.stride[0]) * self.words_per_row

    def rows_needed(self, row: int) -> int:
        """Input rows that must have arrived before an output row is sent."""
        return min(self.source[1], max(1, row * self.stride[0] - self.padding[0] + self.kernel[0]))

    @cached_property
    def cycles(self) -> int:
        """Cycles of one inference."""
        ends = [self.rows_needed(row) for row in range(self.output[0])] + [self.source[1]]
        sent = self.output[1] * self.words_per_window
        return ends[0] * self.words_per_row + sum(
            max(sent, (after - before) * self.words_per_row) for before, after in itertools.pairwise(ends)
        )


@dataclass(frozen=True)
class Scales:
    """Widths of a requantization ``(acc * multiplier + offset) >> shift``, over all tasks.

    multiplier_bits is 0 where all multipliers are 1. value_bits holds ``acc * multiplier + offset`` and the half that
    rounding adds.
    """

    accumulator_bits: int
    multiplier_bits: int
    offset_bits: int
    value_bits: int

    @property
    def bits(self) -> int:
        """Multiplier and offset of one channel."""
        return self.multiplier_bits + self.offset_bits


@dataclass(frozen=True)
class Unit:
    """What all units have.

    layers: the layer of the network that each task runs here. inputs: units that it reads, INPUT for the network's.
    input_lanes, output_lanes: activations in a word of its streams.
    """

    name: str
    layers: tuple[int, ...]
    inputs: tuple[int, ...]
    sources: tuple[Stream, ...]
    output: Stream
    settings: UnitSettings

    @property
    def input_lanes(self) -> int:
        return self.settings.folding.pe

    @property
    def output_lanes(self) -> int:
        return self.settings.folding.pe

    @property
    def cycles(self) -> int:
        """Cycles between two inferences, as far as this unit allows."""
        return self.output.elements // self.output_lanes


@dataclass(frozen=True)
class MatrixUnit(Unit):
    """Linear, Conv2d, or the heads: rows x columns weights applied at ``positions``."""

    rows: int
    columns: int
    window: Window | None
    groups: int
    regions: int
    prefix_bits: int
    code_bits: int
    centroid_bits: int
    scales: Scales
    is_head: bool

    @property
    def positions(self) -> int:
        return self.output.positions

    @property
    def word_bits(self) -> int:
        """``prefix | code``; also the address bits of a region's codebook."""
        return self.prefix_bits + self.code_bits

    @property
    def row_folds(self) -> int:
        return self.rows // self.settings.folding.pe

    @property
    def column_folds(self) -> int:
        return self.columns // self.settings.folding.simd

    @property
    def lanes(self) -> int:
        """Weights of a line."""
        return self.settings.folding.pe * self.settings.folding.simd

    @property
    def lines(self) -> int:
        """Lines of one region."""
        return self.row_folds * self.column_folds

    @property
    def input_lanes(self) -> int:
        return self.settings.folding.simd

    @property
    def matrix_cycles(self) -> int:
        """Cycles of one inference, one line a cycle."""
        return self.positions * self.lines

    @property
    def cycles(self) -> int:
        return max(self.matrix_cycles, self.window.cycles if self.window else 0)

    def arrange(self, weights: NDArray[Any]) -> Ints:
        """One integer or truth value a weight, (out, in) or (out, in / groups, kh, kw), as (rows, columns) in order.

        Rows that a head of fewer classes lacks, and places outside of the groups, are 0.
        """
        if weights.ndim == 4:
            pixels = self._ungrouped(weights).transpose(0, 2, 3, 1)
        else:
            pixels = np.moveaxis(weights.reshape(len(weights), *self.sources[0].shape), 1, -1)
        matrix = np.zeros((self.rows, self.columns), np.int64)
        matrix[: len(weights)] = pixels.reshape(len(weights), self.columns)
        return matrix

    def lines_of(self, matrix: Ints) -> Ints:
        """(rows, columns) as (lines, lanes)."""
        pe, simd = self.settings.folding.pe, self.settings.folding.simd
        tiles = matrix.reshape(self.row_folds, pe, self.column_folds, simd)
        return tiles.transpose(0, 2, 1, 3).reshape(self.lines, self.lanes)

    def _ungrouped(self, weights: NDArray[Any]) -> Ints:
        rows, channels = len(weights) // self.groups, weights.shape[1]
        dense = np.zeros((len(weights), channels * self.groups, *weights.shape[2:]), np.int64)
        for group in range(self.groups):
            some = slice(group * rows, (group + 1) * rows)
            dense[some, group * channels : (group + 1) * channels] = weights[some]
        return dense


@dataclass(frozen=True)
class PoolUnit(Unit):
    """MaxPool, or AvgPool where it has scales."""

    window: Window
    scales: Scales | None

    @property
    def cycles(self) -> int:
        return self.window.cycles


@dataclass(frozen=True)
class AddUnit(Unit):
    """Sum of two streams, each shifted left to the finer grid."""

    scales: Scales


HardwareUnit = MatrixUnit | PoolUnit | AddUnit


@dataclass(frozen=True)
class Accelerator:
    """A network and the units that compute it, every width known; made by :func:`accelerator`."""

    net: PackedNetwork
    settings: HardwareSettings
    units: tuple[HardwareUnit, ...]

    @property
    def max_tasks(self) -> int:
        return max(self.settings.max_tasks, len(self.net.tasks))

    @property
    def max_banks(self) -> int:
        return max(self.settings.max_banks, len(self.net.banks))

    @property
    def input(self) -> Stream:
        return Stream(self.net.input_shape, self.net.input.bits, self.net.input.signed)

    @property
    def head(self) -> MatrixUnit:
        """The unit that gives the logits."""
        unit = self.units[-1]
        assert isinstance(unit, MatrixUnit)  # made so
        return unit

    def stream(self, index: int) -> Stream:
        """What a unit sends, or the network's input."""
        return self.input if index == INPUT else self.units[index].output

    def readers(self, index: int) -> tuple[int, ...]:
        """Units that read the stream of a unit, or of INPUT."""
        return tuple(number for number, unit in enumerate(self.units) if index in unit.inputs)

    def region(self, unit: MatrixUnit, task: int) -> int:
        """The region of the line memory whose words a task reads."""
        return task if unit.is_head else self.net.tasks[task].bank
