"""What a task costs before its first inference: disk, session start, memory, in every layout; and steady latency.

    python benchmarks/bench_onnx_start.py

Ten tasks of each network, keep ratio 0.5, 4-bit codes; the last task is measured. Start and memory are those of a
fresh process with one thread: processor time to create the session (median of several processes), and what the process
holds resident, at its peak and once the session stands, beyond what it held with onnxruntime loaded. Latency: all
layouts in turn in one process, over the plain float32 graph.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from bench_onnx import float_graph, medians
from nets import random_alexnet, random_inputs, random_mlp, random_resnet18
from streams import stream_of

from export import write_onnx, write_onnx_shared

TASKS = 10
PROCESSES = 5
NETWORKS = {
    "MLP 784-100-100-10": random_mlp((784, 100, 100, 10)),
    "AlexNet": random_alexnet(),
    "ResNet-18, width 20": random_resnet18(),
}
LAYOUTS = {
    "float32": "float/task_{:02d}.onnx",
    "by itself": "alone/task_{:02d}.onnx",
    "shared": "shared/task_{:02d}.onnx",
    "folded": "alone/task_{:02d}.folded.onnx",
}
START = r"""
import json, re, sys, time
import onnxruntime
def kilobytes(key):
    return int(re.search(key + r":\s+(\d+) kB", open("/proc/self/status").read())[1])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
before = kilobytes("VmRSS")
begin = time.process_time()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
seconds = time.process_time() - begin
peak, after = kilobytes("VmHWM"), kilobytes("VmRSS")
print(json.dumps([seconds * 1e3, (peak - before) / 1e3, (after - before) / 1e3]))
"""


def start(path: Path) -> list[float]:
    """Milliseconds of a session's start, megabytes at the peak, megabytes afterwards: medians."""
    command = [sys.executable, "-c", START, str(path)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(PROCESSES)]
    return [float(value) for value in np.median(runs, axis=0)]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    sys.stdout.write(f"onnxruntime {onnxruntime.__version__}, 1 thread, {TASKS} tasks, the last one measured\n")
    for name, one in NETWORKS.items():
        net = stream_of(one, TASKS)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_onnx(net, folder / "alone", fold=True)
            write_onnx_shared(net, folder / "shared")
            (folder / "float").mkdir()
            plain = float_graph(one).SerializeToString()
            for task in range(TASKS):
                (folder / "float" / f"task_{task:02d}.onnx").write_bytes(plain)
            paths = {layout: folder / form.format(TASKS - 1) for layout, form in LAYOUTS.items()}
            sessions = [session(path) for path in paths.values()]
            x = {batch: random_inputs(one, batch) for batch in (1, 64)}
            seconds = {b: medians(sessions, [i.astype(np.float32), *[i] * (len(sessions) - 1)]) for b, i in x.items()}
            del sessions
            for row, (layout, form) in enumerate(LAYOUTS.items()):
                files = [folder / form.format(task) for task in range(TASKS)]
                files += [folder / "shared" / "banks.bin"] * (layout == "shared")
                disk = sum(file.stat().st_size for file in files)
                begin, peak, after = start(paths[layout])
                latency = ", ".join(f"{s[row] / s[0]:.2f} at batch {batch}" for batch, s in seconds.items())
                sys.stdout.write(
                    f"{name:20} {layout:9} disk {disk / 1e3:11,.0f} kB ({100 * disk / len(plain) / TASKS:5.1f} %)  "
                    f"start {begin:6.1f} ms  memory {after:6.1f} MB, at the peak {peak:6.1f} MB  latency {latency}\n"
                )


if __name__ == "__main__":
    main()
