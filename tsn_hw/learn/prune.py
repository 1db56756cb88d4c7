"""Post-pruning: greedy removal of weights, without gradients, while validation accuracy holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsn_hw.core.layers import INPUT
from tsn_hw.core.masks import entropy_bits
from tsn_hw.learn.activations import value_of
from tsn_hw.learn.layers import Subnet, WeightLayer
from tsn_hw.learn.models import SubnetModel, Taps
from tsn_hw.learn.progress import progress
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


@dataclass(frozen=True, eq=False)
class CodedSize:
    """What pruning by coded size looks at: real inputs, to weigh weights by, and the width of the task's codes."""

    x: Tensor
    code_bits: int


def post_prune(
    model: SubnetModel,
    task: int,
    accuracy: Accuracy,
    settings: PruneSettings,
    rng: np.random.Generator,
    size: CodedSize | None = None,
) -> Pruned:
    """Remove weights in small steps; each step is kept only if accuracy stays within the tolerated drop.

    The reference is the accuracy before the first step, so the drop is a budget for all steps together. Only weights
    that the task owns may go, smallest first: shared ones belong to others and cost it nothing. With a ``size`` every
    weight may leave the task's mask, the least |weight| * rms(input) first, and a step must also shrink the masks and
    codes of its layer. Removed weights are free for later tasks, unless they have an owner.
    """
    layers = list(model.body_layers(task).values())
    importance = [layer.weight.detach().abs() for layer in layers] if size is None else _importance(model, task, size.x)
    share = dict.fromkeys(range(len(layers)), settings.share)
    before = _owned(layers)
    reference = best = accuracy()
    for _ in progress(range(settings.iterations), "pruning"):
        open_layers = [i for i in share if int(_removable(layers[i].subnet, size).count_nonzero()) >= 2]
        if not open_layers:
            break
        chosen = open_layers[int(rng.integers(len(open_layers)))]
        subnet = layers[chosen].subnet
        mask, bits = subnet.mask(), math.inf if size is None else coded_bits(subnet, size.code_bits)
        removed = _drop_least(subnet, _removable(subnet, size), importance[chosen], share[chosen])
        reached = accuracy()
        smaller = size is None or coded_bits(subnet, size.code_bits) < bits
        if smaller and reached >= reference - settings.tolerated_drop:
            best = reached
            continue
        subnet.fix(mask)
        if removed == 1:
            del share[chosen]  # not even one weight can go
        else:
            share[chosen] /= 2
    return Pruned(before, _owned(layers), reference, best)


def coded_bits(subnet: Subnet, code_bits: int) -> float:
    """What a layer takes with the mask of the task that is being learned: entropy of all masks, and its own codes."""
    planes = torch.cat([subnet.masks, subnet.mask()[None]]).flatten(1).cpu().numpy()
    return entropy_bits(planes) + code_bits * int(subnet.own().count_nonzero())


def _owned(layers: list[WeightLayer]) -> int:
    return sum(int(layer.subnet.own().count_nonzero()) for layer in layers)


def _removable(subnet: Subnet, size: CodedSize | None) -> Tensor:
    return subnet.own() if size is None else subnet.mask()


def _drop_least(subnet: Subnet, removable: Tensor, importance: Tensor, share: float) -> int:
    """Take a share of the removable weights, least important first, out of the mask; at least one. Returns how many."""
    candidates = removable.flatten().nonzero().flatten()
    count = max(1, int(share * len(candidates)))
    order = importance.flatten()[candidates].argsort(stable=True)
    mask = subnet.mask().clone()
    mask.view(-1)[candidates[order[:count]]] = False
    subnet.fix(mask)
    return count


@torch.no_grad()
def _importance(model: SubnetModel, task: int, x: Tensor) -> list[Tensor]:
    """|weight| * rms(input) of every weight, layer by layer: how much its product moves the accumulator.

    After Sun et al., "A Simple and Effective Pruning Approach for Large Language Models" (ICLR 2024).
    """
    model.eval()
    taps: Taps = {}
    model(x, task, taps)
    layers = model.architecture.layers
    importance = []
    for index, layer in model.body_layers(task).items():
        source = layers[index].inputs[0]
        values = x if source == INPUT else value_of(taps[layers[source].name])
        rms = values.square().mean(dim=(0, *range(2, values.dim()))).sqrt()  # one an input channel
        weight = layer.weight.detach().abs()
        groups = len(rms) // weight.shape[1]
        channels = rms.view(groups, 1, weight.shape[1], *[1] * (weight.dim() - 2))
        importance.append((weight.view(groups, -1, *weight.shape[1:]) * channels).view(weight.shape))
    return importance
