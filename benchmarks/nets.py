"""Random networks of realistic size for benchmarks: one task, 4-bit codes, activations that use their range."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task

CODE_BITS = 4
WEIGHT_EXPONENT = -7


def random_mlp(
    widths: tuple[int, ...], act_bits: int = 8, density: float = 0.5, seed: int = 0, centroid_bits: int = 8
) -> PackedNetwork:
    """A fully connected network; the last width is the number of classes."""
    layers = [Linear(f"fc{i}", a, b, (i - 1,)) for i, (a, b) in enumerate(itertools.pairwise(widths))]
    return _random_network((widths[0],), layers, frozenset(), act_bits, density, seed, centroid_bits, 1)


def random_alexnet(
    side: int = 32,
    classes: int = 10,
    act_bits: int = 8,
    density: float = 0.5,
    seed: int = 0,
    centroid_bits: int = 8,
    multiplier_bits: int = 1,
    channels: tuple[int, int, int] = (64, 128, 256),
    hidden: tuple[int, int] = (2048, 2048),
) -> PackedNetwork:
    """The reduced AlexNet of the continual-learning literature (GPM, WSN): three convolutions, three linear layers.

    ``multiplier_bits`` above 1 stand for batch norms: a multiplier of so many bits a channel.
    """
    layers: list[Layer] = []
    shape: Shape = (3, side, side)
    for i, (source, target, kernel) in enumerate(zip((3, *channels), channels, (4, 3, 2), strict=False)):
        layers.append(Conv2d(f"conv{i}", source, target, (kernel, kernel), inputs=(2 * i - 1,)))
        layers.append(MaxPool(f"pool{i}", (2, 2), (2, 2), (2 * i,)))
        shape = layers[-1].output_shape(layers[-2].output_shape(shape))  # type: ignore[call-arg]
    layers.append(Flatten("flatten", (5,)))
    widths = (math.prod(shape), *hidden, classes)
    layers += [Linear(f"fc{i}", a, b, (6 + i,)) for i, (a, b) in enumerate(itertools.pairwise(widths))]
    return _random_network(
        (3, side, side), layers, frozenset(), act_bits, density, seed, centroid_bits, multiplier_bits
    )


def random_resnet18(
    width: int = 20, side: int = 32, classes: int = 10, density: float = 0.5, seed: int = 0, multiplier_bits: int = 12
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
    return _random_network((3, side, side), layers, frozenset(signed), 8, density, seed, 8, multiplier_bits)


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
    return _random_network((2, side, side), layers, frozenset({"conv1"}), 8, 0.5, 0, 8, 8)


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


def _random_network(
    shape: Shape,
    layers: list[Layer],
    signed: frozenset[str],
    act_bits: int,
    density: float,
    seed: int,
    centroid_bits: int,
    multiplier_bits: int,
) -> PackedNetwork:
    """Fill layers with random words and choose every shift from the spread that its accumulators will have.

    ``signed`` names the layers without a ReLU.
    """
    rng = np.random.default_rng(seed)
    source = ActFormat(act_bits, signed=False, exponent=-act_bits)
    limit = (1 << (centroid_bits - 1)) - 1
    codebook = np.linspace(-limit, limit, 1 << CODE_BITS).round().astype(np.int64)
    words: list[BankLayer | None] = []
    steps: list[Step | None] = []
    signals = {INPUT: _Signal(source, source.range[1] / math.sqrt(3))}  # uniform activations
    for index, layer in enumerate(layers):
        inputs = [signals[i] for i in layer.inputs]
        mask = None
        words.append(None)
        if isinstance(layer, Weighted):
            mask = rng.random(layer.weight_shape) < density
            code = np.where(mask, rng.integers(0, 1 << CODE_BITS, mask.shape), 0).astype(np.uint8)
            words[index] = BankLayer(np.where(mask, 0, UNUSED), code, (codebook,), centroid_bits, WEIGHT_EXPONENT)
            reach = math.sqrt(math.prod(layer.weight_shape[1:]) * density * float(np.mean(codebook**2)))
            head = index == len(layers) - 1
            bits = 1 if head else multiplier_bits
            requantization, signals[index] = _scaled(
                rng, inputs[0], reach, WEIGHT_EXPONENT, act_bits, layer.name in signed, head, layer.channels, bits
            )
            if bits > 1 and act_bits <= 8:  # as the learner does
                weights = np.where(mask, codebook[code], 0)
                requantization = _settled(requantization, weights, inputs[0].form)
        elif isinstance(layer, Add):
            finer = min(signal.form.exponent for signal in inputs)
            spread = math.hypot(*(signal.spread * 2 ** (signal.form.exponent - finer) for signal in inputs))
            total = _Signal(replace(source, exponent=finer), spread)
            requantization, signals[index] = _scaled(rng, total, 1, 0, act_bits, False, False)
        elif isinstance(layer, AvgPool):
            shift = (math.prod(layer.kernel) - 1).bit_length()  # windows of 2**n elements
            requantization = Requantization(np.ones(1), np.zeros(1), shift, inputs[0].form)
            signals[index] = inputs[0]
        else:
            requantization, signals[index] = None, inputs[0]
        steps.append(Step(mask, requantization))
    classes = tuple(f"class{i}" for i in range(layers[-1].channels))  # type: ignore[union-attr]
    task = Task("task0", 0, classes, tuple(steps))
    return PackedNetwork(shape, source, tuple(layers), (Bank(tuple(words)),), (task,))


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
    rng: np.random.Generator,
    source: _Signal,
    reach: float,
    exponent: int,
    act_bits: int,
    signed: bool,
    head: bool,
    channels: int = 1,
    multiplier_bits: int = 1,
) -> tuple[Requantization, _Signal]:
    """A requantization after which 2.5 sigma of the accumulators, ``reach`` times the source, fill the output range."""
    accumulator = source.spread * reach
    multiplier = np.ones(channels, np.int64)
    power = 0
    if multiplier_bits > 1:
        power = multiplier_bits - 1
        multiplier = rng.integers(1 << (power - 1), 1 << power, channels) * rng.choice([1, 1, 1, -1], channels)
    largest = (1 << (act_bits - signed)) - 1
    shift = max(0, act_bits - 8) if head else max(0, round(math.log2(2.5 * accumulator / largest)))
    offset = rng.normal(0, accumulator / 4, channels).round().astype(np.int64) << power
    form = ActFormat(act_bits, signed, source.form.exponent + exponent + shift)
    spread = accumulator / 2**shift / (1 if signed else math.sqrt(2))  # ReLU keeps half of the energy
    requantization = Requantization(
        multiplier, offset if channels > 1 else offset * 0, shift + power * (not head), None if head else form
    )
    return requantization, _Signal(form, spread)
