"""Task patches: what new tasks add to the memories of an accelerator that is already built, and nothing else.

A patch is for an accelerator with room: the words that it changes were free before. The proof is part of it: for every
memory, which bits earlier tasks read (the words under their masks, the codebooks of their owners, their masks, scales
and task words), and that none of them is among the bits that change. A patch that breaks this is not made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from export.memories.formats import words_sha256
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import ArtifactError, ExportError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import HardwareSettings
from tsn_hw.hardware.images import Limbs, MemoryImage, MemoryLayout, memory_images, pack_lanes
from tsn_hw.hardware.pipeline import accelerator
from tsn_hw.hardware.units import Accelerator, AddUnit, MatrixUnit, PoolUnit

HardwareUnit = MatrixUnit | PoolUnit | AddUnit


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


def task_patch(old: PackedNetwork, new: PackedNetwork, settings: HardwareSettings) -> TaskPatch:
    """What the tasks of ``new`` beyond those of ``old`` add to the memories of an accelerator of these settings.

    Raises ExportError where ``new`` is no extension of ``old``, or needs other hardware than ``old`` with its room.
    """
    _check_extends(old, new)
    if settings.max_tasks < len(new.tasks):
        needs = f"the new network has {len(new.tasks)} tasks"
        raise ExportError(f"max_tasks={settings.max_tasks}: {needs}; the accelerator must be built with room for them")
    before = accelerator(old, settings)
    _check_rows(before, new)
    after = accelerator(new, settings)
    for earlier, later in zip(before.units, after.units, strict=True):
        _check_widths(earlier, later)
    pairs = zip(memory_images(before), memory_images(after), strict=True)
    names = tuple(task.name for task in new.tasks[len(old.tasks) :])
    return TaskPatch(len(old.tasks), names, tuple(_memory_patch(before, *pair) for pair in pairs))


def apply_patch(patch: TaskPatch, images: Iterable[MemoryImage]) -> tuple[MemoryImage, ...]:
    """The memories after a patch; ArtifactError where they are not those that it was made for."""
    patched = []
    for image, change in zip(images, patch.memories, strict=True):
        if image.layout != change.layout or words_sha256(image) != change.before:
            raise ArtifactError(f"memory {image.name!r}: is not the one that the patch was made for")
        limbs = image.limbs.copy()
        limbs[change.addresses] = change.words
        limbs.setflags(write=False)
        result = MemoryImage(image.layout, limbs)
        if words_sha256(result) != change.after:
            raise ArtifactError(f"memory {image.name!r}: does not become what the patch says")
        patched.append(result)
    return tuple(patched)


# ------------------------------------------------------------------------------------------------- what can be patched


def _check_extends(old: PackedNetwork, new: PackedNetwork) -> None:
    count = len(old.tasks)
    if len(new.tasks) <= count:
        raise ExportError(f"the new network has {len(new.tasks)} tasks, the old one {count}: there is nothing to add")
    if artifact.to_bytes(new.first_tasks(count)) == artifact.to_bytes(old):
        return
    for number, task in enumerate(old.tasks):
        was, now = artifact.seal(old, number), artifact.seal(new, number)
        if was != now:
            raise ExportError(
                f"task {task.name!r}: has the seal {now[:12]} in the new network, {was[:12]} in the old one"
            )
    raise ExportError(f"the first {count} tasks of the new network are not the old one in what seals do not cover")


def _check_rows(before: Accelerator, new: PackedNetwork) -> None:
    classes = max(len(task.classes) for task in new.tasks)
    if classes > before.head.rows:
        raise ExportError(_too_narrow(before.head.name, "rows", classes, before.head.rows, "max_classes"))


def _check_widths(before: HardwareUnit, after: HardwareUnit) -> None:
    """Refuse a unit that the new tasks would make another one; prefixes are as wide as ``max_tasks`` asks."""
    widths: list[tuple[str, int, int, str | None]] = []
    if isinstance(before, MatrixUnit) and isinstance(after, MatrixUnit):
        widths += [
            ("regions", after.regions, before.regions, "max_banks"),
            ("code bits", after.code_bits, before.code_bits, "code_bits"),
            ("centroid bits", after.centroid_bits, before.centroid_bits, None),
        ]
    if before.scales is not None and after.scales is not None:
        widths += [
            ("accumulator bits", after.scales.accumulator_bits, before.scales.accumulator_bits, None),
            ("multiplier bits", after.scales.multiplier_bits, before.scales.multiplier_bits, None),
            ("offset bits", after.scales.offset_bits, before.scales.offset_bits, None),
            ("value bits", after.scales.value_bits, before.scales.value_bits, None),
        ]
    for field, needs, has, setting in widths:
        if needs != has:
            raise ExportError(_too_narrow(before.name, field, needs, has, setting))


def _too_narrow(unit: str, field: str, needs: int, has: int, setting: str | None) -> str:
    text = f"layer {unit!r}: the new tasks need {needs} {field}, the accelerator has {has}"
    return text if setting is None else f"{text}; one that can take them is built with {setting}={needs}"


# -------------------------------------------------------------------------------------------------------- what changes


def _memory_patch(accelerator: Accelerator, before: MemoryImage, after: MemoryImage) -> MemoryPatch:
    """What changes in a memory; ``accelerator`` is that of the earlier tasks."""
    changed = before.limbs ^ after.limbs
    read = _read_by_tasks(accelerator, before.layout)
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


def _read_by_tasks(accelerator: Accelerator, layout: MemoryLayout) -> Limbs:
    """(depth, limbs): 1 in every bit of a memory that a task of the accelerator reads."""
    unit = next(unit for unit in accelerator.units if unit.name == layout.unit)
    read = np.zeros((*(length for _, length in layout.axes), layout.lanes), bool)
    tasks = range(len(accelerator.net.tasks))
    if layout.kind == "words":
        assert isinstance(unit, MatrixUnit)  # no other unit has words
        for task in tasks:
            mask = accelerator.net.step(task, unit.layers[task]).mask
            assert mask is not None  # checked at birth
            region = accelerator.region(unit, task)
            read[region] |= unit.lines_of(unit.arrange(mask)).reshape(read[region].shape).astype(bool)
    elif unit.settings.mask == "runtime":
        read[:] = True  # one task's, and never of a later one
    elif layout.kind == "codebook":
        assert isinstance(unit, MatrixUnit)  # no other unit has codebooks
        for task in tasks:
            members = accelerator.net.bank_tasks(accelerator.net.tasks[task].bank)
            read[accelerator.region(unit, task), 0 if unit.is_head else members.index(task)] = True
    else:
        read[: len(tasks)] = True
    lanes = read.reshape(layout.depth, layout.lanes)
    return pack_lanes([(-lanes.astype(np.int64), field.bits) for field in layout.fields])
