"""A task patch as files: the list of changed words, the memories that change, and loads.

``patch.json`` is the patch: for every memory of the accelerator what it is, SHA-256 before and after, how many bits
change and how many earlier tasks read (none is both), and the changed words, as address and hexadecimal digits.
``overlay/fc1.words.mem`` ... hold the same words for ``$readmemh`` over the earlier content, and
``overlay/fc1.words.parts.mem`` the lines of a deep memory that RTL reads, with its parts side by side. ``memories/``
has the memories that change, whole, in every format, with their index. Memories that the bus writes get their loads,
whole as every load is: ``tasks/all.load`` what is loaded once for all tasks, ``tasks/task_03.load`` ... what is
loaded for a new task. All other memories cannot be written at run time: they take a new memory file or bitstream.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from export.memories.files import LayoutEntry, files_of, layout_values
from export.memories.formats import MEMORY_FORMATS, described
from export.memories.patch import MemoryPatch, TaskPatch
from export.memories.sides import sides_overlay
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.images import Limbs
from tsn_hw.hardware.memories import LIMB_BITS, MemoryLayout

PATCH = "patch.json"
PATCH_FOLDER = "tsn-hw task patch 1"
"""What the manifest of a folder with a patch says."""
VERSION = 1


def patch_files(
    patch: TaskPatch, design: Accelerator, formats: Sequence[str] = tuple(MEMORY_FORMATS)
) -> dict[str, bytes]:
    """Path and content of every file of a patch; ``design`` is the accelerator with the new tasks."""
    changes = [pair for pair in zip(design.images, patch.memories, strict=True) if len(pair[1].addresses)]
    files = {f"memories/{name}": data for name, data in files_of([image for image, _ in changes], formats).items()}
    files |= {f"overlay/{image.name}.mem": _overlay(change) for image, change in changes}
    sides = [(image, change) for image, change in changes if image.layout.memory.choices]
    files |= {f"overlay/{image.layout.file}": sides_overlay(image, change.addresses) for image, change in sides}
    loads = [design.load(number) for number in design.loads if number not in range(patch.tasks)]
    files |= {load.path: load.data for load in loads}
    return files | {PATCH: patch_json(patch).encode()}


def _overlay(change: MemoryPatch) -> bytes:
    """The changed words for ``$readmemh``, each with its address."""
    notes = [f"// {note}" for note in described(change.layout, change.after)]
    words = _hexadecimal(change.layout, change.words)
    lines = [f"@{address:x} {word}" for address, word in zip(change.addresses.tolist(), words, strict=True)]
    return "".join(f"{line}\n" for line in (*notes, "// only words that change; the others stay", *lines)).encode()


def patch_json(patch: TaskPatch) -> str:
    """A patch as the text of ``patch.json``, one line a memory."""
    memories = ",\n".join(f"  {json.dumps(_memory_json(change))}" for change in patch.memories)
    return (
        f'{{\n "format": "tsn task patch",\n "version": {VERSION},\n "tasks": {patch.tasks},\n'
        f' "new_tasks": {json.dumps(patch.new_tasks)},\n "memories": [\n{memories}\n ]\n}}\n'
    )


def _memory_json(change: MemoryPatch) -> dict[str, Any]:
    words = _hexadecimal(change.layout, change.words)
    return LayoutEntry(**layout_values(change.layout)).values | {
        "before": change.before,
        "after": change.after,
        "changed_bits": change.changed_bits,
        "read_bits": change.read_bits,
        "words": [[address, word] for address, word in zip(change.addresses.tolist(), words, strict=True)],
    }


def _hexadecimal(layout: MemoryLayout, words: Limbs) -> list[str]:
    """Words (words, limbs) as hexadecimal digits, highest first."""
    digits, of_limbs = -(-layout.width_bits // 4), layout.limbs * LIMB_BITS // 4
    text = words[:, ::-1].astype(">u8").tobytes().hex()
    return [text[end - digits : end] for end in range(of_limbs, len(text) + 1, of_limbs)]
