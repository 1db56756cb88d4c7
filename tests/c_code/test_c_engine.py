"""The C of a network gives the integers of the int64 loop, behind every layer of every task."""

import shutil

import pytest

from tests.helpers.c_code import SANITIZED, assert_equal_integers, needs_gcc
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET

RECIPES = {
    "mlp": Recipe("mlp", tasks=3, mask_kinds=("random", "empty", "full", "one weight")),
    "mlp of 16 bits": Recipe("mlp", tasks=2, act_bits=16, centroid_bits=16, signed_input=True, seed=3),
    "mlp with wide gaps": Recipe("mlp", widths=(700, 5, 4), density=0.004, seed=4),
    "conv": Recipe("conv", tasks=3, banks=2, multipliers=True, seed=5),
    "conv of 16 bits": Recipe("conv", act_bits=16, centroid_bits=16, signed_input=True, extremes=True, seed=6),
    "residual": Recipe("residual", tasks=2, multipliers=True, seed=7),
    "residual at the ends": Recipe("residual", tasks=3, extremes=True, multipliers=True, act_bits=4, seed=8),
    "alexnet": Recipe("alexnet", tasks=2, density=0.1, seed=9),
    "resnet": Recipe("resnet", tasks=2, signed_input=True, multipliers=True, seed=10),
}

pytestmark = needs_gcc


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("optimize", ["size", "speed"])
def test_no_integer_of_any_layer_differs(name, optimize):
    assert assert_equal_integers(random_network(RECIPES[name]), optimize=optimize) > 0


def test_every_kind_of_layer_computes_the_same():
    assert assert_equal_integers(NET, count=12) > 0


@pytest.mark.parametrize("name", ["mlp of 16 bits", "conv of 16 bits", "residual at the ends"])
def test_nothing_is_undefined_or_out_of_bounds(name):
    assert assert_equal_integers(random_network(RECIPES[name]), compiler=SANITIZED) > 0


@pytest.mark.parametrize("compiler", [("gcc", "-O0"), ("gcc", "-O2"), ("gcc", "-Os"), ("clang", "-O2")], ids=" ".join)
def test_compilers_and_optimizations_agree(compiler):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    assert assert_equal_integers(random_network(RECIPES["resnet"]), compiler=compiler) > 0
