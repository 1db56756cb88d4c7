"""Does routing pay? Streams with routing on, off (one bank) and a bank a task: accuracy, bits, banks.

    python benchmarks/bench_routing.py mnist.npz fashion.npz notmnist.npz emnist.npz [--seeds 1] [--keep 0.2 0.6]
        [--kinds on off]

Accuracies are means over tasks in integers on test data; bits are those of the body and of routing memories in
percent of one dense float32 body. The files are .npz data sets of 28 by 28 pixels, the first one MNIST.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sim import Simulator
from tsn_hw import capacity
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
    mixed,
    permuted,
    split,
    train,
)

LIMIT = 200
"""Images a class."""
SHARE = 0.1
"""Of the training images, for validation."""
ROUTES = {
    "on": RouteSettings(enabled=True),
    "off": RouteSettings(),
    "a bank a task": RouteSettings(enabled=True, threshold=1e-9, max_banks=99),
}


def streams(files: Sequence[Path], seed: int) -> Iterator[tuple[str, TaskStream]]:
    """Similar tasks and foreign ones, of the same classes and of others."""
    digits = load_data("digits")
    sets = [load_data("npz", file, name=file.stem, limit=LIMIT) for file in files]
    yield "digits, two classes a task", split(digits, 2, seed=seed, valid_share=SHARE)
    yield "digits, permuted", permuted(digits, 5, seed=seed, valid_share=SHARE)
    yield "MNIST, two classes a task", split(sets[0], 2, seed=seed, valid_share=SHARE)
    yield "MNIST, permuted", permuted(sets[0], 5, seed=seed, valid_share=SHARE)
    yield " and ".join(file.stem for file in files), mixed(sets, side=28, channels=1, seed=seed, valid_share=SHARE)


def learned(stream: TaskStream, settings: Settings) -> str:
    """Columns of one run."""
    with tempfile.TemporaryDirectory() as folder:
        net = train(None, stream, settings, Path(folder) / "run", options=RunOptions(quiet=True)).network
    reached = []
    for number in range(len(stream)):
        task = stream.task(number)
        classes = Simulator(net, number).predict(integers(task.x_test, net.input))
        reached.append(100 * float((classes == task.y_test).mean()))
    size = capacity(net)
    return f"{np.mean(reached):.2f} | {size.body_percent:.2f} | {size.replay_percent:.2f} | {len(net.banks)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a stream, keep ratio, kind of routing and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.2, 0.6])
    parser.add_argument("--kinds", nargs="+", choices=ROUTES, default=list(ROUTES))
    chosen = parser.parse_args(arguments)
    settings = Settings(
        model=ModelSettings(hidden=(100, 100), batch_norm=True),
        train=TrainSettings(epochs=6, lr=2e-3, inherit=0.1, threads=1),
        prune=PruneSettings(iterations=0),
        quantize=QuantizeSettings(min_bits=4, max_bits=4),
    )
    sys.stdout.write("stream | kept | routing | seed | accuracy % | body % | memory % | banks\n")
    for seed in range(chosen.seeds):
        for name, stream in streams(chosen.files, seed):
            for keep in chosen.keep:
                for kind in chosen.kinds:
                    wanted = replace(settings, seed=seed, route=ROUTES[kind])
                    wanted = replace(wanted, train=replace(wanted.train, keep_ratio=keep))
                    sys.stdout.write(f"{name} | {keep} | {kind} | {seed} | {learned(stream, wanted)}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
