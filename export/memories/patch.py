"""Task patches: what new tasks add to the memories of an accelerator that is already built, and nothing else.

A patch is for an accelerator with room: the words that it changes were free before. The proof is part of it: for every
memory, which bits earlier tasks read (the words under their masks, the codebooks of their owners, their masks, scales
and task words), and that none of them is among the bits that change. A patch that breaks this is not made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from export.memories.formats import words_sha256
from export.project.extension import check_extends
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import HardwareSettings
from tsn_hw.hardware.images import Limbs, MemoryImage, pack_lanes
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.memories import MemoryLayout
from tsn_hw.hardware.pipeline import accelerator
from tsn_hw.hardware.units import Unit

SETTABLE = {"regions": "max_banks", "code_bits": "code_bits"}
"""Widths that a setting makes room in."""


@dataclass(frozen=True, eq=False)
class MemoryPatch:
    """The words of one memory that change; none where it stays as it is.

    addresses: (words,), ascending. words: (words, limbs), what stands there afterwards. before, after: SHA-256 of all
    words of the memory. changed_bits, read_bits: bits that change, and that earlier tasks read; none is both.
    """

    layout: MemoryLayout
    addresses: Ints
    words: Limbs
    before: str
    after: str
    changed_bits: int
    read_bits: int


@dataclass(frozen=True, eq=False)
class TaskPatch:
    """A patch of all memories of an accelerator; new_tasks: names of what it adds to ``tasks`` earlier ones."""

    tasks: int
    new_tasks: tuple[str, ...]
    memories: tuple[MemoryPatch, ...]


def extended(old: PackedNetwork, new: PackedNetwork, settings: HardwareSettings) -> tuple[Accelerator, Accelerator]:
    """The accelerator of these settings for an old network, and the same with the tasks that ``new`` adds to it.

    Raises ExportError where ``new`` is no extension of ``old``, or needs other hardware than ``old`` with its room.
    """
    check_extends(old, new)
    if settings.max_tasks < len(new.tasks):
        needs = f"the new network has {len(new.tasks)} tasks"
        raise ExportError(f"max_tasks={settings.max_tasks}: {needs}; the accelerator must be built with room for them")
    before = accelerator(old, settings)
    _check_rows(before, new)
    after = accelerator(new, settings)
    for earlier, later in zip(before.units, after.units, strict=True):
        _check_widths(earlier, later)
    return before, after


def task_patch(before: Accelerator, after: Accelerator) -> TaskPatch:
    """What the tasks of ``after`` beyond those of ``before`` add to the memories, of a pair of :func:`extended`."""
    count = len(before.net.tasks)
    units = {unit.name: unit for unit in before.units}
    pairs = zip(before.images, after.images, strict=True)
    patches = tuple(_memory_patch(before, units[image.unit], image, later) for image, later in pairs)
    return TaskPatch(count, tuple(task.name for task in after.net.tasks[count:]), patches)


# ------------------------------------------------------------------------------------------------- what can be patched


def _check_rows(before: Accelerator, new: PackedNetwork) -> None:
    classes = max(len(task.classes) for task in new.tasks)
    if classes > before.head.rows:
        raise ExportError(_too_narrow(before.head.name, "rows", classes, before.head.rows, "max_classes"))


def _check_widths(before: Unit, after: Unit) -> None:
    """Refuse a unit that the new tasks would make another one; prefixes are as wide as ``max_tasks`` asks."""
    needs = _widths(after)
    for width, has in _widths(before).items():
        if needs[width] != has:
            setting = SETTABLE.get(width)
            raise ExportError(_too_narrow(before.name, width.replace("_", " "), needs[width], has, setting))


def _widths(unit: Unit) -> dict[str, int]:
    own = {name: getattr(unit, name) for name in ("regions", "code_bits", "centroid_bits")} if unit.has_words else {}
    return own | (asdict(unit.scales) if unit.scales else {})


def _too_narrow(unit: str, field: str, needs: int, has: int, setting: str | None) -> str:
    text = f"layer {unit!r}: the new tasks need {needs} {field}, the accelerator has {has}"
    return text if setting is None else f"{text}; one that can take them is built with {setting}={needs}"


# -------------------------------------------------------------------------------------------------------- what changes


def _memory_patch(design: Accelerator, unit: Unit, before: MemoryImage, after: MemoryImage) -> MemoryPatch:
    """What changes in a memory of a unit; ``design`` is that of the earlier tasks."""
    changed = before.limbs ^ after.limbs
    read = _read_by_tasks(design, unit, before.layout)
    both = np.flatnonzero((changed & read).any(axis=1))
    if len(both):
        raise ExportError(f"memory {before.name!r}: word {both[0]}, which earlier tasks read, would change")
    addresses = np.flatnonzero(changed.any(axis=1))
    return MemoryPatch(
        before.layout,
        addresses,
        after.limbs[addresses],
        words_sha256(before),
        words_sha256(after),
        int(np.bitwise_count(changed).sum()),
        int(np.bitwise_count(read).sum()),
    )


def _read_by_tasks(design: Accelerator, unit: Unit, layout: MemoryLayout) -> Limbs:
    """(depth, limbs): 1 in every bit of a memory of a unit that a task of the accelerator reads."""
    read = np.zeros((*(length for _, length in layout.axes), layout.lanes), bool)
    if layout.loaded == "task":
        read[:] = True  # one task's, and never of a later one
        return _flags(layout, read)
    for task in range(len(design.net.tasks)):
        region = design.region(unit, task)
        if layout.kind == "words" and isinstance(unit, MatrixUnit):
            unit.mark_words(read, task, region)
        elif layout.kind == "codebook":
            members = design.net.bank_tasks(design.net.tasks[task].bank)
            read[region, 0 if unit.is_head else members.index(task)] = True
        else:
            read[task] = True
    return _flags(layout, read)


def _flags(layout: MemoryLayout, read: NDArray[np.bool_]) -> Limbs:
    """(depth, limbs): ones in all bits of the lanes that are read, and in the flags of their lines."""
    lanes = read.reshape(layout.depth, layout.lanes)
    flags = [(-lanes[:, :1].astype(np.int64), flag.bits) for flag in layout.flags]
    return pack_lanes([(-lanes.astype(np.int64), field.bits) for field in layout.fields], flags)
