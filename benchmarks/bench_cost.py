"""Time of `tsn-hw cost` on a ResNet-18 of ten tasks, step by step, and of the folding search on several parts.

Run: python benchmarks/bench_cost.py [width]      20 channels in the first stage unless given, as in the literature
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.nets import random_resnet18
from sim.cost import estimate_cost
from sim.devices import device
from sim.search import search_folding
from tsn_hw.app.cli.main import main as tsn_hw
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import FoldingError
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Step, Task
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names

TASKS, DENSITY = 10, 0.2
Result = TypeVar("Result")


def with_tasks(net: PackedNetwork, tasks: int, density: float = DENSITY, seed: int = 0) -> PackedNetwork:
    """The network of a task as one of many tasks in one bank: every layer and scale again, random masks, own heads."""
    rng = np.random.default_rng(seed)
    *body, head = net.layers
    heads = [replace(head, name=f"head{task}") for task in range(tasks)]
    layers = (*body, *heads)
    words: list[BankLayer | None] = []
    masks: dict[tuple[int, int], np.ndarray] = {}
    for index, layer in enumerate(layers):
        if not isinstance(layer, Weighted):
            words.append(None)
            continue
        old = net.banks[0].layers[min(index, len(body))]
        assert old is not None  # it has weights
        runners = range(tasks) if index < len(body) else [index - len(body)]
        owner = np.full(layer.weight_shape, UNUSED, np.int16)
        for task in runners:
            masks[task, index] = rng.random(layer.weight_shape) < density
            owner[masks[task, index] & (owner == UNUSED)] = task
        code = rng.integers(0, len(old.codebooks[0]), owner.shape, dtype=np.uint8)
        books = tuple(old.codebooks[0] if task in runners else old.codebooks[0][:0] for task in range(tasks))
        words.append(BankLayer(owner, np.where(owner == UNUSED, 0, code), books, old.centroid_bits, old.exponent))
    steps = net.tasks[0].steps
    many = []
    for task in range(tasks):
        own: list[Step | None] = [replace(step, mask=masks.get((task, i))) for i, step in enumerate(steps[:-1]) if step]
        own += [None] * tasks
        own[len(body) + task] = replace(steps[-1], mask=masks[task, len(body) + task])  # type: ignore[type-var]
        many.append(Task(f"task{task}", 0, net.tasks[0].classes, tuple(own)))
    return PackedNetwork(net.input_shape, net.input, layers, (Bank(tuple(words)),), tuple(many))


def timed(what: str, work: Callable[[], Result]) -> Result:
    start, busy = time.perf_counter(), time.process_time()
    result = work()
    busy, seconds = time.process_time() - busy, time.perf_counter() - start
    print(f"{what:60} {busy:7.2f} s of processor time, {seconds:7.2f} s", file=sys.stderr, flush=True)
    return result


def searched(net: PackedNetwork, part: str, mask: str, target_fps: float | None) -> str:
    try:
        found = search_folding(net, device(part), mask=mask, target_fps=target_fps)  # type: ignore[arg-type]
    except FoldingError as error:
        return str(error)
    estimate = found.estimate
    shares = ", ".join(f"{name} {share:.0f} %" for name, share in estimate.utilization_percent.items() if share >= 1)
    return f"{estimate.inferences_per_second:.0f} a second, {estimate.interval_cycles} cycles; {shares}"


def main(width: str = "20") -> None:
    net = with_tasks(random_resnet18(int(width)), TASKS)
    print(f"ResNet-18, {width} channels, {TASKS} tasks, density {DENSITY}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tsn"
        artifact.save(net, path)
        net = timed("read the .tsn file", lambda: artifact.load(path))
        sizes = timed("capacity", lambda: capacity(net, path.read_bytes()))
        for part, mask, target in (("zu7ev", "deep", None), ("zu7ev", "deep", 30.0), ("xc7z020", "runtime", None)):
            wish = "fastest" if target is None else f"smallest at {target:g} a second"
            print("  " + timed(f"search: {part}, masks {mask}, {wish}", partial(searched, net, part, mask, target)))
        units = dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))
        design = timed("widths of the accelerator, proven", lambda: accelerator(net, HardwareSettings(units)))
        timed("cost", lambda: estimate_cost(design, stored=sizes))
        with contextlib.redirect_stdout(io.StringIO()) as told:
            command = partial(tsn_hw, ["cost", str(path), "--device", "zu7ev"])
            code = timed("tsn-hw cost --device zu7ev, as a whole", command)
        print("\n".join(told.getvalue().splitlines()[-1:]))
        raise SystemExit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
