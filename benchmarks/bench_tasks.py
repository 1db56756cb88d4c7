"""A network of many tasks: what each step of its life costs, and how that grows from 100 to 300 tasks.

Processor time, one thread, the least of several turns, and the peak memory of a process that does one step of one
network after it was loaded. The exponent e of a step says that it grows as tasks to the power of e.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from nets import random_mlp
from streams import stream_of

from export import write_onnx, write_onnx_shared
from sim import Simulator
from tsn_hw.core import artifact
from tsn_hw.core.network import PackedNetwork

COUNTS = (10, 50, 100, 300)
TURNS, SECONDS = 3, 20.0
"""How often a step is done, each time with a network that was just read, unless one turn takes longer than this."""
Step = Callable[[PackedNetwork, Path], object]


def seals(net: PackedNetwork, _: Path) -> None:
    """What verify does of a network alone besides its engines: seals, and the digest of the file."""
    for task in range(len(net.tasks)):
        artifact.seal(net, task)
    artifact.to_bytes(net)


def files_of_a_run(net: PackedNetwork, _: Path) -> None:
    """What verify makes beside a run: the file of the network as it stood after each task."""
    deque(artifact.after_each_task(net), maxlen=0)


def first_logits(net: PackedNetwork, _: Path) -> None:
    """A simulator of every task, and one input through each: its layers are compiled when they first run."""
    x = np.zeros((1, *net.input_shape), np.uint8)
    for task in range(len(net.tasks)):
        Simulator(net, task)(x)


STEPS: dict[str, Step] = {
    "save": lambda net, folder: artifact.save(net, folder / "again.tsn"),
    "load": lambda _, folder: artifact.load(folder / "net.tsn"),
    "verify": seals,
    "verify, files of a run": files_of_a_run,
    "ONNX, shared": lambda net, folder: write_onnx_shared(net, folder / "shared"),
    "ONNX, complete files": lambda net, folder: write_onnx(net, folder / "complete"),
    "simulators": first_logits,
}


def measured(step: str, folder: Path, answer: multiprocessing.Queue[tuple[float, float]]) -> None:
    """Seconds of a step in this process, and the peak of its memory in MB."""
    net = artifact.load(folder / "net.tsn")
    first_logits(net.first_tasks(1), folder)  # loads torch, tries kernels
    taken: list[float] = []
    while len(taken) < TURNS and sum(taken) < SECONDS:
        net = artifact.load(folder / "net.tsn")
        started = time.process_time()
        STEPS[step](net, folder)
        taken.append(time.process_time() - started)
    answer.put((min(taken), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def alone(step: str, folder: Path) -> tuple[float, float]:
    """:func:`measured` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=measured, args=(step, folder, answer))
    process.start()
    found = answer.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[784, 100, 100, 10])
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS), metavar="STEP")
    options = parser.parse_args()
    found: dict[int, dict[str, tuple[float, float]]] = {}
    base = random_mlp(tuple(options.widths), centroid_bits=7)
    for count in options.counts:
        folder = Path(tempfile.mkdtemp())
        data = artifact.to_bytes(stream_of(base, count, options.density))
        (folder / "net.tsn").write_bytes(data)
        rest = sum(map(len, artifact.sections(data).values()))
        print(f"{count} tasks: {len(data)} bytes, header {100 * (len(data) - rest) / len(data):.2f} %", flush=True)
        found[count] = {step: alone(step, folder) for step in options.steps}
        shutil.rmtree(folder)
    print(f"| step | {' | '.join(f'{count} s' for count in found)} | exponent | peak MB |")
    for step in options.steps:
        seconds = [f"{found[count][step][0]:.2f}" for count in found]
        low, high = sorted(found)[-2:]
        exponent = math.log(found[high][step][0] / found[low][step][0]) / math.log(high / low)
        print(f"| {step} | {' | '.join(seconds)} | {exponent:.2f} | {found[high][step][1]:.0f} |")


if __name__ == "__main__":
    main()
