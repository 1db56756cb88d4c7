"""Small accelerators that are synthesized to learn what LUTs and flip-flops go into: a design of experiments.

A trial is a network with one or two layers and a head, drawn at random, in one of the :data:`FORMS`: few lanes with
codes of 2 to 8 bits, lists, memories deep enough to lie in parts, or many lanes. Over all trials each form comes with
several kinds of layers, foldings, numbers of tasks and widths of centroids and activations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.assembly import Outline, drawn_words, output_shape
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted
from tsn_hw.core.network import BankLayer, PackedNetwork, Requantization, Step
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, Layout, MaskMode, UnitSettings, divisors
from tsn_hw.hardware.pipeline import accelerator

Kind = Literal["linear", "conv", "pool", "residual"]

KINDS: tuple[Kind, ...] = ("linear", "conv", "linear", "pool", "linear", "conv", "linear", "conv", "residual")
SIDE, CLASSES = 6, 4
MOST_CODEBOOK_WORDS = 1024
"""Over all lanes of a trial of few: codebooks beyond take minutes, and tell nothing that fewer do not."""


@dataclass(frozen=True)
class Form:
    """What trials of a form have in common.

    lanes: of their layer, at least and at most. columns, rows: of linear layers. channels, filters: of convolutions.
    """

    lanes: tuple[int, int]
    code_bits: range
    columns: tuple[int, ...] = (48, 96, 144, 192)
    rows: tuple[int, ...] = (16, 24, 48)
    channels: tuple[int, ...] = (4, 8, 12)
    filters: tuple[int, ...] = (8, 16)
    layout: Layout = "dense"
    kinds: tuple[Kind, ...] = KINDS


NARROW, LISTS = Form((1, 16), range(2, 9)), Form((2, 32), range(2, 6), layout="lists")
DEEP = Form((1, 8), range(2, 5), (192, 384), (64, 96), kinds=("linear",))
WIDE = Form((32, 96), range(2, 5))
WIDEST = Form((128, 256), range(2, 4), (64, 96), (32, 64), (12, 16), (16,), kinds=("linear", "linear", "conv"))
FORMS = (NARROW, LISTS, NARROW, WIDE, NARROW, LISTS, DEEP, WIDEST)
"""Each in turn."""


@dataclass(frozen=True)
class Trial:
    """What is synthesized: a layer of ``rows`` and ``columns`` (a convolution: filters, channels), folding and widths.

    A residual trial has two convolutions. layout: of the words of its layers. multiplier_bits: 0 where all multipliers
    are 1. dsps: False where products are to be made of LUTs.
    """

    kind: Kind
    layout: Layout
    columns: int
    rows: int
    pe: int
    simd: int
    head_pe: int
    head_simd: int
    tasks: int
    banks: int
    code_bits: int
    centroid_bits: int
    act_bits: int
    multiplier_bits: int
    dsps: bool
    seed: int


def trials(count: int) -> list[Trial]:
    """The first so many trials, each kind of layer and each width of codes in turn."""
    return [trial_of(number) for number in range(count)]


def trial_of(number: int) -> Trial:
    """The trial of a number, which is its seed."""
    if number < 0:
        raise SettingsError(f"trial {number}: must be at least 0")
    rng = np.random.default_rng(number)

    def one_of(*values: int) -> int:
        return int(rng.choice(values))

    form, turn = FORMS[number % len(FORMS)], number // len(FORMS)
    kind, code_bits = form.kinds[number % len(form.kinds)], form.code_bits[(number + turn) % len(form.code_bits)]
    columns = one_of(*(form.columns if kind == "linear" else form.channels))
    rows = one_of(*(form.rows if kind == "linear" else form.filters))
    tasks = one_of(2, 3, 4, 6)
    banks = one_of(1, 1, 2)
    prefix_bits = math.ceil(math.log2(-(-tasks // banks)))
    least, most = form.lanes
    if form is NARROW:
        most = max(1, min(most, MOST_CODEBOOK_WORDS * 2 // (banks << prefix_bits + code_bits)))
    pairs = [(pe, simd) for pe in divisors(rows) for simd in divisors(columns) if least <= pe * simd <= most]
    foldings = [(pe, simd) for pe, simd in pairs if form.layout == "dense" or not simd & simd - 1]
    pe, simd = foldings[int(rng.integers(len(foldings)))]
    return Trial(
        kind, form.layout, columns, rows, pe, simd, one_of(1, 1, 2), one_of(1, 2, 4), tasks, banks, code_bits,
        max(one_of(4, 6, 8, 8, 8, 10), min(code_bits, 8)), one_of(4, 6, 8, 8), one_of(0, 0, 8, 12),
        number % 6 != 5, number,
    )  # fmt: skip


def design(trial: Trial) -> Accelerator:
    """The accelerator of a trial. Same trial, same accelerator."""
    net = _network(trial)
    # Masks that leave nothing out are no memory: those of heads, and of the only task of a bank.
    mask: MaskMode = "deep" if trial.tasks > trial.banks or trial.layout == "lists" else "none"
    units = {"head": UnitSettings(Folding(trial.head_pe, trial.head_simd), "none")}
    for layer in net.layers:
        if isinstance(layer, Linear | Conv2d) and not layer.name.startswith("head"):
            simd = trial.simd if layer.name == "layer" else math.gcd(trial.simd, trial.rows)
            units[layer.name] = UnitSettings(Folding(trial.pe, simd), mask, "auto", trial.layout)
        elif isinstance(layer, MaxPool | AvgPool | Add):
            units[layer.name] = UnitSettings(Folding(math.gcd(trial.pe, 4)))
    return accelerator(net, HardwareSettings(units))


def _layers(trial: Trial) -> tuple[Shape, list[Layer]]:
    """Shape of the input, and the layers in front of the heads."""
    if trial.kind == "linear":
        return (trial.columns,), [Linear("layer", trial.columns, trial.rows, (INPUT,))]
    padding = trial.seed % 2
    layers: list[Layer] = [
        Conv2d("layer", trial.columns, trial.rows, (3, 3), padding=(padding, padding), inputs=(INPUT,))
    ]
    if trial.kind == "pool":
        layers.append(MaxPool("pool", (2, 2), (2, 2), (0,)))
    elif trial.kind == "residual":
        layers.append(Conv2d("second", trial.rows, trial.rows, (3, 3), padding=(1, 1), inputs=(0,)))
        layers += [Add("add", (0, 1)), AvgPool("average", (2, 2), (2, 2), (2,))]
    return (trial.columns, SIDE, SIDE), [*layers, Flatten("flatten", (len(layers) - 1,))]


def _network(trial: Trial) -> PackedNetwork:
    rng = np.random.default_rng(trial.seed)
    shape, body = _layers(trial)
    (features,) = output_shape(shape, body)
    heads = tuple(Linear(f"head{task}", features, CLASSES, (len(body) - 1,)) for task in range(trial.tasks))
    outline = Outline(tuple(body), heads, tuple(task % trial.banks for task in range(trial.tasks)))

    def words(bank: int, index: int, layer: Weighted) -> BankLayer:
        members, bits = outline.members(bank), trial.code_bits
        bits = min(bits, 4) if outline.is_head(index) else bits
        own = [place for place, task in enumerate(members) if outline.is_run(task, index)]
        books = tuple(_codebook(trial, rng, bits if place in own else None) for place in range(len(members)))
        owner = rng.choice(np.array(own), layer.weight_shape).astype(np.int16)
        masks = {place: owner == place for place in own}
        return drawn_words(rng, layer.weight_shape, masks, books, (trial.centroid_bits, 0))

    banks = outline.banks(words)

    def step(task: int, index: int, layer: Layer) -> Step:
        bank, place = task % trial.banks, task // trial.banks
        own, mask = banks[bank].layers[index], None
        if own is not None:
            mask = (own.owner == place) | ((own.owner < place) & (rng.random(own.owner.shape) < 0.5))
        return Step(mask, _requantization(trial, rng, layer, outline.is_head(index)))

    classes = tuple(f"class{i}" for i in range(CLASSES))
    tasks = outline.tasks([(f"task{task}", classes) for task in range(trial.tasks)], step)
    form = ActFormat(trial.act_bits, signed=False, exponent=0)
    return PackedNetwork(shape, form, outline.layers, banks, tasks)


def _codebook(trial: Trial, rng: np.random.Generator, bits: int | None) -> np.ndarray:
    """Sorted centroids, none twice; never all that there are, which would be no table but a number plus a constant."""
    if bits is None:
        return np.zeros(0, np.int64)
    entries = min(1 << bits, 7 << trial.centroid_bits - 3)
    half = 1 << trial.centroid_bits - 1
    return np.sort(rng.choice(np.arange(-half, half), entries, replace=False))


def _requantization(trial: Trial, rng: np.random.Generator, layer: Layer, is_head: bool) -> Requantization | None:
    """Shifts differ from task to task, as those of learned networks do."""
    if not isinstance(layer, Weighted | AvgPool | Add):
        return None
    form = None if is_head else ActFormat(trial.act_bits, signed=False, exponent=0)
    if not isinstance(layer, Weighted):
        return Requantization(np.ones(1, np.int64), np.zeros(1, np.int64), 2, form)
    channels, power = layer.channels, 0
    multiplier = np.ones(channels, np.int64)
    if trial.multiplier_bits and not is_head:
        power = trial.multiplier_bits - 1
        multiplier = rng.integers(1 << power - 1, 1 << power, channels) * rng.choice([1, 1, 1, -1], channels)
    reach = trial.centroid_bits + 2 + power
    offset = rng.integers(-(1 << reach), 1 << reach, channels)
    shift = 0 if is_head else int(rng.integers(trial.centroid_bits - 2, trial.centroid_bits + 4)) + power
    return Requantization(multiplier, offset, shift, form)
