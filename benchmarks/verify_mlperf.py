"""MLPerf Tiny's networks with random weights: the same integers in the int64 loop and in every engine.

    python benchmarks/verify_mlperf.py [--integers N] [--network NAME] [--skip-rtl]

Every network of examples/mlperf_tiny.py at its full size, two tasks, with inputs at the ends of their range and random
ones, until N integers of its layers have been compared in each of

* the simulator, and onnxruntime;
* the reference evaluator of onnx: the first inputs of each task, for it takes minutes for many;
* compiled C++ of the accelerator (g++), and its RTL in Verilator, 4 x 4 products a cycle in every layer, 4 in those
  that are depthwise; cycles too.

A line a network and engine tells what was compared. Exit code 1 if any integer or cycle differs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import mlperf_tiny  # noqa: E402

from export import GoldenRun, onnx_graph  # noqa: E402
from export.hls.csim import compiled  # noqa: E402
from export.project.golden import golden_data  # noqa: E402
from export.rtl.project import write_rtl  # noqa: E402
from export.rtl.simulation import RtlCall, compile_rtl  # noqa: E402
from export.rtl.simulators import simulator  # noqa: E402
from sim import Simulator  # noqa: E402
from tests.helpers.images import settings  # noqa: E402
from tests.helpers.learning import commit_randomly, labels_of, model_of  # noqa: E402
from tests.helpers.onnx_engines import on_evaluator, on_onnxruntime  # noqa: E402
from tests.helpers.rtl_designs import predicted_steps  # noqa: E402
from tsn_hw.app.deploy.verify import adversarial_integers  # noqa: E402
from tsn_hw.core import reference  # noqa: E402
from tsn_hw.core.network import PackedNetwork  # noqa: E402
from tsn_hw.hardware.accelerator import Accelerator  # noqa: E402
from tsn_hw.hardware.depthwise import DepthwiseUnit  # noqa: E402
from tsn_hw.hardware.pipeline import accelerator  # noqa: E402
from tsn_hw.learn.freezing import freeze  # noqa: E402

BATCH = 2
ENGINES = ("simulator", "onnxruntime", "reference evaluator")


def network(name: str) -> PackedNetwork:
    """A network with two tasks of four classes, words and masks at random."""
    model = model_of(mlperf_tiny.body_of(name), banks=(0, 0), classes=4)
    for task in range(2):
        commit_randomly(model, task, seed=task)
    return freeze(model, labels_of(model))


def golden(net: PackedNetwork) -> Iterator[GoldenRun]:
    """Inputs of both tasks in turn, without end, and what the int64 loop gives behind every layer."""
    for number in itertools.count():
        x = adversarial_integers(net, BATCH, seed=number)
        yield GoldenRun(number % 2, x, dict(reference.run(net, number % 2, x)))


def enough(net: PackedNetwork, wanted: int) -> list[GoldenRun]:
    """So many runs that they have so many integers, of both tasks."""
    runs, count = list[GoldenRun](), 0
    for run in golden(net):
        if count >= wanted and len(runs) >= 2:
            break
        runs.append(run)
        count += sum(values.size for values in run.layers.values())
    return runs


def on_graphs(net: PackedNetwork, runs: list[GoldenRun]) -> Iterator[str]:
    """The simulator and the ONNX graphs, as one line each."""
    graphs = [onnx_graph(net, task, taps=True) for task in range(2)]
    simulators = [Simulator(net, task).taps for task in range(2)]
    onnx = [on_onnxruntime(graph) for graph in graphs]
    evaluators = [on_evaluator(graph) for graph in graphs]
    told = {name: [0, 0] for name in ENGINES}
    for number, run in enumerate(runs):
        x = run.inputs.astype(np.uint8)
        found = {"simulator": dict(simulators[run.task](run.inputs)), "onnxruntime": onnx[run.task](x=x)}
        if number < 2:
            found["reference evaluator"] = evaluators[run.task](x=x)
        for engine, values in found.items():
            told[engine][0] += sum(truth.size for truth in run.layers.values())
            told[engine][1] += sum(int((np.asarray(values[key]) != truth).sum()) for key, truth in run.layers.items())
    for engine, (compared, different) in told.items():
        yield f"{engine}: {compared:,} integers, {different} differ"


def in_cpp(design: Accelerator, runs: list[GoldenRun]) -> str:
    """Compiled C++: integers of every unit, memories and cycles; what its test bench tells."""
    return f"C++: {compiled(design).check(golden_data(design, runs)).stdout.strip()}"


def in_rtl(design: Accelerator, runs: list[GoldenRun], folder: Path) -> str:
    """RTL in Verilator: integers of every unit, and the steps of every loop."""
    write_rtl(design, folder)
    compiled_rtl = compile_rtl(design, folder, chosen=simulator("verilator"))
    compared = different = 0
    for run, result in zip(runs, compiled_rtl.run([RtlCall(run.task, run.inputs) for run in runs]), strict=True):
        different += result.status != 0
        different += result.steps != predicted_steps(design, len(run.inputs), run.task)
        for key, values in result.layers.items():
            compared += values.size
            different += int((values != run.layers[key]).sum())
    return f"RTL: {compared:,} integers, cycles of {len(design.units)} units; {different} differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--integers", type=int, default=1_000_000)
    parser.add_argument("--network", action="append", choices=list(mlperf_tiny.NETWORKS), help="default: all")
    parser.add_argument("--skip-rtl", action="store_true", help="do without Verilator")
    options = parser.parse_args()
    lines = list[str]()

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    for name in options.network or mlperf_tiny.NETWORKS:
        net = network(name)
        runs = enough(net, options.integers)
        for line in on_graphs(net, runs):
            tell(f"{name}, {line}")
        design = accelerator(net, settings(net, pe=4, simd=4))
        for unit in (unit for unit in design.units if isinstance(unit, DepthwiseUnit)):
            true = net.layers[unit.layers[0]].macs(net.shape(net.layers[unit.layers[0]].inputs[0]))
            tell(f"{name}, {unit.name}: {unit.steps * unit.pe / true:.2f} times its true cycles and words")
        tell(f"{name}, {in_cpp(design, runs)}")
        if not options.skip_rtl:
            with tempfile.TemporaryDirectory() as folder:
                tell(f"{name}, {in_rtl(design, runs, Path(folder))}")
    sys.exit(any("differ" in line and not line.endswith(" 0 differ") for line in lines))


if __name__ == "__main__":
    main()
