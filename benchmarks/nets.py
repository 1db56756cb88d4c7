"""Random networks of realistic size for benchmarks: one task, 4-bit codes, activations that use their range."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.assembly import drawn_words, output_shape
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task

CODE_BITS = 4
WEIGHT_EXPONENT = -7


@dataclass(frozen=True)
class Numbers:
    """Widths of the numbers of a network, the density of its masks, and the seed of all that is drawn.

    ``multiplier_bits`` above 1 stand for batch norms: a multiplier of so many bits a channel.
    """

    act_bits: int = 8
    density: float = 0.5
    seed: int = 0
    centroid_bits: int = 8
    multiplier_bits: int = 1


def random_mlp(
    widths: tuple[int, ...],
    act_bits: int = 8,
    density: float = 0.5,
    seed: int = 0,
    centroid_bits: int = 8,
    multiplier_bits: int = 1,
) -> PackedNetwork:
    """A fully connected network; the last width is the number of classes."""
    layers = [Linear(f"fc{i}", a, b, (i - 1,)) for i, (a, b) in enumerate(itertools.pairwise(widths))]
    numbers = Numbers(act_bits, density, seed, centroid_bits, multiplier_bits)
    return _random_network((widths[0],), layers, frozenset(), numbers)


def random_alexnet(
    numbers: Numbers = Numbers(),
    side: int = 32,
    channels: tuple[int, int, int] = (64, 128, 256),
    hidden: tuple[int, int] = (2048, 2048),
) -> PackedNetwork:
    """The reduced AlexNet of the continual-learning literature (GPM, WSN): three convolutions, three linear layers."""
    layers: list[Layer] = []
    for i, (source, target, kernel) in enumerate(zip((3, *channels), channels, (4, 3, 2), strict=False)):
        layers.append(Conv2d(f"conv{i}", source, target, (kernel, kernel), inputs=(2 * i - 1,)))
        layers.append(MaxPool(f"pool{i}", (2, 2), (2, 2), (2 * i,)))
    layers.append(Flatten("flatten", (5,)))
    widths = (*output_shape((3, side, side), layers), *hidden, 10)
    layers += [Linear(f"fc{i}", a, b, (6 + i,)) for i, (a, b) in enumerate(itertools.pairwise(widths))]
    return _random_network((3, side, side), layers, frozenset(), numbers)


def random_resnet18(
    width: int = 20, side: int = 32, classes: int = 10, numbers: Numbers = Numbers(multiplier_bits=12)
) -> PackedNetwork:
    """The ResNet-18 of the continual-learning literature: a stem of 3 x 3, four stages of two basic blocks."""
    layers: list[Layer] = [Conv2d("stem", 3, width, (3, 3), padding=(1, 1), inputs=(INPUT,))]
    signed, channels = set(), width
    for block in range(8):
        target, stride = width << block // 2, 2 if block in (2, 4, 6) else 1
        source = skip = len(layers) - 1
        names = [f"block{block}.{part}" for part in ("conv1", "conv2", "skip", "add")]
        layers += [
            Conv2d(names[0], channels, target, (3, 3), (stride, stride), (1, 1), inputs=(source,)),
            Conv2d(names[1], target, target, (3, 3), padding=(1, 1), inputs=(source + 1,)),
        ]
        signed.add(names[1])
        if channels != target:
            layers.append(Conv2d(names[2], channels, target, (1, 1), (stride, stride), inputs=(source,)))
            signed.add(names[2])
            skip = len(layers) - 1
        layers.append(Add(names[3], (source + 2, skip)))
        channels = target
    last = side // 8
    layers.append(AvgPool("average", (last, last), (last, last), (len(layers) - 1,)))
    layers.append(Flatten("flatten", (len(layers) - 1,)))
    layers.append(Linear("fc", channels, classes, (len(layers) - 1,)))
    return _random_network((3, side, side), layers, frozenset(signed), numbers)


def random_ds_cnn(
    channels: int = 64, classes: int = 12, numbers: Numbers = Numbers(multiplier_bits=8)
) -> PackedNetwork:
    """The keyword spotting network of MLPerf Tiny: a convolution, four pairs of a depthwise one and one of 1 x 1."""
    shape = (1, 49, 10)
    layers: list[Layer] = [Conv2d("stem", 1, channels, (10, 4), (2, 2), (5, 1), inputs=(INPUT,))]
    for block in range(4):
        depthwise = Conv2d(f"depthwise{block}", channels, channels, (3, 3), padding=(1, 1), groups=channels)
        layers.append(replace(depthwise, inputs=(len(layers) - 1,)))
        layers.append(Conv2d(f"pointwise{block}", channels, channels, (1, 1), inputs=(len(layers) - 1,)))
    _, height, width = output_shape(shape, layers)
    layers.append(AvgPool("average", (height, width), (height, width), (len(layers) - 1,)))
    layers.append(Flatten("flatten", (len(layers) - 1,)))
    layers.append(Linear("fc", channels, classes, (len(layers) - 1,)))
    return _random_network(shape, layers, frozenset(), numbers)


def random_cnn(side: int = 10, channels: int = 4, hidden: int = 12, classes: int = 4) -> PackedNetwork:
    """A small network with a layer of every kind: convolutions, a skip, both poolings, linear layers."""
    layers: list[Layer] = [
        Conv2d("conv0", 2, channels, (3, 3), inputs=(INPUT,)),
        Conv2d("conv1", channels, channels, (3, 3), padding=(1, 1), inputs=(0,)),
        Add("add", (0, 1)),
        MaxPool("max", (2, 2), (2, 2), (2,)),
        AvgPool("average", (2, 2), (1, 1), (3,)),
        Flatten("flatten", (4,)),
    ]
    features = channels * ((side - 2) // 2 - 1) ** 2
    layers += [Linear("fc0", features, hidden, (5,)), Linear("fc1", hidden, classes, (6,))]
    return _random_network((2, side, side), layers, frozenset({"conv1"}), Numbers(multiplier_bits=8))


def random_inputs(net: PackedNetwork, count: int, seed: int = 0) -> np.ndarray:
    """Uniform integers of the input format, (count, *input_shape), in the smallest dtype that holds them."""
    low, high = net.input.range
    dtype = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
    return np.random.default_rng(seed).integers(low, high + 1, (count, *net.input_shape)).astype(dtype)


@dataclass(frozen=True)
class _Signal:
    """What flows out of a layer: its format, and the root mean square of its integers."""

    form: ActFormat
    spread: float


@dataclass(frozen=True)
class _Sums:
    """Accumulators before their requantization: exponent, root mean square, channels, and bits of multipliers."""

    exponent: int
    spread: float
    channels: int = 1
    multiplier_bits: int = 1


def _random_network(shape: Shape, layers: list[Layer], signed: frozenset[str], numbers: Numbers) -> PackedNetwork:
    """Fill layers with random words and choose every shift from the spread that its accumulators will have.

    ``signed`` names the layers without a ReLU.
    """
    rng = np.random.default_rng(numbers.seed)
    source = ActFormat(numbers.act_bits, signed=False, exponent=-numbers.act_bits)
    words: list[BankLayer | None] = []
    steps: list[Step | None] = []
    signals = {INPUT: _Signal(source, source.range[1] / math.sqrt(3))}  # uniform activations
    for index, layer in enumerate(layers):
        inputs = [signals[i] for i in layer.inputs]
        memory, requantization, signals[index] = None, None, inputs[0]
        if isinstance(layer, Weighted):
            memory = _words(rng, layer, numbers)
            made = _weighted(rng, layer, memory, inputs[0], (numbers, layer.name in signed, index == len(layers) - 1))
            requantization, signals[index] = made
        elif isinstance(layer, Add):
            finer = min(signal.form.exponent for signal in inputs)
            spread = math.hypot(*(signal.spread * 2 ** (signal.form.exponent - finer) for signal in inputs))
            requantization, signals[index] = _scaled(rng, _Sums(finer, spread), numbers.act_bits, False, False)
        elif isinstance(layer, AvgPool):
            shift = (math.prod(layer.kernel) - 1).bit_length()  # windows of 2**n elements
            requantization = Requantization(np.ones(1), np.zeros(1), shift, inputs[0].form)
        words.append(memory)
        steps.append(Step(None if memory is None else memory.owner != UNUSED, requantization))
    classes = tuple(f"class{i}" for i in range(layers[-1].channels))  # type: ignore[union-attr]
    task = Task("task0", 0, classes, tuple(steps))
    return PackedNetwork(shape, source, tuple(layers), (Bank(tuple(words)),), (task,))


def _words(rng: np.random.Generator, layer: Weighted, numbers: Numbers) -> BankLayer:
    limit = (1 << (numbers.centroid_bits - 1)) - 1
    codebook = np.linspace(-limit, limit, 1 << CODE_BITS).round().astype(np.int64)
    mask = rng.random(layer.weight_shape) < numbers.density
    return drawn_words(rng, layer.weight_shape, {0: mask}, [codebook], (numbers.centroid_bits, WEIGHT_EXPONENT))


def _weighted(
    rng: np.random.Generator, layer: Weighted, words: BankLayer, source: _Signal, kind: tuple[Numbers, bool, bool]
) -> tuple[Requantization, _Signal]:
    """The requantization of a layer with weights; ``kind``: its numbers, whether it is signed, and the head."""
    numbers, is_signed, is_head = kind
    codebook = words.codebooks[0]
    reach = math.sqrt(math.prod(layer.weight_shape[1:]) * numbers.density * float(np.mean(codebook**2)))
    bits = 1 if is_head else numbers.multiplier_bits
    sums = _Sums(source.form.exponent + WEIGHT_EXPONENT, source.spread * reach, layer.channels, bits)
    requantization, signal = _scaled(rng, sums, numbers.act_bits, is_signed, is_head)
    if bits > 1 and numbers.act_bits <= 8:  # as the learner does
        weights = np.where(words.owner == UNUSED, 0, codebook[words.code])
        requantization = _settled(requantization, weights, source.form)
    return requantization, signal


def _settled(requantization: Requantization, weights: Ints, source: ActFormat) -> Requantization:
    """Multipliers that float32 requantizes exactly."""
    output = requantization.output
    assert output is not None  # no head
    bounds = arithmetic.accumulator_bounds(weights, source.range)
    multiplier, offset = arithmetic.nearest_in_float32(
        requantization.multiplier, requantization.offset, requantization.shift, output.range, *bounds
    )
    return replace(requantization, multiplier=multiplier, offset=offset)


def _scaled(
    rng: np.random.Generator, sums: _Sums, act_bits: int, signed: bool, head: bool
) -> tuple[Requantization, _Signal]:
    """A requantization after which 2.5 sigma of the accumulators fill the output range."""
    multiplier = np.ones(sums.channels, np.int64)
    power = sums.multiplier_bits - 1
    if power:
        signs = [1, 1, 1, -1]
        multiplier = rng.integers(1 << (power - 1), 1 << power, sums.channels) * rng.choice(signs, sums.channels)
    largest = (1 << (act_bits - signed)) - 1
    shift = max(0, act_bits - 8) if head else max(0, round(math.log2(2.5 * sums.spread / largest)))
    offset = rng.normal(0, sums.spread / 4, sums.channels).round().astype(np.int64) << power
    form = ActFormat(act_bits, signed, sums.exponent + shift)
    spread = sums.spread / 2**shift / (1 if signed else math.sqrt(2))  # ReLU keeps half of the energy
    requantization = Requantization(
        multiplier, offset if sums.channels > 1 else offset * 0, shift + power * (not head), None if head else form
    )
    return requantization, _Signal(form, spread)
