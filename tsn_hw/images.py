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
from tsn_hw.units import SHIFT_BITS, Accelerator, AddUnit, MatrixUnit, PoolUnit, Scales, Unit

Kind = Literal["words", "codebook", "mask", "scales", "task"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Limbs = NDArray[np.uint64]

LIMB_BITS = 64


@dataclass(frozen=True, eq=False)
class MemoryImage:
    """The content of one memory: (depth, limbs) of 64 bits, the lowest limb first."""

    unit: str
    kind: Kind
    width_bits: int
    limbs: Limbs

    @property
    def name(self) -> str:
        """Name of the memory in files and reports."""
        return f"{self.unit}.{self.kind}"

    @property
    def depth(self) -> int:
        """Number of words."""
        return len(self.limbs)

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return self.depth * self.width_bits


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
    """What a unit reads for one task besides its words: codebook, mask, scales and task word."""
    return _for_tasks(accelerator, unit, [task])


def _for_tasks(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> list[MemoryImage]:
    """Images of several tasks, or of one that is loaded at run time; tasks to come are 0."""
    room = accelerator.max_tasks - len(tasks) if len(tasks) == len(accelerator.net.tasks) else 0
    if unit.settings.mask == "runtime":
        room = 0
    images: list[MemoryImage] = []
    if isinstance(unit, MatrixUnit):
        images.append(_codebook(accelerator, unit, tasks))
        if unit.settings.mask != "none":
            masks = [unit.lines_of(unit.arrange(_mask(accelerator, unit, task))) for task in tasks]
            images.append(_image(unit, "mask", [(np.concatenate(masks), 1)], room * unit.lines))
    scales = unit.scales if isinstance(unit, MatrixUnit | PoolUnit | AddUnit) else None
    if scales is not None:
        folds = unit.row_folds if isinstance(unit, MatrixUnit) else 1
        values = [_scales(accelerator, unit, scales, task, folds) for task in tasks]
        fields = [(np.concatenate([value[i] for value in values]), width) for i, width in _scale_fields(scales)]
        images.append(_image(unit, "scales", fields, room * folds))
        images.append(_image(unit, "task", _task_fields(accelerator, unit, tasks), room))
    return images


def _image(unit: Unit, kind: Kind, fields: Fields, room: int = 0) -> MemoryImage:
    """Pack fields, with room for words that are 0."""
    limbs = pack_lanes(fields)
    limbs = np.concatenate([limbs, np.zeros((room, limbs.shape[1]), np.uint64)])
    limbs.setflags(write=False)
    return MemoryImage(unit.name, kind, sum(values.shape[1] * width for values, width in fields), limbs)


def _memory(accelerator: Accelerator, unit: Unit, task: int) -> BankLayer:
    return accelerator.net.words(task, unit.layers[task])


def _mask(accelerator: Accelerator, unit: Unit, task: int) -> Bools:
    mask = accelerator.net.step(task, unit.layers[task]).mask
    assert mask is not None  # checked at birth
    return mask


def _words(accelerator: Accelerator, unit: MatrixUnit) -> MemoryImage:
    """The lines of every region."""
    lines = np.zeros((unit.regions, unit.lines, unit.lanes), np.int64)
    for task in range(len(accelerator.net.tasks)):
        memory = _memory(accelerator, unit, task)
        owner = np.zeros_like(memory.owner) if unit.is_head else memory.owner
        words = owner.astype(np.int64) << unit.code_bits | memory.code
        arranged = unit.arrange(np.where(memory.owner == UNUSED, 0, words))
        lines[accelerator.region(unit, task)] = unit.lines_of(arranged)
    return _image(unit, "words", [(lines.reshape(-1, unit.lanes), unit.word_bits)])


def _codebook(accelerator: Accelerator, unit: MatrixUnit, tasks: Sequence[int]) -> MemoryImage:
    """The codebooks of all regions, or of the region of the one task that is loaded."""
    is_loaded = unit.settings.mask == "runtime"
    table = np.zeros((1 if is_loaded else unit.regions, 1 << unit.prefix_bits, 1 << unit.code_bits), np.int64)
    for task in tasks:
        memory, region = _memory(accelerator, unit, task), 0 if is_loaded else accelerator.region(unit, task)
        books = [book for book in memory.codebooks if len(book)] if unit.is_head else memory.codebooks
        for prefix, book in enumerate(books):
            table[region, prefix, : len(book)] = book
    return _image(unit, "codebook", [(table.reshape(-1, 1), unit.centroid_bits)])


def _requantization(accelerator: Accelerator, unit: Unit, task: int) -> Requantization:
    step = accelerator.net.step(task, unit.layers[task]).requantization
    assert step is not None  # a unit with scales
    return step


def _scale_fields(scales: Scales) -> list[tuple[int, int]]:
    return [(0, scales.multiplier_bits), (1, scales.offset_bits)]


def _scales(accelerator: Accelerator, unit: Unit, scales: Scales, task: int, folds: int) -> tuple[Ints, Ints]:
    """Multipliers and offsets, (folds, pe) each; rows that a smaller head lacks have 0."""
    step = _requantization(accelerator, unit, task)
    lanes = unit.settings.folding.pe if isinstance(unit, MatrixUnit) else 1
    both = np.zeros((2, folds * lanes), np.int64)
    both[0, : len(step.multiplier)] = step.multiplier
    both[1, : len(step.offset)] = step.offset
    return both[0].reshape(folds, lanes), both[1].reshape(folds, lanes)


def _task_fields(accelerator: Accelerator, unit: Unit, tasks: Sequence[int]) -> list[tuple[Ints, int]]:
    """That the task is known, its region, its shift, and the left shifts of an Add."""
    net = accelerator.net
    fields = [([1 for _ in tasks], 1)]
    if isinstance(unit, MatrixUnit):
        fields.append(([accelerator.region(unit, task) for task in tasks], index_bits(unit.regions)))
    fields.append(([_requantization(accelerator, unit, task).shift for task in tasks], SHIFT_BITS))
    if isinstance(unit, AddUnit):
        for operand in (0, 1):
            shifts = []
            for task in tasks:
                layer = net.layers[unit.layers[task]]
                assert isinstance(layer, Add)  # of an AddUnit
                exponents = [net.format(task, source).exponent for source in layer.inputs]
                shifts.append(exponents[operand] - min(exponents))
            fields.append((shifts, SHIFT_BITS))
    return [(np.array(values, np.int64).reshape(-1, 1), width) for values, width in fields]
