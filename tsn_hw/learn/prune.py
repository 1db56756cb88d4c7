"""Post-pruning: greedy removal of small weights, without gradients, while validation accuracy holds (method.md 1.6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tsn_hw.learn.layers import SubnetConv2d, SubnetLinear
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import PruneSettings

Accuracy = Callable[[], float]
"""Validation accuracy in percent of the task that is being learned, as the model stands."""


@dataclass(frozen=True)
class Pruned:
    """Own weights of the task before and after, and the validation accuracy that it started from and ended at."""

    before: int
    after: int
    accuracy_before: float
    accuracy_after: float


def post_prune(
    model: SubnetModel, task: int, accuracy: Accuracy, settings: PruneSettings, rng: np.random.Generator
) -> Pruned:
    """Remove own weights in small steps; each step is kept only if accuracy stays within the tolerated drop.

    The reference is the accuracy before the first step, so the drop is a budget for all steps together. Only
    weights that the task owns may go: shared ones belong to others and cost it nothing. The freed weights
    leave the task's mask, and are free for later tasks.
    """
    layers = list(model.body_layers(task).values())
    share = dict.fromkeys(range(len(layers)), settings.share)
    before = _owned(layers)
    reference = best = accuracy()
    for _ in range(settings.iterations):
        open_layers = [i for i in share if int(layers[i].subnet.own().count_nonzero()) >= 2]
        if not open_layers:
            break
        chosen = open_layers[int(rng.integers(len(open_layers)))]
        subnet = layers[chosen].subnet
        mask = subnet.mask()
        removed = _drop_smallest(layers[chosen], share[chosen])
        reached = accuracy()
        if reached >= reference - settings.tolerated_drop:
            best = reached
            continue
        subnet.fix(mask)
        if removed == 1:
            del share[chosen]  # not even one weight can go
        else:
            share[chosen] /= 2
    return Pruned(before, _owned(layers), reference, best)


def _owned(layers: list[SubnetLinear | SubnetConv2d]) -> int:
    return sum(int(layer.subnet.own().count_nonzero()) for layer in layers)


def _drop_smallest(layer: SubnetLinear | SubnetConv2d, share: float) -> int:
    """Take the given share of own weights, smallest first (at least one), out of the mask. Returns their number."""
    own = layer.subnet.own().flatten().nonzero().flatten()
    count = max(1, int(share * len(own)))
    order = layer.weight.detach().flatten()[own].abs().argsort(stable=True)
    mask = layer.subnet.mask().clone()
    mask.view(-1)[own[order[:count]]] = False
    layer.subnet.fix(mask)
    return count
