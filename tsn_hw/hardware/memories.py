"""The memories of an accelerator, without their content: what addresses and bits mean, and what they are stored in.

The rule of storage stands here once: HLS, RTL and the area model render what :class:`Memory` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from tsn_hw.core.records import Bounds
from tsn_hw.hardware.folding import RamStyle

MemoryKind = Literal["words", "codebook", "mask", "scales", "task"]
KINDS: tuple[MemoryKind, ...] = get_args(MemoryKind)
Loading = Literal["never", "once", "task"]
Axis = tuple[str, int]
Storage = Literal["ultra", "block", "logic", "auto"]

LIMB_BITS = 64
MIN_DEPTH = 2
"""Depth of a FIFO that need not hold anything back: a word comes while one goes."""
IN_PARTS: tuple[MemoryKind, ...] = ("words", "mask")
"""Kinds of images that units read a line at a time, whose deep ones lie in parts side by side."""
BLOCK_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
"""Depths and widths of a block RAM of 18 kbit."""
BLOCK_LUTS = 128
"""LUTs that a block RAM is worth, as yosys reckons it."""
CHOICES = 4
"""Words of which a register behind a memory takes one: as many as two LUTs of four inputs choose from."""
SMALL_MEMORY_BITS = 1024
"""Memories up to this size become LUTs unless told otherwise: the default of Vitis HLS for FIFOs (UG1399)."""


@dataclass(frozen=True)
class Memory:
    """One memory as hardware reads it: an image, or a buffer ("window", "vector", "fifo").

    copies: independent read ports, each a copy of the content: every lane has a codebook of its own.
    """

    unit: str
    kind: str
    depth: int
    width_bits: int
    copies: int = 1
    writable: bool = False
    style: RamStyle = "auto"

    @property
    def bits(self) -> int:
        """Bits of one copy."""
        return self.depth * self.width_bits

    @property
    def part_words(self) -> int:
        """How many words lie behind one another in RTL; further ones lie beside them, and registers choose among those.

        Of the depths of a block RAM that which costs least, as synthesis would place it. So blocks are as many as
        without parts, and no longer way leads through a choice among many.
        """

        def cost(shape: tuple[int, int]) -> float:
            parts = -(-self.depth // shape[0])
            chosen = (parts - 1) * self.width_bits / 2  # a multiplexer of two is reckoned half a LUT
            return BLOCK_LUTS * -(-parts * self.width_bits // shape[1]) + chosen

        if self.kind not in IN_PARTS or self.storage != "block" or self.writable:
            return self.depth
        return min(self.depth, min(BLOCK_SHAPES, key=cost)[0])

    @property
    def choices(self) -> tuple[int, ...]:
        """Words that are left behind each register of the choice among parts; none where there is one part."""
        found = [-(-self.depth // self.part_words)]
        while found[-1] > 1:
            found.append(-(-found[-1] // CHOICES))
        return tuple(found[1:])

    @property
    def read_cycles(self) -> int:
        """Cycles until a word is there in RTL: the memory, its output register, and those that choose among parts."""
        return 2 + len(self.choices)

    @property
    def storage(self) -> Storage:
        """What it is stored in: UltraRAM, block RAM, logic (LUTs that are constant), or what the family has.

        A small memory that is written has no fixed form ("auto"): LUTs are no memory in every family.
        """
        if self.style == "ultra":
            return "ultra"
        if self.style == "block" or (self.style == "auto" and self.bits > SMALL_MEMORY_BITS):
            return "block"
        return "auto" if self.writable else "logic"


@dataclass(frozen=True)
class Field:
    """Some bits of a lane: a number, in two's complement if it is signed."""

    name: str
    bits: Annotated[int, Bounds(1, 64)]
    signed: bool = False


@dataclass(frozen=True)
class MemoryLayout:
    """What the addresses and the bits of a memory mean, and how it is held.

    axes: name and length of everything that an address counts through, the outermost first.
    lanes: equal parts of a word, the first in the lowest bits.
    fields: what a lane is made of, the first in the lowest bits.
    flags: bits of the word above all lanes, the first in the lowest bits.
    loaded: when load packets write it: never, once before the first inference, or whenever the task changes.
    style, copies: as of a :class:`Memory`. These two and loaded are no part of what files tell, nor of equality.
    """

    unit: str
    kind: MemoryKind
    axes: tuple[Axis, ...]
    lanes: int
    fields: tuple[Field, ...]
    loaded: Loading = field(default="never", compare=False)
    style: RamStyle = field(default="auto", compare=False)
    copies: int = field(default=1, compare=False)
    flags: tuple[Field, ...] = ()

    @property
    def name(self) -> str:
        """Name of the memory in files and reports."""
        return f"{self.unit}.{self.kind}"

    @property
    def depth(self) -> int:
        """Number of words."""
        return math.prod(length for _, length in self.axes)

    @property
    def width_bits(self) -> int:
        """Bits of a word."""
        return self.lanes * sum(field.bits for field in self.fields) + sum(flag.bits for flag in self.flags)

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return self.depth * self.width_bits

    @property
    def limbs(self) -> int:
        """64-bit limbs that hold a word."""
        return -(-self.width_bits // LIMB_BITS)

    @property
    def is_loaded(self) -> bool:
        """Whether load packets write it; if not, its content is constant."""
        return self.loaded != "never"

    @property
    def file(self) -> str:
        """Name of the file that RTL reads: of its words, or of lines of as many as lie side by side."""
        return f"{self.name}.parts.mem" if self.memory.choices else f"{self.name}.mem"

    @property
    def memory(self) -> Memory:
        """What hardware makes of it."""
        return Memory(self.unit, self.kind, self.depth, self.width_bits, self.copies, self.is_loaded, self.style)
