"""A packed network as a pipeline of hardware units: what each computes, in which order, and how wide everything is.

HLS, RTL, memory files, cost and cycle models all read this; the numbers stand here once. A kind of unit states its
facts as attributes, and nobody asks which kind a unit is.

**Units.** Every layer of the body but Flatten becomes a unit, and the heads of all tasks together become one: it has
the rows of the largest, and for each task the words of its own head. Units are connected by streams.

**Order.** A stream carries pixels in raster order, channels innermost. So a matrix unit sees its columns in the order
(kernel row, kernel column, channel), or, behind a Flatten, (row, column, channel). A depthwise convolution has the
columns (kernel row, kernel column), and a row of it reads its own channel alone. Any other grouped one is computed as
the dense one whose words outside of the groups no task uses.

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

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Shape
from tsn_hw.hardware.folding import Multiplier, UnitSettings
from tsn_hw.hardware.memories import MIN_DEPTH, Axis, Field, Loading, Memory, MemoryKind, MemoryLayout
from tsn_hw.hardware.registers import Registers, Tags
from tsn_hw.hardware.window import Window

LINES = ("words", "mask")
"""Kinds of memories that hold a bit or more of every weight."""
LOGIT_BITS = 32
MULTIPLIER_BITS = 16
"""Width that holds every multiplier of a network."""
SPARE_ALIGNMENT = 8
"""Left shift of an operand of an Add that there is always room for where later tasks may come."""
SHIFT_BITS = 6
"""Width of a stored shift: 0..62, and of the left shifts that align the operands of an Add."""


@dataclass(frozen=True)
class ActivationStream:
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
class RequantizationWidths:
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


class Products(NamedTuple):
    """So many products a cycle, each of two signed factors of so many bits, and what makes them."""

    per_cycle: int
    first_bits: int
    second_bits: int
    multiplier: Multiplier = "auto"


Parameters = Mapping[str, int | str]
"""Numbers and names that a module is compiled with, by name; truth values as such."""


@dataclass(frozen=True)
class Unit(ABC):
    """What all units have; a kind of unit states here what is different about it.

    number: its place, in the order of execution. layers: the layer of the network that each task runs here. inputs:
    units that it reads, INPUT for the network's. window: what stands in front of it, if anything. scales: widths of its
    requantization, if it has one. is_head: whether it gives the logits, so that each task has words of its own.
    """

    number: int
    name: str
    layers: tuple[int, ...]
    inputs: tuple[int, ...]
    sources: tuple[ActivationStream, ...]
    output: ActivationStream
    settings: UnitSettings
    window: Window | None
    scales: RequantizationWidths | None
    is_head: bool

    has_words: ClassVar[bool] = False
    """Whether it has weights: words, codebooks and masks, and a folding with simd."""
    keeps: ClassVar[tuple[MemoryKind, ...]] = ("words",)
    """The memories that all tasks share: a unit that holds one task at a time keeps these when the task changes."""

    @property
    @abstractmethod
    def module(self) -> str:
        """Name of its function in C++ and of its module in SystemVerilog."""

    @property
    def title(self) -> str:
        """Its name, and its size in a few words."""
        return f"{self.name}: {self.output.elements} values, {self.pe} in a cycle"

    @property
    def identifier(self) -> str:
        """Its name in C++ and in SystemVerilog: unique, and like the layer's: ``u3_conv_1_a`` of ``conv-1.a``."""
        return f"u{self.number}_{re.sub(r'[^A-Za-z0-9]+', '_', self.name).strip('_')}"

    @property
    def holds_one_task(self) -> bool:
        """Whether it holds the parameters of one task at a time, which are loaded when the task changes."""
        return self.settings.mask == "runtime"

    # ------------------------------------------------------------------------------------------------------- folding

    @property
    def rows(self) -> int:
        """What pe divides: channels of the output."""
        return self.output.channels

    @property
    def most_simd(self) -> int:
        """What simd divides; 1 where there is pe alone."""
        return 1

    @property
    def pe(self) -> int:
        """Channels of the output that it works on in a cycle: activations in a word of it."""
        return self.settings.folding.pe

    @property
    def simd(self) -> int:
        """Columns that it works on in a cycle."""
        return self.settings.folding.simd

    @property
    def lanes(self) -> int:
        """Values that it works on in a cycle; the weights of a line."""
        return self.pe * self.simd

    @property
    def by_part(self) -> bool:
        """Whether each channel of its output is of one channel of the input, so that windows come a word at a time."""
        return not self.has_words

    @property
    def input_lanes(self) -> int:
        """Activations in a word of its inputs."""
        return self.pe if self.by_part else self.simd

    @property
    def row_folds(self) -> int:
        """Words of the output of one position."""
        return self.rows // self.pe

    @property
    def scale_lanes(self) -> int:
        """Rows with scales of their own in a line of scales; without words, one that all rows share."""
        return self.pe if self.has_words else 1

    # -------------------------------------------------------------------------------------------------------- cycles

    @property
    def steps(self) -> int:
        """Cycles of one inference that its own loop takes, with the slowest task."""
        return self.output.elements // self.pe

    def steps_of(self, task: int) -> int:
        """The same with this task; most units take as long with every task."""
        return self.steps

    @property
    def cycles(self) -> int:
        """Cycles between two inferences with the slowest task, as far as this unit and its window allow."""
        return self._interval(self.steps)

    def cycles_of(self, task: int) -> int:
        """The same with this task."""
        return self._interval(self.steps_of(task))

    def _interval(self, steps: int) -> int:
        """Cycles between two inferences whose own loop takes so many steps."""
        return max(steps, self.window.cycles if self.window else 0)

    @property
    def input_depth(self) -> int:
        """Words that may wait for it, so that it and its writer go on while the other is busy."""
        return MIN_DEPTH

    def words_read(self, words: Ints) -> Ints:
        """How many words of each input it has read when it writes its first, second ... word."""
        return words

    # --------------------------------------------------------------------------------------------------- what is in it

    @property
    def parameters(self) -> Parameters:
        """The numbers of its module."""
        names = ("INPUT",) if len(self.sources) == 1 else ("FIRST", "SECOND")
        streams = zip((*names, "OUTPUT"), (*self.sources, self.output), strict=True)
        found: dict[str, int | str] = {"INDEX": self.number, "PE": self.pe}
        for name, stream in streams:
            found |= {f"{name}_BITS": stream.bits, f"{name}_SIGNED": stream.signed}
        found |= self._own_parameters
        if self.scales is not None:
            found |= {name.upper(): bits for name, bits in asdict(self.scales).items()}
            found["IS_LOADED"] = self.holds_one_task
        return found

    @property
    def _own_parameters(self) -> Parameters:
        return {"WORDS": self.output.elements // self.pe}

    @property
    def class_bits(self) -> int:
        """Width of the number of classes in the task words of a head; of other units 0."""
        return self.rows.bit_length() if self.is_head else 0

    @property
    def banks(self) -> Parameters:
        """How many vectors its buffers hold, where its module asks for that."""
        return {}

    @property
    def loops(self) -> int:
        """Controlled loops that run at the same time, that of its window among them."""
        return 1 if self.window is None else 2

    def registers(self, tags: Tags) -> Registers:
        """What most registers of its module are for, besides those of requantization."""
        if self.scales is None:
            return Registers()
        sums = self.pe * self.scales.accumulator_bits
        return Registers(delays=self.scales.bits + tags.shift_bits, sums=sums, accumulators=sums)

    @property
    def products(self) -> list[Products]:
        """The products that it computes in a cycle.

        Factors are signed: an activation without a sign has a bit more.
        """
        if self.scales is None or not self.scales.multiplier_bits:
            return []
        return [Products(self.pe, self.scales.accumulator_bits, self.scales.multiplier_bits)]

    def layouts(self, tasks: int) -> tuple[MemoryLayout, ...]:
        """What its memories look like, with room for so many tasks."""
        tasks_axis = ("task", 1 if self.holds_one_task else tasks)
        found = self._word_layouts(tasks_axis)
        if self.scales is not None:
            of_rows = (
                Field("multiplier", self.scales.multiplier_bits, signed=True),
                Field("offset", self.scales.offset_bits, signed=True),
            )
            axes = tasks_axis, *self._scale_axes
            found.append(self._layout("scales", axes, self.scale_lanes, (*of_rows, *self._scale_fields)))
            fields = Field("known", 1), *self._task_fields, Field("classes", self.class_bits)
            found.append(self._layout("task", (tasks_axis,), 1, fields))
        return tuple(found)

    def _word_layouts(self, tasks: Axis) -> list[MemoryLayout]:
        """Words, codebooks and masks."""
        return []

    @property
    def _scale_axes(self) -> tuple[Axis, ...]:
        """What addresses of scales count through, besides tasks."""
        return (("row_fold", self.row_folds if self.has_words else 1),)

    @property
    def _scale_fields(self) -> tuple[Field, ...]:
        """What is said of a row besides its scales."""
        return ()

    def scale_rows(self, task: int) -> Ints:
        """The rows in the order of the scales of a task; where a lane has none, a number beyond the last."""
        return np.arange(self.rows if self.has_words else 1)

    def scales_besides(self, task: int) -> Mapping[str, Ints]:
        """What is said of rows besides their scales, by field, in the same order."""
        return {}

    @property
    def _task_fields(self) -> tuple[Field, ...]:
        """What a task word says besides that the task is known."""
        return (Field("shift", SHIFT_BITS),)

    def own_task_word(self, task: int) -> Mapping[str, int]:
        """The values of what only this kind of unit says in the word of a task."""
        return {}

    def _layout(
        self, kind: MemoryKind, axes: tuple[Axis, ...], lanes: int, fields: tuple[Field, ...], copies: int = 1
    ) -> MemoryLayout:
        """A layout with what it is stored in: lines in the memory that the settings ask for, codebooks in LUTs.

        With mask "runtime" all that tasks do not share is loaded when the task changes. UltraRAM has no content of its
        own, so that the words in it, and the masks of all tasks, are written once, before the first inference.
        """
        style = self.settings.ram_style if kind in LINES else "distributed" if kind == "codebook" else "auto"
        loaded: Loading = "once" if style == "ultra" else "never"
        if self.holds_one_task and kind not in self.keeps:
            loaded = "task"
        some = tuple(field for field in fields if field.bits)
        return MemoryLayout(self.name, kind, axes, lanes, some, loaded, style, copies)

    @property
    def figures(self) -> Mapping[str, object]:
        """Its sizes and widths by name, where it has weights."""
        return {}

    def memories(self, tasks: int) -> list[Memory]:
        """Its memories with room for so many tasks, and its buffers; FIFOs that other units decide on are no part."""
        return [*(layout.memory for layout in self.layouts(tasks)), *self.buffers]

    @property
    def buffers(self) -> list[Memory]:
        """Memories of activations: the FIFOs of its inputs that hold more than others, and what it reads again.

        "window" is the ring of rows in front of a convolution or a pooling, "vector" the input that a matrix unit reads
        again for every row fold.
        """
        found = [("fifo", self.input_depth)]
        if self.window is not None:
            found += [("window", self.window.buffer_words), ("fifo", self.window.input_depth)]
        found += self._vectors
        width = self.input_lanes * self.sources[0].bits
        kept = ((kind, depth) for kind, depth in found if kind != "fifo" or depth > MIN_DEPTH)
        return [Memory(self.name, kind, depth, width, writable=True) for kind, depth in kept]

    @property
    def _vectors(self) -> list[tuple[str, int]]:
        return []
