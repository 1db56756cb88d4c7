"""Sweeps over tiny runs, for the tests of sweeps and of the report."""

from dataclasses import replace
from pathlib import Path

from tiny_run import EVERYTHING, TINY, finished_run

from tsn_hw.app.sweep.engines import processes
from tsn_hw.app.sweep.run import run_sweep
from tsn_hw.app.sweep.summary import Sweep
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
    return run_sweep(sweep_file(folder, values, run), folder / "out", HERE, parquet, quiet=True)
