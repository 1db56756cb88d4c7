"""What every memory of an accelerator holds, bit for bit: the one source of HLS, RTL, memory files and memory cost.

========  ===========================  ==========================================================================
kind      a word of it                 depth
========  ===========================  ==========================================================================
words     a line: ``prefix | code``    regions * lines
          of every lane
codebook  a centroid, two's            regions * 2**word_bits; address: region, prefix, code
          complement
mask      a line: a bit for every      tasks * lines (deep), lines (runtime)
          lane
scales    multiplier, then offset,     tasks * row folds (runtime: row folds); one for AvgPool and Add
          of ``pe`` rows
task      1, region of the words,      tasks (runtime: one)
          shift; an Add: two left
          shifts more
========  ===========================  ==========================================================================

The first lane, and the first field of a lane, lies in the lowest bits. What nobody uses is 0: the lowest bit of a task
word says whether there is such a task. A unit whose masks are "runtime" holds the codebook, mask, scales and task word
of one task; its images are those of the first task, and :func:`task_images` gives what is loaded for another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError
from tsn_hw.core.memory import index_bits
from tsn_hw.core.network import BankLayer, Requantization
from tsn_hw.core.parts import UNUSED
from tsn_hw.core.records import Bounds
from tsn_hw.hardware.units import SHIFT_BITS, Accelerator, AddUnit, MatrixUnit, PoolUnit, Unit

Kind = Literal["words", "codebook", "mask", "scales", "task"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Limbs = NDArray[np.uint64]

LIMB_BITS = 64
MAX_BITS = 2**32
"""Most bits of all memories of an accelerator; the largest parts have an eighth of that on chip."""


@dataclass(frozen=True)
class Field:
    """Some bits of a lane: a number, in two's complement if it is signed."""

    name: str
    bits: Annotated[int, Bounds(1, 64)]
    signed: bool = False


@dataclass(frozen=True)
class MemoryLayout:
    """What the addresses and the bits of a memory mean.

    axes: name and length of everything that an address counts through, the outermost first.
    lanes: equal parts of a word, the first in the lowest bits.
    fields: what a lane is made of, the first in the lowest bits.
    """

    unit: str
    kind: Kind
    axes: tuple[tuple[str, int], ...]
    lanes: int
    fields: tuple[Field, ...]

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
        return self.lanes * sum(field.bits for field in self.fields)

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return self.depth * self.width_bits

    @property
    def limbs(self) -> int:
        """64-bit limbs that hold a word."""
        return -(-self.width_bits // LIMB_BITS)


@dataclass(frozen=True, eq=False)
class MemoryImage:
    """The content of one memory: (depth, limbs) of 64 bits, the lowest limb first."""

    layout: MemoryLayout
    limbs: Limbs

    @property
    def unit(self) -> str:
        return self.layout.unit

    @property
    def kind(self) -> Kind:
        return self.layout.kind

    @property
    def name(self) -> str:
        """Name of the memory in files and reports."""
        return self.layout.name

    @property
    def depth(self) -> int:
        """Number of words."""
        return self.layout.depth

    @property
    def width_bits(self) -> int:
        """Bits of a word."""
        return self.layout.width_bits

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return self.layout.bits

    @property
    def octets(self) -> NDArray[np.uint8]:
        """The words in whole bytes, the lowest first: (depth, bytes of a word). What digests are taken of."""
        return self.limbs.astype("<u8").view(np.uint8)[:, : -(-self.width_bits // 8)]


def is_loaded(unit: Unit, kind: Kind) -> bool:
    """Whether a memory of a unit is written over the bus.

    With mask "runtime" all but the words is, when the task changes. UltraRAM has no content of its own, so that the
    words in it, and the masks of all tasks, are written once, before the first inference.
    """
    if kind == "words":
        return unit.settings.ram_style == "ultra"
    return unit.settings.mask == "runtime" or (kind == "mask" and unit.settings.ram_style == "ultra")


Fields = Sequence[tuple[Ints, int]]
"""Values (depth, lanes) and their width, for every field of a lane, lowest first."""


def pack_lanes(fields: Fields) -> Limbs:
    """Lanes of bit fields as words: (depth, limbs); negative values in two's complement.

    >>> [hex(word) for word in pack_lanes([(np.array([[1, 2]]), 4), (np.array([[-1, 0]]), 2)]).ravel()]
    ['0xb1']
    """
    lanes = np.concatenate([_bits_of(values, width) for values, width in fields], axis=2)
    depth, width = len(lanes), lanes.shape[1] * lanes.shape[2]
    limbs = -(-width // LIMB_BITS)
    packed = np.zeros((depth, limbs * LIMB_BITS // 8), np.uint8)
    packed[:, : -(-width // 8)] = np.packbits(lanes.reshape(depth, width), axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def _bits_of(values: Ints, width: int) -> NDArray[np.uint8]:
    """(depth, lanes) as (depth, lanes, width) bits, lowest first."""
    container = next(size for size in (1, 2, 4, 8) if width <= 8 * size)
    octets = values.astype(f"<i{container}", order="C").view(np.uint8).reshape(*values.shape, container)
    return np.unpackbits(octets, axis=2, count=width, bitorder="little") if width else octets[:, :, :0]


def memory_layouts(accelerator: Accelerator, unit: Unit) -> tuple[MemoryLayout, ...]:
    """What the memories of a unit look like: those of its images, without their content."""
    runtime = unit.settings.mask == "runtime"
    tasks = ("task", 1 if runtime else accelerator.max_tasks)
    layouts: list[tuple[Kind, tuple[tuple[str, int], ...], int, list[Field]]] = []
    region = []
    if isinstance(unit, MatrixUnit):
        lines = ("row_fold", unit.row_folds), ("column_fold", unit.column_folds)
        regions = ("region", unit.regions)
        words = [Field("code", unit.code_bits), Field("prefix", unit.prefix_bits)]
        books = (
            ("region", 1 if runtime else unit.regions),
            ("prefix", 1 << unit.prefix_bits),
            ("code", 1 << unit.code_bits),
        )
        layouts.append(("words", (regions, *lines), unit.lanes, words))
        layouts.append(("codebook", books, 1, [Field("centroid", unit.centroid_bits, signed=True)]))
        if unit.settings.mask != "none":
            layouts.append(("mask", (tasks, *lines), unit.lanes, [Field("mask", 1)]))
        region = [Field("region", index_bits(unit.regions))]
    scales = unit.scales if isinstance(unit, MatrixUnit | PoolUnit | AddUnit) else None
    if scales is not None:
        folds, lanes = (unit.row_folds, unit.settings.folding.pe) if isinstance(unit, MatrixUnit) else (1, 1)
        of_rows = [
            Field("multiplier", scales.multiplier_bits, signed=True),
            Field("offset", scales.offset_bits, signed=True),
        ]
        lefts = [Field(f"left_shift_{i}", SHIFT_BITS) for i in range(2)] if isinstance(unit, AddUnit) else []
        layouts.append(("scales", (tasks, ("row_fold", folds)), lanes, of_rows))
        layouts.append(("task", (tasks,), 1, [Field("known", 1), *region, Field("shift", SHIFT_BITS), *lefts]))
    return tuple(
        MemoryLayout(unit.name, kind, axes, lanes, tuple(field for field in fields if field.bits))
        for kind, axes, lanes, fields in layouts
    )


def memory_images(accelerator: Accelerator) -> tuple[MemoryImage, ...]:
    """All memories of an accelerator, unit by unit; FoldingError where they are larger than any part's."""
    whole = sum(layout.bits for unit in accelerator.units for layout in memory_layouts(accelerator, unit))
    if whole > MAX_BITS:
        raise FoldingError(f"the memories of the accelerator have {whole} bits, at most {MAX_BITS} are built")
    tasks = range(len(accelerator.net.tasks))
    return tuple(
        _image(accelerator, unit, layout, [0] if unit.settings.mask == "runtime" else tasks)
        for unit in accelerator.units
        for layout in memory_layouts(accelerator, unit)
    )


def task_images(accelerator: Accelerator, unit: Unit, task: int) -> list[MemoryImage]:
    """What is loaded for a task into a unit whose masks are "runtime": codebook, mask, scales and task word.

    It does not change when later tasks come.
    """
    layouts = memory_layouts(accelerator, unit)
    return [_image(accelerator, unit, layout, [task]) for layout in layouts if layout.kind != "words"]


def _image(accelerator: Accelerator, unit: Unit, layout: MemoryLayout, tasks: Sequence[int]) -> MemoryImage:
    """The content of a memory for some tasks; what is for others, known or to come, is 0."""
    values = _VALUES[layout.kind](accelerator, unit, tasks)
    packed = pack_lanes([(values[field.name].reshape(-1, layout.lanes), field.bits) for field in layout.fields])
    limbs = np.zeros((layout.depth, layout.limbs), np.uint64)
    limbs[: len(packed)] = packed
    limbs.setflags(write=False)
    return MemoryImage(layout, limbs)


def _memory(accelerator: Accelerator, unit: Unit, task: int) -> BankLayer:
    return accelerator.net.words(task, unit.layers[task])


def _words(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> dict[str, Ints]:
    """The lines of every region, whatever the tasks."""
    assert isinstance(unit, MatrixUnit)  # no other has words
    code, prefix = np.zeros((2, unit.regions, unit.lines, unit.lanes), np.int64)
    readers = {accelerator.region(unit, task): task for task in range(len(accelerator.net.tasks))}
    for region, task in readers.items():
        memory = _memory(accelerator, unit, task)
        code[region] = unit.lines_of(unit.arrange(memory.code))
        if not unit.is_head:
            prefix[region] = unit.lines_of(unit.arrange(np.where(memory.owner == UNUSED, 0, memory.owner)))
    return {"code": code, "prefix": prefix}


def _codebooks(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> dict[str, Ints]:
    """The codebooks of all regions, or those that the one task which is loaded may read: no later owner's."""
    assert isinstance(unit, MatrixUnit)  # no other has codebooks
    is_loaded = unit.settings.mask == "runtime"
    table = np.zeros((1 if is_loaded else unit.regions, 1 << unit.prefix_bits, 1 << unit.code_bits), np.int64)
    for task in tasks:
        memory, region = _memory(accelerator, unit, task), 0 if is_loaded else accelerator.region(unit, task)
        own = accelerator.net.bank_tasks(accelerator.net.tasks[task].bank).index(task)
        books = memory.codebooks[own if unit.is_head else 0 : own + 1 if is_loaded or unit.is_head else None]
        for prefix, book in enumerate(books):
            table[region, min(prefix, table.shape[1] - 1), : len(book)] = book  # one row if all are equal
    return {"centroid": table}


def _masks(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> dict[str, Ints]:
    assert isinstance(unit, MatrixUnit)  # no other has masks
    steps = [accelerator.net.step(task, unit.layers[task]) for task in tasks]
    return {"mask": np.stack([unit.lines_of(unit.arrange(step.mask)) for step in steps if step.mask is not None])}


def _requantizations(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> list[Requantization]:
    steps = [accelerator.net.step(task, unit.layers[task]).requantization for task in tasks]
    return [step for step in steps if step is not None]  # a unit with scales: all have one


def _scales(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> dict[str, Ints]:
    """Multipliers and offsets of all rows; rows that a smaller head lacks have 0."""
    rows = unit.rows if isinstance(unit, MatrixUnit) else 1
    both = np.zeros((2, len(tasks), rows), np.int64)
    for values, step in zip(both.swapaxes(0, 1), _requantizations(accelerator, unit, tasks), strict=True):
        values[:, : len(step.offset)] = step.multiplier, step.offset
    return {"multiplier": both[0], "offset": both[1]}


def _task_words(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> dict[str, Ints]:
    """That the task is known, its region, its shift, and the left shifts of an Add."""
    net, values = accelerator.net, {"known": [1 for _ in tasks]}
    values["shift"] = [step.shift for step in _requantizations(accelerator, unit, tasks)]
    if isinstance(unit, MatrixUnit):
        values["region"] = [accelerator.region(unit, task) for task in tasks]
    if isinstance(unit, AddUnit):
        sources = net.layers[unit.layers[0]].inputs
        exponents = [[net.format(task, source).exponent for source in sources] for task in tasks]
        for i in range(2):
            values[f"left_shift_{i}"] = [pair[i] - min(pair) for pair in exponents]
    return {name: np.array(numbers, np.int64) for name, numbers in values.items()}


_VALUES: dict[Kind, Callable[[Accelerator, Unit, Sequence[int]], dict[str, Ints]]] = {
    "words": _words,
    "codebook": _codebooks,
    "mask": _masks,
    "scales": _scales,
    "task": _task_words,
}
"""Values by name of the field, for some tasks, in the order of addresses and lanes."""
