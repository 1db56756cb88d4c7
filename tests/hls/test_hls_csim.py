"""Compiled accelerators give the integers of the int64 loop behind every unit, in the cycles of their units."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from export.hls.csim import compiled, fast_settings
from tests.helpers.handmade import S8, U8, network, requantization
from tests.helpers.hls import ap_types, assert_equal_integers, design, golden_runs, needs_compiler, network_of
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, adversarial_inputs
from tsn_hw.core import reference
from tsn_hw.core.errors import EngineError, FoldingError
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Linear
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings, divisors
from tsn_hw.hardware.pipeline import accelerator

pytestmark = needs_compiler

MLP = Recipe(kind="mlp", widths=(64, 32, 16), classes=5, tasks=4, banks=2, seed=8)
ALEXNET = Recipe(kind="alexnet", classes=5, tasks=2, banks=2, seed=2)
DEPTHWISE = Recipe(kind="depthwise", classes=5, tasks=2, banks=2, multipliers=True, seed=13)
RESNET = Recipe(kind="resnet", classes=5, tasks=2, banks=2, multipliers=True, seed=4)
INPUTS = 1000  # a task; with 5 classes and 2 tasks 10,000 logits, and more integers behind every other unit


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: design(MLP, 1, 1), id="MLP, one product a cycle"),
        pytest.param(lambda: design(MLP, 64, 64), id="MLP, all products in a cycle"),
        pytest.param(lambda: design(MLP, 4, 8, "runtime"), id="MLP, masks loaded"),
        pytest.param(lambda: design(MLP, 8, 4, ram_style="ultra"), id="MLP, words and masks loaded"),
        pytest.param(
            lambda: design(replace(MLP, banks=1, mask_kinds=("full",)), 2, 16, "none", "distributed"),
            id="MLP, one bank, no masks",
        ),
        pytest.param(lambda: design(ALEXNET, 4, 4), id="AlexNet"),
        pytest.param(lambda: design(replace(ALEXNET, banks=1), 1, 2, "runtime", "block"), id="AlexNet, masks loaded"),
        pytest.param(lambda: design(DEPTHWISE, 3, 2), id="depthwise"),
        pytest.param(lambda: design(replace(DEPTHWISE, signed_input=True), 2, 1, "runtime"), id="depthwise, loaded"),
        pytest.param(lambda: design(RESNET, 12, 12), id="residual"),
        pytest.param(lambda: design(RESNET, 2, 3, "runtime", "ultra"), id="residual, everything loaded"),
    ],
)
def test_no_integer_differs(made):
    assert_equal_integers(made(), INPUTS)


@pytest.mark.parametrize("recipe", [MLP, ALEXNET, RESNET], ids=["MLP", "AlexNet", "residual"])
def test_these_networks_have_many_different_integers_behind_every_layer(recipe):
    for run in golden_runs(network_of(recipe), INPUTS):
        assert min(len(np.unique(values)) for values in run.layers.values()) > 20


@pytest.mark.parametrize("recipe", [MLP, RESNET], ids=["MLP", "residual"])
def test_the_vendors_integer_types_give_the_same(recipe):
    assert_equal_integers(design(recipe, 4, 4, "runtime", "ultra"), INPUTS // 4, ap_types())


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(kind="conv", tasks=5, banks=3, act_bits=16, centroid_bits=16, signed_input=True, seed=11),
        Recipe(kind="residual", tasks=3, act_bits=16, centroid_bits=16, multipliers=True, density=0.9, seed=12),
        Recipe(kind="residual", tasks=4, code_bits=(1, 8), act_bits=4, mask_kinds=("empty", "one weight", "full")),
        Recipe(kind="mlp", tasks=12, banks=3, code_bits=(1, 1), centroid_bits=4, act_bits=4, signed_input=True, seed=4),
    ],
    ids=["wide conv", "wide residual", "empty masks", "narrow"],
)
def test_extreme_networks(recipe):
    assert_equal_integers(design(recipe, 2, 3, max_tasks=recipe.tasks + 2), 60)


def test_twenty_foldings_take_the_cycles_of_their_units():
    """The test bench compares the cycles that it counts: of 20 matrix units, and of the windows before 8 of them."""
    foldings = random.Random(0).sample(list(itertools.product(divisors(12), repeat=2)), 20)
    windows = [(3, 1, 1), (2, 1, 0), (3, 2, 1), (1, 1, 2), (5, 2, 2), (4, 3, 1), (2, 2, 2), (3, 1, 1)]
    rng, layers = np.random.default_rng(0), []
    for i, (kernel, stride, padding) in enumerate(windows):
        shape = (12, 12, kernel, kernel)
        conv = Conv2d(f"conv{i}", 12, 12, shape[2:], (stride, stride), (padding, padding), inputs=(i - 1,))
        layers.append((conv, rng.integers(-3, 4, shape), requantization(U8, 5, channels=12)))
    layers += [
        (AvgPool("pool", (2, 1), (1, 1), (7,)), None, requantization(U8, 1)),
        (Flatten("flatten", (8,)), None, None),
    ]
    for i in range(12):
        columns = 12 if i else 12 * 1 * 2
        weights = rng.integers(-3, 4, (12, columns))
        layers.append((Linear(f"fc{i}", columns, 12, (9 + i,)), weights, requantization(U8, 5, channels=12)))
    net = network((12, 9, 9), U8, layers)
    units = dict(settings(net).units)
    names = [name for name in units if name.startswith(("conv", "fc"))]
    units |= {name: UnitSettings(Folding(*folding)) for name, folding in zip(names, foldings, strict=True)}
    assert_equal_integers(accelerator(net, HardwareSettings(units)), 3)


def test_a_stream_that_is_added_to_itself_and_to_others():
    ones = np.ones((6, 6), np.int64)
    net = network(
        (6,),
        S8,
        [
            (Linear("a", 6, 6), ones, requantization(S8, 2, channels=6)),
            (Add("b", (0, 0)), None, requantization(U8)),
            (Linear("c", 6, 6, (1,)), ones, requantization(U8, 3, channels=6)),
            (Add("d", (2, INPUT)), None, requantization(S8, 1)),
            (Add("e", (3, 0)), None, requantization(U8, 1)),
        ],
    )
    made = accelerator(net, settings(net, pe=2, simd=3))
    x = adversarial_inputs(net, 30)
    found, expected = compiled(made).run(0, x), reference.run(net, 0, x)
    assert {name: values.tolist() for name, values in found.items()} == {
        name: values.tolist() for name, values in expected.items()
    }


def test_the_fast_settings_are_the_largest_divisors_up_to_16():
    net = design(MLP).net
    assert {name: (s.folding.pe, s.folding.simd) for name, s in fast_settings(net).units.items()} == {
        "fc0": (16, 16),
        "fc1": (16, 16),
        "head": (5, 16),
    }


def test_words_that_no_ap_uint_holds_are_refused():
    weights = np.ones((2, 1024), np.int64)
    net = network((1024,), U8, [(Linear("fc", 1024, 2), weights, requantization(U8, 10, channels=2))])
    made = accelerator(net, settings(net, pe=1, simd=1024))
    with pytest.raises(FoldingError) as caught:
        compiled(made)
    assert str(caught.value) == (
        "layer 'fc': a converter of words in front of it holds 8256 bits, ap_uint has at most 4096; "
        "take a smaller pe or simd"
    )


def test_lines_that_no_load_packet_carries_are_refused():
    weights = np.random.default_rng(0).integers(-128, 128, (128, 128))
    net = network((128,), U8, [(Linear("fc", 128, 128), weights, requantization(U8, 10, channels=128))])
    found = settings(net, pe=128, simd=128, mask="runtime")
    units = found.units | {"fc": replace(found.units["fc"], ram_style="ultra")}
    with pytest.raises(FoldingError) as caught:
        compiled(accelerator(net, replace(found, units=units)))
    assert str(caught.value) == (
        "layer 'fc': a line of its words has 131072 bits, a load packet carries at most 16320; "
        "take a smaller pe or simd"
    )


def test_without_a_compiler_there_is_no_simulation(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match=r"^g\+\+ is not installed$"):
        compiled(design(MLP))
