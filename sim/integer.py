"""Bit-accurate inference at the speed of float kernels: the integers that the hardware holds.

Every layer runs on the cheapest number type that is proven exact for its weights (:mod:`sim.plan`), on a kernel that
was tried on this machine (:mod:`sim.proof`). Torch is loaded when a :class:`Simulator` is made, not when this module is
imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.plan import LayerPlan, LayerPlans
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.network import PackedNetwork

if TYPE_CHECKING:
    from sim.kernels import Program

Int32s = NDArray[np.int32]

CHUNK_BYTES = 2**25
"""A batch is split so that the float32 activations of all layers together stay within this."""


class Simulator:
    """Integer inference of one task, given by number or name.

    A layer is prepared when it first runs: weights decoded, number type proven.

    ``int8=False`` keeps off the int8 kernels, even where they are right.
    """

    def __init__(self, net: PackedNetwork, task: int | str, *, int8: bool = True) -> None:
        from sim import kernels
        from sim.proof import int8_product_limit

        task = net.task_number(task)
        self.net, self.task = net, task
        self._head = net.head(task)
        self._keep = frozenset([self._head])
        self._plans = LayerPlans(net, task, int8_product_limit() if int8 else 0)
        self.program = kernels.compile_program(net, task, self._plans, fuse=True)
        elements = sum(math.prod(net.shapes[index]) for index, _, _ in net.run_order(task))
        self._chunk = max(1, CHUNK_BYTES // (4 * (elements + math.prod(net.input_shape))))

    @property
    def plan(self) -> tuple[LayerPlan, ...]:
        """The number type of every computing layer and the bounds that prove it.

        Kernels are tried with a batch of one, and with every size that was run: another size may refuse another kernel.
        """
        self(np.zeros((1, *self.net.input_shape), np.int64))
        return tuple(self._plans.values())

    def __call__(self, x: ArrayLike) -> Int32s:
        """Logits (batch, classes) of integers ``x`` (batch, *net.input_shape) in the range of ``net.input``."""
        logits = [self.program(chunk, self._keep)[self._head] for chunk in self.chunks(x)]
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def predict(self, x: ArrayLike) -> NDArray[np.int64]:
        """Class (batch,) of integers ``x``: the first index of the largest logit."""
        classes: NDArray[np.int64] = self(x).argmax(axis=1)
        return classes

    def taps(self, x: ArrayLike) -> dict[str, Int32s]:
        """The requantized integers (batch, ...) of every layer that the task runs, by name; last, the logits."""
        names = {index: layer.name for index, layer, _ in self.net.run_order(self.task)}
        chunks = [self._unfused(chunk, set(names)) for chunk in self.chunks(x)]
        return {name: np.concatenate([chunk[index] for chunk in chunks]) for index, name in names.items()}

    @cached_property
    def _unfused(self) -> Program:
        """The program that gives the integers of every layer: no pooling is moved before a requantization."""
        from sim import kernels

        return kernels.compile_program(self.net, self.task, self._plans, fuse=False)

    def chunks(self, x: ArrayLike) -> Iterator[NDArray[np.integer]]:
        """Checked integers in batches that keep all activations within CHUNK_BYTES."""
        inputs = checked(self.net, x)
        for start in range(0, max(1, len(inputs)), self._chunk):
            yield inputs[start : start + self._chunk]


def simulate(net: PackedNetwork, task: int | str, x: ArrayLike) -> Int32s:
    """Logits (batch, classes) of a task for integers ``x``; make a :class:`Simulator` to run more than one batch."""
    return Simulator(net, task)(x)


def checked(net: PackedNetwork, x: ArrayLike) -> NDArray[np.integer]:
    """Inputs of a network; SettingsError for those of another type, shape or range."""
    array = np.asarray(x)
    if array.dtype.kind not in "iu":
        raise SettingsError(f"simulator: the input has dtype {array.dtype}, must be an integer type")
    if array.ndim != len(net.input_shape) + 1 or array.shape[1:] != net.input_shape:
        wanted = ", ".join(map(str, net.input_shape))
        raise SettingsError(f"simulator: the input has shape {array.shape}, must be (batch, {wanted})")
    low, high = net.input.range
    least, most = _limits(array.dtype)
    if array.size and not low <= least <= most <= high:  # otherwise the dtype itself keeps the range
        smallest, largest = int(array.min()), int(array.max())
        if not low <= smallest <= largest <= high:
            raise SettingsError(f"simulator: the input holds {smallest}..{largest}, must be within {low}..{high}")
    return array


@cache
def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Least and largest integer of a type."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
