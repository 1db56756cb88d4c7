"""One training step of TSN on Brevitas against plain torch: same shapes, same batch, same optimiser, interleaved.

    python benchmarks/bench_training.py [--threads 1] [--rounds 15]

Plain torch is the float network with biases and ReLUs, no masks, no quantizers, in the same memory format. The ratio
is of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.baselines import DenseModel
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.freezing import commit
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.quantize import refit
from tsn_hw.learn.settings import Formats, TrainSettings
from tsn_hw.learn.training import generator_of, reproducible, start_task, to_real

CASES: list[tuple[str, Architecture, int, float]] = [
    ("784-100-100-10, batch 256", mlp((1, 28, 28), (100, 100)), 256, 4.0),
    ("784-1024-1024-10, batch 256", mlp((1, 28, 28), (1024, 1024)), 256, 2.5),
    ("AlexNet 3x32x32, batch 64", alexnet((3, 32, 32), batch_norm=False, dropout=0.0), 64, 2.0),
    ("AlexNet with batch norm, batch 64", alexnet((3, 32, 32), dropout=0.0), 64, 2.0),
]


def steps(architecture: Architecture, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """One step of the subnetwork (a second task, so that weights are owned) and one of the dense network."""
    generator = generator_of("benchmark")
    images = torch.randint(0, 256, (batch, *architecture.input_shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    model = SubnetModel(architecture, Formats())
    settings = TrainSettings(lr=1e-3)
    model.add_bank(generator)
    for task in range(2):
        model.add_task(0, 10, generator)
        ours = start_task(model, task, settings, tasks=2).optimizer
        model.calibrate(to_real(images), task)
        if task == 0:
            for layer in model.weight_layers(task).values():
                refit(layer, 4, model.formats.centroid_range)
            commit(model, task)
    dense = DenseModel(architecture, 10, generator)
    theirs = torch.optim.Adam(dense.parameters(), lr=1e-3, fused=True)

    def subnetwork_step() -> None:
        model.train()
        ours.zero_grad(set_to_none=True)
        F.cross_entropy(model(to_real(images), 1), labels).backward()
        ours.step()

    def dense_step() -> None:
        theirs.zero_grad(set_to_none=True)
        F.cross_entropy(dense(to_real(images)), labels).backward()
        theirs.step()

    return subnetwork_step, dense_step


def interleaved(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Median seconds of both, measured in turn; short steps are repeated within a round."""
    first(), second()
    start = time.perf_counter()
    second()
    repeats = max(1, int(0.02 / (time.perf_counter() - start)))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for step, into in zip((first, second), times, strict=True):
            start = time.perf_counter()
            for _ in range(repeats):
                step()
            into.append((time.perf_counter() - start) / repeats)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Print one line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(f"{'network':36} {'TSN ms':>9} {'torch ms':>9} {'ratio':>6} {'aim':>5}")
    for name, architecture, batch, aim in CASES:
        with reproducible(options.threads):
            ours, dense = interleaved(*steps(architecture, batch), options.rounds)
        print(f"{name:36} {1e3 * ours:9.2f} {1e3 * dense:9.2f} {ours / dense:6.2f} {aim:5.1f}")


if __name__ == "__main__":
    main()
