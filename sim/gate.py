"""Which task an input belongs to, at the speed of float kernels: the scores of :mod:`tsn_hw.core.gate`, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.integer import checked
from tsn_hw.core.arithmetic import Ints, requantize
from tsn_hw.core.gate import NO_EDGES, SATURATED, Component, Features, gates_of
from tsn_hw.core.gate import Gate as TaskGate
from tsn_hw.core.network import PackedNetwork

Floats = NDArray[np.float64]

CHUNK = 512
"""Inputs that are scored at a time."""


class Gate:
    """The gates of all tasks of a network.

    Raises SettingsError where the network has none.
    """

    def __init__(self, net: PackedNetwork) -> None:
        self.net = net
        self._gates = gates_of(task.gate for task in net.tasks)

    def __call__(self, x: ArrayLike) -> Ints:
        """Scores (batch, tasks) of integers ``x`` (batch, *net.input_shape) in the range of ``net.input``."""
        return scores_of(self._gates, checked(self.net, x))

    def predict(self, x: ArrayLike, together: int = 1) -> Ints:
        """Task of every input, or of every ``together`` inputs in a row (batch // together,): the first of the best."""
        return named_task(self(x), together)


def scores_of(gates: Sequence[TaskGate], x: NDArray[np.integer]) -> Ints:
    """Scores (batch, gates) of checked integers (batch, ...)."""
    return np.concatenate([_scores(gates, chunk) for chunk in np.split(x, range(CHUNK, len(x), CHUNK))])


def _scores(gates: Sequence[TaskGate], x: NDArray[np.integer]) -> Ints:
    features = gate_features(gates[0].features, x).astype(np.float64)
    scores = [np.max([_score(part, features) for part in gate.components], axis=0) for gate in gates]
    return np.stack(scores, axis=1).astype(np.int64)


def named_task(scores: Ints, together: int) -> Ints:
    """The first task with the largest score, or with the largest sum of the scores of ``together`` inputs in a row.

    >>> named_task(np.array([[5, 5], [1, 3], [9, 0]]), 1).tolist(), named_task(np.array([[5, 5], [1, 3]]), 2).tolist()
    ([0, 1, 0], [1])
    """
    count = len(scores) // together
    found: Ints = scores[: count * together].reshape(count, together, scores.shape[1]).sum(axis=1).argmax(axis=1)
    return found


def gate_features(features: Features, x: NDArray[np.integer]) -> Ints:
    """The features (batch, features) of inputs."""
    wide = x.astype(np.int64)
    if x.ndim == 2:
        return wide >> features.shift
    parts = [_sums(wide, features.pool).reshape(len(x), -1) >> features.shift]
    if features.edges != NO_EDGES:
        for axis in (3, 2):
            differences = np.zeros_like(wide)
            inner = (*[slice(None)] * axis, slice(0, -1))
            differences[inner] = np.abs(np.diff(wide, axis=axis))
            sums = _sums(differences.sum(axis=1, keepdims=True), features.edges).reshape(len(x), -1)
            parts.append(np.sqrt(4.0 * sums).astype(np.int64))  # a root that is rounded reaches no integer above
    return np.concatenate(parts, axis=1)


def _sums(x: Ints, window: tuple[int, int]) -> Ints:
    """Sums over whole windows that do not overlap: (batch, channels, rows, columns)."""
    rows, columns = x.shape[2] // window[0], x.shape[3] // window[1]
    cut = x[:, :, : rows * window[0], : columns * window[1]]
    sums: Ints = cut.reshape(*x.shape[:2], rows, window[0], columns, window[1]).sum(axis=(3, 5))
    return sums


def _score(part: Component, features: Floats) -> Floats:
    """Float64 carries all of it exactly: sums stay below 2**52."""
    sums = (features @ part.map.T.astype(np.float64)).astype(np.int64)
    score: Floats = part.bias + features @ part.linear.astype(np.float64)
    for shift in np.unique(part.shift).tolist():
        rows = part.shift == shift
        y = requantize(sums[:, rows], np.array(1), part.offset[rows], shift, SATURATED)
        score -= np.square(y).sum(axis=1)
    return score
