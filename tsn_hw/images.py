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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tsn_hw.arithmetic import Ints
from tsn_hw.layers import Add
from tsn_hw.memory import index_bits
from tsn_hw.network import BankLayer, Bools, Requantization
from tsn_hw.parts import UNUSED
from tsn_hw.units import SHIFT_BITS, Accelerator, AddUnit, MatrixUnit, PoolUnit, Unit

Kind = Literal["words", "codebook", "mask", "scales", "task"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Limbs = NDArray[np.uint64]

LIMB_BITS = 64


@dataclass(frozen=True)
class MemoryShape:
    """Size of one memory, without its content."""

    unit: str
    kind: Kind
    depth: int
    width_bits: int

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return self.depth * self.width_bits


@dataclass(frozen=True)
class Field:
    """Some bits of a lane: a number, in two's complement if it is signed."""

    name: str
    bits: int
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
        return self.depth * self.width_bits

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


def memory_shapes(accelerator: Accelerator, unit: Unit) -> tuple[MemoryShape, ...]:
    """Depth and width of every memory of a unit: those of its images, without building them."""
    runtime = unit.settings.mask == "runtime"
    tasks = 1 if runtime else accelerator.max_tasks
    sizes: list[tuple[Kind, int, int]] = []
    if isinstance(unit, MatrixUnit):
        sizes.append(("words", unit.regions * unit.lines, unit.lanes * unit.word_bits))
        sizes.append(("codebook", (1 if runtime else unit.regions) << unit.word_bits, unit.centroid_bits))
        if unit.settings.mask != "none":
            sizes.append(("mask", tasks * unit.lines, unit.lanes))
    scales = unit.scales if isinstance(unit, MatrixUnit | PoolUnit | AddUnit) else None
    if scales is not None:
        folds, lanes = (unit.row_folds, unit.settings.folding.pe) if isinstance(unit, MatrixUnit) else (1, 1)
        sizes.append(("scales", tasks * folds, lanes * scales.bits))
        region = index_bits(unit.regions) if isinstance(unit, MatrixUnit) else 0
        sizes.append(("task", tasks, 1 + region + SHIFT_BITS * (3 if isinstance(unit, AddUnit) else 1)))
    return tuple(MemoryShape(unit.name, kind, depth, width) for kind, depth, width in sizes)


def memory_images(accelerator: Accelerator) -> tuple[MemoryImage, ...]:
    """All memories of an accelerator, unit by unit."""
    images: list[MemoryImage] = []
    tasks = range(len(accelerator.net.tasks))
    for unit in accelerator.units:
        runtime = unit.settings.mask == "runtime"
        if isinstance(unit, MatrixUnit):
            images.append(_words(accelerator, unit))
        images += task_images(accelerator, unit, 0) if runtime else _for_tasks(accelerator, unit, tasks)
    return tuple(images)


def task_images(accelerator: Accelerator, unit: Unit, task: int) -> list[MemoryImage]:
    """What is loaded for a task into a unit whose masks are "runtime": codebook, mask, scales and task word.

    It does not change when later tasks come.
    """
    return _for_tasks(accelerator, unit, [task])


def _for_tasks(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> list[MemoryImage]:
    """Images of several tasks, or of one that is loaded at run time; tasks to come are 0."""
    held = 1 if unit.settings.mask == "runtime" else accelerator.max_tasks
    images: list[MemoryImage] = []
    if isinstance(unit, MatrixUnit):
        images.append(_codebook(accelerator, unit, tasks))
        if unit.settings.mask != "none":
            masks = [unit.lines_of(unit.arrange(_mask(accelerator, unit, task))) for task in tasks]
            axes = (("task", held), *_line_axes(unit))
            images.append(_image(unit, "mask", axes, [(Field("mask", 1), np.concatenate(masks))]))
    scales = unit.scales if isinstance(unit, MatrixUnit | PoolUnit | AddUnit) else None
    if scales is not None:
        folds = unit.row_folds if isinstance(unit, MatrixUnit) else 1
        values = [_scales(accelerator, unit, task, folds) for task in tasks]
        fields = (Field("multiplier", scales.multiplier_bits, True), Field("offset", scales.offset_bits, True))
        content = [(field, np.concatenate([value[i] for value in values])) for i, field in enumerate(fields)]
        images.append(_image(unit, "scales", (("task", held), ("row_fold", folds)), content))
        images.append(_image(unit, "task", (("task", held),), _task_fields(accelerator, unit, tasks)))
    return images


def _line_axes(unit: MatrixUnit) -> tuple[tuple[str, int], ...]:
    return ("row_fold", unit.row_folds), ("column_fold", unit.column_folds)


def _image(
    unit: Unit, kind: Kind, axes: tuple[tuple[str, int], ...], content: Sequence[tuple[Field, Ints]]
) -> MemoryImage:
    """Pack the values (words, lanes) of fields; words that the axes have room for beyond them are 0."""
    present = [(field, values) for field, values in content if field.bits]
    layout = MemoryLayout(unit.name, kind, axes, content[0][1].shape[1], tuple(field for field, _ in present))
    packed = pack_lanes([(values, field.bits) for field, values in present])
    limbs = np.zeros((layout.depth, packed.shape[1]), np.uint64)
    limbs[: len(packed)] = packed
    limbs.setflags(write=False)
    return MemoryImage(layout, limbs)


def _memory(accelerator: Accelerator, unit: Unit, task: int) -> BankLayer:
    return accelerator.net.words(task, unit.layers[task])


def _mask(accelerator: Accelerator, unit: Unit, task: int) -> Bools:
    mask = accelerator.net.step(task, unit.layers[task]).mask
    assert mask is not None  # checked at birth
    return mask


def _words(accelerator: Accelerator, unit: MatrixUnit) -> MemoryImage:
    """The lines of every region."""
    code, prefix = np.zeros((2, unit.regions, unit.lines, unit.lanes), np.int64)
    readers = {accelerator.region(unit, task): task for task in range(len(accelerator.net.tasks))}
    for region, task in readers.items():
        memory = _memory(accelerator, unit, task)
        code[region] = unit.lines_of(unit.arrange(memory.code))
        if not unit.is_head:
            prefix[region] = unit.lines_of(unit.arrange(np.where(memory.owner == UNUSED, 0, memory.owner)))
    fields = [(Field("code", unit.code_bits), code), (Field("prefix", unit.prefix_bits), prefix)]
    content = [(field, values.reshape(-1, unit.lanes)) for field, values in fields]
    return _image(unit, "words", (("region", unit.regions), *_line_axes(unit)), content)


def _codebook(accelerator: Accelerator, unit: MatrixUnit, tasks: Sequence[int]) -> MemoryImage:
    """The codebooks of all regions, or those that the one task which is loaded may read: no later owner's."""
    is_loaded = unit.settings.mask == "runtime"
    table = np.zeros((1 if is_loaded else unit.regions, 1 << unit.prefix_bits, 1 << unit.code_bits), np.int64)
    for task in tasks:
        memory, region = _memory(accelerator, unit, task), 0 if is_loaded else accelerator.region(unit, task)
        books = [book for book in memory.codebooks if len(book)] if unit.is_head else memory.codebooks
        if is_loaded:
            books = books[: 1 + accelerator.net.bank_tasks(accelerator.net.tasks[task].bank).index(task)]
        for prefix, book in enumerate(books):
            table[region, prefix, : len(book)] = book
    axes = tuple(zip(("region", "prefix", "code"), table.shape, strict=True))
    return _image(unit, "codebook", axes, [(Field("centroid", unit.centroid_bits, True), table.reshape(-1, 1))])


def _requantization(accelerator: Accelerator, unit: Unit, task: int) -> Requantization:
    step = accelerator.net.step(task, unit.layers[task]).requantization
    assert step is not None  # a unit with scales
    return step


def _scales(accelerator: Accelerator, unit: Unit, task: int, folds: int) -> tuple[Ints, Ints]:
    """Multipliers and offsets, (folds, pe) each; rows that a smaller head lacks have 0."""
    step = _requantization(accelerator, unit, task)
    lanes = unit.settings.folding.pe if isinstance(unit, MatrixUnit) else 1
    both = np.zeros((2, folds * lanes), np.int64)
    both[0, : len(step.multiplier)] = step.multiplier
    both[1, : len(step.offset)] = step.offset
    return both[0].reshape(folds, lanes), both[1].reshape(folds, lanes)


def _task_fields(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> list[tuple[Field, Ints]]:
    """That the task is known, its region, its shift, and the left shifts of an Add."""
    net = accelerator.net
    fields = [(Field("known", 1), [1 for _ in tasks])]
    if isinstance(unit, MatrixUnit):
        regions = [accelerator.region(unit, task) for task in tasks]
        fields.append((Field("region", index_bits(unit.regions)), regions))
    fields.append((Field("shift", SHIFT_BITS), [_requantization(accelerator, unit, task).shift for task in tasks]))
    if isinstance(unit, AddUnit):
        for operand in (0, 1):
            shifts = []
            for task in tasks:
                layer = net.layers[unit.layers[task]]
                assert isinstance(layer, Add)  # of an AddUnit
                exponents = [net.format(task, source).exponent for source in layer.inputs]
                shifts.append(exponents[operand] - min(exponents))
            fields.append((Field(f"left_shift_{operand}", SHIFT_BITS), shifts))
    return [(field, np.array(values, np.int64).reshape(-1, 1)) for field, values in fields]
