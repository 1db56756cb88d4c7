"""Which number type carries each layer, and the bounds that prove it exact. No torch: proofs are about integers.

=================  ==============================================================================================
int8               uint8 activations and int8 weights whose products are not too large for this processor, and sums
                   that float32 holds (the kernels round through it); calls of few products take float32
float32            no partial sum exceeds 2**24
float32 in parts   the sum splits into parts that each stay within 2**24 and are added in float64
float64            no partial sum exceeds 2**53
int64              everything else
=================  ==============================================================================================

A kernel that is not right on this machine, in the very case that a layer needs, is refused (:mod:`sim.proof`), and the
next of this list takes its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import Carrier, Ints
from tsn_hw.core.facts import FloatRequantization, LayerFacts
from tsn_hw.core.layers import Conv2d, Weighted
from tsn_hw.core.network import PackedNetwork

Kernel = Literal["int8", "float32", "float32 in parts", "float64", "int64"]

INT8_MIN_MACS = 2**14
"""Multiply-accumulates of a sample below which a layer has no int8 kernel."""
INT8_MIN_CALL = 96
"""How many times as many a call must have, of all its samples, for an int8 kernel to save more than calling it costs.

Measured (AVX2 without VNNI, linear layers and convolutions): below it takes 1.1 to 2.5 times as long as float32, above
it 0.2 to 0.9 times.
"""

MAX_PROVEN_BITS = 8
"""Of outputs: the steps of a staircase that are looked at double with every bit."""

_CARRIERS: tuple[Carrier, ...] = ("float32", "float64", "int64")
_BYTE = 256
_SLICES = ((1, 1, 2), (1, 1, 4), (1, 1, 8))
_BYTES = ((2, 1, 1), (1, 2, 1), (2, 1, 2), (1, 2, 2), (2, 1, 4), (1, 2, 4))
"""(bytes of activations, bytes of weights, slices of the input channels), cheapest first. Time over that of one
float32 kernel: slices 1.0..1.4, two bytes 2.1..2.3, float64 2.1 for linear layers and 3.0..4.6 for convolutions."""


def int8_pays(macs: int) -> bool:
    """Whether a call of so many multiply-accumulates is faster on an int8 kernel than in float32."""
    return macs >= INT8_MIN_CALL * INT8_MIN_MACS


@dataclass(frozen=True, eq=False)
class PartialSum:
    """One term of a split sum: ``factor * layer(byte of the activations, weights)`` over a slice of the channels.

    ``byte`` is None for whole activations, 0 for their low byte (0..255), 1 for ``floor(activation / 256)``.
    """

    weights: Ints
    channels: slice
    byte: int | None
    factor: int


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """How one computing layer is carried; why that is exact follows from its facts.

    requantization: "folded": multiplier, offset and 2**-shift are part of weights and bias, only rounding is left. A
        FloatRequantization: its bias is part of the sum, one product in float32 is left. Else in the type named.
    refused: cheaper kernels that failed their test on this machine
    """

    facts: LayerFacts
    kernel: Kernel
    requantization: Literal["folded"] | FloatRequantization | Carrier
    parts: tuple[PartialSum, ...] = ()
    refused: tuple[Kernel, ...] = ()

    def summary(self) -> dict[str, str | int | list[Kernel]]:
        """The plan as plain data."""
        return {
            "layer": self.facts.name,
            "kernel": self.kernel,
            "parts": max(1, len(self.parts)),
            "sum_bound": self.facts.accumulator,
            "requantization": self.requantization if isinstance(self.requantization, str) else "float32",
            "requantization_bound": self.facts.bound,
            "refused": list(self.refused),
        }


class LayerPlans(Mapping[int, LayerPlan]):
    """Layer index -> plan, for every layer of a task that computes; each is made when it is first asked for.

    ``int8_limit``: the largest activation * weight for which int8 kernels are exact here; 0: use none.
    """

    def __init__(self, net: PackedNetwork, task: int, int8_limit: int) -> None:
        self._net, self._task, self._int8_limit = net, task, int8_limit
        self._computing = [index for index, layer, _ in net.run_order(task) if layer.computes]
        self._made: dict[int, LayerPlan] = {}
        self._refused: dict[int, tuple[Kernel, ...]] = dict.fromkeys(self._computing, ())

    def __getitem__(self, index: int) -> LayerPlan:
        if index not in self._made:
            self._made[index] = self._plan(index)
        return self._made[index]

    def __contains__(self, index: object) -> bool:  # Mapping's own makes the plan, which others have none of
        return index in self._refused

    def __iter__(self) -> Iterator[int]:
        return iter(self._computing)

    def __len__(self) -> int:
        return len(self._computing)

    def refuse(self, index: int, kernel: Kernel) -> None:
        """Plan a layer without this kernel from now on."""
        if kernel not in self._refused[index]:
            self._refused[index] += (kernel,)
            self._made.pop(index, None)

    def _plan(self, index: int) -> LayerPlan:
        facts, sums = self._net.facts(self._task, index), self._net.facts(self._task, index).sum_carrier
        fitting: list[Kernel] = list(_CARRIERS[_CARRIERS.index(sums) :])
        parts: tuple[PartialSum, ...] = ()
        if isinstance(facts.layer, Weighted):
            weights = self._net.weights(self._task, index)
            if sums == "float32" and _fits_int8(facts, facts.layer, weights, self._int8_limit):
                fitting.insert(0, "int8")
            elif sums == "float64" and (parts := _split(facts.layer, weights, facts.inputs[0].range)):
                fitting.insert(0, "float32 in parts")
        refused = self._refused[index]
        kernel = next(each for each in fitting if each not in refused)  # nobody refuses int64
        if kernel != "float32 in parts":
            parts = ()
        holds = "float32" if kernel == "int8" else kernel
        return LayerPlan(facts, kernel, _requantization(facts, holds), parts, refused)


def _requantization(facts: LayerFacts, holds: str) -> Literal["folded"] | FloatRequantization | Carrier:
    """How sums in a type are requantized: the cheapest way that is proven exact."""
    if holds in ("float32", "float64") and _CARRIERS.index(facts.carrier) <= _CARRIERS.index(holds):
        return "folded"
    if holds == "float32" and facts.output is not None and facts.output.bits <= MAX_PROVEN_BITS:
        found = facts.float_requantization()
        if isinstance(found, FloatRequantization):
            reach = arithmetic.magnitude(facts.low + found.bias, facts.high + found.bias)
            if reach <= arithmetic.FLOAT32_EXACT:
                return found
    return facts.carrier


def _fits_int8(facts: LayerFacts, layer: Weighted, weights: Ints, limit: int) -> bool:
    source = facts.inputs[0]
    if source.signed or source.bits > 8 or layer.macs(facts.sources[0]) < INT8_MIN_MACS:
        return False
    if isinstance(layer, Conv2d) and layer.groups > 1:  # slower there than float32
        return False
    low, high = int(weights.min()), int(weights.max())
    return -128 <= low <= high <= 127 and source.range[1] * max(-low, high) <= limit


def _split(layer: Weighted, weights: Ints, bounds: tuple[int, int]) -> tuple[PartialSum, ...]:
    """The cheapest parts that all fit float32, or () where float64 is as fast."""
    grouped = isinstance(layer, Conv2d) and layer.groups > 1
    for act_bytes, weight_bytes, slices in _SLICES + _BYTES * isinstance(layer, Conv2d):
        if slices > (1 if grouped else weights.shape[1]):
            continue
        parts = _parts(weights, act_bytes, weight_bytes, slices)
        if all(_part_bound(part, bounds) <= arithmetic.FLOAT32_EXACT for part in parts):
            return parts
    return ()


def _parts(weights: Ints, act_bytes: int, weight_bytes: int, slices: int) -> tuple[PartialSum, ...]:
    high, low = np.divmod(weights + _BYTE // 2, _BYTE)  # weights = 256 * high + low - 128: both bytes stay signed
    planes = [(weights, 1)] if weight_bytes == 1 else [(low - _BYTE // 2, 1), (high, _BYTE)]
    acts: list[tuple[int | None, int]] = [(None, 1)] if act_bytes == 1 else [(0, 1), (1, _BYTE)]
    cuts = [weights.shape[1] * i // slices for i in range(slices + 1)]
    channels = [slice(None)] if slices == 1 else [slice(*ends) for ends in itertools.pairwise(cuts)]
    return tuple(
        PartialSum(plane[:, some], some, byte, weight_factor * act_factor)
        for plane, weight_factor in planes
        for byte, act_factor in acts
        for some in channels
    )


def _part_bound(part: PartialSum, bounds: tuple[int, int]) -> int:
    ranges = {None: bounds, 0: (0, _BYTE - 1), 1: (bounds[0] // _BYTE, bounds[1] // _BYTE)}
    return arithmetic.magnitude(*arithmetic.accumulator_bounds(part.weights, ranges[part.byte]))
