"""Kernels of libraries, each tried against int64 before it computes with what it will be used for.

Which code a library runs depends on geometry, number type, sizes, strides, batch and threads, and some of that code is
wrong where nobody looked: oneDNN's convolutions on AVX-512, for one input channel and an output one pixel wide. So a
kernel answers known sums in exactly that case, once a process, in memory that holds what is no number.

All outputs are compared, though not one by one: their sum over the channels, each weighed by a random integer, is what
one output channel gives whose weights are the same sum, and that costs int64 little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sim.borrowed import exact_floats
from sim.int8 import PAIR_LIMIT, PRODUCT_LIMIT, available, int8_kernel
from tsn_hw.core import arithmetic, reference
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import INPUT, Conv2d, Linear, Weighted

Operation = Callable[..., Tensor]
Floats = NDArray[np.float64]
Weights = NDArray[np.signedinteger[Any]]

DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}
SAMPLES, ROWS = 5, 61
"""Different inputs of a batch, and different rows of weights: more of them repeat, in steps that no block divides."""
MARGIN = 1024
"""Elements before and after a batch in memory."""


class UnprovenError(Exception):
    """A kernel is not right in a case; it was refused, so whoever asks again gets another."""


@dataclass(frozen=True)
class Kernel:
    """What a library can know of a layer before it sees an input; name and inputs of the layer are blank.

    wide: of int8, whether two products may exceed 16 bits (a register of processors without VNNI)
    """

    layer: Weighted
    carrier: str
    output: torch.dtype = torch.float32
    wide: bool = False

    def make(self, weights: Weights, factor: Floats, bias: Floats | None) -> Operation:
        """x -> layer(x) * factor + bias a channel, all of which the carrier must hold exactly; in int64 bias is 0."""
        weights = np.ascontiguousarray(weights)  # parts are slices, and strides of weights choose kernels, too
        if self.carrier == "int8":
            assert bias is not None
            return int8_kernel(self.layer, weights, factor, bias, self.output)
        add = None if bias is None else torch.from_numpy(bias).to(DTYPES[self.carrier])
        if self.carrier == "int64":
            whole = weights * factor.astype(np.int64).reshape(-1, *[1] * (weights.ndim - 1))
            return lambda x: torch.from_numpy(reference.sums(self.layer, x.numpy().astype(np.int64), whole))
        kernel, operation = _scaled(weights, factor, DTYPES[self.carrier]), _operation(self.layer)
        return lambda x: operation(held_in(kernel.dtype, x), kernel, add)


def held_in(dtype: torch.dtype, x: Tensor) -> Tensor:
    """x in a type; to ask torch costs a tenth of a small layer even where nothing is to be done."""
    return x if x.dtype == dtype else x.to(dtype)


def geometry(layer: Weighted, weights: Ints) -> Weighted:
    """A layer over as many input channels as the weights have, and nameless."""
    if isinstance(layer, Linear):
        return replace(layer, name="", inputs=(INPUT,), in_features=weights.shape[1])
    return replace(layer, name="", inputs=(INPUT,), in_channels=weights.shape[1] * layer.groups)


@runtime_checkable
class Settling(Protocol):
    """An operation that asks something in every call, and needs not where it has been asked."""

    def __call__(self, *inputs: Tensor) -> Tensor: ...

    def settled(self, batch: int) -> Operation:
        """What it does, unasked, in calls of this batch size of a case in which it was called before."""


class Guarded:
    """What a kernel makes, tried before it meets a new case. Where it is not right: ``refuse()``, UnprovenError."""

    def __init__(
        self, kernel: Kernel, weights: Weights, factor: Floats, bias: Floats | None, refuse: Callable[[], None]
    ) -> None:
        self._kernel, self._biased, self._refuse = kernel, bias is not None, refuse
        self._made, self._tried = cache(partial(kernel.make, weights, factor, bias)), set[Hashable]()

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if self._kernel.carrier != "int64":  # nothing that a library chooses
            x = self._restrided(x)
            case = case_of(x)
            if case not in self._tried:
                if not _proven(self._kernel, x, self._biased, case):
                    self._refuse()
                    raise UnprovenError
                self._tried.add(case)
        return self._made()(x)

    def settled(self, batch: int) -> Operation:
        """What the kernel makes, without a question."""
        made = self._made()
        return made if isinstance(self._kernel.layer, Linear) else lambda x: made(self._restrided(x))

    def _restrided(self, x: Tensor) -> Tensor:
        """Of all strides that one channel may have, those of a contiguous tensor."""
        return x.squeeze(1).unsqueeze(1) if x.ndim == 4 and x.shape[1] == 1 else x


def case_of(x: Tensor) -> Hashable:
    """All besides the kernel that may decide which code of a library runs."""
    return x.dtype, x.shape, x.stride(), torch.get_num_threads(), torch.backends.mkldnn.enabled


@cache
def int8_product_limit() -> int:
    """The largest activation * weight for which int8 kernels can be exact on this processor; 0 where there are none."""
    if not available():
        return 0
    kernel, x = Kernel(Linear("", 256, 64), "int8", wide=True), torch.zeros((8, 256), dtype=torch.uint8)
    with exact_floats():
        return PRODUCT_LIMIT if _answers(kernel, x, True) else PAIR_LIMIT


_LARGEST = {
    "int8": (255, 127, arithmetic.FLOAT32_EXACT),
    "float32": (1023, 1023, arithmetic.FLOAT32_EXACT),
    "float64": (2**16 - 1, 2**15 - 1, arithmetic.FLOAT64_EXACT),
}
"""Activation, weight and sum of a test; lower precisions than float32 would cut the first two."""

_ANSWERS: dict[Hashable, bool] = {}


def _proven(kernel: Kernel, x: Tensor, biased: bool, case: Hashable) -> bool:
    """Whether the kernel is right for inputs like x, by test; asked once a process."""
    key = kernel, biased, case
    if key not in _ANSWERS:
        _ANSWERS[key] = not len(x) or _answers(kernel, x, biased)
    return _ANSWERS[key]


def _answers(kernel: Kernel, x: Tensor, biased: bool) -> bool:
    """Whether the kernel gives the integers of the contract, times powers of two, and rounds them as it says."""
    rng = np.random.default_rng(0)
    channel = np.arange(kernel.layer.channels)
    highest = 255 if x.dtype == torch.uint8 else _LARGEST[kernel.carrier][0]
    rows, samples = _rows(rng, kernel, highest), _samples(rng, kernel, x, highest)
    shift = channel * 5 % 13 * (kernel.carrier == "int8")
    sign = np.where(channel % 4 == 3, -1, 1)
    offset = (((channel * 37 % 256 * 2 + 1) << shift) >> 1) * biased  # where no input adds to them, these are ties
    bias = np.ldexp(offset, -shift) if biased else None
    parameters = rows[channel % len(rows)], np.ldexp(sign, -shift), bias
    run = replace(kernel, output=torch.float32).make(*parameters)
    run_rounded = kernel.make(*parameters) if kernel.output == torch.uint8 else None
    weighing = rng.integers(1, 2**15, len(channel))
    expected = _weighed_sums(kernel.layer, samples, rows, weighing * sign, weighing * offset)
    for numbers, batch in _batches(kernel, x, samples):
        result = run(batch)
        if not _is_right(result, expected[numbers[:SAMPLES]], shift, weighing):
            return False
        if run_rounded and not torch.equal(run_rounded(batch), result.round_().clamp_(0, 255).to(torch.uint8)):
            return False
    return True


def _is_right(result: Tensor, expected: Ints, shift: Ints, weighing: Ints) -> bool:
    """Whether a batch holds integers over 2**shift that add up, weighed, over the channels of a group as expected."""
    if not torch.equal(result[SAMPLES:], result[:-SAMPLES]):
        return False
    scaled = result[:SAMPLES] * torch.from_numpy(arithmetic.per_channel(2**shift, result.ndim))
    integers = scaled.to(torch.int64)
    weighed = integers.numpy() * arithmetic.per_channel(weighing, result.ndim)
    total = weighed.reshape(*expected.shape[:2], -1, *result.shape[2:]).sum(axis=2)
    return torch.equal(integers.to(scaled.dtype), scaled) and np.array_equal(total, expected)  # no fraction, no NaN


def _rows(rng: np.random.Generator, kernel: Kernel, highest: int) -> NDArray[np.int16]:
    """(rows, in, ...): weights of every magnitude that the carrier allows for activations up to ``highest``.

    Each row spreads small weights over its inputs, and has a run of the largest ones over neighbouring channels.
    """
    shape = kernel.layer.weight_shape[1:]
    length, count = math.prod(shape), min(ROWS, kernel.layer.channels)
    _, largest, exact = _LARGEST[kernel.carrier]
    if kernel.carrier == "int8" and not kernel.wide:
        largest = PAIR_LIMIT // highest
    share = (exact - 2**20) // highest // 2  # 2**20: the largest offset
    rows = np.zeros((count, length), np.int16)
    small = min(largest, max(1, share // length))
    for magnitude, run in ((small, False), (largest, True)):
        size = min(length, share // magnitude)
        values = rng.integers(-magnitude, magnitude + 1, (count, size))
        if run:
            values[0::3], values[1::3] = magnitude, -magnitude
        where = (rng.integers(0, length, (count, 1)) + np.arange(size)) % length
        np.put_along_axis(rows, where, values, axis=1)
    if len(shape) == 1:
        return rows
    return np.moveaxis(rows.reshape(count, *shape[1:], shape[0]), -1, 1)


def _samples(rng: np.random.Generator, kernel: Kernel, x: Tensor, highest: int) -> Ints:
    """(SAMPLES, in, ...): all highest, random, nothing, extremes, random."""
    lowest = 0 if x.dtype == torch.uint8 or kernel.carrier == "int8" else -highest
    samples = rng.integers(lowest, highest + 1, (SAMPLES, *x.shape[1:]))
    samples[0], samples[2] = highest, 0
    samples[3] = np.where(samples[3] * 2 < lowest + highest, lowest, highest)
    return samples


def _batches(kernel: Kernel, x: Tensor, samples: Ints) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Numbers of samples, and a batch of them in type, shape and strides of x; all memory around it is no number.

    There are two at least: what a kernel reads by chance may be right by chance.
    """
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    sources = torch.from_numpy(samples).to(x.dtype)
    outputs = 4 * len(x) * math.prod(kernel.layer.output_shape(tuple(x.shape[1:])))
    for start in range(0, max(SAMPLES, len(x) + 1), len(x)):
        numbers = (start + np.arange(len(x))) % SAMPLES
        batch = _no_numbers((span + 2 * MARGIN) * x.element_size()).view(x.dtype)
        batch = batch.as_strided(x.shape, x.stride(), MARGIN)
        batch.copy_(sources[torch.from_numpy(numbers)])
        freed = [_no_numbers(size) for size in (outputs, outputs, x.nbytes, 2**12, 2**16)]
        del freed
        yield numbers, batch


def _no_numbers(size: int) -> Tensor:
    """Bytes of which every float is NaN and every byte 255."""
    return torch.full((size,), 255, dtype=torch.uint8)


def _weighed_sums(layer: Weighted, samples: Ints, rows: NDArray[np.int16], factor: Ints, offset: Ints) -> Ints:
    """(samples, groups, ...): what the layer with these rows gives, times a factor a channel, plus offsets, added up.

    What leaves 64 bits does so on both sides of the comparison alike.
    """
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    channel = np.arange(layer.channels)
    uses = np.zeros((groups, len(rows)), np.int64)
    np.add.at(uses, (channel * groups // len(channel), channel % len(rows)), factor)
    joined = np.tensordot(uses, rows, 1)
    one = replace(layer, out_features=1) if isinstance(layer, Linear) else replace(layer, out_channels=groups)
    total = reference.sums(one, samples, joined)
    return total + arithmetic.per_channel(offset.reshape(groups, -1).sum(axis=1), total.ndim)


def _scaled(weights: Weights, factor: Floats, dtype: torch.dtype) -> Tensor:
    """Weights times the factor of their output channel (exact by the plan), in the layout of the fastest kernel."""
    kernel = torch.from_numpy(weights).to(dtype, copy=True)
    kernel.mul_(torch.from_numpy(factor).to(dtype).reshape(-1, *[1] * (weights.ndim - 1)))
    if kernel.ndim == 4 and dtype == torch.float32:
        return kernel.contiguous(memory_format=torch.channels_last)
    return kernel


def _operation(layer: Weighted) -> Operation:
    if isinstance(layer, Linear):
        return functional.linear
    window = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    return partial(functional.conv2d, groups=layer.groups, **window)
