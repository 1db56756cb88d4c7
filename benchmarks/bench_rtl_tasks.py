"""What a change of task costs an RTL accelerator: cycles between two inferences, of one task and of tasks in turn.

    python benchmarks/bench_rtl_tasks.py NET.tsn ... [--vectors N] [--pe N] [--simd N]

For every network with dense units and with lists, in Verilator: calls of command RUN_TASKS with one task alone (a mean
of all tasks), with the tasks in turn and in random order; and calls of command RUN, each of one vector, the task
changing with each. Then N vectors of random tasks, at full speed and with stalls in 40 % of the cycles: integers of all
units that were compared with the int64 loop, and that differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from export.rtl.project import write_rtl  # noqa: E402
from export.rtl.simulation import RtlCall, RtlSimulation, compile_rtl  # noqa: E402
from export.rtl.simulators import simulator  # noqa: E402
from tests.helpers.images import settings  # noqa: E402
from tests.helpers.tagged_calls import different, tagged  # noqa: E402
from tsn_hw.app.output import Table, table_text  # noqa: E402
from tsn_hw.core import artifact  # noqa: E402
from tsn_hw.hardware.pipeline import accelerator  # noqa: E402

STALL_PERCENT = 40


def interval(compiled: RtlSimulation, order: list[int]) -> float:
    """Cycles between two inferences of tasks in this order, once the pipeline is full."""
    made = compiled.accelerator
    few, many = compiled.run([tagged(made, order), tagged(made, order * 3)])
    return (many.cycles - few.cycles) / (2 * len(order))


def one_a_call(compiled: RtlSimulation, tasks: int) -> float:
    """Cycles of a call of one vector, the task changing with each."""
    inputs = tagged(compiled.accelerator, range(tasks)).inputs
    results = compiled.run([RtlCall(task, inputs[task : task + 1]) for task in range(tasks)])
    return float(np.mean([result.cycles for result in results]))


def row(path: Path, layout: str, options: argparse.Namespace) -> list[object]:
    """One line of the table."""
    net = artifact.load(path)
    tasks = len(net.tasks)
    made = accelerator(net, settings(net, pe=options.pe, simd=options.simd, layout=lambda number: layout))
    with tempfile.TemporaryDirectory() as folder:
        write_rtl(made, folder)
        compiled = compile_rtl(made, Path(folder), chosen=simulator("verilator"))
        alone = float(np.mean([interval(compiled, [task] * 10) for task in range(tasks)]))
        turns = interval(compiled, list(range(tasks)) * 3)
        drawn = np.random.default_rng(0).permutation(np.repeat(np.arange(tasks), 10)).tolist()
        random, calls = interval(compiled, drawn), one_a_call(compiled, tasks)
        order = np.random.default_rng(1).integers(tasks, size=options.vectors).tolist()
        compared = wrong = 0
        for stalls in (0, STALL_PERCENT):
            call = tagged(made, order, seed=stalls)
            results = compiled.run([call], stalls)
            compared += sum(values.size for values in results[0].layers.values())
            wrong += different(made, [call], results)
    figures = [f"{alone:.1f}", f"{turns:.1f}", f"{random:.1f}", f"{max(turns, random) / alone:.3f}", f"{calls:.0f}"]
    return [path.stem, layout, tasks, *figures, compared, wrong]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--vectors", type=int, default=1000)
    parser.add_argument("--pe", type=int, default=4)
    parser.add_argument("--simd", type=int, default=8)
    options = parser.parse_args()
    header = [
        "network",
        "layout",
        "tasks",
        "alone",
        "in turn",
        "random",
        "ratio",
        "a call each",
        "integers",
        "different",
    ]
    rows = [row(path, layout, options) for path in options.networks for layout in ("dense", "lists")]
    print(table_text(Table.of_rows(header, rows)))


if __name__ == "__main__":
    main()
