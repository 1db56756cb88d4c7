"""The C of a network gives the integers of the int64 loop, behind every layer of every task."""

import platform
import shutil

import numpy as np
import pytest

from export.c_code.host import CompiledC
from export.c_code.machines import MACHINES, cortex_m, host, riscv32
from export.c_code.weights import weight_list
from tests.helpers.c_code import GCC, SANITIZED, assert_equal_integers, needs, needs_gcc
from tests.helpers.handmade import U8, linear, network, requantization
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET
from tsn_hw.core import reference
from tsn_hw.core.errors import EngineError
from tsn_hw.core.layers import INPUT, Conv2d

RECIPES = {
    "mlp": Recipe("mlp", tasks=3, mask_kinds=("random", "empty", "full", "one weight")),
    "mlp of shared words": Recipe("mlp", tasks=5, density=0.3, widths=(101, 40, 20), seed=14),
    "mlp of 16 bits": Recipe("mlp", tasks=2, act_bits=16, centroid_bits=16, signed_input=True, seed=3),
    "mlp with wide gaps": Recipe("mlp", widths=(700, 5, 4), density=0.004, seed=4),
    "conv": Recipe("conv", tasks=3, banks=2, multipliers=True, seed=5),
    "conv of 16 bits": Recipe("conv", act_bits=16, centroid_bits=16, signed_input=True, extremes=True, seed=6),
    "residual": Recipe("residual", tasks=2, multipliers=True, seed=7),
    "residual at the ends": Recipe("residual", tasks=3, extremes=True, multipliers=True, act_bits=4, seed=8),
    "alexnet": Recipe("alexnet", tasks=2, density=0.1, seed=9),
    "depthwise": Recipe("depthwise", tasks=2, multipliers=True, seed=13),
    "resnet": Recipe("resnet", tasks=2, signed_input=True, multipliers=True, seed=10),
}

pytestmark = needs_gcc


@pytest.mark.parametrize(
    ("name", "optimize"),
    [
        *((name, optimize) for name in list(RECIPES)[:4] for optimize in ("size", "balanced", "speed")),
        *zip(list(RECIPES)[4:], ["size", "speed"] * 4, strict=False),  # of convolutions, which are alike in all layouts
    ],
)
def test_no_integer_of_any_layer_differs(name, optimize):
    assert assert_equal_integers(random_network(RECIPES[name]), optimize=optimize) > 0


def test_a_kernel_of_1_x_1_with_padding_is_a_convolution():
    """Input and output are of 1 x 1 as those of a Linear, but the only window lies in the padding."""
    layer = Conv2d("padded", 3, 2, (1, 1), (3, 3), (1, 1), inputs=(INPUT,))
    scales = requantization(U8, offset=[5, 9], channels=2)
    net = network((3, 1, 1), U8, [(layer, np.full((2, 3, 1, 1), 7), scales)])
    assert reference.run(net, 0, np.full((1, 3, 1, 1), 200))["padded"].ravel().tolist() == [5, 9]
    assert assert_equal_integers(net) > 0


@pytest.mark.parametrize("optimize", ["size", "balanced"])
def test_a_layer_that_uses_nearly_all_weights_and_many_values_has_a_list_without_gaps(optimize):
    weights = np.arange(1, 101).reshape(5, 20)  # places of 7 bits in a table
    assert weight_list(weights, optimize).gap_bits == 0
    assert assert_equal_integers(linear(weights, requantization(U8, shift=9, channels=5), U8), optimize=optimize) > 0


def test_every_kind_of_layer_computes_the_same():
    assert assert_equal_integers(NET, count=12) > 0


@pytest.mark.parametrize("name", ["mlp of 16 bits", "conv of 16 bits", "residual at the ends", "mlp of shared words"])
def test_nothing_is_undefined_or_out_of_bounds(name):
    assert assert_equal_integers(random_network(RECIPES[name]), machine=SANITIZED) > 0


@pytest.mark.parametrize("compiler", [("gcc", "-O0"), ("gcc", "-O2"), ("gcc", "-Os"), ("clang", "-O2")], ids=" ".join)
def test_compilers_and_optimizations_agree(compiler):
    machine = host(*compiler)
    needs(machine)
    assert assert_equal_integers(random_network(RECIPES["resnet"]), machine=machine) > 0


@pytest.mark.parametrize("name", [name for name in MACHINES if not name.startswith("x86-64")])
def test_other_machines_agree(name):
    needs(MACHINES[name])
    if name == "x86 of 32 bits" and platform.machine() != "x86_64":
        pytest.skip("this processor does not run programs of x86")
    assert assert_equal_integers(NET, count=24, machine=MACHINES[name]) > 2000


def test_a_network_that_does_not_fit_into_a_machine_is_refused():
    board = cortex_m("microbit")
    needs(board)
    net = random_network(Recipe("mlp", tasks=1, act_bits=16, widths=(9000, 2, 4)))  # an input of 18 kB
    with pytest.raises(
        EngineError, match=r"^arm-none-eabi-gcc: .*: RAM has no room for heap and stack, of 6 KB together$"
    ):
        CompiledC(net, machine=board).compile()


def test_a_status_is_told():
    with pytest.raises(EngineError, match=r"^C, tasks 7: status -1$"):
        CompiledC(NET, machine=GCC).run(7, np.zeros((1, *NET.input_shape), np.int64))


@needs_gcc
@pytest.mark.parametrize("missing", ["arm-none-eabi-gcc", "qemu-riscv32"])
def test_a_missing_tool_is_named(monkeypatch, missing):
    machine = riscv32() if missing == "qemu-riscv32" else cortex_m("mps2-an386")
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == missing else tool)
    with pytest.raises(EngineError, match=f"^{missing} is not installed$"):
        CompiledC(NET, machine=machine).compile()
