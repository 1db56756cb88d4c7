"""Exact integer arithmetic on torch's CPU kernels: executes the plans of :mod:`sim.plan`.

Between layers integers travel in float32 tensors (uint8 after an int8 kernel): both hold every format exactly.
A computing layer is two operations, *accumulate* and *finish*. Where the plan folds the requantization, multiplier,
offset and 2**-shift are part of the first, else only the sign of the multiplier is. So the second never decreases
in its argument, and a maximum pooling may stand between them and spare the rounding of what it drops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sim.int8 import int8_kernel
from sim.plan import LayerPlan, Part
from tsn_hw.arithmetic import Ints, per_channel
from tsn_hw.layers import INPUT, Add, AvgPool, Flatten, Linear, MaxPool, Pair, Weighted
from tsn_hw.network import PackedNetwork, Requantization

Operation = Callable[..., Tensor]
Floats = NDArray[np.float64]

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}


@contextmanager
def exact_floats() -> Iterator[None]:
    """Float kernels that compute what IEEE 754 says, whatever torch is set to; the settings come back at the end.

    NNPACK's convolution is wrong far below 2**24; bfloat16, TF32 and autocast drop bits of the operands.
    The settings are global to torch: other threads see them meanwhile.
    """
    backends: Any = torch.backends  # attributes that torch makes at run time
    precisions = (backends.mkldnn.matmul, backends.mkldnn.conv)
    lowered = [(each, each.fp32_precision) for each in precisions if each.fp32_precision not in ("none", "ieee")]
    autocast = torch.is_autocast_enabled("cpu")
    (nnpack,) = backends.nnpack.set_flags(False)
    try:
        torch.set_autocast_enabled("cpu", False)
        for each, _ in lowered:
            each.fp32_precision = "ieee"
        with torch.inference_mode():
            yield
    finally:
        backends.nnpack.set_flags(nnpack)
        torch.set_autocast_enabled("cpu", autocast)
        for each, precision in lowered:
            each.fp32_precision = precision


@dataclass(frozen=True)
class Stage:
    """``values[output] = run(*values[inputs])``; after it, nothing reads the values of ``release`` again."""

    output: int
    inputs: tuple[int, ...]
    run: Operation
    release: frozenset[int]


@dataclass(frozen=True)
class Program:
    """The stages of one task in execution order."""

    stages: tuple[Stage, ...]

    def __call__(self, x: NDArray[np.integer], keep: Collection[int]) -> dict[int, NDArray[np.int32]]:
        """Layer index -> integers, of the layers to keep, for a batch of input integers."""
        kept: dict[int, NDArray[np.int32]] = {}
        with exact_floats():
            values = {INPUT: input_tensor(x)}
            for stage in self.stages:
                result = values[stage.output] = stage.run(*(values[source] for source in stage.inputs))
                if stage.output in keep:
                    kept[stage.output] = result.to(torch.int32).numpy()
                for source in stage.release:
                    del values[source]
        return kept


def input_tensor(x: NDArray[np.integer]) -> Tensor:
    """A batch of input integers as the first layer takes them."""
    return torch.from_numpy(x.astype(np.uint8 if x.dtype == np.uint8 else np.float32))


def compile_program(net: PackedNetwork, task: int, plans: dict[int, LayerPlan], fuse: bool) -> Program:
    """The program of a task; ``fuse`` pools maxima before the requantization where nothing else reads the layer."""
    layers = {index: layer for index, layer, _ in net.run_order(task)}
    readers = Counter(source for layer in layers.values() for source in layer.inputs)
    stages: dict[int, tuple[tuple[int, ...], list[Operation]]] = {}
    for index, layer in layers.items():
        if isinstance(layer, Flatten):
            stages[index] = layer.inputs, [partial(torch.flatten, start_dim=1)]
        elif isinstance(layer, MaxPool):
            pool, source = partial(_max_pool, kernel=layer.kernel, stride=layer.stride), layer.inputs[0]
            if fuse and source in plans and readers[source] == 1:
                inputs, (accumulate, *finish) = stages.pop(source)
                stages[index] = inputs, [accumulate, pool, *finish]
            else:
                stages[index] = layer.inputs, [pool]
        else:
            stages[index] = layer.inputs, _computing(net, task, index, plans[index])
    last_reader = {source: index for index, (inputs, _) in stages.items() for source in inputs}
    return Program(
        tuple(
            Stage(index, inputs, _chain(run), frozenset(s for s in inputs if last_reader[s] == index))
            for index, (inputs, run) in stages.items()
        )
    )


def _chain(operations: list[Operation]) -> Operation:
    first, *rest = operations

    def run(*inputs: Tensor) -> Tensor:
        return reduce(lambda value, operation: operation(value), rest, first(*inputs))

    return run


def _computing(net: PackedNetwork, task: int, index: int, plan: LayerPlan) -> list[Operation]:
    """Accumulate and finish: accumulate gives ``acc * factor + bias`` a channel."""
    layer, requant = net.layers[index], net.step(task, index).requantization
    assert requant is not None  # checked at birth: a computing layer has one
    factor, bias = _before_rounding(requant, plan)
    finish = _finish(requant, plan)
    if isinstance(layer, Weighted) and plan.kernel == "int8":
        low, high = requant.bounds
        saturates = plan.folded and low == 0 and high <= 255
        dtype = torch.uint8 if saturates else torch.float32
        return [
            int8_kernel(layer, net.weights(task, index), factor, bias, dtype),
            partial(torch.clamp_, max=high) if saturates else finish,
        ]
    if isinstance(layer, Weighted) and plan.parts:
        return [_in_parts(layer, factor, plan.parts), finish]
    dtype = _DTYPES[plan.kernel]
    if isinstance(layer, Weighted):
        return [_weighted(layer, net.weights(task, index), factor, bias, dtype), finish]
    if isinstance(layer, Add):
        exponents = [net.format(task, source).exponent for source in layer.inputs]
        return [_add(exponents, factor, bias, dtype), finish]
    assert isinstance(layer, AvgPool)  # the other kinds compute nothing
    return [_average(layer, factor, bias, dtype), finish]


def _before_rounding(requant: Requantization, plan: LayerPlan) -> tuple[Floats, Floats]:
    """Factor and bias a channel that belong to the accumulation."""
    if plan.folded:
        return np.ldexp(requant.multiplier, -requant.shift), np.ldexp(requant.offset, -requant.shift)
    return np.sign(requant.multiplier).astype(np.float64), np.zeros(len(requant.offset))


def _weighted(layer: Weighted, weights: Ints, factor: Floats, bias: Floats, dtype: torch.dtype) -> Operation:
    kernel, operation = _scaled(weights, factor, dtype), _operation(layer)
    add = torch.from_numpy(bias).to(dtype)
    return lambda x: operation(x.to(dtype), kernel, add)


def _in_parts(layer: Weighted, factor: Floats, parts: tuple[Part, ...]) -> Operation:
    """Every part is exact in float32; their sum is exact in float64."""
    kernels, operation = [_scaled(part.weights, factor, torch.float32) for part in parts], _operation(layer)

    def run(x: Tensor) -> Tensor:
        high = torch.floor(x.to(torch.float32) / 256)
        planes = {None: x.to(torch.float32), 0: x - 256 * high, 1: high}
        total: Tensor | None = None
        for part, kernel in zip(parts, kernels, strict=True):
            term = operation(planes[part.byte][:, part.channels], kernel, None)
            total = term.to(torch.float64).mul_(part.factor) if total is None else total.add_(term, alpha=part.factor)
        assert total is not None
        return total

    return run


def _add(exponents: list[int], factor: Floats, bias: Floats, dtype: torch.dtype) -> Operation:
    """Both operands on the finer of their grids."""
    first, second, add = (
        torch.from_numpy(vector).to(dtype)
        for vector in (*(factor * 2.0 ** (exponent - min(exponents)) for exponent in exponents), bias)
    )
    return lambda a, b: (a.to(dtype) * first).add_(b.to(dtype) * second).add_(add)


def _average(layer: AvgPool, factor: Floats, bias: Floats, dtype: torch.dtype) -> Operation:
    scale, add = (torch.from_numpy(vector).to(dtype) for vector in (factor, bias))

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


def _scaled(weights: Ints, factor: Floats, dtype: torch.dtype) -> Tensor:
    """Weights times the factor of their output channel (exact by the plan), in the layout of the fastest kernel."""
    kernel = torch.from_numpy(weights * factor.reshape(-1, *[1] * (weights.ndim - 1))).to(dtype)
    if kernel.ndim == 4 and dtype == torch.float32:
        return kernel.contiguous(memory_format=torch.channels_last)
    return kernel


def _operation(layer: Weighted) -> Operation:
    if isinstance(layer, Linear):
        return functional.linear
    return partial(functional.conv2d, stride=layer.stride, padding=layer.padding, groups=layer.groups)


def _finish(requant: Requantization, plan: LayerPlan) -> Operation:
    """What is left of a requantization: accumulators to integers in float32, or int32 logits."""
    low, high = requant.bounds
    dtype = torch.int32 if requant.output is None else torch.float32
    rest = replace(requant, multiplier=np.abs(requant.multiplier))

    def saturate(value: Tensor) -> Tensor:
        return value.round_().clamp_(low, high).to(dtype)

    def in_float64(acc: Tensor) -> Tensor:
        multiplier, offset = (
            torch.from_numpy(np.ldexp(per_channel(vector, acc.ndim), -rest.shift))
            for vector in (rest.multiplier, rest.offset)
        )
        return saturate(torch.mul(acc, multiplier).add_(offset))

    def in_int64(acc: Tensor) -> Tensor:
        return torch.from_numpy(rest(acc.to(torch.int64).numpy())).to(dtype)

    if plan.folded:
        return saturate
    return in_int64 if plan.requantization == "int64" else in_float64
