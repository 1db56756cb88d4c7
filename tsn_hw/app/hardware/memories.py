"""Commands about the memories of an accelerator: files of them, their check, and what new tasks add to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.memories.files import read_memories, write_memories
from export.memories.patch import TaskPatch, extended, task_patch
from export.memories.patch_files import PATCH_FOLDER, patch_files
from export.project.folder import write_folder
from export.project.folding_json import read_folding
from tsn_hw.app.tables import table
from tsn_hw.core import artifact
from tsn_hw.core.files import read_bytes
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import HardwareSettings
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.pipeline import accelerator

Told = tuple[str, Any]


def write_memory_files(path: Path, folding: Path, folder: Path, formats: Sequence[str]) -> Told:
    """Write the memories of a network with a folding into a folder, in some formats."""
    net = artifact.load(path)
    design = accelerator(net, _settings(folding, net))
    written = write_memories(design, folder, formats)
    text, data = _sizes(design.images)
    return f"{text}\n\n{len(written)} files in {folder}", data | {"files": [str(file) for file in written]}


def check_memory_files(folder: Path) -> Told:
    """Read every memory file of a folder, and check it against the index."""
    text, data = _sizes(read_memories(folder))
    return f"{text}\n\nall files are right", data | {"passed": True}


def write_patch(old: Path, new: Path, folding: Path, folder: Path) -> Told:
    """Write what the new tasks of a network add to the memories of an accelerator that was built for the old one."""
    earlier = artifact.load(old)
    before, after = extended(earlier, artifact.load(new), _settings(folding, earlier))
    patch = task_patch(before, after)
    write_folder(folder, patch_files(patch, after), PATCH_FOLDER)
    return _patch_text(patch, folder), _patch_json(patch, folder)


def _settings(path: Path, net: PackedNetwork) -> HardwareSettings:
    return read_folding(read_bytes(path).decode(errors="replace"), str(path), net)


def _sizes(images: Sequence[MemoryImage]) -> Told:
    rows = [[image.name, image.depth, image.width_bits, image.bits] for image in images]
    bits = sum(image.bits for image in images)
    text = f"{table(['memory', 'words', 'bits of a word', 'bits'], rows)}\n\n{bits} bits in all"
    memories = {image.name: {"depth": image.depth, "width_bits": image.width_bits} for image in images}
    return text, {"memories": memories, "bits": bits}


def _patch_text(patch: TaskPatch, folder: Path) -> str:
    header = ["memory", "words", "words changed", "bits changed", "bits that earlier tasks read", "both"]
    rows = [
        [change.layout.name, change.layout.depth, len(change.addresses), change.changed_bits, change.read_bits, 0]
        for change in patch.memories
    ]
    what = f"{', '.join(patch.new_tasks)} added to {patch.tasks} tasks: no bit that an earlier task reads is changed"
    return f"{table(header, rows)}\n\n{what}\n{folder}"


def _patch_json(patch: TaskPatch, folder: Path) -> dict[str, Any]:
    memories = {
        change.layout.name: {
            "changed_words": len(change.addresses),
            "changed_bits": change.changed_bits,
            "read_bits": change.read_bits,
        }
        for change in patch.memories
    }
    return {"folder": str(folder), "tasks": patch.tasks, "new_tasks": list(patch.new_tasks), "memories": memories}
