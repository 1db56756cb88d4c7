"""Codebook fit against scikit-learn's KMeans: time ratio and error ratio, both below 1 where ours is better.

    OMP_NUM_THREADS=1 python benchmarks/bench_codebook.py

KMeans' centroids are rounded to the grid. It runs once, with its defaults (k-means++, one start); our times are the
best of three runs.
"""

import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from tsn_hw.learn.codebook import fit_codebook, nearest_code, squared_error

Result = TypeVar("Result")

CASES = [(10_000, 4), (100_000, 2), (100_000, 4), (100_000, 6), (1_000_000, 2), (1_000_000, 4), (1_000_000, 6)]
"""(weights, code bits)"""
CENTROID_BITS = (8, 12, 16)


def timed(call: Callable[[], Result], repeats: int = 3) -> tuple[float, Result]:
    """Seconds of the fastest run, and its result."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    rng = np.random.default_rng(0)
    header = f"{'weights':>9} {'k':>4} {'centroids':>10} {'ours ms':>8} {'sklearn ms':>10} {'time':>7} {'error':>10}"
    sys.stdout.write(header + "\n")
    with threadpool_limits(1):
        for count, bits in CASES:
            values = rng.standard_normal(count) / 4  # the range -1 .. 1 holds four standard deviations
            for line in compare(values, bits):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


def compare(values: NDArray[np.float64], bits: int) -> Iterator[str]:
    """One row for each width of integer centroids, one for the codes."""
    kmeans = KMeans(2**bits, random_state=0)
    sklearn_s, _ = timed(lambda: kmeans.fit(values[:, None]), repeats=1)
    theirs = np.sort(kmeans.cluster_centers_.ravel())
    for centroid_bits in CENTROID_BITS:
        scale = 1 << (centroid_bits - 1)
        bounds = -scale, scale - 1
        units = np.clip(values * scale, *bounds)
        rounded = np.unique(np.rint(theirs * scale).astype(np.int64))
        ours_s, codebook = timed(functools.partial(fit_codebook, units, bits, bounds))
        error = squared_error(units, codebook) / squared_error(units, rounded)
        yield row(len(values), bits, f"{centroid_bits} bit", ours_s, sklearn_s, error)
    codes_s, _ = timed(lambda: nearest_code(units, codebook))
    yield f"          nearest_code: {codes_s * 1e3:.1f} ms"


def row(count: int, bits: int, centroids: str, ours_s: float, sklearn_s: float, error: float) -> str:
    return (
        f"{count:9} {1 << bits:4} {centroids:>10} {ours_s * 1e3:8.1f} {sklearn_s * 1e3:10.1f} "
        f"{ours_s / sklearn_s:7.3f} {error:10.7f}"
    )


if __name__ == "__main__":
    main()
