"""Commands about the memories of an accelerator: files of them, their check, and what new tasks add to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.memories.files import read_memories, write_memories
from export.memories.patch import extended, task_patch
from export.memories.patch_files import PATCH_FOLDER, patch_files
from export.project.folder import write_folder
from tsn_hw.app.hardware.platform import folding_of
from tsn_hw.app.output import Block, CommandResult, Note, Table
from tsn_hw.core import artifact
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.pipeline import accelerator


def write_memory_files(path: Path, folding: Path, folder: Path, formats: Sequence[str]) -> CommandResult:
    """Write the memories of a network with a folding into a folder, in some formats."""
    net = artifact.load(path)
    design = accelerator(net, folding_of(folding, net))
    written = write_memories(design, folder, formats)
    return _result(design.images, f"{len(written)} files in {folder}", {"files": [str(file) for file in written]})


def check_memory_files(folder: Path) -> CommandResult:
    """Read every memory file of a folder, and check it against the index."""
    return _result(read_memories(folder), "all files are right", {"passed": True})


def _result(images: Sequence[MemoryImage], told: str, values: dict[str, Any]) -> CommandResult:
    memories = {image.name: {"depth": image.depth, "width_bits": image.width_bits} for image in images}
    records = [{"memory": image.name, "bits": image.bits} | memories[image.name] for image in images]
    columns = {"memory": "memory", "depth": "words", "width_bits": "bits of a word", "bits": "bits"}
    bits = sum(image.bits for image in images)
    blocks: list[Block] = [Table(records, columns), Note(f"{bits} bits in all"), Note(told)]
    return CommandResult(blocks, {"memories": memories, "bits": bits} | values)


def write_patch(old: Path, new: Path, folding: Path, folder: Path) -> CommandResult:
    """Write what the new tasks of a network add to the memories of an accelerator that was built for the old one."""
    earlier = artifact.load(old)
    before, after = extended(earlier, artifact.load(new), folding_of(folding, earlier))
    patch = task_patch(before, after)
    write_folder(folder, patch_files(patch, after), PATCH_FOLDER)
    changes = {
        change.layout.name: {
            "changed_words": len(change.addresses),
            "changed_bits": change.changed_bits,
            "read_bits": change.read_bits,
        }
        for change in patch.memories
    }
    records = [
        {"memory": change.layout.name, "words": change.layout.depth, "both": 0} | changes[change.layout.name]
        for change in patch.memories
    ]
    columns = {
        "memory": "memory",
        "words": "words",
        "changed_words": "words changed",
        "changed_bits": "bits changed",
        "read_bits": "bits that earlier tasks read",
        "both": "both",
    }
    told = f"{', '.join(patch.new_tasks)} added to {patch.tasks} tasks: no bit that an earlier task reads is changed"
    values = {"folder": str(folder), "tasks": patch.tasks, "new_tasks": list(patch.new_tasks), "memories": changes}
    return CommandResult([Table(records, columns), Note(f"{told}\n{folder}")], values)
