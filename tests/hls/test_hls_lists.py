"""Units that skip zeros, compiled: the integers of the dense ones, in as many cycles as their lists have lines."""

import pytest

from tests.helpers.hls import assert_equal_integers, needs_compiler, network_of
from tests.helpers.images import settings
from tests.helpers.networks import Recipe
from tests.hls.test_hls_csim import ALEXNET, MLP, RESNET
from tsn_hw.hardware.pipeline import accelerator

pytestmark = needs_compiler
LAYOUTS = {
    "all": lambda number: "lists",
    "mixed": lambda number: ("lists", "dense")[number % 2],
    "mixed otherwise": lambda number: ("dense", "lists")[number % 2],
}


def design(recipe: Recipe, pe: int, simd: int, mask="deep", layout="all", **room: int):
    net = network_of(recipe)
    return accelerator(net, settings(net, pe=pe, simd=simd, mask=mask, layout=LAYOUTS[layout], **room))


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: design(MLP, 1, 1), id="MLP, one lane"),
        pytest.param(lambda: design(MLP, 4, 4), id="MLP, 16 lanes"),
        pytest.param(lambda: design(MLP, 3, 2, "runtime"), id="MLP, lists loaded"),
        pytest.param(lambda: design(MLP, 2, 4, layout="mixed", max_tasks=6), id="MLP, mixed, room for tasks"),
        pytest.param(lambda: design(ALEXNET, 4, 4, layout="mixed otherwise"), id="AlexNet, mixed"),
        pytest.param(lambda: design(ALEXNET, 2, 2, "runtime"), id="AlexNet, lists loaded"),
        pytest.param(lambda: design(RESNET, 2, 2), id="residual"),
        pytest.param(lambda: design(RESNET, 3, 1, "runtime", layout="mixed"), id="residual, mixed, lists loaded"),
    ],
)
def test_no_integer_and_no_cycle_differs(made):
    assert_equal_integers(made(), 300)


@pytest.mark.parametrize("kinds", [("empty",), ("full",), ("empty", "full", "random")], ids="-".join)
def test_tasks_that_use_nothing_or_everything(kinds):
    recipe = Recipe(kind="mlp", widths=(24, 20), classes=3, tasks=3, mask_kinds=kinds, seed=5)
    assert_equal_integers(design(recipe, 2, 4), 50)
