"""Would other masks be cheaper? Ways of choosing them, on the first tasks of p-MNIST: validation accuracy, and bits.

    python benchmarks/bench_mask_choice.py mnist.npz [--tasks 3] [--seed 0] [--ways "as it is" "blocks of 2"]

All else is examples/permuted_mnist_long.toml: pruning by coded size, twelve epochs and two with the codebook in the
loop, 3-bit codes. A way is a change of how the learner chooses; what it would take in a file is counted as entropy,
in percent of the dense float32 body. Test images are not looked at.

candidates  shares of fc1 and fc2 that a generator names, other ones for every task or the same for all: a mask chooses
            among them alone, and is coded there alone; as large as the keep ratio, a mask costs nothing
bonus       what the scores of owned weights grow by, for they need no code
block       neighbours in a row that a mask takes together, by the sum of their scores
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsn_hw.learn import RunOptions, Settings, load_data, permuted, train
from tsn_hw.learn.config import read_settings
from tsn_hw.learn.layers import Subnet, top_k

Bools = NDArray[np.bool_]

PRESET = Path(__file__).parents[1] / "examples" / "permuted_mnist_long.toml"
SIZES = {784 * 100: 0, 100 * 100: 1}
"""Weights of fc1 and fc2; a head is neither."""
CODE_BITS = 3
BODY_BITS = 32 * sum(SIZES)


@dataclass(frozen=True)
class Way:
    """How a task chooses its mask; of two numbers, the first is fc1's."""

    keep: tuple[float, float] = (0.032, 0.17)
    candidates: tuple[float, float] = (1.0, 1.0)
    same: bool = False
    """Whether all tasks have the same candidates."""
    bonus: float = 0.0
    block: int = 1

    def named(self, subnet: Subnet) -> Tensor:
        """The candidates of the task that a layer learns."""
        count = subnet.scores.numel()
        kept = round(self.candidates[SIZES[count]] * count)
        generator = torch.Generator().manual_seed(1000 * count + (0 if self.same else subnet.task))
        return top_k(torch.rand(subnet.scores.shape, generator=generator) + 1, kept)

    def chosen(self, subnet: Subnet) -> Tensor:
        """The mask of that task, as the scores are."""
        worth = subnet.scores.detach().abs()
        if worth.numel() not in SIZES:
            return top_k(worth, subnet.kept)
        worth = worth * self.named(subnet) * torch.where(subnet.owner < 0, 1.0, 1 + self.bonus)
        blocks = worth.view(-1, self.block).sum(dim=1)
        return top_k(blocks, round(subnet.kept / self.block)).repeat_interleave(self.block).view(worth.shape)

    def mask_bits(self, subnet: Subnet) -> float:
        """Entropy of the mask of that task, with what earlier tasks use known."""
        if subnet.scores.numel() not in SIZES:
            return 0.0
        places: Bools = self.named(subnet).view(-1, self.block).any(dim=1).numpy()
        mask = subnet.mask().reshape(-1, self.block)
        blocks: Bools = mask.any(dim=1).numpy()
        context = np.zeros(len(mask), np.int64)
        for earlier in subnet.masks.view(len(subnet.masks), *mask.shape).any(dim=2).numpy():
            context = 2 * context + earlier
        inside: Bools = mask.numpy()[blocks].ravel()  # whole blocks, but for what pruning took away
        return _entropy(blocks[places], context[places]) + _entropy(inside, np.zeros_like(inside, np.int64))


def _entropy(bits: Bools, context: NDArray[np.int64]) -> float:
    """Of bits whose context is known, in bits."""
    counts = np.stack([np.bincount(context[bits == value], minlength=context.max() + 1) for value in (False, True)])
    total = counts.sum(axis=0)
    logarithms = (counts * np.log2(np.maximum(counts, 1))).sum(axis=0)
    return float((total * np.log2(np.maximum(total, 1)) - logarithms).sum())


WAYS = {
    "as it is": Way(),
    "fewer": Way(keep=(0.02, 0.10)),
    "four candidates for one": Way(candidates=(0.128, 0.5)),
    "the same, 1.5 times the weights": Way(keep=(0.048, 0.25), candidates=(0.128, 0.5)),
    "two candidates for one": Way(candidates=(0.064, 0.34)),
    "named by a generator": Way(candidates=(0.032, 0.17)),
    "a quarter of fc1, for all tasks": Way(candidates=(0.25, 1.0), same=True),
    "owned weights 1.5 times as good": Way(bonus=0.5),
    "2.5 times": Way(bonus=1.5),
    "5 times": Way(bonus=4.0),
    "blocks of 2": Way(block=2),
    "blocks of 2, 1.3 times the weights": Way(keep=(0.042, 0.22), block=2),
}


@contextmanager
def choosing(way: Way) -> Iterator[list[tuple[float, int]]]:
    """While this is open, learners choose and prune this way; gives bits of masks and codes, layer by layer."""
    taken: list[tuple[float, int]] = []
    commit = Subnet.commit

    def coded_bits(subnet: Subnet, code_bits: int) -> float:
        return way.mask_bits(subnet) + code_bits * int(subnet.own().count_nonzero())

    def committed(subnet: Subnet, weight: Tensor, scale: float) -> None:
        if subnet.scores.numel() in SIZES:
            taken.append((way.mask_bits(subnet), CODE_BITS * int(subnet.own().count_nonzero())))
        commit(subnet, weight, scale)

    with (
        patch.object(Subnet, "_chosen", lambda subnet: way.chosen(subnet)),
        patch.object(Subnet, "commit", committed),
        patch("tsn_hw.learn.prune.coded_bits", coded_bits),
    ):
        yield taken


def tried(way: Way, settings: Settings, file: Path) -> str:
    """Columns of one way."""
    keep = dict(zip(("fc1", "fc2"), way.keep, strict=True))
    settings = replace(settings, train=replace(settings.train, keep_table=keep))
    data, chosen = load_data("npz", file, name="mnist"), settings.stream
    stream = permuted(data, chosen.tasks, seed=settings.seed, valid_share=chosen.validation_share)
    with tempfile.TemporaryDirectory() as folder, choosing(way) as taken:
        learned = train(None, stream, settings, Path(folder) / "run", options=RunOptions(quiet=True))
    reached = np.mean([record["valid_accuracy"]["committed"] for record in learned.records])
    masks, codes = 100 * np.sum(taken, axis=0) / BODY_BITS
    return f"{reached:.2f} | {masks + codes:.2f} | {masks:.2f} | {codes:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args(arguments)
    settings = read_settings(PRESET)
    settings = replace(settings, seed=options.seed, stream=replace(settings.stream, tasks=options.tasks))
    sys.stdout.write("way | validation accuracy % | body % | masks % | codes %\n")
    for name in options.ways:
        sys.stdout.write(f"{name} | {tried(WAYS[name], settings, options.file)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
