"""Random packed networks for tests: everything the core allows, small enough to run a thousand of them."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, Bools, PackedNetwork, Requantization, Step, Task

MASKS = ("random", "empty", "full", "same as an earlier task", "one weight")


@dataclass(frozen=True)
class Recipe:
    """What a random network is made of."""

    kind: str = "mlp"  # mlp, conv, residual, alexnet, or resnet (two blocks, the second with a strided skip)
    tasks: int = 2
    banks: int = 1
    code_bits: tuple[int, int] = (2, 4)
    centroid_bits: int = 8
    act_bits: int = 8
    signed_input: bool = False
    multipliers: bool = False
    extremes: bool = False  # also requantizations at the ends of what the core allows, see _extreme
    density: float = 0.4
    mask_kinds: tuple[str, ...] = ("random",)
    seed: int = 0
    widths: tuple[int, ...] = ()  # features of an mlp, from the input on; random where empty
    classes: int = 0  # rows of every head; 0: random


@st.composite
def recipes(draw: st.DrawFn, extremes: bool = True) -> Recipe:
    """Recipes over the whole space that the core promises to hold exactly; or without its ``extremes``."""
    low = draw(st.integers(1, 8))
    tasks = draw(st.integers(1, 12))
    return Recipe(
        kind=draw(st.sampled_from(["mlp", "conv", "residual"])),
        tasks=tasks,
        banks=draw(st.integers(1, min(3, tasks))),
        code_bits=(low, draw(st.integers(low, 8))),
        centroid_bits=draw(st.integers(4, 16)),
        act_bits=draw(st.sampled_from([4, 8, 16])),
        signed_input=draw(st.booleans()),
        multipliers=draw(st.booleans()),
        extremes=extremes and draw(st.booleans()),
        density=draw(st.sampled_from([0.05, 0.3, 0.9])),
        mask_kinds=tuple(draw(st.lists(st.sampled_from(MASKS), min_size=1, max_size=4))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def geometry(recipe: Recipe, rng: np.random.Generator) -> tuple[Shape, list[Layer], set[int]]:
    """Input shape, body layers, and the layers whose output is signed (no ReLU)."""

    def size(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    if recipe.kind == "mlp":
        widths = recipe.widths or [size(1, 40) for _ in range(size(2, 4))]
        mlp: list[Layer] = [Linear(f"fc{i}", a, b, (i - 1,)) for i, (a, b) in enumerate(itertools.pairwise(widths))]
        return (widths[0],), mlp, {i for i in range(len(mlp)) if rng.random() < 0.2}
    channels, side, groups = size(1, 3), size(7, 10), size(1, 2)
    width = 2 * size(1, 3)
    kernel, stride, padding = (size(1, 3), size(1, 3)), (size(1, 2), size(1, 2)), (size(0, 2), size(0, 1))
    first = Conv2d("conv0", channels, width, kernel, stride, padding, inputs=(INPUT,))
    layers: list[Layer] = [first]
    signed: set[int] = set()
    if recipe.kind == "residual":
        layers += [
            Conv2d("conv1", width, width, (3, 3), padding=(1, 1), groups=groups, inputs=(0,)),
            Add("add", (0, 1)),
            AvgPool("average", (2, 2), (1, 1), (2,)),
        ]
        signed = {1}
    elif recipe.kind == "alexnet":
        channels, side = 3, 20
        for i, (source, target, window) in enumerate([(3, 4, 4), (4, 8, 3), (8, 16, 2)]):
            layers[2 * i :] = [
                Conv2d(f"conv{i}", source, target, (window, window), inputs=(2 * i - 1,)),
                MaxPool(f"pool{i}", (2, 2), (2, 2), (2 * i,)),
            ]
    elif recipe.kind == "resnet":
        layers = [
            Conv2d("stem", channels, width, (3, 3), padding=(1, 1), inputs=(INPUT,)),
            Conv2d("block0.conv0", width, width, (3, 3), padding=(1, 1), inputs=(0,)),
            Conv2d("block0.conv1", width, width, (3, 3), padding=(1, 1), groups=groups, inputs=(1,)),
            Add("block0.add", (2, 0)),
            Conv2d("block1.conv0", width, 2 * width, (3, 3), (2, 2), (1, 1), inputs=(3,)),
            Conv2d("block1.conv1", 2 * width, 2 * width, (3, 3), padding=(1, 1), inputs=(4,)),
            Conv2d("block1.skip", width, 2 * width, (1, 1), (2, 2), inputs=(3,)),
            Add("block1.add", (5, 6)),
            AvgPool("average", (2, 2), (2, 2), (7,)),
        ]
        signed = {2, 5, 6}
    else:
        layers += [
            MaxPool("pool", (2, 2), (size(1, 2), size(1, 2)), (0,)),
            Conv2d("conv1", width, 4, (2, 2), padding=(1, 1), groups=groups, inputs=(1,)),
        ]
    layers.append(Flatten("flatten", (len(layers) - 1,)))
    shape: Shape = (channels, side, side)
    shapes: list[Shape] = []
    for layer in layers:
        shapes.append(layer.output_shape(*(shape if s == INPUT else shapes[s] for s in layer.inputs)))
    layers.append(Linear("fc", shapes[-1][0], size(1, 12), (len(layers) - 1,)))
    return shape, layers, signed


def random_network(recipe: Recipe) -> PackedNetwork:
    """A valid network of a recipe: tasks in several banks, shared weights, individual code widths, tight formats."""
    rng = np.random.default_rng(recipe.seed)
    shape, body, signed = geometry(recipe, rng)
    heads: list[Layer] = [
        Linear(f"head{t}", body[-1].channels, recipe.classes or int(rng.integers(1, 6)), (len(body) - 1,))  # type: ignore[union-attr]
        for t in range(recipe.tasks)
    ]
    layers = tuple(body + heads)
    bank_of = [t if t < recipe.banks else int(rng.integers(recipe.banks)) for t in range(recipe.tasks)]
    masks = {
        (t, i): _mask(recipe, rng, t, i, layer.weight_shape, bank_of)
        for t in range(recipe.tasks)
        for i, layer in enumerate(layers)
        if isinstance(layer, Weighted) and (i < len(body) or i == len(body) + t)
    }
    for t in range(recipe.tasks):  # an earlier task's mask can only be copied once it exists
        for i in range(len(body)):
            earlier = [s for s in range(t) if bank_of[s] == bank_of[t]]
            if (t, i) in masks and earlier and recipe.mask_kinds[(t + i) % len(recipe.mask_kinds)].startswith("same"):
                masks[t, i] = masks[earlier[-1], i]
    banks = tuple(_bank(recipe, rng, layers, masks, bank_of, b) for b in range(recipe.banks))
    tasks: list[Task] = []
    input_format = ActFormat(min(recipe.act_bits, 8), recipe.signed_input, -int(rng.integers(0, 9)))
    for t in range(recipe.tasks):
        steps: list[Step | None] = [None] * len(layers)
        for i in [*range(len(body)), len(body) + t]:
            blank = Requantization(np.ones(_channels(layers[i])), np.zeros(_channels(layers[i])), 0, None)
            steps[i] = Step(masks.get((t, i)), None if isinstance(layers[i], MaxPool | Flatten) else blank)
            if steps[i].requantization is not None:  # type: ignore[union-attr]
                steps[i] = _requantized(
                    recipe, rng, shape, input_format, layers, banks, bank_of, steps, t, i, i in signed
                )
        classes = tuple(f"c{c}" for c in range(_channels(layers[len(body) + t])))
        tasks.append(Task(f"task{t}", bank_of[t], classes, tuple(steps)))
    return PackedNetwork(shape, input_format, layers, banks, tuple(tasks))


def with_equal_codebooks(net: PackedNetwork) -> PackedNetwork:
    """The network with one codebook a layer of the body and bank: of all owners there, the longest."""

    def equal(words: BankLayer) -> BankLayer:
        longest = max(words.codebooks, key=len)
        return replace(words, codebooks=tuple(longest if len(book) else book for book in words.codebooks))

    banks = [
        Bank(tuple(equal(words) if words and i in net.body else words for i, words in enumerate(bank.layers)))
        for bank in net.banks
    ]
    return replace(net, banks=tuple(banks))


def adversarial_inputs(net: PackedNetwork, count: int, seed: int = 0) -> Ints:
    """Random integers of the input format, with rows of all-lowest, all-highest and alternating extremes."""
    low, high = net.input.range
    x = np.random.default_rng(seed).integers(low, high + 1, (count, *net.input_shape))
    flat = x.reshape(count, -1)
    extremes = [low, high, np.where(np.arange(flat.shape[1]) % 2, low, high), 0]
    for row, value in zip(flat, extremes, strict=False):
        row[:] = value
    return x


def _channels(layer: Layer) -> int:
    return layer.channels if isinstance(layer, Weighted) else 1


def _mask(recipe: Recipe, rng: np.random.Generator, t: int, i: int, shape: Shape, bank_of: list[int]) -> Bools:
    kind = recipe.mask_kinds[(t + i) % len(recipe.mask_kinds)]
    mask = np.zeros(shape, bool)
    if kind == "one weight":
        mask.flat[rng.integers(mask.size)] = True
    elif kind == "full":
        mask[:] = True
    elif kind != "empty":
        mask = rng.random(shape) < recipe.density
    return mask


def _bank(
    recipe: Recipe,
    rng: np.random.Generator,
    layers: tuple[Layer, ...],
    masks: dict[tuple[int, int], Bools],
    bank_of: list[int],
    bank: int,
) -> Bank:
    members = [t for t, b in enumerate(bank_of) if b == bank]
    words: list[BankLayer | None] = []
    low, high = -(1 << (recipe.centroid_bits - 1)), (1 << (recipe.centroid_bits - 1)) - 1
    for i, layer in enumerate(layers):
        if not isinstance(layer, Weighted) or not any((t, i) in masks for t in members):
            words.append(None)
            continue
        owner = np.full(layer.weight_shape, UNUSED, np.int16)
        code = np.zeros(layer.weight_shape, np.uint8)
        codebooks = []
        for prefix, t in enumerate(members):
            owned = masks.get((t, i), np.zeros(owner.shape, bool)) & (owner == UNUSED)
            entries = 1 << int(rng.integers(recipe.code_bits[0], recipe.code_bits[1] + 1))
            entries = min(entries, high - low + 1, int(rng.integers(1, entries + 1)) if rng.random() < 0.3 else entries)
            book = np.sort(rng.choice(np.arange(low, high + 1), entries, replace=False))
            if rng.random() < 0.3:
                book[[0, -1]] = low, high
            codebooks.append(book if owned.any() else book[:0])
            owner[owned] = prefix
            code[owned] = rng.integers(0, entries, int(owned.sum()))
        words.append(BankLayer(owner, code, tuple(codebooks), recipe.centroid_bits, int(rng.integers(-12, 1))))
    return Bank(tuple(words))


def _requantized(
    recipe: Recipe,
    rng: np.random.Generator,
    shape: Shape,
    input_format: ActFormat,
    layers: tuple[Layer, ...],
    banks: tuple[Bank, ...],
    bank_of: list[int],
    steps: list[Step | None],
    t: int,
    i: int,
    signed: bool,
) -> Step:
    """Choose multiplier, offset, shift and output format that put the outputs astride their whole range."""
    step = steps[i]
    assert step is not None
    # PackedNetwork.accumulator needs only the earlier steps: ask an unchecked network that holds just this task
    draft = object.__new__(PackedNetwork)
    draft_task = Task("draft", 0, (), tuple(steps))
    for name, value in (
        ("input_shape", shape),
        ("input", input_format),
        ("layers", layers),
        ("banks", (banks[bank_of[t]],)),
        ("tasks", (draft_task,)),
    ):
        object.__setattr__(draft, name, value)
    low, high = draft.accumulator(0, i)
    reach = max(1, int(np.abs(low).max()), int(np.abs(high).max()))
    channels = _channels(layers[i])
    head = i >= len(layers) - recipe.tasks
    if recipe.extremes and rng.random() < 0.5:
        output = None if head else ActFormat(recipe.act_bits, signed, int(rng.integers(-4, 3)))
        return Step(step.mask, _extreme(rng, low, high, channels, output))
    multiplier = np.ones(channels, np.int64)
    if recipe.multipliers and not head:
        multiplier = rng.integers(-(1 << 7), 1 << 15, channels)
        multiplier[multiplier == 0] = 3
    product = reach * int(np.abs(multiplier).max())
    if head:
        shift = max(0, product.bit_length() - 30)
        output = None
    else:
        output = ActFormat(recipe.act_bits, signed, int(rng.integers(-4, 3)))
        shift = int(np.clip(product.bit_length() - recipe.act_bits - int(rng.integers(0, 4)), 0, 40))
    offset = rng.integers(-(product // 4) - 1, product // 4 + 2, channels)
    half = 1 << shift >> 1
    offset[rng.random(channels) < 0.5] = half  # every other channel full of ties
    if recipe.seed % 2:  # as the learner makes them
        offset = offset // multiplier * multiplier
        offset[:] = 0 if isinstance(layers[i], Add) else offset
    return Step(step.mask, Requantization(multiplier, offset, shift, output))


def _extreme(
    rng: np.random.Generator, low: Ints, high: Ints, channels: int, output: ActFormat | None
) -> Requantization:
    """A requantization at an end: multipliers that are zero, negative or huge, shifts of 0 and 62, largest offsets.

    ``low``, ``high``: the accumulator, which decides how much room is left.
    """
    shift = int(rng.choice([0, 0, 1, 23, 31, 32, 62, rng.integers(63)]))
    most = 2**63 - 1 - (1 << shift >> 1)  # of |acc * multiplier| + |offset|
    if output is None:
        most = min(most, (2**31 << shift) - 1 - (1 << shift))
    multipliers = [0, 1, -1, 2**15 - 1, -(2**15), int(rng.integers(-(2**15), 2**15))]
    if rng.random() < 0.5:
        multipliers = [multipliers[int(rng.integers(len(multipliers)))]]  # the same in all channels
    chosen: list[tuple[int, int]] = []
    for acc in np.broadcast_to(np.maximum(np.abs(low), np.abs(high)), channels).tolist():
        multiplier = multipliers[int(rng.integers(len(multipliers)))]
        multiplier = multiplier if acc * abs(multiplier) <= most else int(acc <= most)
        room, unit = most - acc * abs(multiplier), 1 << shift
        # nothing, one, a tie, what a 32-bit register would take for something else, the ends, anything
        offsets = [0, 1, -1, unit >> 1, unit << 31, -unit << 31, 3 * unit << 30, -3 * unit << 30, room, -room]
        offsets.append(int(rng.integers(-room, room, endpoint=True)))
        offset = offsets[int(rng.integers(len(offsets)))]
        chosen.append((multiplier, max(-room, min(room, offset))))
    multiplier_of, offset_of = (np.array(values, np.int64) for values in zip(*chosen, strict=True))
    return Requantization(multiplier_of, offset_of, shift, output)
