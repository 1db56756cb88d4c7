"""The command that writes C for microcontrollers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from export import GoldenRun, write_c
from export.c_code.packages import Package
from export.c_code.weights import Optimize
from tsn_hw.app.deploy.verify import adversarial_integers
from tsn_hw.app.output import CommandResult, Note, Table
from tsn_hw.core import artifact, reference


def write_c_project(path: Path, folder: Path, optimize: Optimize, samples: int, package: Package) -> CommandResult:
    """Write the C project of a network, with golden inputs of every task."""
    net = artifact.load(path)
    golden = []
    for task in range(len(net.tasks)):
        x = adversarial_integers(net, samples, seed=task)
        golden.append(GoldenRun(task, x, reference.run(net, task, x)))
    project = write_c(net, folder, golden=golden, optimize=optimize, package=package)
    rows = [(c.layer, c.bank, c.layout, c.size_bytes, c.other_bytes) for c in project.choices]
    layouts = Table.of_rows(["layer", "bank", "layout", "bytes", "bytes of the other"], rows)
    told = f"{project.flash_bytes:,} bytes of constants in flash, {project.scratch_bytes:,} bytes of scratch buffer"
    return CommandResult(
        [layouts, Note(f"{told}\n{folder}: README.md says how it is compiled and tested")], asdict(project)
    )
