"""What ``tsn-hw cost --target c`` tells: flash, RAM, and instructions of an inference on cores of microcontrollers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from export.c_code.estimate import CEstimate, estimate_c
from export.c_code.weights import Optimize
from tsn_hw.app.output import Block, CommandResult, Note, Table
from tsn_hw.core import artifact

ASSUMED = (
    "Instructions are an estimate, fitted to counts in qemu of code that gcc compiled with -O2; the error is of "
    "networks that were left out of the fit. Cycles assume so many an instruction and flash without wait states: they "
    "were not measured. docs/microcontrollers.md tells more."
)


def c_cost(path: Path, optimize: Optimize) -> CommandResult:
    """Cost of a network in C."""
    estimate = estimate_c(artifact.load(path), optimize)
    return CommandResult([Note(f"{path}, optimized for {optimize}"), *c_blocks(estimate)], asdict(estimate))


def c_blocks(estimate: CEstimate) -> list[Block]:
    """Flash and RAM, instructions by task, and cores."""
    counts = [[task.section_bytes, task.macs, task.used_macs, *task.instructions.values()] for task in estimate.tasks]
    tasks = Table.of_rows(
        ["task", "bytes in flash", "MACs", "computed", *estimate.cores],
        [[task.task, *row] for task, row in zip(estimate.tasks, counts, strict=True)],
        "One inference in C, by task: instructions of each core",
    )
    slowest = {name: max(task.instructions[name] for task in estimate.tasks) for name in estimate.cores}
    cores = Table.of_rows(
        ["core", "runtime, bytes", "instructions at most", "cycles each", "cycles at most", "error %", "at most %"],
        [
            [
                *(name, core.code_bytes, slowest[name], core.cycles_per_instruction),
                *(round(slowest[name] * core.cycles_per_instruction), core.median_percent, core.worst_percent),
            ]
            for name, core in estimate.cores.items()
        ],
        "Cores: the runtime in flash (-Os), the slowest task, and how far estimates were off (median, worst)",
    )
    told = (
        f"{estimate.constants_bytes:,} bytes of constants in flash, {estimate.scratch_bytes:,} bytes of scratch buffer"
    )
    return [Note(f"{told} in RAM, beside it about 2.5 KB of stack"), tasks, cores, Note(ASSUMED)]
