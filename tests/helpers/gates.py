"""Random gates for random networks: what the core allows, with ties, saturated rows and the ends of its ranges."""

from dataclasses import replace

import numpy as np

from tsn_hw.core.gate import NO_EDGES, Component, Features, Gate, stored
from tsn_hw.core.network import PackedNetwork


def with_gates(net: PackedNetwork, seed: int) -> PackedNetwork:
    """The network with a gate a task; every third task has that of the task before it, so that scores tie."""
    rng = np.random.default_rng(seed)
    features = _features(net, rng)
    gates: list[Gate] = []
    for number in range(len(net.tasks)):
        parts = tuple(_component(net, features, rng) for _ in range(rng.integers(1, 4)))
        gates.append(gates[-1] if number % 3 == 2 else Gate(features, parts))
    tasks = tuple(replace(task, gate=gate) for task, gate in zip(net.tasks, gates, strict=True))
    return replace(net, tasks=tasks)


def _features(net: PackedNetwork, rng: np.random.Generator) -> Features:
    shift = int(rng.integers(0, 4))
    if len(net.input_shape) == 1:
        return Features(shift=shift)
    _, rows, columns = net.input_shape
    pool, edges = ((int(rng.integers(1, rows + 1)), int(rng.integers(1, columns + 1))) for _ in range(2))
    return Features(pool, shift, NO_EDGES if rng.random() < 0.3 else edges)


def _component(net: PackedNetwork, features: Features, rng: np.random.Generator) -> Component:
    count = features.count(net.input_shape)
    reach = max(map(abs, features.range(net.input_shape, net.input)))
    rows = int(rng.choice([0, 1, count, rng.integers(0, count + 1)]))
    bits = int(rng.integers(1, 16))
    linear = rng.integers(-(1 << bits), 1 << bits, count) if reach * count < 1 << 12 else np.zeros(count, np.int64)
    of_map = np.where(stored(rows, count), rng.integers(-(1 << bits), 1 << bits, (rows, count)), 0)
    typical = (reach << bits) or 1
    offset = rng.integers(-typical, typical + 1, rows) * int(rng.choice([0, 1, 1]))
    shift = rng.integers(max(0, typical.bit_length() - 9), typical.bit_length() + 3, rows)
    return Component(int(rng.integers(-5, 6)) * 1000, linear, of_map, offset, shift)
