"""Coded size of masks against the entropy of their symbols, and the speed both ways (one thread).

Run: python benchmarks/bench_masks.py [weights]
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np

from tsn_hw.core.masks import decode_masks, encode_masks, entropy_bits
from tsn_hw.core.network import Bools

Result = TypeVar("Result")


def statistics(weights: int) -> Iterator[tuple[str, Bools]]:
    """(description, masks (tasks, weights)) of what masks look like, and of what is hard to code."""
    rng = np.random.default_rng(0)
    for tasks in (1, 2, 10):
        for density in (0.02, 0.1, 0.2, 0.38, 0.5):
            yield f"{tasks} tasks, density {density}", rng.random((tasks, weights)) < density
    yield "10 tasks, density 0.01", rng.random((10, weights)) < 0.01
    for density in (0.1, 0.38):
        shared = rng.random(weights) < density
        yield f"10 equal tasks, density {density}", np.tile(shared, (10, 1))
        yield f"10 nearly equal tasks, density {density}", shared ^ (rng.random((10, weights)) < 0.003)
    kind = rng.integers(0, 3, weights)
    yield "2 disjoint tasks, density 1/3", np.stack([kind == 1, kind == 2])
    yield (
        "20 tasks, density 0.3, whole rows unused",
        (rng.random((20, weights)) < 0.3) & (np.arange(weights) % 512 < 300),
    )


def seconds(work: Callable[[], Result], repeats: int = 3) -> tuple[float, Result]:
    """Shortest of some runs, and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def main(weights: int = 1_000_000) -> None:
    title = f"masks of {weights:,} weights"
    sys.stdout.write(f"{title:44} {'bytes':>10} {'entropy':>10} {'over %':>7} {'Mbit/s out':>11} {'and back':>9}\n")
    for name, planes in statistics(weights):
        encoding, data = seconds(partial(encode_masks, planes))
        decoding, decoded = seconds(partial(decode_masks, data, *planes.shape))
        if not np.array_equal(decoded, planes):
            raise SystemExit(f"{name}: the decoded masks differ")
        entropy, mbit = entropy_bits(planes) / 8, planes.size / 1e6
        over = 100 * (len(data) / entropy - 1)
        speeds = f"{mbit / encoding:11.0f} {mbit / decoding:9.0f}"
        sys.stdout.write(f"{name:44} {len(data):10,} {entropy:10,.0f} {over:7.2f} {speeds}\n")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
