"""Streams of tasks of realistic size: every task has its own masks, owns what no earlier task uses, and a head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tsn_hw.core.layers import Layer, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Step, Task

CODE_BITS = 4


def stream_of(
    net: PackedNetwork, tasks: int, density: float = 0.5, seed: int = 0, same_codebooks: bool = False
) -> PackedNetwork:
    """The layers of a network of one task for a number of tasks, with random masks, codes and codebooks of 8 bits.

    ``same_codebooks`` gives every owner the same centroids, as if all tasks had fitted the same weights.
    """
    rng = np.random.default_rng(seed)
    body, head = net.layers[:-1], net.layers[-1]
    layers: tuple[Layer, ...] = (*body, *(replace(head, name=f"head{task}") for task in range(tasks)))
    masks = [
        {
            i: rng.random(layer.weight_shape) < density
            for i, layer in enumerate(layers)
            if isinstance(layer, Weighted) and (i < len(body) or i == len(body) + task)
        }
        for task in range(tasks)
    ]
    books = [np.sort(rng.choice(np.arange(-127, 128), 1 << CODE_BITS, replace=False)) for _ in range(tasks)]
    words: list[BankLayer | None] = []
    for i, layer in enumerate(layers):
        if not isinstance(layer, Weighted):
            words.append(None)
            continue
        owner = np.full(layer.weight_shape, UNUSED)
        for task in reversed(range(tasks)):
            if i in masks[task]:
                owner[masks[task][i]] = task
        code = np.where(owner == UNUSED, 0, rng.integers(0, 1 << CODE_BITS, owner.shape))
        own = [books[0 if same_codebooks else task] if (owner == task).any() else books[0][:0] for task in range(tasks)]
        exponent = net.words(0, min(i, len(body))).exponent
        words.append(BankLayer(owner, code, tuple(own), 8, exponent))
    first = net.tasks[0].steps
    steps = [
        tuple(
            Step(masks[task].get(i), requantized.requantization) if i < len(body) or i == len(body) + task else None
            for i, requantized in enumerate([*first[:-1], *[first[-1]] * tasks])
            if requantized is not None
        )
        for task in range(tasks)
    ]
    names = [Task(f"task{task}", 0, net.tasks[0].classes, steps[task]) for task in range(tasks)]
    return PackedNetwork(net.input_shape, net.input, layers, (Bank(tuple(words)),), tuple(names))
