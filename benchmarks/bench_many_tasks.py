"""A hundred tasks in one network: what saturates, and what helps then. Permutations of one data set.

    python benchmarks/bench_many_tasks.py [mnist.npz] [--tasks 100] [--seed 0] [--ways plain banks]

A body of two layers (64, or 100 of a file's images, 200 a class) with batch norm, 4-bit codes unless said otherwise.
A line for every ten tasks: accuracy in integers on test data, weights that a task owns and that it borrows, those
that nobody owns when the last of the ten is there, all in percent of the body, and the bits that the body then takes,
in percent of one dense float32 body.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sim import Simulator
from tsn_hw import PackedNetwork, capacity
from tsn_hw.learn import (
    ModelSettings,
    PruneSettings,
    QuantizeSettings,
    RouteSettings,
    RunOptions,
    Settings,
    TaskStream,
    TrainSettings,
    integers,
    load_data,
    permuted,
    train,
)

LIMIT = 200
"""Images a class, of a file."""
GROUP = 10
"""Tasks a line."""
PLAIN = Settings(
    model=ModelSettings(hidden=(64, 64), batch_norm=True),
    train=TrainSettings(epochs=20, lr=3e-3, keep_ratio=0.2, inherit=0.1, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=4, max_bits=4),
)
WAYS = {
    "plain": PLAIN,
    "keeps less": replace(PLAIN, train=replace(PLAIN.train, keep_ratio=0.05)),
    "wider codes": replace(PLAIN, quantize=replace(PLAIN.quantize, min_bits=8, max_bits=8)),
    "wider body": replace(PLAIN, model=replace(PLAIN.model, hidden=(128, 128))),
    "banks": replace(PLAIN, route=RouteSettings(enabled=True, max_banks=99)),
}


def learned(stream: TaskStream, settings: Settings) -> PackedNetwork:
    """The network of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        return train(None, stream, settings, Path(folder) / "run", options=RunOptions(quiet=True)).network


def accuracy(net: PackedNetwork, stream: TaskStream, number: int) -> float:
    """Of a task on its test data, in percent."""
    task = stream.task(number)
    classes = Simulator(net, number).predict(integers(task.x_test, net.input))
    return 100 * float((classes == task.y_test).mean())


def lines(net: PackedNetwork, stream: TaskStream) -> list[str]:
    """A line for every group of tasks."""
    found = []
    for first in range(0, len(stream), GROUP):
        last = min(first + GROUP, len(stream))
        so_far = net.first_tasks(last)
        size = capacity(so_far)
        some = size.tasks[first:last]
        weights = size.body_weights
        owned, used = (100 * np.mean([getattr(task, name) for task in some]) / weights for name in ("owned", "used"))
        reached = np.mean([accuracy(net, stream, number) for number in range(first, last)])
        free = 100 * (1 - sum(task.owned for task in size.tasks) / (weights * len(so_far.banks)))
        found.append(
            f"{first} to {last - 1} | {reached:.2f} | {owned:.2f} | {used - owned:.2f} | {free:.1f} | "
            f"{size.body_percent:.1f} | {len(so_far.banks)}"
        )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    chosen = parser.parse_args(arguments)
    data = load_data("digits") if chosen.file is None else load_data("npz", chosen.file, limit=LIMIT)
    stream = permuted(data, chosen.tasks, seed=chosen.seed, valid_share=0.1)
    for way in chosen.ways:
        net = learned(stream, replace(WAYS[way], seed=chosen.seed))
        told = lines(net, stream)
        sys.stdout.write(f"{way}\ntasks | accuracy % | owned % | borrowed % | free % | body % | banks\n")
        sys.stdout.write("".join(f"{line}\n" for line in told))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
