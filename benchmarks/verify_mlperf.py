"""MLPerf Tiny's networks with random weights: the same integers in the int64 loop, the simulator and onnxruntime.

    python benchmarks/verify_mlperf.py [--integers N]

Every network of examples/mlperf_tiny.py at its full size, two tasks, with inputs at the ends of their range and random
ones, until N integers of its layers have been compared in every engine. A line a network tells what was compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

BATCH = 2


def compare(name: str, wanted: int) -> str:
    """Compares one network; what was compared, as one line."""
    import mlperf_tiny

    from export import onnx_graph
    from sim import Simulator
    from tests.helpers.learning import commit_randomly, labels_of, model_of
    from tests.helpers.onnx_engines import on_onnxruntime
    from tsn_hw.app.deploy.verify import adversarial_integers
    from tsn_hw.core import reference
    from tsn_hw.learn.freezing import freeze

    model = model_of(mlperf_tiny.body_of(name), banks=(0, 0), classes=4)
    for task in range(2):
        commit_randomly(model, task, seed=task)
    net = freeze(model, labels_of(model))
    engines = [(Simulator(net, task).taps, on_onnxruntime(onnx_graph(net, task, taps=True))) for task in range(2)]
    compared, different, round_ = 0, 0, 0
    while compared < wanted:
        task, x = round_ % 2, adversarial_integers(net, BATCH, seed=round_)
        truth = reference.run(net, task, x)
        simulate, onnx = engines[task]
        simulated, outputs = simulate(x), onnx(x=x.astype(np.uint8))
        for layer, values in truth.items():
            different += int((np.asarray(simulated[layer]) != values).sum() + (outputs[layer] != values).sum())
            compared += values.size
        round_ += 1
    return f"{name}: {BATCH * round_} inputs, {compared:,} integers in each of two engines, {different} differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--integers", type=int, default=1_000_000)
    wanted = parser.parse_args().integers
    import mlperf_tiny

    for name in mlperf_tiny.NETWORKS:
        print(compare(name, wanted), flush=True)


if __name__ == "__main__":
    main()
