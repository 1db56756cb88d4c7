"""Exact integer arithmetic on torch's CPU kernels: executes the plans of :mod:`sim.plan`.

Between layers integers travel in float32 tensors (uint8 after an int8 kernel): both hold every format exactly.
A computing layer is two operations, *accumulate* and *finish*. Where the plan folds the requantization, multiplier,
offset and 2**-shift are part of the first, else only the sign of the multiplier is. So the second never decreases
in its argument, and a maximum pooling may stand between them and spare the rounding of what it drops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sim.borrowed import exact_floats
from sim.int8 import PAIR_LIMIT
from sim.plan import LayerPlan, LayerPlans, PartialSum, int8_pays
from sim.proof import DTYPES, Floats, Guarded, Kernel, Operation, Settling, UnprovenError, case_of, geometry, held_in
from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import per_channel
from tsn_hw.core.facts import FloatRequantization
from tsn_hw.core.layers import INPUT, Add, AvgPool, Flatten, MaxPool, Pad, Pair, Weighted, refused
from tsn_hw.core.network import PackedNetwork, Requantization

Compile = Callable[[], list[Operation]]


class Chain:
    """The operations of a stage one after the other: compiled when they first run, again where a plan was refused."""

    def __init__(self, compiled: Compile) -> None:
        self._operations = cache(compiled)

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.tried(*inputs)[0]

    def tried(self, *inputs: Tensor) -> tuple[Tensor, Operation]:
        """What they give, and what gives it without a question to inputs of the same case."""
        while True:
            operations = self._operations()
            try:
                value = _one_by_one(operations, inputs)
            except UnprovenError:
                self._operations.cache_clear()
                continue
            batch = len(inputs[0])
            return value, _composed(
                [each.settled(batch) if isinstance(each, Settling) else each for each in operations]
            )


@dataclass(frozen=True)
class Stage:
    """``values[output] = run(*values[inputs])``; after it, nothing reads the values of ``release`` again."""

    output: int
    inputs: tuple[int, ...]
    run: Chain
    release: frozenset[int]


class Program:
    """The stages of one task in execution order.

    What reaches a stage follows from the case of the input. So the next batch of a case that went through all of them
    meets the kernels that were tried, and nothing asks them again.
    """

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        self._tried: dict[Hashable, list[Operation]] = {}

    def __call__(self, x: NDArray[np.integer], keep: Collection[int]) -> dict[int, NDArray[np.int32]]:
        """Layer index -> integers, of the layers to keep, for a batch of input integers."""
        kept: dict[int, NDArray[np.int32]] = {}
        with exact_floats():
            values = {INPUT: input_tensor(x)}
            case, new = case_of(values[INPUT]), list[Operation]()
            known = self._tried.get(case)
            for number, stage in enumerate(self.stages):
                inputs = [values[source] for source in stage.inputs]
                if known is None:
                    result, operation = stage.run.tried(*inputs)
                    new.append(operation)
                else:
                    result = known[number](*inputs)
                values[stage.output] = result
                if stage.output in keep:
                    kept[stage.output] = held_in(torch.int32, result).numpy()
                for source in stage.release:
                    del values[source]
            if known is None:
                self._tried[case] = new
        return kept


def _composed(operations: Sequence[Operation]) -> Operation:
    return operations[0] if len(operations) == 1 else lambda *inputs: _one_by_one(operations, inputs)


def _one_by_one(operations: Sequence[Operation], inputs: tuple[Tensor, ...]) -> Tensor:
    first, *rest = operations
    value = first(*inputs)
    for operation in rest:
        value = operation(value)
    return value


def input_tensor(x: NDArray[np.integer]) -> Tensor:
    """A batch of input integers as the first layer takes them."""
    return torch.from_numpy(x.astype(np.uint8 if x.dtype == np.uint8 else np.float32))


def compile_program(net: PackedNetwork, task: int, plans: LayerPlans, fuse: bool) -> Program:
    """The program of a task; ``fuse`` pools maxima before the requantization where nothing else reads the layer.

    A stage is compiled when it is first run: who knows its result already has no need of it.
    """
    layers = {index: layer for index, layer, _ in net.run_order(task)}
    readers = Counter(source for layer in layers.values() for source in layer.inputs)
    stages: dict[int, tuple[tuple[int, ...], Compile]] = {}
    for index, layer in layers.items():
        if isinstance(layer, Flatten):
            stages[index] = layer.inputs, _flattening
        elif isinstance(layer, Pad):
            stages[index] = layer.inputs, partial(_padding, layer)
        elif isinstance(layer, Weighted | AvgPool | Add):
            stages[index] = layer.inputs, partial(_computing, net, task, index, plans)
        elif isinstance(layer, MaxPool):
            pool, source = partial(_max_pool, kernel=layer.kernel, stride=layer.stride), layer.inputs[0]
            if fuse and source in plans and readers[source] == 1:
                inputs, computing = stages.pop(source)
                stages[index] = inputs, partial(_pooled, computing, pool)
            else:
                stages[index] = layer.inputs, partial(_pooled, list, pool)
        else:
            raise refused(layer, "the simulator")
    last_reader = {source: index for index, (inputs, _) in stages.items() for source in inputs}
    return Program(
        tuple(
            Stage(index, inputs, Chain(compiled), frozenset(s for s in inputs if last_reader[s] == index))
            for index, (inputs, compiled) in stages.items()
        )
    )


def _flattening() -> list[Operation]:
    return [partial(torch.flatten, start_dim=1)]


def _padding(layer: Pad) -> list[Operation]:
    top, left, bottom, right = layer.padding
    return [partial(functional.pad, pad=(left, right, top, bottom))]


def _pooled(compiled: Compile, pool: Operation) -> list[Operation]:
    """The pooling alone, or after the first of other operations."""
    operations = compiled()
    return [*operations[:1], pool, *operations[1:]]


def _computing(net: PackedNetwork, task: int, index: int, plans: LayerPlans) -> list[Operation]:
    """Accumulate and finish: accumulate gives ``acc * factor + bias`` a channel."""
    layer, plan = net.layers[index], plans[index]
    requant = plan.facts.requantization
    factor, bias = _before_rounding(requant, plan)
    finish = _finish(requant, plan)
    if isinstance(layer, Weighted) and plan.parts:
        return [_in_parts(layer, factor, plan.parts, partial(plans.refuse, index, plan.kernel)), finish]
    if isinstance(layer, Weighted):
        weights = net.weights(task, index)

        def made(kernel: Kernel) -> Guarded:
            name = "float32" if kernel.carrier == "float32" else plan.kernel
            return Guarded(kernel, weights, factor, bias, partial(plans.refuse, index, name))

        kernel = Kernel(geometry(layer, weights), plan.kernel)
        if plan.kernel == "int8":
            largest = plan.facts.inputs[0].range[1] * arithmetic.magnitude(weights)
            return _in_int8(replace(kernel, wide=largest > PAIR_LIMIT), plan, finish, made)
        return [made(kernel), finish]
    dtype = DTYPES[plan.kernel]
    if isinstance(layer, Add):
        return [_add(plan.facts.left_shifts, factor, bias, dtype), finish]
    if isinstance(layer, AvgPool):
        return [_average(layer, factor, bias, dtype), finish]
    raise refused(layer, "the simulator")


@dataclass(frozen=True)
class _BySize:
    """A kernel for calls of many products, and one for those of few; ``macs`` are those of a sample."""

    large: Guarded
    small: Guarded | None
    macs: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self._kernel(len(inputs[0]))(*inputs)

    def settled(self, batch: int) -> Operation:
        return self._kernel(batch).settled(batch)

    def _kernel(self, batch: int) -> Guarded:
        return self.large if self.small is None or int8_pays(batch * self.macs) else self.small


def _in_int8(kernel: Kernel, plan: LayerPlan, finish: Operation, made: Callable[[Kernel], Guarded]) -> list[Operation]:
    """Accumulate and finish on an int8 kernel; in float32 where a call is too small for it to pay."""
    low, high = plan.facts.requantization.bounds
    small = None if "float32" in plan.refused else made(replace(kernel, carrier="float32", wide=False))
    if plan.requantization == "folded" and low == 0 and high <= 255:  # the kernel rounds and saturates
        kernel = replace(kernel, output=torch.uint8)
    large, macs = made(kernel), kernel.layer.macs(plan.facts.sources[0])

    return [
        _BySize(large, small, macs),
        lambda value: value.clamp_(max=high) if value.dtype == torch.uint8 else finish(value),
    ]


def _before_rounding(requant: Requantization, plan: LayerPlan) -> tuple[Floats, Floats]:
    """Factor and bias a channel that belong to the accumulation."""
    if plan.requantization == "folded":
        return np.ldexp(requant.multiplier, -requant.shift), np.ldexp(requant.offset, -requant.shift)
    if isinstance(plan.requantization, FloatRequantization):
        sign = np.sign(plan.requantization.multiplier)
        return sign.astype(np.float64), (sign * plan.requantization.bias).astype(np.float64)
    return np.sign(requant.multiplier).astype(np.float64), np.zeros(len(requant.offset))


def _in_parts(layer: Weighted, factor: Floats, parts: tuple[PartialSum, ...], refuse: Callable[[], None]) -> Operation:
    """Every part is exact in float32; their sum is exact in float64."""
    operations = [
        Guarded(Kernel(geometry(layer, part.weights), "float32"), part.weights, factor, None, refuse) for part in parts
    ]

    def run(x: Tensor) -> Tensor:
        high = torch.floor(x.to(torch.float32) / 256)
        planes = {None: x.to(torch.float32), 0: x - 256 * high, 1: high}
        terms = (
            operation(planes[part.byte][:, part.channels]) for part, operation in zip(parts, operations, strict=True)
        )
        total = next(terms).to(torch.float64).mul_(parts[0].factor)
        for part, term in zip(parts[1:], terms, strict=True):
            total.add_(term, alpha=part.factor)
        return total

    return run


def _add(left_shifts: tuple[int, ...], factor: Floats, bias: Floats, dtype: torch.dtype) -> Operation:
    """Both operands on the finer of their grids."""
    first, second, add = (
        torch.from_numpy(vector).to(dtype) for vector in (*(np.ldexp(factor, shift) for shift in left_shifts), bias)
    )
    return lambda a, b: (a.to(dtype) * first).add_(b.to(dtype) * second).add_(add)


def _average(layer: AvgPool, factor: Floats, bias: Floats, dtype: torch.dtype) -> Operation:
    scale, add = (torch.from_numpy(vector).to(dtype).reshape(1, -1, 1, 1) for vector in (factor, bias))

    def run(x: Tensor) -> Tensor:
        sums = functional.avg_pool2d(x.to(dtype), layer.kernel, layer.stride, divisor_override=1)
        return sums.mul_(scale).add_(add)

    return run


def _max_pool(x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    if x.dtype != torch.uint8:
        return functional.max_pool2d(x, kernel, stride)
    rows, columns = ((size - window) // step for size, window, step in zip(x.shape[2:], kernel, stride, strict=True))
    return reduce(  # torch has no maximum pooling of uint8
        torch.maximum,
        (
            x[:, :, i : i + rows * stride[0] + 1 : stride[0], j : j + columns * stride[1] + 1 : stride[1]]
            for i in range(kernel[0])
            for j in range(kernel[1])
        ),
    )


def _finish(requant: Requantization, plan: LayerPlan) -> Operation:
    """What is left of a requantization: accumulators to integers in float32, or int32 logits."""
    low, high = requant.bounds
    dtype = torch.int32 if requant.output is None else torch.float32
    rest = replace(requant, multiplier=np.abs(requant.multiplier))

    def saturate(value: Tensor) -> Tensor:
        return held_in(dtype, value.round_().clamp_(low, high))

    def in_float64(acc: Tensor) -> Tensor:
        multiplier, offset = (
            torch.from_numpy(np.ldexp(per_channel(vector, acc.ndim), -rest.shift))
            for vector in (rest.multiplier, rest.offset)
        )
        return saturate(torch.mul(acc, multiplier).add_(offset))

    def in_int64(acc: Tensor) -> Tensor:
        return torch.from_numpy(rest(acc.to(torch.int64).numpy())).to(dtype)

    if plan.requantization == "folded":
        return saturate
    if isinstance(plan.requantization, FloatRequantization):
        return _in_float32(plan.requantization, requant.shift, saturate)
    return in_int64 if plan.requantization == "int64" else in_float64


def _in_float32(found: FloatRequantization, shift: int, saturate: Operation) -> Operation:
    """One product a value: the bias is in the sum, and what float32 rounds is proven."""
    scale = np.ldexp(np.abs(found.multiplier).astype(np.float64), -shift).astype(np.float32)
    views = {rank: torch.from_numpy(scale.reshape(1, -1, *[1] * (rank - 2))) for rank in (2, 4)}
    return lambda acc: saturate(acc.mul_(views[acc.ndim]))
