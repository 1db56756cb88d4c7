"""Streams of tasks of realistic size: every task has its own masks, owns what no earlier task uses, and a head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tsn_hw.core.assembly import Outline, drawn_words
from tsn_hw.core.layers import Layer, Linear, Weighted
from tsn_hw.core.network import BankLayer, PackedNetwork, Step

CODE_BITS = 4


def stream_of(
    net: PackedNetwork, tasks: int, density: float = 0.5, seed: int = 0, same_codebooks: bool = False
) -> PackedNetwork:
    """The layers of a network of one task for a number of tasks, with random masks, codes and codebooks of 8 bits.

    ``same_codebooks`` gives every owner the same centroids, as if all tasks had fitted the same weights.
    """
    rng = np.random.default_rng(seed)
    body, head = net.layers[:-1], net.layers[-1]
    assert isinstance(head, Linear)
    outline = Outline(body, tuple(replace(head, name=f"head{task}") for task in range(tasks)), (0,) * tasks)
    masks = {
        (task, i): rng.random(layer.weight_shape) < density
        for task in range(tasks)
        for i, layer in enumerate(outline.layers)
        if isinstance(layer, Weighted) and outline.is_run(task, i)
    }
    books = [np.sort(rng.choice(np.arange(-127, 128), 1 << CODE_BITS, replace=False)) for _ in range(tasks)]

    def words(_: int, i: int, layer: Weighted) -> BankLayer:
        of = {task: masks[task, i] for task in range(tasks) if (task, i) in masks}
        own = [books[0 if same_codebooks else task] for task in range(tasks)]
        return drawn_words(rng, layer.weight_shape, of, own, (8, net.words(0, min(i, len(body))).exponent))

    def step(task: int, i: int, _: Layer) -> Step:
        return Step(masks.get((task, i)), net.step(0, min(i, len(body))).requantization)

    labels = [(f"task{task}", net.tasks[0].classes) for task in range(tasks)]
    return PackedNetwork(net.input_shape, net.input, outline.layers, outline.banks(words), outline.tasks(labels, step))
