"""A network as a run may give it, drawn at random before anything is trained, to be held against back ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.layers import Add, AvgPool, Layer, Linear, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, Bools, PackedNetwork, Requantization, Step, Task
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
    count = len(classes)
    last = (len(body.layers) - 1,)
    heads = tuple(Linear(f"head_{task}", body.features, len(names), last) for task, names in enumerate(classes))
    layers: tuple[Layer, ...] = (*body.layers, *heads)
    masks: list[list[Bools | None]] = [[None] * len(layers) for _ in range(count)]
    words: list[BankLayer | None] = []
    for index, layer in enumerate(layers):
        if not isinstance(layer, Weighted):
            words.append(None)
            continue
        owner = np.full(layer.weight_shape, UNUSED, np.int16)
        head = index - len(body.layers)
        owners: Sequence[int] = range(count) if head < 0 else [head]
        for task in owners:
            keep = 1.0 if head >= 0 else settings.train.keep(layer.name, task, count)
            mask = rng.random(layer.weight_shape) < keep
            owner[mask & (owner == UNUSED)] = task
            masks[task][index] = mask
        bits = settings.quantize.head_bits if head >= 0 else settings.quantize.max_bits
        books = _codebooks(settings, [bits if task in owners else None for task in range(count)])
        code = np.where(owner == UNUSED, 0, rng.integers(0, len(books[owners[0]]), owner.shape)).astype(np.uint8)
        words.append(BankLayer(owner, code, books, settings.formats.centroid_bits, 0))
    tasks = tuple(_task(body, settings, layers, masks[t], t, classes[t]) for t in range(count))
    return PackedNetwork(body.input_shape, settings.formats.input, layers, (Bank(tuple(words)),), tasks)


def _codebooks(settings: Settings, bits: Sequence[int | None]) -> tuple[Ints, ...]:
    """Codebooks of so many bits that span the whole range of centroids; None: an empty one."""
    low, high = settings.formats.centroid_range
    books = []
    for width in bits:
        entries = 0 if width is None else 1 << min(width, settings.formats.centroid_bits)
        books.append(low + np.arange(entries) * (high - low) // max(1, entries - 1))
    return tuple(books)


def _task(
    body: Architecture,
    settings: Settings,
    layers: Sequence[Layer],
    masks: Sequence[Bools | None],
    number: int,
    classes: tuple[str, ...],
) -> Task:
    steps: list[Step | None] = []
    for index, layer in enumerate(layers):
        head = index - len(body.layers)
        if head >= 0 and head != number:
            steps.append(None)
            continue
        steps.append(Step(masks[index], _requantization(body, settings, layer, is_head=head >= 0)))
    return Task(f"task_{number}", 0, classes, tuple(steps))


def _requantization(body: Architecture, settings: Settings, layer: Layer, is_head: bool) -> Requantization | None:
    if not isinstance(layer, Weighted | AvgPool | Add):
        return None
    channels = layer.channels if isinstance(layer, Weighted) else 1
    multiplier, shift = 1, SHIFT
    if isinstance(layer, AvgPool):
        multiplier, shift = average(layer)
    elif isinstance(layer, Weighted) and body.batch_norm and not is_head:
        multiplier = (1 << settings.formats.multiplier_bits - 1) - 1
    output = ActFormat(settings.formats.act_bits, layer.name in body.signed, 0)
    zeros = np.zeros(channels, np.int64)
    return Requantization(zeros + multiplier, zeros, shift, None if is_head else output)
