"""The command that writes C for microcontrollers, and tasks for those that run already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from export import GoldenRun, write_c, write_c_patch
from export.c_code.packages import Package
from export.c_code.weights import Optimize
from tsn_hw.app.deploy.verify import adversarial_integers
from tsn_hw.app.output import CommandResult, Note, Table
from tsn_hw.core import artifact, reference
from tsn_hw.core.network import PackedNetwork


def write_c_project(
    path: Path, folder: Path, optimize: Optimize, samples: int, package: Package, max_classes: int
) -> CommandResult:
    """Write the C project of a network, with golden inputs of every task."""
    net = artifact.load(path)
    golden = _golden(net, range(len(net.tasks)), samples)
    project = write_c(net, folder, golden=golden, optimize=optimize, package=package, max_classes=max_classes)
    rows = [(c.layer, c.bank, c.layout, c.size_bytes, c.other_bytes) for c in project.choices]
    layouts = Table.of_rows(["layer", "bank", "layout", "bytes", "bytes of the other"], rows)
    told = f"{project.flash_bytes:,} bytes of constants in flash, {project.scratch_bytes:,} bytes of scratch buffer"
    return CommandResult(
        [layouts, Note(f"{told}\n{folder}: README.md says how it is compiled and tested")], asdict(project)
    )


@dataclass(frozen=True)
class Firmware:
    """Files of what a microcontroller runs: its network, and the one that it was compiled with before patches."""

    network: Path
    compiled: Path | None = None


def write_c_tasks(firmware: Firmware, path: Path, folder: Path, optimize: Optimize, samples: int) -> CommandResult:
    """Write what the tasks of a network add to a firmware, with golden inputs of these tasks."""
    old, new = artifact.load(firmware.network), artifact.load(path)
    base = None if firmware.compiled is None else artifact.load(firmware.compiled)
    golden = _golden(new, range(len(old.tasks), len(new.tasks)), samples)
    patch = write_c_patch(old, new, folder, golden=golden, base=base, optimize=optimize)
    told = f"{', '.join(patch.new_tasks)} added to {len(old.tasks)} tasks: {patch.patch_bytes:,} bytes for flash"
    needs = f"they need {patch.scratch_bytes:,} bytes of scratch buffer and {patch.most_logits} logits"
    return CommandResult([Note(f"{told}\n{needs}\n{folder}: README.md says how a firmware adds them")], asdict(patch))


def _golden(net: PackedNetwork, tasks: Sequence[int], samples: int) -> list[GoldenRun]:
    inputs = [(task, adversarial_integers(net, samples, seed=task)) for task in tasks]
    return [GoldenRun(task, x, reference.run(net, task, x)) for task, x in inputs]
