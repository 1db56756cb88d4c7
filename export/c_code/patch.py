"""Patches: the sections of tasks that are added to a network which is already in flash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.c_code.project import golden_header
from export.c_code.records import BankSection, Seals, Stored, task_section
from export.c_code.scratch import plan
from export.c_code.sections import chain, network_digest, sections, weighted
from export.c_code.weights import Optimize, weight_list
from export.hls.scripts import render
from export.project.extension import check_extends
from export.project.folder import write_folder
from export.project.golden import GoldenRun
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.files import StrPath
from tsn_hw.core.network import PackedNetwork

C_PATCH_FOLDER = "tsn-hw c patch 1"
"""What the manifest of a folder with a patch says."""


def task_patch(base: PackedNetwork, old: PackedNetwork, new: PackedNetwork, optimize: Optimize) -> tuple[bytes, ...]:
    """The sections of the tasks that ``new`` adds to ``old``, for a firmware that was compiled with ``base``.

    ``base`` is ``old``, or what it was before patches. A section reads words of the banks of ``base``, whose sections
    ``optimize`` decides; the others it brings along.

    Raises ExportError where a network is no extension of the one before, or C does not compute it.
    """
    if base is not old:
        check_extends(base, old)
    check_extends(old, new)
    banks, digests = sections(base, optimize).banks, chain(new)
    made = []
    for task in range(len(old.tasks), len(new.tasks)):
        bank = banks.get(new.tasks[task].bank)
        stored = {i: _stored(new, (task, i), bank, optimize) for i in weighted(new, task)}
        seals = Seals(digests[task], digests[task + 1], network_digest(new) if task == len(new.tasks) - 1 else "")
        made.append(task_section(new, task, stored, bank, seals))
    return tuple(made)


def _stored(net: PackedNetwork, place: tuple[int, int], bank: BankSection | None, optimize: Optimize) -> Stored:
    """All weights listed, or a mask over the words of the bank and a list of the others, which is smaller."""
    weights: Ints = net.weights(*place)
    whole = weight_list(weights, optimize)
    words = bank.words.get(net.layers[place[1]].name) if bank is not None else None
    if words is None:
        return Stored(whole)
    mask = (weights != 0) & (words.entries.reshape(weights.shape) == weights)
    rest = np.where(mask, 0, weights)
    listed = weight_list(rest, optimize) if rest.any() else None
    size = -(-mask.size // 8) + (listed.size_bytes if listed is not None else 0)
    return Stored(listed, mask, words) if size < whole.size_bytes else Stored(whole)


@dataclass(frozen=True)
class CPatch:
    """What a patch adds: names of tasks, bytes of flash, and the scratch buffer and logits that its tasks need."""

    new_tasks: tuple[str, ...]
    patch_bytes: int
    scratch_bytes: int
    most_logits: int


def write_c_patch(
    old: PackedNetwork,
    new: PackedNetwork,
    folder: StrPath,
    *,
    golden: Sequence[GoldenRun],
    base: PackedNetwork | None = None,
    optimize: Optimize = "balanced",
) -> CPatch:
    """Write what the tasks of a network add to a microcontroller that runs an earlier one.

    golden: inputs and expected integers of the new tasks. base: the network that the firmware was compiled with, where
    patches have made it ``old`` since. optimize: as the firmware was written.

    Raises ExportError where ``new`` is no extension of ``old``, C cannot hold it, or the folder is not empty and no
    patch of ours; FileError where it cannot be written.
    """
    made = task_patch(base or old, old, new, optimize)
    numbers = range(len(old.tasks), len(new.tasks))
    logits = [len(new.tasks[task].classes) for task in numbers]
    scratch = max(plan(new, task).size_bytes + 4 * count for task, count in zip(numbers, logits, strict=True))
    patch = CPatch(tuple(new.tasks[task].name for task in numbers), sum(map(len, made)), scratch, max(logits))
    readme = render(
        "c/patch.md.in",
        size=f"{patch.patch_bytes:,}",
        tasks="\n".join(f"{task} {new.tasks[task].name} ({len(new.tasks[task].classes)} classes)" for task in numbers),
        before=network_digest(old),
        after=network_digest(new),
        scratch=f"{patch.scratch_bytes:,}",
        most_logits=patch.most_logits,
    )
    files = {"patch.bin": b"".join(made), "golden.h": golden_header(new, golden).encode(), "README.md": readme.encode()}
    write_folder(Path(folder), files, C_PATCH_FOLDER)
    return patch
