"""Sweeps over tiny runs, for the tests of sweeps and of the report."""

import atexit
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.helpers.tiny_run import EVERYTHING, TINY, finished_run
from tsn_hw.app.sweep.engines import processes
from tsn_hw.app.sweep.results import Sweep
from tsn_hw.app.sweep.run import run_sweep
from tsn_hw.learn.settings import QuantizeSettings

HERE = processes(1)
RUN = replace(TINY, quantize=QuantizeSettings(min_bits=3, max_bits=3))
"""One body layer fc1, two tasks, keep ratio 0.4."""
DEEP = replace(EVERYTHING, train=replace(EVERYTHING.train, transfer=False))
"""Two body layers fc1 and fc2, batch norm, three tasks in two banks."""
GRID = """
[values]
code_bits = [1, 2, 3]
activation_bits = [4, 8]
layers.head = [3, 5]
"""


def sweep_file(folder: Path, values: str = GRID, run: Path | None = None) -> Path:
    """A sweep file over a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.toml"
    path.write_text(f"run = {str(run or finished_run(RUN))!r}\n{values}")
    return path


def sweep_into(folder: Path, values: str = GRID, run: Path | None = None, parquet: bool = False) -> Sweep:
    """Do a sweep in this process."""
    return run_sweep(sweep_file(folder, values, run), folder / "out", HERE, parquet)


@cache
def whole_sweep() -> Path:
    """The folder of the sweep over GRID, done once in this process without a break."""
    folder = Path(tempfile.mkdtemp(prefix="tsn-hw-sweep-"))
    atexit.register(shutil.rmtree, folder)
    sweep_into(folder)
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    """All results of a sweep, as they were written."""
    return [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]


def sweep_process(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """The command, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tsn_hw.app.cli.main",
        "sweep",
        str(folder / "sweep.toml"),
        "-o",
        str(folder / "out"),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([*command, "--quiet", *options], env=environment)


def wait_for_lines(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Wait until a sweep has so many results on disk."""
    path, end = folder / "out" / "results.jsonl", time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None
        assert time.monotonic() < end, "no results"
        time.sleep(0.005)


def assert_same_sweep(folder: Path, other: Path) -> None:
    """Both wrote the same files, except that results may stand in another order; none stands there twice."""
    names = {path.relative_to(other).as_posix() for path in other.rglob("*") if path.is_file()}
    assert names == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in names - {"out/results.jsonl"}:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    ours, others = (sorted(map(json.dumps, lines(place))) for place in (folder, other))
    assert ours == others


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "out" / "table.csv").read_text())))
