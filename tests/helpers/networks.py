"""Random packed networks for tests: everything the core allows, small enough to run a thousand of them."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.assembly import Outline, output_shape, owners
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Pad, Shape, Weighted
from tsn_hw.core.network import Bank, BankLayer, Bools, PackedNetwork, Requantization, Step, Task

MASKS = ("random", "empty", "full", "same as an earlier task", "one weight")


@dataclass(frozen=True)
class Recipe:
    """What a random network is made of."""

    kind: str = "mlp"  # mlp, conv, residual, alexnet, depthwise, or resnet (two blocks, the second with a strided skip)
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


Geometry = tuple[Shape, list[Layer], set[int]]
"""Input shape, body layers, and the layers whose output is signed (no ReLU)."""


def geometry(recipe: Recipe, rng: np.random.Generator) -> Geometry:
    """The body of a recipe; behind convolutions stand a Flatten and a Linear."""

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
    signed: set[int] = set()
    if recipe.kind == "residual":
        layers, signed = _residual(first, groups), {1}
    elif recipe.kind == "alexnet":
        channels, side = 3, 20
        layers = _alexnet()
    elif recipe.kind == "depthwise":
        layers = _depthwise(channels, width)
    elif recipe.kind == "resnet":
        layers, signed = _resnet(channels, width, groups), {2, 5, 6}
    else:
        pool = MaxPool("pool", (2, 2), (size(1, 2), size(1, 2)), (0,))
        layers = [first, pool, Conv2d("conv1", width, 4, (2, 2), padding=(1, 1), groups=groups, inputs=(1,))]
    layers.append(Flatten("flatten", (len(layers) - 1,)))
    shape: Shape = (channels, side, side)
    layers.append(Linear("fc", *output_shape(shape, layers), size(1, 12), (len(layers) - 1,)))
    return shape, layers, signed


def _residual(first: Conv2d, groups: int) -> list[Layer]:
    width = first.out_channels
    return [
        first,
        Conv2d("conv1", width, width, (3, 3), padding=(1, 1), groups=groups, inputs=(0,)),
        Add("add", (0, 1)),
        AvgPool("average", (2, 2), (1, 1), (2,)),
    ]


def _alexnet() -> list[Layer]:
    layers: list[Layer] = []
    for i, (source, target, window) in enumerate([(3, 4, 4), (4, 8, 3), (8, 16, 2)]):
        layers.append(Conv2d(f"conv{i}", source, target, (window, window), inputs=(2 * i - 1,)))
        layers.append(MaxPool(f"pool{i}", (2, 2), (2, 2), (2 * i,)))
    return layers


def _depthwise(channels: int, width: int) -> list[Layer]:
    return [
        Conv2d("stem", channels, width, (3, 3), (2, 2), (1, 1), inputs=(INPUT,)),
        Conv2d("depthwise", width, 2 * width, (3, 3), padding=(1, 1), groups=width, inputs=(0,)),
        Conv2d("pointwise", 2 * width, width, (1, 1), inputs=(1,)),
        Conv2d("strided", width, width, (3, 2), (2, 1), (1, 1), groups=width, inputs=(2,)),
        AvgPool("average", (2, 2), (2, 2), (3,)),
    ]


def _resnet(channels: int, width: int, groups: int) -> list[Layer]:
    return [
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


def random_network(recipe: Recipe) -> PackedNetwork:
    """A valid network of a recipe: tasks in several banks, shared weights, individual code widths, tight formats."""
    rng = np.random.default_rng(recipe.seed)
    shape, body, signed = geometry(recipe, rng)
    (features,), last = output_shape(shape, body), (len(body) - 1,)
    heads = tuple(
        Linear(f"head{t}", features, recipe.classes or int(rng.integers(1, 6)), last) for t in range(recipe.tasks)
    )
    bank_of = [t if t < recipe.banks else int(rng.integers(recipe.banks)) for t in range(recipe.tasks)]
    outline = Outline(tuple(body), heads, tuple(bank_of))
    masks = _masks(recipe, rng, outline)

    def words(bank: int, index: int, layer: Weighted) -> BankLayer:
        members = enumerate(outline.members(bank))
        return _words(recipe, rng, layer, {prefix: masks.get((t, index)) for prefix, t in members})

    banks = outline.banks(words)
    source = ActFormat(min(recipe.act_bits, 8), recipe.signed_input, -int(rng.integers(0, 9)))
    steps: list[list[Step | None]] = [[None] * len(outline.layers) for _ in heads]

    def step(task: int, index: int, layer: Layer) -> Step:
        steps[task][index] = made = Step(masks.get((task, index)), None)
        if not isinstance(layer, MaxPool | Flatten | Pad):
            blank = Requantization(np.ones(_channels(layer)), np.zeros(_channels(layer)), 0, None)
            steps[task][index] = replace(made, requantization=blank)
            own = Task("draft", 0, (), tuple(steps[task]))
            low, high = _accumulator(shape, source, outline.layers, banks[bank_of[task]], own, index)
            output = None if outline.is_head(index) else (recipe.act_bits, index in signed)
            steps[task][index] = made = replace(
                made, requantization=_requantization(recipe, rng, layer, (low, high), output)
            )
        return made

    labels = [(f"task{t}", tuple(f"c{c}" for c in range(head.channels))) for t, head in enumerate(heads)]
    tasks = outline.tasks(labels, step)
    return PackedNetwork(shape, source, outline.layers, banks, tasks)


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


def _masks(recipe: Recipe, rng: np.random.Generator, outline: Outline) -> dict[tuple[int, int], Bools]:
    """The masks of every task and layer with weights that it runs."""
    kinds = recipe.mask_kinds
    masks = {
        (t, i): _mask(recipe, rng, kinds[(t + i) % len(kinds)], layer.weight_shape)
        for t in range(recipe.tasks)
        for i, layer in enumerate(outline.layers)
        if isinstance(layer, Weighted) and outline.is_run(t, i)
    }
    for t, i in masks:  # an earlier task's mask can only be copied once it exists
        earlier = [s for s in outline.members(outline.bank_of[t]) if s < t]
        if earlier and not outline.is_head(i) and kinds[(t + i) % len(kinds)].startswith("same"):
            masks[t, i] = masks[earlier[-1], i]
    return masks


def _mask(recipe: Recipe, rng: np.random.Generator, kind: str, shape: Shape) -> Bools:
    mask = np.zeros(shape, bool)
    if kind == "one weight":
        mask.flat[rng.integers(mask.size)] = True
    elif kind == "full":
        mask[:] = True
    elif kind != "empty":
        mask = rng.random(shape) < recipe.density
    return mask


def _words(recipe: Recipe, rng: np.random.Generator, layer: Weighted, masks: dict[int, Bools | None]) -> BankLayer:
    """The words of a layer in a bank, from the mask of every prefix."""
    low, high = -(1 << (recipe.centroid_bits - 1)), (1 << (recipe.centroid_bits - 1)) - 1
    owner = owners({prefix: mask for prefix, mask in masks.items() if mask is not None}, layer.weight_shape)
    code = np.zeros(layer.weight_shape, np.uint8)
    codebooks = []
    for prefix in masks:
        owned = owner == prefix
        entries = 1 << int(rng.integers(recipe.code_bits[0], recipe.code_bits[1] + 1))
        entries = min(entries, high - low + 1, int(rng.integers(1, entries + 1)) if rng.random() < 0.3 else entries)
        book = np.sort(rng.choice(np.arange(low, high + 1), entries, replace=False))
        if rng.random() < 0.3:
            book[[0, -1]] = low, high
        codebooks.append(book if owned.any() else book[:0])
        code[owned] = rng.integers(0, entries, int(owned.sum()))
    return BankLayer(owner, code, tuple(codebooks), recipe.centroid_bits, int(rng.integers(-12, 1)))


def _accumulator(
    shape: Shape, source: ActFormat, layers: tuple[Layer, ...], bank: Bank, task: Task, index: int
) -> tuple[Ints, Ints]:
    """Bounds of a layer of a task whose later steps are not there yet: of a network that nobody checks."""
    draft = object.__new__(PackedNetwork)
    fields = {"input_shape": shape, "input": source, "layers": layers, "banks": (bank,), "tasks": (task,)}
    for name, value in fields.items():
        object.__setattr__(draft, name, value)
    return draft.accumulator(0, index)


def _requantization(
    recipe: Recipe, rng: np.random.Generator, layer: Layer, bounds: tuple[Ints, Ints], output: tuple[int, bool] | None
) -> Requantization:
    """Multiplier, offset, shift and output format that put the outputs astride their whole range.

    ``bounds``: the accumulator's; ``output``: bits and sign of the output format, None for a head.
    """
    reach = max(1, *(int(np.abs(bound).max()) for bound in bounds))
    channels, is_head = _channels(layer), output is None
    if recipe.extremes and rng.random() < 0.5:
        form = None if output is None else ActFormat(*output, int(rng.integers(-4, 3)))
        return _extreme(rng, *bounds, channels, form)
    multiplier = np.ones(channels, np.int64)
    if recipe.multipliers and not is_head:
        multiplier = rng.integers(-(1 << 7), 1 << 15, channels)
        multiplier[multiplier == 0] = 3
    product = reach * int(np.abs(multiplier).max())
    form, shift = None, max(0, product.bit_length() - 30)
    if output is not None:
        form = ActFormat(*output, int(rng.integers(-4, 3)))
        shift = int(np.clip(product.bit_length() - recipe.act_bits - int(rng.integers(0, 4)), 0, 40))
    offset = rng.integers(-(product // 4) - 1, product // 4 + 2, channels)
    offset[rng.random(channels) < 0.5] = 1 << shift >> 1  # every other channel full of ties
    if recipe.seed % 2:  # as the learner makes them
        offset = offset // multiplier * multiplier
        offset[:] = 0 if isinstance(layer, Add) else offset
    return Requantization(multiplier, offset, shift, form)


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
