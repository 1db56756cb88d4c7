"""One bank beside FINN's sets of weights: block RAMs of both for 2, 4, 8 and 16 tasks, each by its own estimate.

``TSN_HW_FINN_PYTHON=.venv-finn/bin/python python benchmarks/bench_finn.py`` (``make finn`` creates the environment).
784-100-100 with 8-bit activations and centroids and 4-bit codes; every task uses a tenth of the weights, chosen at
random. FINN+ (``selectable_weights``) puts the weights of all tasks, one set behind the other, into the memory of a
unit, and the thresholds likewise; its estimate counts blocks for the weights alone. Ours counts words, masks,
codebooks, requantization and buffers. Both with PE = SIMD = 1 on an xc7z020, in block RAMs of 18 kbit (of 280).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from nets import random_mlp
from streams import stream_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from export import qonnx_graph
from sim.devices import device
from sim.resources import estimate_resources
from tests.helpers.finn import finn_python, front_end
from tsn_hw.hardware.pipeline import least_accelerator

TASKS = [2, 4, 8, 16]


def main() -> None:
    python = finn_python()
    if python is None or not os.access(python, os.X_OK):
        print("bench_finn: TSN_HW_FINN_PYTHON names no interpreter with finn-plus ('make finn' creates one)")
        return
    net = stream_of(random_mlp((784, 100, 100, 10)), max(TASKS), density=0.1)
    with tempfile.TemporaryDirectory() as folder:
        graph, inputs = Path(folder) / "net.onnx", Path(folder) / "x.npy"
        onnx.save(qonnx_graph(net, 0, "multithreshold"), graph)
        np.save(inputs, np.zeros((1, *net.input_shape), np.float32))
        units = front_end(python, graph, inputs, TASKS)["units"].values()
    print(f"{'tasks':>5}{'FINN 18k':>10}{'weight bits':>13}{'threshold bits':>16}{'ours 18k':>10}{'bits':>11}")
    for number, count in enumerate(TASKS):
        finn = sum(unit["blocks"][number] for unit in units)
        weights = count * sum(unit["rows"] * unit["columns"] * unit["weight_bits"] for unit in units)
        thresholds = count * sum(unit["thresholds"] * unit["threshold_bits"] for unit in units)
        design = least_accelerator(net.first_tasks(count))
        ours = estimate_resources(design, device("xc7z020")).resources.bram
        bits = sum(layout.bits for unit in design.units for layout in design.layouts_of(unit))
        print(f"{count:>5}{finn:>10}{weights:>13}{thresholds:>16}{ours:>10}{bits:>11}")


if __name__ == "__main__":
    main()
