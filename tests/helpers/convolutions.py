"""Random layers at the edges of what kernels of libraries were made for, each computed as the simulator does."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sim.borrowed import exact_floats
from sim.int8 import PAIR_LIMIT, available
from sim.proof import Guarded, Kernel, UnprovenError
from tsn_hw.core import arithmetic, reference
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import INPUT, Conv2d, Linear, Weighted

CARRIERS = ("int8", "float32", "float64", "int64")
LAYOUTS = ("contiguous", "channels last", "one of many", "transposed", "part of more channels")
BYTE = (0, 255)


@dataclass(frozen=True)
class Case:
    """A layer, the sizes and the layout of its input, and the carrier that is asked for first."""

    layer: Weighted
    source: tuple[int, ...]  # (batch, channels, height, width) or (batch, features)
    layout: str
    carrier: str
    bytes_in: bool  # activations come as uint8
    bytes_out: bool  # an int8 kernel rounds and saturates
    seed: int


def random_cases(seed: int, count: int) -> Iterator[Case]:
    """Convolutions, one in ten a linear layer: often one channel, outputs one pixel wide, strides above the kernel."""
    rng = np.random.default_rng(seed)
    while count:
        carrier = str(rng.choice(CARRIERS[not available() : 3]))
        batch = int(rng.choice([1, 2, 3, 5, 16, 17, 33]))
        how = carrier, bool(rng.random() < 0.5), bool(rng.random() < 0.5), int(rng.integers(2**32))
        if rng.random() < 0.1:
            layer: Weighted = Linear("", int(rng.integers(1, 300)), int(rng.integers(1, 70)))
            source: tuple[int, ...] = (layer.in_features,)
        else:
            layer = _convolution(rng, carrier)
            source = layer.in_channels, *(_side(rng, layer, axis) for axis in (0, 1))
            if min(source) < 1:
                continue
        yield Case(layer, (batch, *source), str(rng.choice(LAYOUTS)) if len(source) == 3 else LAYOUTS[0], *how)
        count -= 1


def _convolution(rng: np.random.Generator, carrier: str) -> Conv2d:
    groups = 1 if carrier == "int8" else int(rng.choice([1, 1, 1, 2, 5]))
    depth, width = (int(rng.choice([1, 1, 2, 3, 8, 16, 17])) for _ in range(2))
    kernel, stride, padding = (
        (int(rng.integers(low, high)), int(rng.integers(low, high))) for low, high in ((1, 5), (1, 6), (0, 3))
    )
    return Conv2d("", groups * depth, groups * width, kernel, stride, padding, groups, (INPUT,))


def _side(rng: np.random.Generator, layer: Conv2d, axis: int) -> int:
    """Pixels of the input along an axis, so that the output has one (often) or a few."""
    outputs = int(rng.choice([1, 1, 2, 3, 7]))
    smallest = layer.kernel[axis] + (outputs - 1) * layer.stride[axis] - 2 * layer.padding[axis]
    return smallest + int(rng.integers(0, layer.stride[axis]))


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same values (batch, channels, height, width) in other strides."""
    if layout == "channels last":
        return values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    if layout == "one of many" and values.shape[1] == 1:
        height, width = values.shape[2:]
        return values.as_strided(values.shape, (height * width, 1, width, 1))
    if layout == "transposed":
        return values.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "part of more channels":
        other = torch.full_like(values, float("nan") if values.is_floating_point() else 255)
        return torch.cat([other, values, other], dim=1)[:, values.shape[1] : 2 * values.shape[1]]
    return values


def soil() -> None:
    """Leave memory behind in which every float is NaN and every byte 255."""
    blocks = [torch.full((size,), 255, dtype=torch.uint8) for size in (64, 256, 1024, 4096, 2**14, 2**16) * 3]
    del blocks


def differing(case: Case, used: Counter[str]) -> int:
    """How many integers of a case differ from int64's; counts them, and the carrier that was used in the end."""
    rng = np.random.default_rng(case.seed)
    length = int(np.prod(case.layer.weight_shape[1:]))
    highest = 255 if case.bytes_in or case.carrier == "int8" else int(rng.choice([255, 2**12 - 1, 2**16 - 1]))
    sums = arithmetic.FLOAT64_EXACT if case.carrier == "float64" else arithmetic.FLOAT32_EXACT - 2**10
    bound = min(
        max(1, sums // (highest * length)), {"int8": PAIR_LIMIT // 255, "float32": 2**12}.get(case.carrier, 2**15)
    )
    lowest = 0 if case.bytes_in or case.carrier == "int8" else -highest
    x = rng.integers(lowest, highest + 1, case.source)
    x[rng.random(x.shape) < 0.2] = highest
    weights = rng.integers(-bound, bound + 1, case.layer.weight_shape)
    weights[rng.random(weights.shape) < 0.2] = bound
    offset = rng.integers(-1000, 1000, len(weights))
    values = torch.from_numpy(x).to(torch.uint8 if case.bytes_in else torch.float32)
    given = _computed(case, laid_out(values, case.layout) if values.ndim == 4 else values, weights, offset, used)
    expected = reference.sums(case.layer, x, weights) + arithmetic.per_channel(offset, x.ndim)
    if given.dtype == torch.uint8:
        expected = arithmetic.requantize(expected, np.array(1), np.array(0), 4, BYTE)
    used["integers"] += expected.size
    return int((given.numpy() != expected).sum())


def _computed(case: Case, x: Tensor, weights: Ints, offset: Ints, used: Counter[str]) -> Tensor:
    """The first carrier from the case's on whose kernel is right, as in a program."""
    for carrier in CARRIERS[CARRIERS.index(case.carrier) :]:
        output = torch.uint8 if carrier == "int8" and case.bytes_out else torch.float32
        shift = 4 * (output == torch.uint8)
        factor, bias = np.full(len(weights), 2.0**-shift), offset * 2.0**-shift
        if carrier == "int64":
            bias = np.zeros(len(weights))  # as planned: nothing is folded there
        compute = Guarded(Kernel(case.layer, carrier, output), weights, factor, bias, lambda: None)
        with exact_floats():
            soil()
            try:
                result = compute(x)
            except UnprovenError:
                continue
        used[f"{case.carrier} as {carrier}"] += 1
        return result + torch.from_numpy(arithmetic.per_channel(offset, x.ndim)) if carrier == "int64" else result
    raise AssertionError("int64 is never refused")
