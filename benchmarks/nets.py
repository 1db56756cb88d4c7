"""Random networks of realistic size for benchmarks: one task, 4-bit codes, activations that use their range."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tsn_hw.arithmetic import ActFormat
from tsn_hw.layers import Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted
from tsn_hw.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task

CODE_BITS = 4
WEIGHT_EXPONENT = -7


def random_mlp(
    widths: tuple[int, ...], act_bits: int = 8, density: float = 0.5, seed: int = 0, centroid_bits: int = 8
) -> PackedNetwork:
    """A fully connected network; the last width is the number of classes."""
    layers = [Linear(f"fc{i}", a, b, (i - 1,)) for i, (a, b) in enumerate(itertools.pairwise(widths))]
    return _random_network((widths[0],), tuple(layers), act_bits, density, seed, centroid_bits)


def random_alexnet(
    side: int = 32, classes: int = 10, act_bits: int = 8, density: float = 0.5, seed: int = 0, centroid_bits: int = 8
) -> PackedNetwork:
    """The reduced AlexNet of the continual-learning literature (GPM, WSN): three convolutions, three linear layers."""
    layers: list[Layer] = []
    shape: Shape = (3, side, side)
    for i, (source, target, kernel) in enumerate([(3, 64, 4), (64, 128, 3), (128, 256, 2)]):
        layers.append(Conv2d(f"conv{i}", source, target, (kernel, kernel), inputs=(2 * i - 1,)))
        layers.append(MaxPool(f"pool{i}", (2, 2), (2, 2), (2 * i,)))
        shape = layers[-1].output_shape(layers[-2].output_shape(shape))  # type: ignore[call-arg]
    layers.append(Flatten("flatten", (5,)))
    widths = (math.prod(shape), 2048, 2048, classes)
    layers += [Linear(f"fc{i}", a, b, (6 + i,)) for i, (a, b) in enumerate(itertools.pairwise(widths))]
    return _random_network((3, side, side), tuple(layers), act_bits, density, seed, centroid_bits)


def random_inputs(net: PackedNetwork, count: int, seed: int = 0) -> np.ndarray:
    """Uniform integers of the input format, (count, *input_shape), in the smallest dtype that holds them."""
    low, high = net.input.range
    dtype = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
    return np.random.default_rng(seed).integers(low, high + 1, (count, *net.input_shape)).astype(dtype)


def _random_network(
    shape: Shape, layers: tuple[Layer, ...], act_bits: int, density: float, seed: int, centroid_bits: int
) -> PackedNetwork:
    """Fill layers with random words and choose every shift from the spread that its accumulators will have."""
    rng = np.random.default_rng(seed)
    source = form = ActFormat(act_bits, signed=False, exponent=-act_bits)
    limit = (1 << (centroid_bits - 1)) - 1
    words: list[BankLayer | None] = []
    steps: list[Step | None] = []
    spread = form.range[1] / math.sqrt(3)  # root mean square of a uniform activation
    for index, layer in enumerate(layers):
        if not isinstance(layer, Weighted):
            words.append(None)
            steps.append(Step())
            continue
        mask = rng.random(layer.weight_shape) < density
        code = np.where(mask, rng.integers(0, 1 << CODE_BITS, mask.shape), 0).astype(np.uint8)
        codebook = np.linspace(-limit, limit, 1 << CODE_BITS).round().astype(np.int64)
        owner = np.where(mask, 0, UNUSED).astype(np.int16)
        words.append(BankLayer(owner, code, (codebook,), centroid_bits, WEIGHT_EXPONENT))
        accumulator = spread * math.sqrt(math.prod(layer.weight_shape[1:]) * density * float(np.mean(codebook**2)))
        head = index == len(layers) - 1
        shift = (
            max(0, act_bits - 8) if head else max(0, round(math.log2(2.5 * accumulator / form.range[1])))
        )  # 2.5 sigma
        offset = rng.normal(0, accumulator / 4, layer.channels).round().astype(np.int64)
        ones = np.ones(layer.channels, np.int64)
        form = ActFormat(act_bits, signed=False, exponent=form.exponent + WEIGHT_EXPONENT + shift)
        steps.append(Step(mask, Requantization(ones, offset, shift, None if head else form)))
        spread = accumulator / 2**shift / math.sqrt(2)  # ReLU keeps half of the energy
    classes = tuple(f"class{i}" for i in range(layers[-1].channels))  # type: ignore[union-attr]
    task = Task("task0", 0, classes, tuple(steps))
    return PackedNetwork(shape, source, layers, (Bank(tuple(words)),), (task,))
