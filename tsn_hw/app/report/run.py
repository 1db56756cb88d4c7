"""Gather what is known of a run or a network, and write the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.cost import estimate_cost
from tsn_hw.app.deploy.verification import read_verification
from tsn_hw.app.hardware.choose import Chosen, HardwareRequest, choose
from tsn_hw.app.hardware.synth import synthesized
from tsn_hw.app.output import CommandResult, Note, Section
from tsn_hw.app.output.page import render_page
from tsn_hw.app.report import costs, sections
from tsn_hw.app.report.sections import Subject
from tsn_hw.app.sweep.results import Sweep, read_sweep_summary
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import FoldingError, SettingsError
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.pipeline import least_accelerator

if TYPE_CHECKING:
    from tsn_hw.app.learning.runs import RunFolder

NETWORK, VERIFICATION = "net.tsn", "verify.json"


def write_report(
    path: Path, out: Path | None, sweep_folder: Path | None, request: HardwareRequest | None, rtl: Path | None = None
) -> CommandResult:
    """Write the page of a run's folder, or of a .tsn file alone; ``rtl``: folder of an RTL project of the network."""
    subject = gather(path, sweep_folder, request, rtl)
    file = subject.path.with_name("report.html") if out is None else out
    page = render(subject).encode()
    write_atomically(file, page)
    return CommandResult([Note(f"{file}: {len(page):,} bytes")], {"file": str(file), "bytes": len(page)})


def gather(path: Path, sweep_folder: Path | None, request: HardwareRequest | None, rtl: Path | None = None) -> Subject:
    """Read everything that a report tells. SettingsError if sweep or RTL project are of something else."""
    run = _run(path) if path.is_dir() else None
    file = path if run is None else path / NETWORK
    found = None if sweep_folder is None else _sweep(sweep_folder, run)
    data, net = read_bytes(file), artifact.load(file)
    sizes = capacity(net, data)
    chosen = None if request is None else _chosen(net, request)
    design = chosen.accelerator if isinstance(chosen, Chosen) else least_accelerator(net)
    names = [task.name for task in net.tasks]
    verified = read_verification(file.parent / VERIFICATION, artifact.renewed(data), names)
    measured = () if rtl is None else synthesized(net, rtl)
    return Subject(file, data, net, sizes, estimate_cost(design, stored=sizes), verified, run, found, chosen, measured)


def _chosen(net: PackedNetwork, request: HardwareRequest) -> Chosen | str:
    """The accelerator that is asked for, or why there is none: the page tells it, and everything else."""
    try:
        return choose(net, request)
    except FoldingError as error:
        return str(error)


def _run(folder: Path) -> RunFolder:
    from tsn_hw.app.learning.runs import RunFolder  # loads torch, which a network alone has no use for

    return RunFolder(folder)


def _sweep(folder: Path, run: RunFolder | None) -> Sweep:
    if run is None:
        raise SettingsError("--sweep: goes with the folder of the run that was swept")
    from tsn_hw.app.sweep.evaluate import base_of

    found = read_sweep_summary(folder)
    if base_of(run.settings, run.stream, run.folder).digest not in found.runs:
        raise SettingsError(f"--sweep {folder}: is a sweep of another run than {run.folder}")
    return found


def render(subject: Subject) -> str:
    """The page as text. Same subject, same page."""
    net = subject.net
    parts: list[Section] = [sections.summary(subject)]
    if subject.sweep is not None:
        parts.append(costs.sweep(subject.sweep))
    parts += [sections.tasks(subject), costs.memory(subject), costs.operations(subject.costs)]
    if isinstance(subject.chosen, str):
        parts.append(Section("hardware", "No accelerator", [Note(subject.chosen)]))
    elif subject.chosen is not None:
        parts.append(costs.hardware(subject.chosen))
    parts.append(costs.microcontroller(net))
    if subject.measured:
        parts.append(costs.gates(subject.measured))
    parts += [sections.verification(subject), sections.provenance(subject)]
    shape = " × ".join(map(str, net.input_shape))
    of_layers = f"{len(net.body)} layers with weights, input {shape} of {net.input.bits} bits"
    subtitle = f"{len(net.tasks)} tasks in {len(net.banks)} bank{'s' if len(net.banks) > 1 else ''}, {of_layers}"
    return render_page(subject.title, subtitle, parts)
