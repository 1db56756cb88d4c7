"""Adaptive bit-width: the smallest codebooks that keep accuracy, and training on with them (method.md 1.7).

Only weights that the task owns are clustered: shared ones are never changed, pruned ones never counted. Heads
get codebooks of their own, of a fixed width. The tasks of a bank have one grid a layer, so that a task may also put
its weights on the codebook of an earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.network import code_bits
from tsn_hw.learn.codebook import Floats, fit_codebook, squared_error
from tsn_hw.learn.models import SubnetModel, WeightLayer
from tsn_hw.learn.prune import Accuracy
from tsn_hw.learn.settings import QuantizeSettings, TrainSettings
from tsn_hw.learn.train import Tensors, evaluate, generator_of, restore, train_epoch, trainable_state


@dataclass(frozen=True)
class Quantized:
    """Code bits by layer name, layers on the codebook of an earlier task, validation accuracy before and after."""

    bits: dict[str, int]
    shared: tuple[str, ...]
    accuracy_before: float
    accuracy_after: float


FitCodebook = Callable[[ArrayLike, int, tuple[int, int]], Ints]
"""(weights in grid units, code bits, bounds of centroids) -> codebook: :func:`fit_codebook`, or one that remembers."""


def refit(layer: WeightLayer, bits: int, centroid_range: tuple[int, int], fit: FitCodebook = fit_codebook) -> None:
    """Fit the layer's codebook to the weights that its task owns, as they are now."""
    layer.subnet.snap(fit(_own_weights(layer), bits, centroid_range))


def adapt_bits(model: SubnetModel, task: int, accuracy: Accuracy, settings: QuantizeSettings) -> Quantized:
    """Find the smallest width whose accuracy is within the tolerated drop of the float weights.

    If no width is, the largest one stays: the caller sees the accuracies. With ``per_layer``, one bit less is
    then tried layer by layer, largest layer first; with ``share_codebooks``, last of all and in the same order, an
    earlier codebook.
    """
    reference = accuracy()
    layers = _by_name(model, task)
    bits = dict.fromkeys(layers, settings.max_bits)
    refit(model.modules_of(task).head, settings.head_bits, model.formats.centroid_range)
    for width in range(settings.min_bits, settings.max_bits + 1):
        bits = dict.fromkeys(layers, width)
        _refit_all(model, task, bits)
        if reference - accuracy() <= settings.tolerated_drop:
            break
    largest_first = sorted(layers, key=lambda name: -layers[name].weight.numel())
    if settings.per_layer:
        for name in largest_first:
            _reduce(model, layers[name], name, bits, settings.min_bits, reference - settings.tolerated_drop, accuracy)
    reached, shared = accuracy(), []
    if settings.share_codebooks:
        needed = min(reference - settings.tolerated_drop, reached)
        shared = [name for name in largest_first if _share(layers[name], name, bits, needed, accuracy)]
        reached = accuracy()
    return Quantized(bits, tuple(shared), reference, reached)


def accuracy_by_bits(model: SubnetModel, task: int, accuracy: Accuracy, settings: QuantizeSettings) -> dict[int, float]:
    """Accuracy at every width of ``probe_bits``, with codebooks fitted to the weights as they are; changes nothing."""
    layers, found = model.weight_layers(task), {}
    before = [layer.subnet.codebook for layer in layers]
    for width in settings.probe_bits:
        refit(model.modules_of(task).head, settings.head_bits, model.formats.centroid_range)
        _refit_all(model, task, dict.fromkeys(_by_name(model, task), width))
        found[width] = accuracy()
    for layer, book in zip(layers, before, strict=True):
        layer.subnet.snap(book)
    return found


def train_quantized(
    model: SubnetModel,
    task: int,
    data: Tensors,
    bits: dict[str, int],
    settings: QuantizeSettings,
    train: TrainSettings,
    seed: int,
) -> None:
    """Train on with codebooks in the loop: straight-through gradients, fixed masks.

    Codebooks of the layers in ``bits`` and of the head are re-fitted before every epoch, others stay as they are. Ends
    in the epoch with the least validation loss (the start counts as one).
    """
    layers = _by_name(model, task)
    optimizer = torch.optim.Adam(model.parameters_of(task), lr=train.lr, fused=True)
    best_loss = evaluate(model, task, data.x_valid, data.y_valid).loss
    best = _snapshot(model, task)
    steps = math.ceil(len(data.x_train) / train.batch)
    for epoch in range(settings.qat_epochs):
        if epoch:
            _refit_all(model, task, bits)
            refit(model.modules_of(task).head, settings.head_bits, model.formats.centroid_range)

        def before_step(step: int, epoch: int = epoch) -> None:
            done = (epoch * steps + step) / (settings.qat_epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = train.lr / 2 * (1 + math.cos(math.pi * done)) / 2

        train_epoch(model, task, data, optimizer, train, generator_of(seed, "qat", task, epoch), before_step)
        loss = evaluate(model, task, data.x_valid, data.y_valid).loss
        if loss < best_loss:
            best_loss, best = loss, _snapshot(model, task)
    state, books = best
    restore(model, state)
    for layer, book in zip([*layers.values(), model.modules_of(task).head], books, strict=True):
        layer.subnet.snap(book)


def _snapshot(model: SubnetModel, task: int) -> tuple[dict[str, torch.Tensor], list[Ints | None]]:
    state = {name: tensor.clone() for name, tensor in trainable_state(model, task).items()}
    return state, [layer.subnet.codebook for layer in model.weight_layers(task)]


def _by_name(model: SubnetModel, task: int) -> dict[str, WeightLayer]:
    return {model.architecture.layers[index].name: layer for index, layer in model.body_layers(task).items()}


def _refit_all(model: SubnetModel, task: int, bits: dict[str, int]) -> None:
    layers = _by_name(model, task)
    for name, width in bits.items():
        refit(layers[name], width, model.formats.centroid_range)


def _own_weights(layer: WeightLayer) -> Floats:
    """The weights that the task owns, in units of the grid."""
    own: Floats = (layer.weight.detach()[layer.subnet.own()].double() / layer.grid.real).cpu().numpy()
    return own


def _reduce(
    model: SubnetModel,
    layer: WeightLayer,
    name: str,
    bits: dict[str, int],
    least: int,
    needed: float,
    accuracy: Accuracy,
) -> None:
    """Take bits off one layer while the accuracy stays at or above ``needed``."""
    while bits[name] > least:
        refit(layer, bits[name] - 1, model.formats.centroid_range)
        if accuracy() < needed:
            refit(layer, bits[name], model.formats.centroid_range)
            return
        bits[name] -= 1


def _share(layer: WeightLayer, name: str, bits: dict[str, int], needed: float, accuracy: Accuracy) -> bool:
    """Put a layer on the nearest codebook of an earlier task, unless it is wider or accuracy falls below ``needed``."""
    subnet, own = layer.subnet, _own_weights(layer)
    stored = zip(subnet.codebooks.cpu().numpy().astype(np.int64), subnet.entries.tolist(), strict=True)
    books = [book[:entries] for book, entries in stored if 0 < entries <= 1 << bits[name]]
    if not books or not own.size:
        return False
    before, shared = subnet.codebook, min(books, key=lambda book: squared_error(own, book))
    subnet.snap(shared)
    if accuracy() < needed:
        subnet.snap(before)
        return False
    bits[name] = code_bits(shared)
    return True
