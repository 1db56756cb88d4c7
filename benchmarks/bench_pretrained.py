"""A pretrained start against noise: a small network learns 50 classes of CIFAR-100, then a stream of five others.

    python benchmarks/bench_pretrained.py cifar100 [--seeds 2] [--images 50] [--epochs 24]

``cifar100`` is a folder of tiles (docs/training.md). A network of three convolutions learns classes 50 to 99 in floats.
Its body then learns five tasks of five classes each, of 0 to 24, from its weights and from noise, with the same
settings and a tenth of the training images. Accuracies are of the packed network, in integers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sim import Simulator
from tsn_hw import capacity
from tsn_hw.learn import (
    Architecture,
    DataSet,
    PruneSettings,
    QuantizeSettings,
    RunOptions,
    Settings,
    TrainSettings,
    body,
    integers,
    load_data,
    own_data,
    own_stream,
    train,
)

TASKS, CLASSES, PRETRAINING_EPOCHS = 5, 5, 6
SETTINGS = Settings(
    train=TrainSettings(batch=32, lr=3e-3, keep_ratio=0.3, inherit=0.1, mirror=True, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=4, max_bits=4, qat_bits=4, qat_epochs=2),
)


def network() -> nn.Module:
    """Three convolutions, each pooled, and the mean of their maps."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 50))


def pretrained(data: DataSet, seed: int) -> tuple[Architecture, float]:
    """The body of a network that has learned classes 50 to 99, and the test accuracy that it reached on them."""
    torch.manual_seed(seed)
    module, parts = network(), []
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        parts.append((torch.from_numpy(x[y >= 50]).float() / 256, torch.from_numpy(y[y >= 50]).long() - 50))
    (x, y), (x_test, y_test) = parts
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    steps = PRETRAINING_EPOCHS * -(-len(x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(PRETRAINING_EPOCHS):
        for chosen in torch.randperm(len(x)).split(128):
            images = x[chosen].flip(3) if torch.rand(()) < 0.5 else x[chosen]
            optimizer.zero_grad()
            F.cross_entropy(module(images), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    module.eval()
    with torch.no_grad():
        right = (module(x_test).argmax(1) == y_test).float().mean()
    return body(module, x[:2], pretrained=True), 100 * float(right)


def tasks(data: DataSet, images: int) -> list[DataSet]:
    """Five classes a task, with so many training images a class."""
    found = []
    for number in range(TASKS):
        parts = []
        for x, y, most in ((data.x_train, data.y_train, images), (data.x_test, data.y_test, len(data.y_test))):
            labels = range(number * CLASSES, (number + 1) * CLASSES)
            places = np.concatenate([np.flatnonzero(y == label)[:most] for label in labels])
            parts.append((x[places], y[places]))
        found.append(own_data(f"task{number}", *parts))
    return found


def learned(made: Architecture, sets: Sequence[DataSet], epochs: int, seed: int) -> tuple[list[float], float]:
    """Test accuracies of the tasks, and percent of a dense body."""
    settings = replace(SETTINGS, seed=seed, train=replace(SETTINGS.train, epochs=epochs))
    stream = own_stream(sets, seed, valid_share=settings.stream.validation_share)
    with tempfile.TemporaryDirectory() as folder:
        net = train(made, stream, settings, Path(folder) / "run", options=RunOptions(quiet=True)).network
    right = []
    for number in range(len(net.tasks)):
        task = stream.task(number)
        classes = Simulator(net, number).predict(integers(task.x_test, net.input))
        right.append(100 * float((classes == task.y_test).mean()))
    return right, capacity(net).body_percent


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar100", type=Path)
    for option, default in (("--seeds", 2), ("--images", 50), ("--epochs", 24)):
        parser.add_argument(option, type=int, default=default)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = load_data("tiles", chosen.cifar100, side=32)
    for seed in range(chosen.seeds):
        made, reached = pretrained(data, seed)
        sys.stdout.write(f"seed {seed}: {reached:.1f} % on the 50 classes of the start\n")
        for start, weights in (("pretrained", made.weights), ("noise", {})):
            right, percent = learned(replace(made, weights=weights), tasks(data, chosen.images), chosen.epochs, seed)
            each = " ".join(f"{value:.1f}" for value in right)
            sys.stdout.write(f"{start}: {np.mean(right):.2f} % ({each}), {percent:.1f} % of a body\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
