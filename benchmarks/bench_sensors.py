"""Six sensors in one network (examples/sensors.py) beside one dense float network a sensor, with the same recipe.

    python benchmarks/bench_sensors.py sensors.npz [--seeds 2] [--plain] [--whole]

Every seed draws another validation part; the state of least validation loss counts. Accuracies are means over tasks,
on validation data, by which recipes are chosen, and on test data. ``--plain`` leaves augmentation and smoothing away.
``--whole`` is for a recipe that has been chosen: all networks learn the whole training part, and their state of least
loss on it counts.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sim import Simulator
from tsn_hw import capacity
from tsn_hw.learn import Callbacks, RunOptions, TaskData, TaskStream, evaluate, integers, own_stream, train
from tsn_hw.learn.baselines import fit_dense
from tsn_hw.learn.training import Tensors, reproducible, seed_of

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples/sensors.py"))
SETTINGS = EXAMPLE["SETTINGS"]


def dense(data: TaskData, seed: int, callbacks: Callbacks) -> tuple[float, float]:
    """Accuracy of a dense float network of the example's body, on validation and on test data."""
    tensors = Tensors.of(data, torch.device("cpu"))
    model = fit_dense(EXAMPLE["body"](), tensors, len(data.classes), SETTINGS.train, seed, callbacks)
    test = torch.from_numpy(np.array(data.x_test)), torch.from_numpy(np.array(data.y_test))
    return evaluate(model, 0, tensors.x_valid, tensors.y_valid).accuracy, evaluate(model, 0, *test).accuracy


def packed(stream: TaskStream, seed: int, callbacks: Callbacks) -> tuple[list[tuple[float, float]], float]:
    """The same of every task of one packed network, in integers, and its size in percent of a dense body."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, options = replace(SETTINGS, seed=seed), RunOptions(quiet=True)
        net = train(EXAMPLE["body"](), stream, wanted, Path(folder) / "run", callbacks, options).network
    found = []
    for number in range(len(stream)):
        task, simulator = stream.task(number), Simulator(net, number)
        parts = ((task.x_valid, task.y_valid), (task.x_test, task.y_test))
        valid, test = (100 * float((simulator.predict(integers(x, net.input)) == y).mean()) for x, y in parts)
        found.append((valid, test))
    return found, capacity(net).body_percent


def whole(stream: TaskStream) -> TaskStream:
    """Tasks whose training and validation part are both all that is not test data."""
    tasks = list[TaskData]()
    for number in range(len(stream)):
        task = stream.task(number)
        x, y = np.concatenate([task.x_train, task.x_valid]), np.concatenate([task.y_train, task.y_valid])
        tasks.append(replace(task, x_train=x, y_train=y, x_valid=x, y_valid=y))
    return own_stream(tasks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a seed and kind of network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sensors", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--whole", action="store_true")
    chosen = parser.parse_args(arguments)
    callbacks = Callbacks() if chosen.plain else EXAMPLE["CALLBACKS"]
    sets = EXAMPLE["sensors"](chosen.sensors)
    for seed in range(chosen.seeds):
        stream = own_stream(sets, seed, valid_share=SETTINGS.stream.validation_share)
        stream = whole(stream) if chosen.whole else stream
        with reproducible(1):
            alone = [dense(stream.task(number), seed_of(seed, number), callbacks) for number in range(len(stream))]
        together, percent = packed(stream, seed, callbacks)
        for kind, found in (("dense", alone), (f"packed, {percent:.1f} % of a body", together)):
            valid, test = np.mean(found, axis=0)
            each = " ".join(f"{reached:.1f}" for _, reached in found)
            sys.stdout.write(f"seed {seed}, {kind}: validation {valid:.2f} %, test {test:.2f} % ({each})\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
