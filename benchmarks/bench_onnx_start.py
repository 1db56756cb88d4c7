"""What a task costs before its first inference: disk, session start, memory, in every layout; and steady latency.

    python benchmarks/bench_onnx_start.py [WORD ...]

Ten tasks of each network, keep ratio 0.5, 4-bit codes; the last task is measured. Start and memory are those of a
fresh process with one thread: processor time to create the session (median of several processes), and what the process
holds resident, at its peak and once the session stands, beyond what it held with onnxruntime loaded; "trimmed" is after
glibc's malloc_trim, since what was freed while weights were decoded stays with the process else. The same of all ten
tasks open at once, by default and without onnxruntime's arena. Latency: all layouts in turn in one process, over the
plain float32 graph. Words choose networks whose names hold one of them.
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
import ctypes, json, re, sys, time
import onnxruntime
def megabytes(key):
    return int(re.search(key + r":\s+(\d+) kB", open("/proc/self/status").read())[1]) / 1e3
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.enable_cpu_mem_arena = sys.argv[1] == "arena"
before = megabytes("VmRSS")
begin = time.process_time()
sessions = [onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in sys.argv[2:]]
seconds = time.process_time() - begin
held = [megabytes("VmHWM"), megabytes("VmRSS")]
ctypes.CDLL("libc.so.6").malloc_trim(0)
print(json.dumps([seconds * 1e3, *(value - before for value in [*held, megabytes("VmRSS")])]))
"""


def start(paths: list[Path], processes: int = PROCESSES, arena: str = "arena") -> list[float]:
    """Milliseconds of the start of sessions; megabytes at the peak, afterwards, and trimmed: medians."""
    command = [sys.executable, "-c", START, arena, *map(str, paths)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(processes)]
    return [float(value) for value in np.median(runs, axis=0)]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main(words: list[str]) -> None:
    sys.stdout.write(f"onnxruntime {onnxruntime.__version__}, 1 thread, {TASKS} tasks, the last one measured\n")
    for name, one in NETWORKS.items():
        if words and not any(word in name for word in words):
            continue
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
                disk = sum(file.stat().st_size for file in files)
                disk += (folder / "shared" / "banks.bin").stat().st_size * (layout == "shared")
                begin, peak, after, trimmed = start(files[-1:])
                ten, bare = start(files, 1), start(files, 1, "no arena")
                latency = ", ".join(f"{s[row] / s[0]:.2f} at batch {batch}" for batch, s in seconds.items())
                sys.stdout.write(
                    f"{name:20} {layout:9} disk {disk / 1e3:11,.0f} kB ({100 * disk / len(plain) / TASKS:5.1f} %)  "
                    f"start {begin:6.1f} ms  memory {after:6.1f} MB, at the peak {peak:6.1f}, trimmed {trimmed:6.1f}; "
                    f"ten {ten[2]:6.1f}, trimmed {ten[3]:6.1f}, and without arena {bare[3]:6.1f}  latency {latency}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
