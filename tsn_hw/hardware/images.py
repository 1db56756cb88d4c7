"""What every memory of an accelerator holds, bit for bit: the one source of HLS, RTL, memory files and memory cost.

========  ===========================  ==========================================================================
kind      a word of it                 depth
========  ===========================  ==========================================================================
words     a line: ``prefix | code``    regions * lines
          of every lane; in lists its
          gap too, and whether a fold
          ends                         lines of all lists (runtime: of one)
codebook  a centroid, two's            regions * 2**word_bits; address: region, prefix, code
          complement
mask      a line: a bit for every      tasks * lines (deep), lines (runtime)
          lane
scales    multiplier, then offset,     tasks * row folds (runtime: row folds); one for AvgPool and Add
          of ``pe`` rows; with lists
          the place of each too        tasks * folds * turns (runtime: folds * turns)
task      1, region of the words,      tasks (runtime: one)
          shift; an Add: two left
          shifts more; a list: its
          first and final line
========  ===========================  ==========================================================================

The first lane, and the first field of a lane, lies in the lowest bits. What nobody uses is 0: the lowest bit of a task
word says whether there is such a task. A unit whose masks are "runtime" holds the codebook, mask, scales and task word
of one task; its images are those of the first task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError
from tsn_hw.core.network import BankLayer
from tsn_hw.hardware.design import Design
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.memories import LIMB_BITS, MemoryKind, MemoryLayout
from tsn_hw.hardware.units import Unit

Limbs = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class MemoryImage:
    """The content of one memory: (depth, limbs) of 64 bits, the lowest limb first."""

    layout: MemoryLayout
    limbs: Limbs

    @property
    def unit(self) -> str:
        return self.layout.unit

    @property
    def kind(self) -> MemoryKind:
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


Fields = Sequence[tuple[Ints, int]]
"""Values (depth, lanes) and their width, for every field of a lane, lowest first."""


def pack_lanes(fields: Fields, flags: Fields = ()) -> Limbs:
    """Lanes of bit fields as words: (depth, limbs); negative values in two's complement. Above them flags (depth, 1).

    >>> [hex(word) for word in pack_lanes([(np.array([[1, 2]]), 4), (np.array([[-1, 0]]), 2)]).ravel()]
    ['0xb1']
    """
    lanes = np.concatenate([_bits_of(values, width) for values, width in fields], axis=2)
    above = [_bits_of(values, width).reshape(len(lanes), -1) for values, width in flags]
    bits = np.concatenate([lanes.reshape(len(lanes), -1), *above], axis=1)
    depth, width = bits.shape
    limbs = -(-width // LIMB_BITS)
    packed = np.zeros((depth, limbs * LIMB_BITS // 8), np.uint8)
    packed[:, : -(-width // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def _bits_of(values: Ints, width: int) -> NDArray[np.uint8]:
    """(depth, lanes) as (depth, lanes, width) bits, lowest first."""
    container = next(size for size in (1, 2, 4, 8) if width <= 8 * size)
    octets = values.astype(f"<i{container}", order="C").view(np.uint8).reshape(*values.shape, container)
    return np.unpackbits(octets, axis=2, count=width, bitorder="little") if width else octets[:, :, :0]


def memory_image(design: Design, unit: Unit, layout: MemoryLayout, tasks: Sequence[int]) -> MemoryImage:
    """The content of a memory for some tasks; what is for others, known or to come, is 0."""
    values = _values(design, unit, layout.kind, tasks)
    lanes = [(values[field.name].reshape(-1, layout.lanes), field.bits) for field in layout.fields]
    packed = pack_lanes(lanes, [(values[flag.name].reshape(-1, 1), flag.bits) for flag in layout.flags])
    limbs = np.zeros((layout.depth, layout.limbs), np.uint64)
    limbs[: len(packed)] = packed
    limbs.setflags(write=False)
    return MemoryImage(layout, limbs)


def _values(design: Design, unit: Unit, kind: MemoryKind, tasks: Sequence[int]) -> dict[str, Ints]:
    """Values by name of the field, for some tasks, in the order of addresses and lanes."""
    if kind == "scales":
        return _scales(design, unit, tasks)
    if kind == "task":
        return _task_words(design, unit, tasks)
    if isinstance(unit, MatrixUnit):
        return _OF_WEIGHTS[kind](design, unit, tasks)
    raise FoldingError(f"layer {unit.name!r}: a {type(unit).__name__} has no memory of {kind}")


def _memory(design: Design, unit: Unit, task: int) -> BankLayer:
    return design.net.words(task, unit.layers[task])


def _words(design: Design, unit: MatrixUnit, tasks: Sequence[int]) -> dict[str, Ints]:
    """The lists of the tasks; or the lines of every region, whatever the tasks, those that nobody reads 0."""
    if unit.skips_zeros:
        lists = [unit.word_lines(_memory(design, unit, task), task) for task in tasks]
        return {name: np.concatenate([lines[name] for lines in lists]) for name in lists[0]}
    readers = {design.region(unit, task): task for task in range(len(design.net.tasks))}
    found = {name: np.zeros((unit.regions, unit.lines, unit.lanes), np.int64) for name in ("code", "prefix")}
    for region, task in readers.items():
        for name, lines in unit.word_lines(_memory(design, unit, task), task).items():
            found[name][region] = lines
    return found


def _codebooks(design: Design, unit: MatrixUnit, tasks: Sequence[int]) -> dict[str, Ints]:
    """The codebooks of all regions, or those that the one task which is loaded may read: no later owner's."""
    regions = 1 if unit.holds_one_task else unit.regions
    table = np.zeros((regions, 1 << unit.prefix_bits, 1 << unit.code_bits), np.int64)
    for task in tasks:
        memory, region = _memory(design, unit, task), 0 if unit.holds_one_task else design.region(unit, task)
        own = design.net.bank_tasks(design.net.tasks[task].bank).index(task)
        last = own + 1 if unit.holds_one_task or unit.is_head else None
        for prefix, book in enumerate(memory.codebooks[own if unit.is_head else 0 : last]):
            table[region, min(prefix, table.shape[1] - 1), : len(book)] = book  # one row if all are equal
    return {"centroid": table}


def _masks(design: Design, unit: MatrixUnit, tasks: Sequence[int]) -> dict[str, Ints]:
    return {"mask": np.stack([unit.lines_of(design.net.mask(task, unit.layers[task])) for task in tasks])}


def _scales(design: Design, unit: Unit, tasks: Sequence[int]) -> dict[str, Ints]:
    """Multipliers and offsets in the order of the unit; of rows that there are not, or that a smaller head lacks, 0."""
    found: dict[str, list[Ints]] = {}
    for task in tasks:
        step, rows = design.net.requantization(task, unit.layers[task]), unit.scale_rows(task)
        is_row = rows < len(step.offset)
        both = np.zeros((2, len(rows)), np.int64)
        both[:, is_row] = step.multiplier[rows[is_row]], step.offset[rows[is_row]]
        for name, values in {"multiplier": both[0], "offset": both[1], **unit.scales_besides(task)}.items():
            found.setdefault(name, []).append(values)
    return {name: np.stack(values) for name, values in found.items()}


def _task_words(design: Design, unit: Unit, tasks: Sequence[int]) -> dict[str, Ints]:
    """That the task is known, region, shift, left shifts of an Add, what the kind of unit adds, classes of a head."""
    net, sources = design.net, design.net.layers[unit.layers[0]].inputs
    words = []
    for task in tasks:
        exponents = [net.format(task, source).exponent for source in sources]
        words.append(
            {
                "known": 1,
                "region": design.region(unit, task),
                "shift": net.requantization(task, unit.layers[task]).shift,
                **{f"left_shift_{i}": exponent - min(exponents) for i, exponent in enumerate(exponents)},
                **unit.own_task_word(task),
                **({"classes": len(net.tasks[task].classes)} if unit.is_head else {}),
            }
        )
    return {name: np.array([word[name] for word in words], np.int64) for name in words[0]}


_OF_WEIGHTS: dict[MemoryKind, Callable[[Design, MatrixUnit, Sequence[int]], dict[str, Ints]]] = {
    "words": _words,
    "codebook": _codebooks,
    "mask": _masks,
}
