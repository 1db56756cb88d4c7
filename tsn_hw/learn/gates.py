"""Learning gates: what the training inputs of a task look like, as the integers of :mod:`tsn_hw.core.gate`.

A gate is learned from its own task alone, so that later tasks change none. Its scores are logarithms of probabilities,
on a grid that is the same for all tasks: that of ``pixels`` counts how often each pixel is bright, that of ``images``
fits normal distributions to sums of pixels and of edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import ActFormat, Ints, nearest
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.gate import NO_EDGES, SATURATED, Component, Features, Gate
from tsn_hw.core.layers import Shape
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.reference import gate_features
from tsn_hw.learn.data.files import Inputs
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.training import seed_of

Floats = NDArray[np.float64]

LOG_ODDS = (-8.0, 1.0)
"""Of ``pixels``: the grid of weights reaches from the one to the other."""
DEVIATIONS = 3.5
"""Of ``images``: where a row saturates, in standard deviations."""
VARIANCE = 4.0
"""Of ``images``: added to that of every feature."""
INPUTS_A_FEATURE = 4
"""Of ``images``: training inputs that a component needs for every feature."""
ROUNDS = 20
"""Of assigning inputs to the nearest centre, before normal distributions are fitted; three rounds of these follow."""
INPUTS_A_STEP = 4096


@dataclass(frozen=True)
class GateSettings:
    """How gates are learned."""

    kind: Literal["pixels", "images"] = "pixels"
    """``pixels``: each by itself, bright or dark, of signed inputs at least 0 or below; ``images``: normal
    distributions of sums over windows and of edges."""
    bits: int = 2
    """Bits of a weight: 1 to 8 of pixels, 4 to 8 of images."""
    components: int = 4
    """Of images: normal distributions a task, at most."""
    pool: int = 8
    """Of images: side of the windows over which pixels are summed, in pixels."""
    edges: int = 4
    """Of images: side of the windows over which differences of neighbours are summed; 0: none."""

    def __post_init__(self) -> None:
        least = 1 if self.kind == "pixels" else 4
        if not least <= self.bits <= 8:
            raise SettingsError(f"gate bits = {self.bits}: must be {least}..8 for {self.kind}")
        if not (1 <= self.components <= 64 and self.pool >= 1 and self.edges >= 0):
            raise SettingsError("gate: components must be 1..64, pool at least 1, edges at least 0")

    def features(self, shape: Shape, form: ActFormat) -> Features:
        """How inputs become features."""
        if self.kind == "pixels":
            return Features(shift=form.bits - 1)
        pool, edges = ((min(side, shape[1]), min(side, shape[2])) for side in (self.pool, self.edges))
        return Features(pool, (pool[0] * pool[1] - 1).bit_length(), edges if self.edges else NO_EDGES)


def learn_gates(net: PackedNetwork, stream: TaskStream, settings: GateSettings, seed: int) -> PackedNetwork:
    """The network with the gates of its tasks, learned from the training part of a stream that begins with them.

    Raises SettingsError where the kind of gate is not one for the inputs, or the tasks are not those of the stream.
    """
    if settings.kind == "images" and len(net.input_shape) != 3:
        raise SettingsError(f"gates of images: the inputs have shape {net.input_shape}; pixels take any shape")
    names = tuple(task.name for task in net.tasks)
    if stream.names[: len(names)] != names:
        raise SettingsError(f"gates: the tasks {', '.join(names)} are not those of the run: {', '.join(stream.names)}")
    tasks = []
    for number, task in enumerate(net.tasks):
        rng = np.random.default_rng(seed_of(seed, "gate", task.name))
        tasks.append(replace(task, gate=learn_gate(stream.task(number).x_train, net.input, settings, rng)))
    return replace(net, tasks=tuple(tasks))


def learn_gate(x: Inputs, form: ActFormat, settings: GateSettings, rng: np.random.Generator) -> Gate:
    """The gate of one task from its training inputs (batch, ...), as a network of this input format reads them."""
    features = settings.features(x.shape[1:], form)
    parts = np.array_split(x, max(1, len(x) // INPUTS_A_STEP))
    values = np.concatenate([gate_features(features, integers(part, form)) for part in parts])
    if settings.kind == "pixels":
        return Gate(features, (_independent(values - (form.range[0] >> features.shift), settings.bits),))
    return Gate(features, _mixture(values.astype(np.float64), settings, rng))


def _independent(bright: Ints, bits: int) -> Component:
    """Naive Bayes over features that are 0 or 1, in units of a step of the grid of weights."""
    share = (bright.reshape(len(bright), -1).sum(axis=0) + 1) / (len(bright) + 2)
    low, high = LOG_ODDS
    step = (high - low) / ((1 << bits) - 1)
    level = np.clip(nearest((np.log(share / (1 - share)) - low) / step), 0, (1 << bits) - 1)
    bias = -np.log1p(np.exp(low + step * level)).sum() / step
    linear = level - (1 << bits >> 1)  # what all tasks have in common is left out
    nothing = np.zeros(0, np.int64)
    return Component(int(nearest(bias)), linear, np.zeros((0, len(linear)), np.int64), nothing, nothing)


def _mixture(x: Floats, settings: GateSettings, rng: np.random.Generator) -> tuple[Component, ...]:
    """Normal distributions, of which each input belongs to the likeliest one."""
    count = min(max(1, len(x) // (INPUTS_A_FEATURE * x.shape[1])), settings.components)
    centres = x[np.sort(rng.permutation(len(x))[:count])]
    for _ in range(ROUNDS if count > 1 else 1):
        member = (np.square(centres).sum(axis=1) - 2 * x @ centres.T).argmin(axis=1)
        centres = np.stack([x[member == k].mean(axis=0) if (member == k).any() else centres[k] for k in range(count)])
    for _ in range(3 if count > 1 else 1):
        groups = [x[member == k] for k in range(count)]
        normals = [
            _normal(group, len(group) / len(x)) for group in groups if len(group) > x.shape[1] // 2 or count == 1
        ]
        count = len(normals)
        member = np.stack([normal.log_likelihood(x) for normal in normals]).argmax(axis=0)
    return tuple(normal.quantized(settings.bits) for normal in normals)


@dataclass(frozen=True)
class _Normal:
    """A normal distribution: ``whiten`` (features, features), a lower triangle, makes independent features of variance
    1 of what lies around the mean; ``logarithm`` is that of its weight times its density there."""

    mean: Floats
    whiten: Floats
    logarithm: float

    def log_likelihood(self, x: Floats) -> Floats:
        likelihood: Floats = self.logarithm - np.square((x - self.mean) @ self.whiten.T).sum(axis=1) / 2
        return likelihood

    def quantized(self, bits: int) -> Component:
        """Rows whose largest weight fills the bits, and which saturate at :data:`DEVIATIONS`."""
        scale = SATURATED[1] / DEVIATIONS
        rows, largest = scale * self.whiten, (1 << (bits - 1)) - 1
        shift = np.floor(np.log2(largest / np.abs(rows).max(axis=1))).astype(np.int64).clip(0, 40)
        weights = nearest(np.clip(np.ldexp(rows, shift[:, None].astype(np.int32)), -largest, largest))
        offset = nearest(-(weights @ self.mean))
        bias = int(nearest(2 * scale**2 * self.logarithm))
        return Component(bias, np.zeros(len(self.mean), np.int64), weights, offset, shift)


def _normal(x: Floats, weight: float) -> _Normal:
    covariance = np.cov(x.T, bias=True) + VARIANCE * np.eye(x.shape[1])
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    return _Normal(x.mean(axis=0), np.tril(whiten), float(np.log(np.diag(whiten)).sum() + np.log(weight)))
