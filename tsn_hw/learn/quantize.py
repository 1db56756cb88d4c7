"""Adaptive bit-width: the smallest codebooks that keep accuracy, and training on with them.

Only weights that the task owns are clustered: shared ones are never changed, pruned ones never counted. Heads
get codebooks of their own, of a fixed width. The tasks of a bank have one grid a layer, so that a task may also put
its weights on the codebook of an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from numpy.typing import ArrayLike

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.network import code_bits
from tsn_hw.learn.codebook import fit_codebook, squared_error
from tsn_hw.learn.layers import WeightLayer
from tsn_hw.learn.models import HEAD, SubnetModel
from tsn_hw.learn.progress import progress
from tsn_hw.learn.prune import Accuracy
from tsn_hw.learn.settings import QuantizeSettings, Settings
from tsn_hw.learn.training import Fit, Tensors, evaluate, generator_of, restore, track, train_epoch, trainable_state


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
    layer.subnet.snap(fit(layer.own_units(), bits, centroid_range))


def refit_all(model: SubnetModel, task: int, bits: Mapping[str, int], fit: FitCodebook = fit_codebook) -> None:
    """Fit the codebooks of the layers that ``bits`` names, the head among them."""
    layers = model.weight_layers(task)
    for name, width in bits.items():
        refit(layers[name], width, model.formats.centroid_range, fit)


def adapt_bits(model: SubnetModel, task: int, accuracy: Accuracy, settings: QuantizeSettings) -> Quantized:
    """Find the smallest width whose accuracy is within the tolerated drop of the float weights.

    If no width is, the largest one stays: the caller sees the accuracies. With ``per_layer``, one bit less is
    then tried layer by layer, largest layer first; with ``share_codebooks``, last of all and in the same order, an
    earlier codebook.
    """
    reference = accuracy()
    needed = reference - settings.tolerated_drop
    layers = model.weight_layers(task)
    refit_all(model, task, {HEAD: settings.head_bits})
    del layers[HEAD]
    for width in range(settings.min_bits, settings.max_bits + 1):
        bits = dict.fromkeys(layers, width)
        refit_all(model, task, bits)
        if reference - accuracy() <= settings.tolerated_drop:
            break
    largest_first = sorted(layers, key=lambda name: -layers[name].weight.numel())
    for name in largest_first if settings.per_layer else ():
        while bits[name] > settings.min_bits:
            refit_all(model, task, {name: bits[name] - 1})
            if accuracy() < needed:
                refit_all(model, task, {name: bits[name]})
                break
            bits[name] -= 1
    reached, shared = accuracy(), []
    if settings.share_codebooks:
        needed = min(needed, reached)
        shared = [name for name in largest_first if _share(layers[name], name, bits, needed, accuracy)]
        reached = accuracy()
    return Quantized(bits, tuple(shared), reference, reached)


def accuracy_by_bits(model: SubnetModel, task: int, accuracy: Accuracy, settings: QuantizeSettings) -> dict[int, float]:
    """Accuracy at every width of ``probe_bits``, with codebooks fitted to the weights as they are; changes nothing."""
    layers, found = model.weight_layers(task), {}
    before = {name: layer.subnet.codebook for name, layer in layers.items()}
    for width in settings.probe_bits:
        refit_all(model, task, dict.fromkeys(layers, width) | {HEAD: settings.head_bits})
        found[width] = accuracy()
    for name, layer in layers.items():
        layer.subnet.snap(before[name])
    return found


def train_quantized(
    model: SubnetModel, task: int, data: Tensors, bits: Mapping[str, int], epochs: int, settings: Settings
) -> None:
    """Train on with codebooks in the loop: straight-through gradients, fixed masks.

    Codebooks of the layers in ``bits`` are re-fitted before every epoch but the first, others stay as they are. Ends
    in the epoch with the least validation loss (the start counts as one).
    """
    layers = model.weight_layers(task).values()
    recipe = replace(settings.train, epochs=epochs, lr=settings.train.lr / 2, schedule="cosine", ramp=0.0)
    state = Fit(model.callbacks.optimizer_of(model.parameters_of(task), recipe.lr), recipe)
    books = [layer.subnet.codebook for layer in layers]
    track(state, evaluate(model, task, data.x_valid, data.y_valid).loss, trainable_state(model, task))
    for epoch in progress(range(epochs), "epochs with codebooks"):
        if epoch:
            refit_all(model, task, bits)
        train_epoch(model, task, data, state, generator_of(settings.seed, "qat", task, epoch))
        if track(state, evaluate(model, task, data.x_valid, data.y_valid).loss, trainable_state(model, task)):
            books = [layer.subnet.codebook for layer in layers]
        state.epoch += 1
    restore(model, state.best)
    for layer, book in zip(layers, books, strict=True):
        layer.subnet.snap(book)


def _share(layer: WeightLayer, name: str, bits: dict[str, int], needed: float, accuracy: Accuracy) -> bool:
    """Put a layer on the nearest codebook of an earlier task, unless it is wider or accuracy falls below ``needed``."""
    subnet, own = layer.subnet, layer.own_units()
    books = [book for book in subnet.books() if 0 < len(book) <= 1 << bits[name]]
    if not books or not own.size:
        return False
    before, shared = subnet.codebook, min(books, key=lambda book: squared_error(own, book))
    subnet.snap(shared)
    if accuracy() < needed:
        subnet.snap(before)
        return False
    bits[name] = code_bits(shared)
    return True
