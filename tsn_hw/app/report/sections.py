"""Sections of a report about what was learned: summary, tasks and accuracies, verification, provenance."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.cost import NetworkCost
from tsn_hw.app.deploy.verification import Verification, verification_blocks
from tsn_hw.app.hardware.choose import Chosen
from tsn_hw.app.hardware.synth import Synthesis
from tsn_hw.app.learning.contents import task_table
from tsn_hw.app.learning.metrics import Metrics
from tsn_hw.app.output import Block, Cards, Cell, Note, Section, Table, Value
from tsn_hw.app.sweep.results import Sweep
from tsn_hw.core import artifact
from tsn_hw.core.capacity import Capacity
from tsn_hw.core.network import PackedNetwork

if TYPE_CHECKING:
    from tsn_hw.app.learning.runs import RunFolder

MEASURED = (
    "Every network was stored when its last task was learned, and is measured again here, with exact integers. "
    "A column that does not change is a task of which nothing was forgotten."
)
COMPARED = (
    "Every engine computes the same network on the same inputs, and every integer of every layer is compared with a "
    "plain int64 loop. There is no tolerance."
)
PACKAGES = ("brevitas", "numpy", "onnx", "onnxruntime", "torch")


@dataclass(frozen=True)
class Subject:
    """What a report is about. Without a run there are no accuracies, without a sweep no choice.

    verification: what ``tsn-hw verify`` wrote of this network, or why there is nothing. chosen: an accelerator on a
    part, or why there is none
    """

    path: Path
    data: bytes
    net: PackedNetwork
    sizes: Capacity
    costs: NetworkCost
    verification: Verification | str
    run: RunFolder | None = None
    sweep: Sweep | None = None
    chosen: Chosen | str | None = None
    measured: tuple[Synthesis, ...] = ()

    @property
    def title(self) -> str:
        """Name of the run, or of the file."""
        return self.path.parent.resolve().name if self.run else self.path.name

    @cached_property
    def metrics(self) -> Metrics | None:
        """Accuracies, measured now."""
        return None if self.run is None else self.run.metrics()

    @property
    def names(self) -> list[str]:
        """Names of the tasks."""
        return [task.name for task in self.net.tasks]


def summary(subject: Subject) -> Section:
    """The figures to see first."""
    return Section("summary", "Summary", [Cards(list(_cards(subject)))])


def _cards(subject: Subject) -> Iterator[tuple[str, str, str, str]]:
    net, sizes, metrics = subject.net, subject.sizes, subject.metrics
    if metrics is not None:
        forgotten = "what earlier tasks lost" if metrics.bwt else "nothing is forgotten"
        yield f"{metrics.acc:.2f}", "%", "Mean test accuracy", f"of {len(net.tasks)} tasks, with integers"
        yield f"{metrics.bwt:.2f}", "points", "Backward transfer", forgotten
        if metrics.fwt is not None:
            yield f"{metrics.fwt:+.2f}", "points", "Forward transfer", "against tasks learned alone"
    yield f"{sizes.body_percent:.2f}", "%", "Body capacity", f"of {sizes.body_weights:,} float32 weights"
    yield f"{len(subject.data):,}", "bytes", "File", f"{sizes.total_percent:.2f} % of one dense float32 network"
    bops = 100 * subject.costs.integer.bops / subject.costs.float32.bops
    yield f"{bops:.2f}", "%", "Bit operations", "of the dense float32 network"
    yield _verified(subject.verification)
    if isinstance(subject.chosen, Chosen):
        estimate = subject.chosen.estimate
        meaning = f"{'fits' if estimate.fits else 'does not fit'}, estimated at {estimate.clock_mhz:g} MHz"
        yield f"{estimate.inferences_per_second:,.0f}", "a second", f"On {estimate.device.name}", meaning
    if subject.sweep is not None and subject.sweep.chosen is not None:
        row = subject.sweep.rows[subject.sweep.chosen]
        meaning = f"{row['accuracy_percent']:.2f} %, file {row['total_percent']:.2f} % of float32"
        yield f"point {row['point']}", "", "Choice of the sweep", meaning


def _verified(verification: Verification | str) -> tuple[str, str, str, str]:
    if isinstance(verification, str):
        return "not shown", "", "Verification", verification
    engines = sum(engine.absent is None for engine in verification.engines.values())
    meaning = f"{verification.mismatches:,} integers differ between {engines} engines"
    return "passed" if verification.passed else "FAILED", "", "Verification", meaning


# -------------------------------------------------------------------------------------------------- tasks, accuracies


def tasks(subject: Subject) -> Section:
    """Every task, and the accuracies of all of them after each."""
    metrics = subject.metrics
    reached = () if metrics is None else metrics.matrix[-1].tolist()
    blocks: list[Block] = [task_table(subject.net, subject.sizes, "accuracy %", reached)]
    missing = [] if subject.run is None else subject.run.stream.names[len(subject.net.tasks) :]
    if missing:
        told = f"{len(missing)} tasks of the run are not learned yet: {', '.join(missing)}."
        blocks.append(Note(f"{told} tsn-hw train goes on with --resume."))
    if metrics is not None:
        blocks += [Note(MEASURED), _matrix(metrics, subject.names)]
    return Section("tasks", "Tasks and accuracy", blocks)


def _matrix(metrics: Metrics, names: list[str]) -> Table:
    known = metrics.matrix[~np.isnan(metrics.matrix)]
    low, span = float(known.min()), max(1.0, float(known.max() - known.min()))
    rows: list[list[Value | Cell]] = []
    for name, values in zip(names, metrics.matrix.tolist(), strict=True):
        cells = (Cell("") if np.isnan(value) else Cell(value, 0.15 + 0.75 * (value - low) / span) for value in values)
        rows.append([f"after {name}", *cells])
    if not np.isnan(metrics.alone).all():
        alone = [None if np.isnan(value) else value for value in metrics.alone.tolist()]
        rows.append(["learned alone", *alone])
    return Table.of_rows(["", *names], rows, "Test accuracy in percent")


# ------------------------------------------------------------------------------------------------------- verification


def verification(subject: Subject) -> Section:
    """Engines against one another, and the seals."""
    found = subject.verification
    if isinstance(found, str):
        blocks: list[Block] = [Note(f"{found[0].upper()}{found[1:]}.")]
    else:
        blocks = [Note(COMPARED), *verification_blocks(found, subject.names)]
    return Section("verification", "Verification", [*blocks, _seal_table(subject)])


def _seal_table(subject: Subject) -> Table:
    """The seal of every task, and whether it is the one that the task had when it was learned."""
    snapshots = {} if subject.run is None else subject.run.snapshots()
    rows: list[list[Value | Cell]] = []
    for number, task in enumerate(subject.net.tasks):
        seal = artifact.seal(subject.net, number)
        row: list[Value | Cell] = [task.name, seal[:16]]
        if number + 1 in snapshots:
            first = artifact.seal(artifact.from_bytes(snapshots[number + 1]), number)
            row.append(Cell("unchanged since", state="good") if first == seal else Cell("changed", state="bad"))
        rows.append(row)
    header = ["task", "seal"] + ["when it was learned"] * (subject.run is not None)
    return Table.of_rows(header, rows, "Seals: SHA-256 of all that a task reads")


# --------------------------------------------------------------------------------------------------------- provenance


def provenance(subject: Subject) -> Section:
    """What everything was made from, and with."""
    rows: list[list[Value | Cell]] = [[subject.path.name, hashlib.sha256(subject.data).hexdigest()]]
    blocks: list[Block] = []
    if subject.run is not None:
        from tsn_hw.learn.folder import settings_digest  # loads torch, which a network alone has no use for

        rows += [
            [f"after task {count}", hashlib.sha256(data).hexdigest()] for count, data in subject.run.snapshots().items()
        ]
        rows.append(["settings", settings_digest(subject.run.settings)])
        settings = list(_settings(asdict(subject.run.settings)))
        blocks.append(Table.of_rows(["key", "value"], settings, "Settings of the run", folded=True))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    made = Note(f"This page was made with Python {platform.python_version()}, {packages}.")
    return Section("provenance", "Provenance", [Table.of_rows(["of", "digest"], rows, "SHA-256"), *blocks, made])


def _settings(values: Any, name: str = "") -> Iterator[list[Value | Cell]]:
    """Dotted keys and values, the places of files left out."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key != "path":
                yield from _settings(value, f"{name}.{key}" if name else key)
    elif isinstance(values, tuple | list) and values and isinstance(values[0], Mapping):
        for number, value in enumerate(values):
            yield from _settings(value, f"{name}[{number}]")
    else:
        yield [name, str(values)]
