"""RTL in simulation: differing integers and speed of every simulator, and cycles counted beside cycles predicted.

    python benchmarks/bench_rtl_simulation.py [net.tsn folding.json]

First a network of several tasks, at full speed and with stalls, the task changing with every vector; without a file an
MLP and a small convolutional network of random weights. Then random foldings of both: the cycles between two inferences
that were counted, beside those predicted. Seconds are of the processor and of the simulators alone.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from nets import random_cnn, random_mlp
from streams import stream_of

from export.project.folding_json import read_folding
from export.rtl.project import write_rtl
from export.rtl.simulation import RtlCall, RtlResult, RtlSimulation, compile_rtl
from export.rtl.simulators import SIMULATORS, simulator
from sim.devices import device
from sim.resources import estimate_resources
from tsn_hw.app.deploy.verify import adversarial_integers
from tsn_hw.app.output import Table, table_text
from tsn_hw.core import artifact, reference
from tsn_hw.core.layers import Flatten
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings, divisors
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.pipeline import accelerator, unit_names

VECTORS = {"verilator": 4000, "cxxrtl": 400, "icarus": 4}
"""Of all tasks together, at full speed and again with stalls."""
STALL_PERCENT = 40
FOLDINGS = 12
"""Of each of the two small networks."""


def folded(net: PackedNetwork, rng: np.random.Generator, most: int) -> Accelerator:
    """A legal folding at random, at most ``most`` either way."""
    plain = accelerator(net, HardwareSettings(dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))))
    units = {}
    for unit in plain.units:
        rows = unit.rows if isinstance(unit, MatrixUnit) else unit.output.channels
        columns = unit.sources[0].channels if isinstance(unit, MatrixUnit) else 1
        pair = (int(rng.choice([d for d in divisors(whole) if d <= most])) for whole in (rows, columns))
        units[unit.name] = UnitSettings(Folding(*pair))
    return accelerator(net, HardwareSettings(units))


def differences(net: PackedNetwork, calls: list[RtlCall], results: list[RtlResult]) -> tuple[int, int]:
    """Integers that were compared, of all layers, and those that differ."""
    compared = different = 0
    for task in {call.task for call in calls}:
        pairs = [(call, result) for call, result in zip(calls, results, strict=True) if call.task == task]
        truth = reference.run(net, task, np.concatenate([call.inputs for call, _ in pairs]))
        names = [layer.name for _, layer, _ in net.run_order(task) if not isinstance(layer, Flatten)]
        assert all((result.status, list(result.layers)) == (0, names) for _, result in pairs)
        for name in names:
            found = np.concatenate([result.layers[name] for _, result in pairs])
            compared += found.size
            different += int((found != truth[name]).sum())
    return compared, different


def measure(title: str, design: Accelerator) -> None:
    """Print what every simulator takes and gives for vectors of changing tasks."""
    rows: list[list[object]] = []
    for name in SIMULATORS:
        chosen = simulator(name)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "rtl"
            write_rtl(design, folder)
            begin = processor_s()
            compiled = compile_rtl(design, folder, chosen=chosen)
            compile_s = processor_s() - begin
            rows += [[chosen.tool, f"{compile_s:.0f}", *run(compiled, name, stalls)] for stalls in (0, STALL_PERCENT)]
    header = ["simulator", "compile s", "stalls %", "vectors", "integers", "different", "cycles", "s", "cycles/s"]
    print(f"{title}: {len(design.net.tasks)} tasks, interval {interval(design)} cycles")
    print(table_text(Table.of_rows(header, rows)), "\n", flush=True)


def run(compiled: RtlSimulation, name: str, stalls: int) -> list[object]:
    """A row of the table: the vectors of all tasks in turn, each a call of its own."""
    net = compiled.accelerator.net
    vectors = [adversarial_integers(net, -(-VECTORS[name] // len(net.tasks)), seed=t) for t in range(len(net.tasks))]
    calls = [RtlCall(t, x[None]) for batch in zip(*vectors, strict=True) for t, x in enumerate(batch)]
    begin = processor_s()
    results = compiled.run(calls, stalls)
    seconds = processor_s() - begin
    cycles = sum(result.cycles for result in results)
    return [stalls, len(calls), *differences(net, calls, results), cycles, f"{seconds:.1f}", f"{cycles / seconds:,.0f}"]


def processor_s() -> float:
    """Processor seconds of the programs that have run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def interval(design: Accelerator) -> int:
    """The cycles between two inferences, as predicted."""
    return estimate_resources(design, device("xc7z020")).interval_cycles


def count(title: str, net: PackedNetwork) -> None:
    """Print the cycles between inferences that were counted in random foldings, beside those predicted."""
    rng, pairs = np.random.default_rng(0), []
    x = adversarial_integers(net, 3, seed=0)
    for _ in range(FOLDINGS):
        design = folded(net, rng, most=64)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "rtl"
            write_rtl(design, folder)
            compiled = compile_rtl(design, folder, chosen=simulator("icarus"))
            calls = [RtlCall(0, x[:2]), RtlCall(0, x)]
            two, three = compiled.run(calls)
            assert differences(net, calls, [two, three])[1] == 0
        pairs.append((three.cycles - two.cycles, interval(design)))
    equal = sum(counted == predicted for counted, predicted in pairs)
    print(f"{title}: interval counted = predicted in {equal} of {len(pairs)} foldings: {pairs}", flush=True)


def main() -> None:
    if len(sys.argv) > 1:
        net = artifact.load(Path(sys.argv[1]))
        settings = read_folding(Path(sys.argv[2]).read_text(), sys.argv[2], net)
        measure(sys.argv[1], accelerator(net, settings))
        return
    rng = np.random.default_rng(0)
    mlp, cnn = stream_of(random_mlp((64, 64, 32, 4)), 5), stream_of(random_cnn(), 3)
    measure("MLP 64-64-32-4", folded(mlp, rng, most=8))
    measure("small convolutional network", folded(cnn, rng, most=4))
    count("MLP 64-64-32-4", mlp)
    count("small convolutional network", cnn)


if __name__ == "__main__":
    main()
