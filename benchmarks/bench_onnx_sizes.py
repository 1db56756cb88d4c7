"""What the ONNX files of ten tasks take, of as many float32 files of the same networks; and what they have to tell.

    python benchmarks/bench_onnx_sizes.py [NET.tsn ...]

Prints it for two random networks (784-100-100-10, ten tasks, keep ratio 0.5, 4-bit codes, whose tasks have the same
centroids or not), and for networks that were trained. Information is the order-0 entropy of masks and of the integers
that tasks read under them; beside it the share of a file that its layout cannot avoid.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_onnx import float_graph
from nets import random_mlp
from streams import stream_of

from export import write_onnx, write_onnx_shared
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.network import PackedNetwork

TASKS = 10


def entropy_bits(counts: np.ndarray) -> float:
    """Bits of so many symbols with the code that suits them best."""
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def information_bytes(net: PackedNetwork) -> float:
    """Of the masks and weights of all tasks, each by itself."""
    bits = 0.0
    for task in range(len(net.tasks)):
        for index in (*net.body, net.head(task)):
            mask, weights = net.step(task, index).mask, net.weights(task, index)
            assert mask is not None  # a layer with weights has one
            bits += entropy_bits(np.bincount(mask.ravel(), minlength=2))
            bits += entropy_bits(np.unique(weights[mask], return_counts=True)[1])
    return bits / 8


def codebooks(net: PackedNetwork) -> str:
    """Different ones, and all, of the layers of the body."""
    books = [
        [book.tobytes() for book in words.codebooks if len(book)]
        for bank in net.banks
        for index in net.body
        if (words := bank.layers[index]) is not None
    ]
    return f"{sum(len(set(layer)) for layer in books)} of {sum(map(len, books))}"


def report(name: str, net: PackedNetwork) -> None:
    """One line of the table."""
    plain = len(float_graph(net).SerializeToString()) * len(net.tasks)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_onnx(net, folder / "alone")
        write_onnx_shared(net, folder / "shared")
        alone, shared = (sum(file.stat().st_size for file in (folder / n).iterdir()) for n in ("alone", "shared"))
    sys.stdout.write(
        f"{name:40} float32 {plain / 1e3:9,.1f} kB  information {100 * information_bytes(net) / plain:5.2f} %  "
        f"complete files {100 * alone / plain:5.2f} %  shared {100 * shared / plain:5.2f} %  "
        f"codebooks {codebooks(net)}  body {capacity(net).body_percent:.2f} %\n"
    )


def main(paths: list[str]) -> None:
    one = random_mlp((784, 100, 100, 10))
    report("random, the same centroids", stream_of(one, TASKS, same_codebooks=True))
    report("random, other centroids for every task", stream_of(one, TASKS))
    for path in paths:
        report(path, artifact.load(Path(path)))


if __name__ == "__main__":
    main(sys.argv[1:])
