"""Export, compilation and C simulation of accelerators of ten tasks.

    python benchmarks/bench_hls.py

Prints, a network: seconds of the export; seconds, processor seconds and peak memory of g++ on the firmware; and
multiply-accumulates a second of the simulation, every integer of it recorded.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nets import random_alexnet, random_inputs, random_mlp
from streams import stream_of

from export import GoldenRun, write_hls
from export.hls.csim import fast_settings
from export.project.golden import input_data
from tsn_hw.core import reference
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.pipeline import accelerator

TASKS = 10
GOLDEN_INPUTS = 2
NETWORKS = {
    "LeNet-300-100": (random_mlp((784, 300, 100, 10)), 2000),
    "AlexNet": (random_alexnet(), 20),
}


def child(*command: object) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak GiB of a command that must succeed."""
    # ru_maxrss is the largest of all children: each command is waited for by a process of its own
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    begin = time.perf_counter()
    arguments = [sys.executable, "-c", code, *map(str, command)]
    processor_s, kib = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    return time.perf_counter() - begin, float(processor_s), float(kib) / 2**20


def macs(net: PackedNetwork) -> int:
    """Multiply-accumulates of an inference of one task."""
    return sum(
        layer.macs(net.shape(layer.inputs[0])) for _, layer, _ in net.run_order(0) if isinstance(layer, Weighted)
    )


def main() -> None:
    for name, (net, inputs) in NETWORKS.items():
        many = stream_of(net, TASKS)
        design = accelerator(many, fast_settings(many))
        runs = []
        for task in range(TASKS):
            x = random_inputs(many, GOLDEN_INPUTS, seed=task)
            runs.append(GoldenRun(task, x, reference.run(many, task, x)))
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "hls"
            begin = time.perf_counter()
            write_hls(design, folder, golden=runs)
            export_s = time.perf_counter() - begin
            make = ("make", "-s", "-C", folder)
            compile_s, compile_processor_s, compile_gib = child(*make, "build/csim/testbench")
            _, check_s, _ = child(*make, "csim")
            data = folder / "inputs.dat"
            data.write_bytes(input_data(design, 0, random_inputs(many, inputs)))
            bench = folder / "build" / "csim" / "testbench"
            _, run_s, _ = child(bench, data, "--dump", "/dev/null")
        weights = sum(math.prod(layer.weight_shape) for layer in net.layers if isinstance(layer, Weighted))
        sys.stdout.write(
            f"{name}, {weights / 1e6:.1f}M weights, {TASKS} tasks: export {export_s:.1f} s; g++ {compile_s:.1f} s "
            f"({compile_processor_s:.1f} s of a processor, {compile_gib:.2f} GiB); test bench with all checks "
            f"{check_s:.1f} s; simulation {inputs * macs(net) / run_s / 1e6:.0f} M MAC/s\n"
        )


if __name__ == "__main__":
    main()
