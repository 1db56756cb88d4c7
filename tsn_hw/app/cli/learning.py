"""The commands around networks: init, demo, train, show, gate, simulate, verify, sweep, report, page, bench."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tsn_hw.app.cli.command import (
    EstimatedDeviceOptions,
    File,
    Folder,
    Out,
    Rate,
    TaskName,
    whole,
)
from tsn_hw.app.output import CommandResult
from tsn_hw.core.errors import SettingsError


def init(settings: File, /) -> CommandResult:
    """Write a settings file to begin with: every key, its default, and what it means.

    Args:
        settings: TOML file to write; one that is there is left alone
    """
    from tsn_hw.app.learning.begin import write_settings

    return write_settings(settings)


def demo(*, out: Folder = Path("build/demo"), resume: bool = False, device: str = "cpu") -> CommandResult:
    """The whole chain on bundled data, verified, in a few minutes.

    Args:
        out: folder for everything
        resume: go on where an interrupted demo stopped
        device: cpu, cuda or cuda:N
    """
    from tsn_hw.app.learning.demo import report, run_demo

    return report(run_demo(out, resume, device=device), out)


def train(settings: File, /, *, out: Out, resume: bool = False, device: str = "cpu") -> CommandResult:
    """Learn every task of a settings file, freeze, save.

    Args:
        settings: TOML file; see examples/ and docs/training.md
        out: folder of the run; holds net.tsn at the end
        resume: go on where a killed run stopped; ends in the same bytes
        device: cpu, cuda or cuda:N
    """
    from tsn_hw.app.learning.commands import train_run

    return train_run(settings, out, device, resume)


def show(network: File, /) -> CommandResult:
    """Banks, tasks, bits per weight, sparsity, capacity, seals.

    Args:
        network: .tsn file
    """
    from tsn_hw.app.learning.commands import show

    return show(network)


def simulate(
    network: File, /, *, task: TaskName, run: Folder | None = None, input: File | None = None
) -> CommandResult:
    """Integer inference and accuracy of one task.

    Args:
        network: .tsn file
        task: number of the task, from 0, or its name; auto: the one that the gate names for every input
        run: training run whose test data is used (default: the file's folder)
        input: .npy file instead: uint8 images, floats, or integers of the input format
    """
    from tsn_hw.app.learning.commands import simulate

    if run is not None and input is not None:
        raise SettingsError("--input: does not go with --run ('tsn-hw simulate --help' tells more)")
    return simulate(network, task, run, input)


@Parameter(name="*")
@dataclass(frozen=True)
class GateOptions:
    """How gates are learned."""

    kind: Literal["pixels", "images"] = "pixels"
    """pixels: each by itself, bright or dark; images: normal distributions of sums over windows and of edges"""
    bits: Annotated[int | None, whole(1, 8)] = None
    """bits of a weight (default: 2 of pixels, 8 of images)"""
    components: Annotated[int, whole(1, 64)] = 4
    """of images: normal distributions a task, at most"""
    pool: Annotated[int, whole(1, 10**4)] = 8
    """of images: side of the windows over which pixels are summed"""
    edges: Annotated[int, whole(0, 10**4)] = 4
    """of images: side of the windows over which differences of neighbours are summed; 0: none"""


def gate(network: File, /, *, out: Out, run: Folder | None = None, how: GateOptions = GateOptions()) -> CommandResult:
    """Give a network gates, which tell what task an input belongs to.

    They are learned from the training data of every task by itself; docs/gate.md tells more.

    Args:
        network: .tsn file
        out: .tsn file with gates
        run: training run whose data are used (default: the file's folder)
    """
    from tsn_hw.app.learning.gate import add_gates
    from tsn_hw.learn.gates import GateSettings

    bits = how.bits or {"pixels": 2, "images": 8}[how.kind]
    return add_gates(network, run, out, GateSettings(how.kind, bits, how.components, how.pool, how.edges))


@Parameter(name="*")
@dataclass(frozen=True)
class RtlOptions:
    """The hardware that is simulated beside the other engines."""

    rtl: File | None = None
    """also simulate the RTL with this folding; slow, a few inputs a task"""
    simulator: Literal["verilator", "cxxrtl", "icarus"] | None = None
    """of the RTL; without this option the first one installed"""


def verify(
    network: File,
    /,
    *,
    run: Folder | None = None,
    samples: Annotated[int, whole(1, 10**5)] = 64,
    images: Annotated[int, whole(1, 10**7)] = 256,
    out: Out | None = None,
    hardware: RtlOptions = RtlOptions(),
) -> CommandResult:
    """Every engine against every other, bit for bit; exit 1 at the first difference.

    Args:
        network: .tsn file
        run: training run beside it (default: the file's folder, if it is one)
        samples: adversarial inputs a task
        images: test images a task, with a run
        out: also write the result as JSON here
    """
    from tsn_hw.app.learning.commands import verify_network

    if hardware.simulator is not None and hardware.rtl is None:
        raise SettingsError("--simulator runs the hardware that --rtl names, and there is none")
    rtl = None if hardware.rtl is None else (hardware.rtl, hardware.simulator)
    return verify_network(network, run, samples, images, out, rtl)


def sweep(
    settings: File,
    /,
    *,
    out: Out,
    engine: Literal["processes", "dask"] = "processes",
    jobs: Annotated[int | None, whole(1, 1024)] = None,
    scheduler: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    parquet: bool = False,
) -> CommandResult:
    """Many bit-widths from one trained run: accuracy against cost.

    Args:
        settings: TOML file; see examples/sweeps/ and docs/sweep.md
        out: folder; a sweep that was stopped goes on in it
        engine: what does the work: processes of this machine, or a cluster
        jobs: processes here (default: one a processor)
        scheduler: of the Dask cluster, such as tcp://127.0.0.1:8786
        parquet: also write the table as a Parquet file
    """
    from tsn_hw.app.sweep.engines import dask_cluster, processes
    from tsn_hw.app.sweep.run import run_sweep, told

    if (engine == "dask") != (scheduler is not None):
        raise SettingsError("--engine dask and --scheduler go together")
    workers = processes(jobs or os.cpu_count() or 1) if scheduler is None else dask_cluster(scheduler)
    return told(run_sweep(settings, out, workers, parquet), out)


def report(
    run: Folder,
    /,
    *,
    out: Out | None = None,
    sweep: Folder | None = None,
    rtl: Folder | None = None,
    part: EstimatedDeviceOptions = EstimatedDeviceOptions(),
    target_fps: Rate | None = None,
) -> CommandResult:
    """One HTML page: what a network does, holds and costs.

    With --device the accelerator on that part, too.

    Args:
        run: folder of a training run, or .tsn file
        out: HTML file (default: report.html beside the network)
        sweep: folder of a sweep of the run
        rtl: folder of the network's RTL project: what tsn-hw synth measured of it
        target_fps: inferences a second (default: as many as the part allows)
    """
    from tsn_hw.app.report.run import write_report

    part.require_device(target_fps=target_fps, coefficients=part.coefficients)
    request = None
    if part.device is not None:
        from tsn_hw.app.hardware.choose import HardwareRequest

        request = HardwareRequest(part.platform(), target_fps=target_fps)
    return write_report(run, out, sweep, request, rtl)


def page(source: Folder | None = None, /, *, out: Out | None = None) -> CommandResult:
    """One HTML page that runs networks: draw an image, switch the task, see the integers of every layer.

    It needs no server. Other networks and images are loaded in it.

    Args:
        source: .tsn file that it opens with, or folder of a training run, whose test images it then shows
        out: HTML file (default: page.html beside the network)
    """
    from tsn_hw.app.page.write import write_page

    return write_page(source, out)


@Parameter(name="*")
@dataclass(frozen=True)
class PaperOptions:
    """Which runs are made."""

    tables: str = "1-8"
    """such as 1-8 or 3,5,9; 9 compares methods"""
    only: str | None = None
    """of the runs that they need these alone, such as tsn_1.0,wsn_1.0"""
    seeds: Annotated[int, whole(1, 1000)] = 1
    """seeds 0, 1, ..."""


def bench(
    suite: Literal["paper"],
    /,
    *,
    preset: File,
    out: Out | None = None,
    runs: PaperOptions = PaperOptions(),
    device: str = "cpu",
) -> CommandResult:
    """The paper's experiments, our figures beside the published ones; resumable.

    Args:
        suite: the experiments: the paper's tables
        preset: settings file; see examples/ and docs/results.md
        out: folder of runs and tables (default: build/paper/PRESET)
        device: cpu, cuda or cuda:N
    """
    from tsn_hw.app.paper.bench import bench_paper

    folder, only = out or Path("build", suite, preset.stem), runs.only.split(",") if runs.only is not None else ()
    return bench_paper(preset, folder, _numbers(runs.tables, "--tables"), runs.seeds, device, only)


def _numbers(text: str, option: str) -> set[int]:
    """The numbers that a list of numbers and ranges names.

    >>> sorted(_numbers("1-3,7", "--tables"))
    [1, 2, 3, 7]
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part.strip())
        if ends is None or int(ends[2] or ends[1]) < int(ends[1]):
            raise SettingsError(f"{option} {text!r}: must be numbers and ranges, such as 1-3,7")
        found |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found
