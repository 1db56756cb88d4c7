"""What the shared results of a sweep save: many networks that begin alike, evaluated together and one by one.

    python benchmarks/bench_sweep.py [images]      2,000 unless given

The networks are one network with other widths of single layers, as a per-layer sweep makes them. Times are CPU seconds
of one thread, for building the simulators and for all images.
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.nets import random_alexnet, random_inputs, random_mlp
from sim import Simulator
from sim.prefix import PrefixCache
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import Bank, BankLayer, PackedNetwork

CHUNK = 8


def coarser(words: BankLayer, bits: int) -> BankLayer:
    """The same words with codes cut to their highest bits: another, smaller codebook."""
    book = words.codebooks[0]
    dropped = (len(book) - 1).bit_length() - bits
    return replace(words, code=(words.code >> dropped).astype(np.uint8), codebooks=(book[:: 1 << dropped],))


def variants(net: PackedNetwork, layers: int, widths: tuple[int, ...]) -> list[PackedNetwork]:
    """All combinations of widths of the last layers; the layers before stay as they are. The last varies fastest."""
    weighted = [index for index, layer in enumerate(net.layers) if isinstance(layer, Weighted)][-layers:]
    found = []
    for chosen in itertools.product(widths, repeat=layers):
        words = list(net.banks[0].layers)
        for index, bits in zip(weighted, chosen, strict=True):
            old = words[index]
            assert old is not None  # it has weights
            words[index] = coarser(old, bits)
        found.append(replace(net, banks=(Bank(tuple(words)),)))
    return found


def main(images: str = "2000") -> None:
    torch.set_num_threads(1)
    for name, net, count in (
        ("MLP 784-256-256-10", random_mlp((784, 256, 256, 10)), int(images)),
        ("AlexNet", random_alexnet(), int(images) // 10),
    ):
        x = random_inputs(net, count)
        for layers in (1, 2, 3):
            nets = variants(net, layers, (1, 2, 3, 4))
            start = time.process_time()
            alone = [Simulator(each, 0)(x) for each in nets]
            one_by_one = time.process_time() - start
            start, cache, together = time.process_time(), PrefixCache(), []
            for chunk in (nets[i : i + CHUNK] for i in range(0, len(nets), CHUNK)):
                together += cache.logits([(Simulator(each, 0), x) for each in chunk])
            shared = time.process_time() - start
            assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
            print(
                f"{name}, {count} images, {len(nets)} networks that differ in the last {layers}: "
                f"one by one {one_by_one:.2f} s, sharing {shared:.2f} s ({one_by_one / shared:.1f}x)",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
