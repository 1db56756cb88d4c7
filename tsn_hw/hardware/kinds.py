"""The kinds of units: what each states of itself beyond what all have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError
from tsn_hw.core.memory import index_bits
from tsn_hw.core.network import BankLayer
from tsn_hw.core.parts import UNUSED
from tsn_hw.hardware.folding import Multiplier
from tsn_hw.hardware.lists import RowLengths
from tsn_hw.hardware.memories import MIN_DEPTH, Axis, Field, MemoryLayout
from tsn_hw.hardware.registers import Registers, Tags, distinct_bits
from tsn_hw.hardware.units import SHIFT_BITS, Parameters, Products, RequantizationWidths, Unit
from tsn_hw.hardware.window import Window

MULTIPLIERS: dict[Multiplier, str] = {"auto": "", "lut": ", products of LUTs", "packed": ", two rows a multiplier"}
"""What multiplies, in the order in which modules number it, and how a unit tells it."""


@dataclass(frozen=True)
class MatrixUnit(Unit):
    """Linear, Conv2d, or the heads: rows x columns weights applied at ``positions``.

    row_lengths: how long its rows are as lists. has_room: whether its widths are those that later tasks may need.
    """

    scales: RequantizationWidths
    groups: int
    regions: int
    prefix_bits: int
    code_bits: int
    centroid_bits: int
    row_lengths: RowLengths
    has_room: bool

    has_words = True
    skips_zeros: ClassVar[bool] = False
    """Whether only weights that a task uses are multiplied."""

    @property
    def module(self) -> str:
        return "matrix"

    @property
    def title(self) -> str:
        told = MULTIPLIERS[self.settings.multiplier]
        return f"{self.name}: {self.rows} rows x {self.columns} columns, {self.pe} x {self.simd} in a cycle{told}"

    @property
    def columns(self) -> int:
        """Weights of a row, those that groups leave out too."""
        return self.sources[0].channels * math.prod(self.window.kernel) if self.window else self.sources[0].elements

    @property
    def positions(self) -> int:
        return self.output.positions

    @property
    def word_bits(self) -> int:
        """``prefix | code``; also the address bits of a region's codebook."""
        return self.prefix_bits + self.code_bits

    @property
    def most_simd(self) -> int:
        return self.sources[0].channels if self.window else self.columns

    @property
    def column_folds(self) -> int:
        return self.columns // self.simd

    @property
    def lines(self) -> int:
        """Lines of one region."""
        return self.row_folds * self.column_folds

    @property
    def steps(self) -> int:
        """One line a cycle."""
        return self.positions * self.lines

    @property
    def input_depth(self) -> int:
        """A vector, and as many more as it takes while the window before it loads its first rows."""
        first = self.window.rows_needed(0) * self.window.words_per_row if self.window else 0
        return max(MIN_DEPTH, self.column_folds * (1 + -(-first // self.lines)))

    def words_read(self, words: Ints) -> Ints:
        return -(-words // self.row_folds) * self.column_folds

    def words_bits_read(self, task: int) -> int:
        """Bits of words and masks that are read for a vector of a task."""
        return self.rows * self.columns * (self.word_bits + (self.settings.mask != "none"))

    def vector_bits_read(self, task: int) -> int:
        """Bits of activations that are read in an inference of a task."""
        return self.steps * self.input_lanes * self.sources[0].bits

    @property
    def figures(self) -> Mapping[str, object]:
        names = ("rows", "columns", "positions", "lines", "regions", "prefix_bits", "code_bits", "centroid_bits")
        return {name: getattr(self, name) for name in names}

    @property
    def _own_parameters(self) -> Parameters:
        return {
            "SIMD": self.simd,
            "POSITIONS": self.positions,
            "ROW_FOLDS": self.row_folds,
            "COLUMN_FOLDS": self.column_folds,
            "WORD_BITS": self.word_bits,
            "REGION_BITS": index_bits(self.regions),
            "CLASS_BITS": self.class_bits,
            "CENTROID_BITS": self.centroid_bits,
            "MULTIPLIER": list(MULTIPLIERS).index(self.settings.multiplier),
            "HAS_MASK": self.settings.mask != "none",
            "DEPTHWISE": self.by_part,
        }

    @property
    def factor_bits(self) -> int:
        """Width of an activation as a signed number."""
        return self.sources[0].bits + (not self.sources[0].signed)

    @property
    def wide_bits(self) -> int:
        """Width of two weights as one factor, the lower one below as many bits as its product takes."""
        return self.sources[0].bits + 2 * self.centroid_bits + 1

    @property
    def products(self) -> list[Products]:
        own, multiplier = Products(self.lanes, self.factor_bits, self.centroid_bits), self.settings.multiplier
        if multiplier == "packed":
            own = Products(self.lanes // 2, self.wide_bits, self.factor_bits)
        return [own._replace(multiplier=multiplier), *super().products]

    def read_cycles(self, tasks: int) -> int:
        """Cycles until words and masks are there."""
        return max(layout.memory.read_cycles for layout in self.layouts(tasks))

    def offset_delays(self, tasks: int) -> int:
        """Registers of offsets that wait for their products, two behind that of the memory."""
        return 2 * distinct_bits(self.pe * self.scales.offset_bits, tasks * self.row_folds)

    def _held_for_products(self) -> tuple[int, int]:
        """Bits of registers in front of what multiplies that a DSP of one product has itself, and of sums there.

        The halves of a product of LUTs; of a pair the activation, both weights and two flags, and its wide factor.
        """
        if self.settings.multiplier == "lut":
            return self.lanes * (2 * self.factor_bits + self.centroid_bits), 0
        if self.settings.multiplier == "packed":
            return self.lanes // 2 * (self.factor_bits + 2 * self.centroid_bits + 2), self.lanes // 2 * self.wide_bits
        return 0, 0

    def registers(self, tags: Tags) -> Registers:
        centroid_bits = self.centroid_bits
        product_bits, sum_bits = self.factor_bits + centroid_bits, self.scales.accumulator_bits
        read, word = self.read_cycles(tags.tasks), self.input_lanes * self.sources[0].bits
        row = read + 6  # the stage in which the sum of a row is
        delays = 2 * row + (row - 2) * (1 + tags.task_bits) + read * index_bits(self.regions)
        delays += (row + 1) * tags.shift_bits + self.offset_delays(tags.tasks)
        is_held = self.row_folds > 1 and not self.by_part
        pairs = -(-self.simd // 2) * min(sum_bits, product_bits + 1) if self.simd > 1 else 0
        fours = -(-self.simd // 4) * min(sum_bits, product_bits + 2) if self.simd > 2 else 0
        row_sum = min(sum_bits, product_bits + (self.simd - 1).bit_length())
        waiting = 0 if self.simd > 1 else 2 * self.pe * min(sum_bits, product_bits)  # of one product, no sum is made
        held, added = self._held_for_products()
        return Registers(
            delays=delays + waiting + (0 if is_held else (read + 1) * word),
            vectors=(read + 2) * word if is_held else 0,
            lanes=held + self.lanes * centroid_bits + self.pe * (pairs + fours),
            sums=added + self.pe * (pairs + fours + sum_bits),
            accumulators=self.pe * (sum_bits + row_sum),
        )

    def _word_layouts(self, tasks: Axis) -> list[MemoryLayout]:
        lines = ("row_fold", self.row_folds), ("column_fold", self.column_folds)
        words = Field("code", self.code_bits), Field("prefix", self.prefix_bits)
        books = (
            ("region", 1 if self.holds_one_task else self.regions),
            ("prefix", 1 << self.prefix_bits),
            ("code", 1 << self.code_bits),
        )
        centroid = Field("centroid", self.centroid_bits, signed=True)
        found = [
            self._layout("words", (("region", self.regions), *lines), self.lanes, words),
            self._layout("codebook", books, 1, (centroid,), copies=self.lanes),
        ]
        if self.settings.mask != "none":
            found.append(self._layout("mask", (tasks, *lines), self.lanes, (Field("mask", 1),)))
        return found

    @property
    def _task_fields(self) -> tuple[Field, ...]:
        return Field("region", index_bits(self.regions)), *super()._task_fields

    @property
    def _vectors(self) -> list[tuple[str, int]]:
        return [("vector", self.column_folds)] if self.row_folds > 1 else []

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

    def lines_of(self, weights: NDArray[Any]) -> Ints:
        """The same as (lines, lanes)."""
        tiles = self.arrange(weights).reshape(self.row_folds, self.pe, self.column_folds, self.simd)
        return tiles.transpose(0, 2, 1, 3).reshape(self.lines, self.lanes)

    def word_lines(self, memory: BankLayer, task: int) -> dict[str, Ints]:
        """The lines of a memory that a task reads, by field: those of its region, or of its list if it skips zeros."""
        return {"code": self.lines_of(memory.code), "prefix": self.lines_of(self._prefixes(memory))}

    def mark_words(self, read: NDArray[np.bool_], task: int, region: int) -> None:
        """Set what a task reads, in (region, row fold, column fold, lane) of the memory of words."""
        mask = self.row_lengths.net.mask(task, self.layers[task])
        read[region] |= self.lines_of(mask).reshape(read[region].shape).astype(bool)

    @property
    def unpaired(self) -> str:
        """Why its products share no multiplier in pairs, and what to choose; empty where two rows do."""
        if self.by_part:
            return "rows of a depthwise convolution share no activation; choose 'auto' or 'lut'"
        if self.pe % 2:
            return f"is for two rows at a time, but pe={self.pe}; choose an even pe, 'auto' or 'lut'"
        return ""

    def check_layout(self) -> None:
        """Refuse settings that its layout cannot have."""
        if self.settings.multiplier == "packed" and self.unpaired:
            raise FoldingError(f"layer {self.name!r}: multiplier='packed': {self.unpaired}")

    def _prefixes(self, memory: BankLayer) -> NDArray[Any]:
        """The owner of every weight; 0 where there is none, and in heads, whose words are codes alone."""
        return np.where((memory.owner == UNUSED) | self.is_head, 0, memory.owner)

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

    @property
    def module(self) -> str:
        return "average_pool" if self.scales else "max_pool"

    @property
    def area(self) -> int:
        """Words that a word of the output is made of."""
        return math.prod(self.window.kernel)

    @property
    def steps(self) -> int:
        return super().steps * self.area

    def words_read(self, words: Ints) -> Ints:
        return words * self.area

    @property
    def _own_parameters(self) -> Parameters:
        return {**super()._own_parameters, "AREA": self.area}


@dataclass(frozen=True)
class AddUnit(Unit):
    """Sum of two streams, each shifted left to the finer grid."""

    scales: RequantizationWidths

    @property
    def module(self) -> str:
        return "add"

    def registers(self, tags: Tags) -> Registers:
        """Both operands and their sum; scales wait for it."""
        own = super().registers(tags)
        return Registers(delays=2 * own.delays, sums=own.sums, accumulators=3 * own.accumulators)

    @property
    def _task_fields(self) -> tuple[Field, ...]:
        return *super()._task_fields, Field("left_shift_0", SHIFT_BITS), Field("left_shift_1", SHIFT_BITS)
