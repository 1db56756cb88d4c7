"""Which bank a new task lives in: that of the most similar earlier task, or a new one.

Every task leaves a *routing memory* behind: statistics or samples. A new task's memory is compared with all
earlier ones by a symmetric KL divergence. Features are what a frozen probe computes: the first weighted layer of
task 0, with its mask and its integers, so that all tasks are measured with the same instrument. The memory is
never used for training; it is stored with the task, and its bits count as capacity.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

import numpy as np
import torch

from tsn_hw.core.arithmetic import nearest
from tsn_hw.core.errors import ArtifactError
from tsn_hw.core.memory import pack_fields, unpack_fields
from tsn_hw.learn.activations import value_of
from tsn_hw.learn.codebook import Floats
from tsn_hw.learn.data.files import Inputs
from tsn_hw.learn.models import SubnetModel, Taps
from tsn_hw.learn.settings import RouteSettings
from tsn_hw.learn.training import to_real

HEADER = struct.Struct("<BBIId")
"""Kind, bits a value, samples, values a sample, largest value; then the values, packed MSB first."""
KINDS = ("stats", "samples_act", "samples_input")
SMALLEST_VARIANCE = 1e-6
HISTOGRAM_BINS = 16


@dataclass(frozen=True)
class Route:
    """The decision for one task: its bank, and the divergence from the nearest earlier task (None: the first)."""

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
    memory: bytes, earlier: list[bytes], bank_of: list[int], probe: Probe, settings: RouteSettings, threshold: float
) -> Route:
    """Choose the bank of a task from its memory and those of the earlier tasks; ties go to the oldest task."""
    if not earlier:
        return Route(0)
    own = decode_memory(memory)
    scores = [divergence(own, decode_memory(other), probe, settings) for other in earlier]
    closest = int(np.argmin(scores))
    joined = Route(bank_of[closest], closest, scores[closest], threshold)
    if scores[closest] <= threshold:
        return joined
    limited = max(bank_of) + 1 >= settings.max_banks
    return replace(joined, limited=True) if limited else replace(joined, bank=max(bank_of) + 1)


def calibrated_threshold(images: Inputs, probe: Probe, settings: RouteSettings, rng: np.random.Generator) -> float:
    """``factor`` times the divergence between two disjoint halves of one task's data, at least ``floor``."""
    if settings.threshold > 0:
        return settings.threshold
    order = rng.permutation(len(images))
    halves = [make_memory(images[half], probe, settings, rng) for half in np.array_split(order, 2)]
    score = divergence(decode_memory(halves[0]), decode_memory(halves[1]), probe, settings)
    return max(settings.floor, settings.factor * score)


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
        stats = np.stack([features.mean(axis=0), features.var(axis=0)]).astype("<f4")
        return HEADER.pack(0, 32, 2, stats.shape[1], 0.0) + stats.tobytes()
    if settings.memory == "samples_act":
        return _pack_samples(1, settings.bits, probe(chosen))
    return _pack_samples(2, settings.bits, chosen.reshape(len(chosen), -1).astype(np.float64))


def decode_memory(data: bytes) -> RoutingMemory:
    """Read a routing memory; damage gives ArtifactError."""
    if len(data) < HEADER.size:
        raise ArtifactError(f"routing memory: {len(data)} bytes, shorter than its header of {HEADER.size}")
    kind, bits, samples, width, largest = HEADER.unpack_from(data)
    payload = data[HEADER.size :]
    layout = (bits, samples) == (32, 2) if kind == 0 else kind < len(KINDS) and bits in (4, 8, 16)
    size = samples * width * bits
    if not layout or size == 0 or len(payload) != (size + 7) // 8:
        raise ArtifactError(f"routing memory: header {(kind, bits, samples, width)} does not fit {len(payload)} bytes")
    if kind == 0:
        values = np.frombuffer(payload, "<f4").reshape(samples, width).astype(np.float64)
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


def divergence(a: RoutingMemory, b: RoutingMemory, probe: Probe, settings: RouteSettings) -> float:
    """Symmetric KL divergence between two tasks, averaged over units, in nats."""
    if settings.estimator == "softmax_pairs":
        count = min(len(a.values), len(b.values))
        first, second = _softmax(a.values[:count]), _softmax(b.values[:count])
        return float(((first - second) * np.log(first / second)).sum(axis=1).mean() / 2)
    if settings.estimator == "histogram":
        return _histogram_divergence(_features(a, probe), _features(b, probe))
    return _gaussian_divergence(_moments(a, probe), _moments(b, probe))


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


def _gaussian_divergence(a: Floats, b: Floats) -> float:
    """Mean over units of the symmetric KL divergence of Gaussians; the logarithms of both directions cancel."""
    (mean_a, variance_a), (mean_b, variance_b) = a, b
    variance_a, variance_b = np.maximum(variance_a, SMALLEST_VARIANCE), np.maximum(variance_b, SMALLEST_VARIANCE)
    square = (mean_a - mean_b) ** 2
    forward = variance_a / variance_b + square / variance_b - 1
    backward = variance_b / variance_a + square / variance_a - 1
    return float((forward + backward).mean() / 4)


def _histogram_divergence(a: Floats, b: Floats) -> float:
    """Symmetric KL divergence of per-unit histograms over the common range, with add-one smoothing."""
    scores = []
    for unit_a, unit_b in zip(a.T, b.T, strict=True):
        bounds = min(unit_a.min(), unit_b.min()), max(unit_a.max(), unit_b.max())
        counts = [np.histogram(unit, HISTOGRAM_BINS, bounds)[0] + 1.0 for unit in (unit_a, unit_b)]
        first, second = (count / count.sum() for count in counts)
        scores.append(float(((first - second) * np.log(first / second)).sum() / 2))
    return float(np.mean(scores))


def _softmax(values: Floats) -> Floats:
    """Row-wise soft-max of pixels as real numbers (pixel / 256)."""
    shifted = np.exp((values - values.max(axis=1, keepdims=True)) / 256)
    shares: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return shares
