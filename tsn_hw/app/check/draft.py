"""A network as a run may give it, drawn at random before anything is trained, to be held against back ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.assembly import Outline, drawn_words
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.layers import Add, AvgPool, Layer, Linear, Weighted
from tsn_hw.core.network import BankLayer, Bools, PackedNetwork, Requantization, Step
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.models import average
from tsn_hw.learn.settings import Settings

MAX_BYTES, BYTES_PER_WEIGHT = 2**30, 24
"""Most bytes that a network takes that is drawn, and what a weight of it takes besides a byte a task."""
SHIFT = 8
"""Of every requantization: no cost and no limit depends on it."""


def draft(body: Architecture, settings: Settings, classes: Sequence[tuple[str, ...]]) -> PackedNetwork:
    """A packed network of these layers and tasks: masks of the keep ratio, codes of the most bits that are allowed.

    All tasks live in one bank. With batch norm every multiplier has the largest width that the settings allow.
    SettingsError where that is too large to be drawn.
    """
    needed = body.body_weights * (BYTES_PER_WEIGHT + len(classes))
    if needed > MAX_BYTES:
        raise SettingsError(
            f"model: its {body.body_weights} weights in {len(classes)} tasks take {needed} bytes to be held against "
            f"back ends, at most {MAX_BYTES} are; check a smaller model of the same layers"
        )
    rng = np.random.default_rng(settings.seed)
    count, last = len(classes), (len(body.layers) - 1,)
    heads = tuple(Linear(f"head_{task}", body.features, len(names), last) for task, names in enumerate(classes))
    outline = Outline(tuple(body.layers), heads, (0,) * count)
    masks: dict[tuple[int, int], Bools] = {}

    def words(_: int, index: int, layer: Weighted) -> BankLayer:
        is_head, own = outline.is_head(index), [task for task in range(count) if outline.is_run(task, index)]
        for task in own:
            keep = 1.0 if is_head else settings.train.keep(layer.name, task, count)
            masks[task, index] = rng.random(layer.weight_shape) < keep
        bits = settings.quantize.head_bits if is_head else settings.quantize.max_bits
        of = {task: masks[task, index] for task in own}
        return drawn_words(
            rng, layer.weight_shape, of, [_codebook(settings, bits)] * count, (settings.formats.centroid_bits, 0)
        )

    def step(task: int, index: int, layer: Layer) -> Step:
        return Step(masks.get((task, index)), _requantization(body, settings, layer, outline.is_head(index)))

    labels = [(f"task_{task}", names) for task, names in enumerate(classes)]
    banks = outline.banks(words)
    return PackedNetwork(body.input_shape, settings.formats.input, outline.layers, banks, outline.tasks(labels, step))


def _codebook(settings: Settings, bits: int) -> Ints:
    """A codebook of so many bits that spans the whole range of centroids."""
    low, high = settings.formats.centroid_range
    entries = 1 << min(bits, settings.formats.centroid_bits)
    return low + np.arange(entries) * (high - low) // max(1, entries - 1)


def _requantization(body: Architecture, settings: Settings, layer: Layer, is_head: bool) -> Requantization | None:
    if not isinstance(layer, Weighted | AvgPool | Add):
        return None
    channels = layer.channels if isinstance(layer, Weighted) else 1
    multiplier, shift = 1, SHIFT
    if isinstance(layer, AvgPool):
        multiplier, shift = average(layer)
    elif not is_head and body.normalizes(layer):
        multiplier = (1 << settings.formats.multiplier_bits - 1) - 1
    output = ActFormat(settings.formats.act_bits, layer.name in body.signed, 0)
    zeros = np.zeros(channels, np.int64)
    return Requantization(zeros + multiplier, zeros, shift, None if is_head else output)
