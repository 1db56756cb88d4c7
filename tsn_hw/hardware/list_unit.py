"""The matrix unit that skips zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError
from tsn_hw.core.memory import index_bits
from tsn_hw.core.network import BankLayer
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.lists import Schedule, fewest_lines, gap_widths, list_lines, schedule
from tsn_hw.hardware.memories import MIN_DEPTH, Axis, Field, Memory, MemoryLayout
from tsn_hw.hardware.registers import Registers, Tags
from tsn_hw.hardware.units import Parameters

RESULT_STAGES = 14
"""Stages of ``tsn_lists`` behind the entries of a line, up to the first of its results that leaves."""


@dataclass(frozen=True)
class ListUnit(MatrixUnit):
    """The same with lists of the weights that each task uses: see :mod:`tsn_hw.hardware.lists`.

    While the lists of one vector run, the next one arrives, and the results of the one before leave.
    """

    keeps = ()
    skips_zeros = True

    @property
    def module(self) -> str:
        return "lists"

    @property
    def unpaired(self) -> str:
        return "lanes of lists share no activation; choose 'auto' or 'lut'"

    def check_layout(self) -> None:
        super().check_layout()
        simd, where = self.simd, f"layer {self.name!r}: layout='lists'"
        if simd & simd - 1:
            raise FoldingError(f"{where}: simd={simd}, must be a power of two")
        if self.settings.mask == "none":
            raise FoldingError(f"{where}: mask='none' is for a dense unit; choose 'deep' or 'runtime'")
        if self.has_room and not self.settings.lines:
            raise FoldingError(
                f"{where}: with max_tasks the lists of later tasks need room; today's take "
                f"{self.list_lines.sum()} lines, give lines={self.lines_for(2 * len(self.layers))} for twice the tasks"
            )
        needed = replace(self, settings=replace(self.settings, lines=0)).lines
        if needed > self.lines:
            raise FoldingError(f"{where}: lines={self.lines}, but the lists take {needed}")

    def lines_for(self, tasks: int) -> int:
        """Lines for the lists of so many tasks, each as long as the longest of today."""
        return int(self.list_lines.max()) * (1 if self.holds_one_task else tasks)

    @cached_property
    def schedules(self) -> list[Schedule]:
        """Which lane computes which row when, task by task."""
        entries = self.row_lengths.entries(self.arrange, self.gap_bits)
        return [schedule(rows, self.pe, self.simd) for rows in entries]

    @cached_property
    def gap_bits(self) -> int:
        """Width of a gap: that of the smallest lists, or with room for later tasks one that needs no escapes."""
        widths = gap_widths(self.columns)
        if self.has_room:
            return widths[-1]
        return min(widths, key=lambda bits: self._fewest_lines(bits) * self._line_width(bits))

    def _fewest_lines(self, gap_bits: int) -> int:
        """Lines that the lists of all tasks take at least with gaps of so many bits."""
        entries = self.row_lengths.entries(self.arrange, gap_bits)
        return sum(fewest_lines(rows, self.pe, self.simd) for rows in entries)

    def _line_width(self, gap_bits: int) -> int:
        """Bits of a line with gaps of so many."""
        return self.lanes * (self.word_bits + gap_bits) + self.end_bits

    @property
    def end_bits(self) -> int:
        """Width of what a line says of turns: 1 + the team whose turn ends, or 0."""
        return index_bits(self.simd + 1)

    @cached_property
    def list_lines(self) -> Ints:
        """(tasks,) lines of every task's list."""
        return np.array([found.lines for found in self.schedules])

    @property
    def lines(self) -> int:
        """Lines of the list memory."""
        used = self.list_lines.max() if self.holds_one_task else self.list_lines.sum()
        return self.settings.lines or int(used)

    def first_line(self, task: int) -> int:
        """Where the list of a task begins."""
        return 0 if self.holds_one_task else int(self.list_lines[:task].sum())

    @property
    def steps(self) -> int:
        """One line a cycle, with the slowest task."""
        return self.positions * int(self.list_lines.max())

    def steps_of(self, task: int) -> int:
        return self.positions * int(self.list_lines[task])

    def _interval(self, steps: int) -> int:
        """A vector arrives, and leaves, while another is worked on."""
        return max(super()._interval(steps), self.positions * max(self.column_folds, self.row_folds))

    def words_bits_read(self, task: int) -> int:
        return int(self.list_lines[task]) * self._line_width(self.gap_bits)

    def vector_bits_read(self, task: int) -> int:
        """Every lane reads a word of the vector a line."""
        return self.steps_of(task) * self.lanes * self.simd * self.sources[0].bits

    @property
    def least_lines(self) -> int:
        """Lines of the shortest list that any task may have."""
        return self.row_folds if self.has_room else int(self.list_lines.min())

    @property
    def input_depth(self) -> int:
        first = self.window.rows_needed(0) * self.window.words_per_row if self.window else 0
        return max(MIN_DEPTH, self.column_folds * (1 + -(-first // self.least_lines)))

    @property
    def place_bits(self) -> int:
        """Width of the place of a row."""
        return index_bits(self.row_folds)

    @property
    def line_bits(self) -> int:
        """Width of the address of a line."""
        return index_bits(self.lines)

    @property
    def loops(self) -> int:
        """One more for vectors that arrive, and results that leave, while lists run."""
        return super().loops + 1

    def registers(self, tags: Tags) -> Registers:
        centroid_bits = self.centroid_bits
        read, sum_bits, columns = self.read_cycles(tags.tasks), self.scales.accumulator_bits, index_bits(self.columns)
        part = (self.simd - 1).bit_length()
        delays = (
            (read + 4) * tags.task_bits + (read + 6) * tags.shift_bits + (read + 1) * (2 + index_bits(self.regions))
        )
        delays += 6 * self.end_bits + 5 * self.simd + 7 * self.pe * self.place_bits + self.offset_delays(tags.tasks)
        delays += self.lanes * (3 + 2 * part + 2 * centroid_bits)
        word = self.simd * self.sources[0].bits
        return Registers(
            delays=delays,
            lanes=self.lanes * (centroid_bits + sum_bits),
            sums=self.lanes * sum_bits,
            accumulators=self.pe * sum_bits,
            finding=self.lanes * (2 * columns + self.word_bits + word),
        )

    @property
    def _lengths(self) -> list[int]:
        """Lines of the lists; of lists of any length, those wait longest that run as long as a vector arrives."""
        return [max(self.least_lines, self.column_folds)] if self.has_room else self.list_lines.tolist()

    @property
    def vector_banks(self) -> int:
        """Vectors that there is room for: so many that no list waits for the next one.

        They are held from their first word on, until the last line of their list has been looked up.
        """
        after = self._words.memory.read_cycles + 1
        held = (-(-(self.column_folds + lines + after) // max(lines, self.column_folds)) for lines in self._lengths)
        return max(2, *held)

    @property
    def result_banks(self) -> int:
        """Vectors of results that there is room for, a power of two: so many that no list waits for the way out.

        They are held from the first line of their list on, until all have left.
        """
        after = self._words.memory.read_cycles + RESULT_STAGES + self.row_folds
        needed = max(-(-(lines + after) // max(lines, self.column_folds)) for lines in self._lengths)
        return 1 << (needed - 1).bit_length()

    @property
    def _own_parameters(self) -> Parameters:
        numbers = {name: value for name, value in super()._own_parameters.items() if name != "HAS_MASK"}
        return numbers | {
            "GAP_BITS": self.gap_bits,
            "END_BITS": self.end_bits,
            "PLACE_BITS": self.place_bits,
            "LINE_BITS": self.line_bits,
        }

    @property
    def banks(self) -> Parameters:
        return {"VECTOR_BANKS": self.vector_banks, "RESULT_BANKS": self.result_banks}

    def _word_layouts(self, tasks: Axis) -> list[MemoryLayout]:
        _, codebook, *_ = super()._word_layouts(tasks)
        return [self._words, codebook]

    @property
    def _words(self) -> MemoryLayout:
        fields = Field("code", self.code_bits), Field("prefix", self.prefix_bits), Field("gap", self.gap_bits)
        words = self._layout("words", (("line", self.lines),), self.lanes, fields)
        return replace(words, flags=(Field("ends", self.end_bits),))

    @property
    def _scale_axes(self) -> tuple[Axis, ...]:
        return (("turn", self.row_folds),)

    @property
    def _scale_fields(self) -> tuple[Field, ...]:
        return (Field("place", self.place_bits),)

    def scale_rows(self, task: int) -> Ints:
        return self.schedules[task].rows

    def scales_besides(self, task: int) -> Mapping[str, Ints]:
        return {"place": self.schedules[task].places}

    @property
    def _task_fields(self) -> tuple[Field, ...]:
        return *super()._task_fields, Field("first", self.line_bits), Field("final", self.line_bits)

    def own_task_word(self, task: int) -> Mapping[str, int]:
        first = self.first_line(task)
        return {"first": first, "final": first + int(self.list_lines[task]) - 1}

    def word_lines(self, memory: BankLayer, task: int) -> dict[str, Ints]:
        mask = self.arrange(self.row_lengths.net.mask(task, self.layers[task])).astype(bool)
        code, prefix = self.arrange(memory.code), self.arrange(self._prefixes(memory))
        return asdict(list_lines(self.schedules[task], self.lanes, self.gap_bits, mask, code, prefix))

    def mark_words(self, read: NDArray[np.bool_], task: int, region: int) -> None:
        """Set the lines of the task's list, in (line, lane)."""
        read[self.first_line(task) :][: self.list_lines[task]] = True

    @property
    def figures(self) -> Mapping[str, object]:
        return {**super().figures, "gap_bits": self.gap_bits, "list_lines": self.list_lines.tolist()}

    @property
    def buffers(self) -> list[Memory]:
        """Also a copy of the vectors for every lane, and the results, those of each channel of a word by themselves."""
        source = self.sources[0]
        vectors, results = self.vector_banks << index_bits(self.column_folds), self.result_banks << self.place_bits
        return [
            *super().buffers,
            Memory(self.name, "vector", vectors, self.simd * source.bits, self.lanes, writable=True),
            Memory(self.name, "result", results, self.output.bits, self.pe, writable=True),
        ]

    @property
    def _vectors(self) -> list[tuple[str, int]]:
        return []
