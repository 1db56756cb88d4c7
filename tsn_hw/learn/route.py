"""Which bank a new task lives in: that of the most similar earlier task that has room for it, or a new one.

Every task leaves a *routing memory* behind: statistics or samples. A new task's memory is compared with all
earlier ones by a symmetric KL divergence d of Gaussians, unit by unit, each on the bounded scale d / (1 + d).
Features are what a frozen probe computes: the first weighted layer of task 0, with its mask and its integers, so
that all tasks are measured with the same instrument. The memory is never used for training; it is stored with the
task, and its bits count as capacity.

Sharing writes fewer words and no more masks, so it costs no bits, and accuracy only where a bank has too few free
weights for what is new about the task. The threshold of a bank therefore follows from its room: 1 where as many
weights are free as the task keeps, 0.7 where a quarter of them are, 0.5 where a sixteenth, 0 where none are.
docs/results.md tells what such tasks lose.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tsn_hw.core.arithmetic import nearest
from tsn_hw.core.errors import ArtifactError
from tsn_hw.core.memory import pack_fields, unpack_fields
from tsn_hw.learn.activations import value_of
from tsn_hw.learn.codebook import Floats
from tsn_hw.learn.data.files import Inputs
from tsn_hw.learn.layers import kept_weights
from tsn_hw.learn.models import SubnetModel, Taps
from tsn_hw.learn.settings import RouteSettings, Settings
from tsn_hw.learn.training import to_real

HEADER = struct.Struct("<BBIId")
"""Kind, bits a value, samples, values a sample, largest value; then the values, packed MSB first."""
KINDS = ("stats", "samples_act", "samples_input")
STATS = {16: "<f2", 32: "<f4"}
"""Statistics are half floats; older files hold those of 32 bits."""
LARGEST_HALF = 65504
SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Route:
    """The decision for one task: its bank, and the divergence from the nearest earlier task (None: the first).

    ``nearest`` is of the bank that the task joins, and ``threshold`` that bank's; of a new bank, the nearest of all.
    """

    bank: int
    nearest: int | None = None
    divergence: float | None = None
    threshold: float | None = None
    limited: bool = False  # a new bank was called for, but ``max_banks`` is reached


@dataclass(frozen=True)
class RoutingMemory:
    """A decoded routing memory: (2, units) mean and variance for ``stats``, else (samples, values)."""

    kind: str
    values: Floats


def route(
    memory: bytes,
    earlier: list[bytes],
    bank_of: list[int],
    probe: Probe,
    settings: RouteSettings,
    room: Sequence[float],
) -> Route:
    """Choose the bank of a task from its memory and those of the earlier tasks; ties go to the oldest task.

    ``room``: threshold of every bank. The task joins the nearest bank whose threshold its divergence does not
    exceed; if there is none it opens a new one.
    """
    if not earlier:
        return Route(0)
    own = decode_memory(memory)
    scores = [divergence(own, decode_memory(other), probe) for other in earlier]
    order = sorted(range(len(earlier)), key=scores.__getitem__)
    found = [Route(bank_of[task], task, scores[task], room[bank_of[task]]) for task in order]
    for candidate, task in zip(found, order, strict=True):
        if scores[task] <= room[bank_of[task]]:
            return candidate
    limited = max(bank_of) + 1 >= settings.max_banks
    return replace(found[0], limited=True) if limited else replace(found[0], bank=max(bank_of) + 1)


def thresholds(model: SubnetModel, settings: Settings, tasks: int) -> list[float]:
    """Of every bank the divergence up to which the next task joins it: the fourth root of free weights over kept ones.

    At most 1, where everything shares. A threshold of the settings stands for all of them. ``tasks`` are those of
    the stream.
    """
    if settings.route.threshold > 0:
        return [settings.route.threshold] * len(model.banks)
    number, found = len(model.bank_of), []
    for bank in range(len(model.banks)):
        free = kept = 0
        for index, layer in model.body_layers(model.bank_of.index(bank)).items():
            name = model.architecture.layers[index].name
            free += int((layer.subnet.owner < 0).sum())
            kept += kept_weights(layer.subnet.owner.numel(), settings.train.keep(name, number, tasks))
        found.append(min(1.0, free / kept) ** 0.25)
    return found


class Probe:
    """The frozen instrument: activations of the first weighted layer of task 0, one number a unit and image."""

    def __init__(self, model: SubnetModel) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, images: Inputs) -> Floats:
        """Features (images, units): activations, averaged over positions for convolutions."""
        self.model.eval()
        layer = self.model.architecture.layers[min(self.model.body_layers(0))].name
        features = []
        for chunk in torch.from_numpy(np.array(images)).split(256):
            taps: Taps = {}
            self.model(to_real(chunk.to(self.model.device)), 0, taps)
            values = value_of(taps[layer])
            features.append(values.flatten(2).mean(2) if values.dim() > 2 else values)
        return torch.cat(features).double().cpu().numpy()


def make_memory(images: Inputs, probe: Probe, settings: RouteSettings, rng: np.random.Generator) -> bytes:
    """What a task leaves behind, encoded as it is stored and counted."""
    chosen = images[np.sort(rng.permutation(len(images))[: max(settings.samples, 2)])]
    if settings.memory == "stats":
        features = probe(images[np.sort(rng.permutation(len(images))[:2048])])
        stats = np.stack([features.mean(axis=0), features.var(axis=0)]).clip(-LARGEST_HALF, LARGEST_HALF).astype("<f2")
        return HEADER.pack(0, 16, 2, stats.shape[1], 0.0) + stats.tobytes()
    if settings.memory == "samples_act":
        return _pack_samples(1, settings.bits, probe(chosen))
    return _pack_samples(2, settings.bits, chosen.reshape(len(chosen), -1).astype(np.float64))


def decode_memory(data: bytes) -> RoutingMemory:
    """Read a routing memory; damage gives ArtifactError."""
    if len(data) < HEADER.size:
        raise ArtifactError(f"routing memory: {len(data)} bytes, shorter than its header of {HEADER.size}")
    kind, bits, samples, width, largest = HEADER.unpack_from(data)
    payload = data[HEADER.size :]
    layout = bits in STATS and samples == 2 if kind == 0 else kind < len(KINDS) and bits in (4, 8, 16)
    size = samples * width * bits
    if not layout or size == 0 or len(payload) != (size + 7) // 8:
        raise ArtifactError(f"routing memory: header {(kind, bits, samples, width)} does not fit {len(payload)} bytes")
    if kind == 0:
        values = np.frombuffer(payload, STATS[bits]).reshape(samples, width).astype(np.float64)
        if not np.isfinite(values).all() or (values[1] < 0).any():
            raise ArtifactError("routing memory: means and variances must be finite, variances not negative")
        return RoutingMemory("stats", values)
    if not 0 < largest < np.inf:
        raise ArtifactError(f"routing memory: largest value {largest}, must be positive and finite")
    levels = unpack_fields(payload, bits, samples * width).reshape(samples, width)
    return RoutingMemory(KINDS[kind], levels * (largest / ((1 << bits) - 1)))


def check_memory(data: bytes, model: SubnetModel, settings: RouteSettings) -> None:
    """Refuse a routing memory that is not of these settings and of this body."""
    memory, first = decode_memory(data), next(iter(model.architecture.weighted.values()))
    width = math.prod(model.architecture.input_shape) if settings.memory == "samples_input" else first.channels
    if (memory.kind, memory.values.shape[1]) != (settings.memory, width):
        raise ArtifactError(f"routing memory: {memory.values.shape[1]} values of kind {memory.kind!r}, must be {width}")


def _pack_samples(kind: int, bits: int, values: Floats) -> bytes:
    largest = float(values.max(initial=0.0)) or 1.0
    levels = nearest(values * (((1 << bits) - 1) / largest))
    payload = pack_fields(levels.ravel(), bits)
    return HEADER.pack(kind, bits, *values.shape, largest) + payload


def divergence(a: RoutingMemory, b: RoutingMemory, probe: Probe) -> float:
    """Symmetric KL divergence d between two tasks as the mean of d / (1 + d) over units: 0 (the same) to 1.

    Bounded unit by unit, because a unit that hardly varies in one of the tasks alone can have any divergence at all.
    """
    nats = _gaussian_divergences(_moments(a, probe), _moments(b, probe))
    return float((nats / (1 + nats)).mean())


def _features(memory: RoutingMemory, probe: Probe) -> Floats:
    if memory.kind == "samples_input":
        images = memory.values.reshape(-1, *probe.model.architecture.input_shape)
        return probe(nearest(images).astype(np.uint8))
    return memory.values


def _moments(memory: RoutingMemory, probe: Probe) -> Floats:
    if memory.kind == "stats":
        return memory.values
    features = _features(memory, probe)
    return np.stack([features.mean(axis=0), features.var(axis=0)])


def _gaussian_divergences(a: Floats, b: Floats) -> Floats:
    """Symmetric KL divergence of Gaussians, (units,) in nats; the logarithms of both directions cancel."""
    (mean_a, variance_a), (mean_b, variance_b) = a, b
    variance_a, variance_b = np.maximum(variance_a, SMALLEST_VARIANCE), np.maximum(variance_b, SMALLEST_VARIANCE)
    square = (mean_a - mean_b) ** 2
    forward = variance_a / variance_b + square / variance_b - 1
    backward = variance_b / variance_a + square / variance_a - 1
    nats: Floats = (forward + backward) / 4
    return nats
