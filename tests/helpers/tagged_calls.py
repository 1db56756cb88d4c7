"""Calls whose inferences are each of a task of their own, and what units must give for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.rtl.simulation import RtlCall, RtlResult, tagged_call
from tests.helpers.networks import adversarial_inputs
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Flatten
from tsn_hw.hardware.accelerator import Accelerator

REFUSED = -(2**31)
"""Every logit of an inference whose header names no task that there is."""


def tagged(made: Accelerator, tasks: Sequence[int], seed: int = 0) -> RtlCall:
    """A call of adversarial inputs of these tasks."""
    return tagged_call(tasks, adversarial_inputs(made.net, max(1, len(tasks)), seed=seed)[: len(tasks)])


def every_pair(tasks: int, seed: int) -> list[int]:
    """An order at random in which every task follows every task once, itself too."""
    rng = np.random.default_rng(seed)
    left = {task: rng.permutation(tasks).tolist() for task in range(tasks)}
    way, order = [int(rng.integers(tasks))], []
    while way:  # an Eulerian circuit
        if left[way[-1]]:
            way.append(left[way[-1]].pop())
        else:
            order.append(way.pop())
    return order


def expected(made: Accelerator, tasks: Sequence[int], inputs: Ints) -> dict[str, Ints]:
    """The integers (batch, ...) of every unit from the int64 loop; logits with zeros behind, or marked as refused."""
    net, found = made.net, dict[str, Ints]()
    is_there = np.array([task < len(net.tasks) for task in tasks], bool)
    names = [made.layer_name(unit, 0) for unit in (*made.body, made.head)]
    ran = np.array([task if task < len(net.tasks) else 0 for task in tasks], np.int64)
    for task in set(ran.tolist()):
        rows = ran == task
        truth = reference.run(net, task, inputs[rows])
        layers = [truth[layer.name] for _, layer, _ in net.run_order(task) if not isinstance(layer, Flatten)]
        layers[-1] = np.pad(layers[-1], ((0, 0), (0, made.head.rows - layers[-1].shape[1])))
        for name, values in zip(names, layers, strict=True):
            of_all = found.setdefault(name, np.zeros((len(tasks), *values.shape[1:]), np.int64))
            of_all[rows] = values
    if tasks:
        found[names[-1]][~is_there] = REFUSED
    return found


def different(made: Accelerator, calls: Sequence[RtlCall], results: Sequence[RtlResult]) -> int:
    """Integers of all units that differ."""
    wrong = 0
    for call, result in zip(calls, results, strict=True):
        truth = expected(made, call.headers, call.inputs) if call.headers else result.layers
        assert list(result.layers) == list(truth)
        wrong += sum(int((truth[name] != values).sum()) for name, values in result.layers.items())
    return wrong
