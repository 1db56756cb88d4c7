"""Activations: rounding, saturation, gradients, and the grid of least squared error."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tsn_hw.core.arithmetic import ActFormat, quantize
from tsn_hw.learn import activations
from tsn_hw.learn.activations import (
    Activation,
)

# --- activations -------------------------------------------------------------------------------------------------


def through(activation: Activation, *values: float) -> list[float]:
    """Integers of an activation for multiples of its step."""
    activation.train()
    return (activation(torch.tensor(values) * activation.grid.real) / activation.grid.real).tolist()


def test_activations_round_half_to_even() -> None:
    assert through(Activation(8, True, -3), 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.51, 1.49) == [0, 2, 2, 0, -2, -2, 1, 1]


@pytest.mark.parametrize(
    ("bits", "signed", "low", "high"),
    [(4, False, 0, 15), (4, True, -8, 7), (8, False, 0, 255), (8, True, -128, 127), (16, False, 0, 65535),
     (16, True, -32768, 32767)],
)  # fmt: skip
def test_activations_saturate_at_the_ends_of_their_format(bits: int, signed: bool, low: int, high: int) -> None:
    activation = Activation(bits, signed, exponent=-2)
    assert through(activation, high + 0.4, high + 0.5, 1e6, low - 0.4, low - 0.6, -1e6) == [high] * 3 + [low] * 3


def test_gradients_pass_where_nothing_saturates_and_nowhere_else() -> None:
    x = torch.tensor([-9.0, -8.4, -8.0, -0.2, 0.0, 0.2, 7.0, 7.4, 7.6, 99.0], requires_grad=True)
    Activation(4, True).train()(x).backward(torch.full((10,), 3.0))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 3, 3, 3, 3, 3, 3, 3, 0, 0]


def test_an_unsigned_activation_has_the_gradient_of_a_relu() -> None:
    x = torch.tensor([-1.0, -0.2, 0.0, 0.2, 15.0, 15.4, 15.6], requires_grad=True)
    Activation(4, False).train()(x).backward(torch.ones(7))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0, 1, 1, 1, 0]


def squared_error(x: Tensor, form: ActFormat) -> float:
    """By the contract's own rounding; negative values are no error of an unsigned format, which is a ReLU."""
    target = x.double().numpy() if form.signed else x.double().clamp(min=0).numpy()
    return float(np.square(quantize(x.double().numpy(), form) * 2.0**form.exponent - target).mean())


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("signed", [False, True])
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([1e-6, 0.02, 1.0, 37.0, 1e5]),
    outlier=st.sampled_from([0.0, 3.0, 40.0]),
)
def test_calibration_finds_the_grid_of_least_squared_error(
    bits: int, signed: bool, seed: int, spread: float, outlier: float
) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * spread
    x[0] = outlier * spread
    activation = Activation(bits, signed)
    activation.calibrate(x)
    chosen = int(activation.grid.exponent)
    top = float(x.abs().max() if signed else x.max())
    exact = math.ceil(math.log2(top / ActFormat(bits, signed, 0).range[1]))  # the finest grid without saturation
    errors = {e: squared_error(x, ActFormat(bits, signed, e)) for e in range(exact - 4, exact + 8)}
    assert errors[chosen] <= min(errors.values()) * (1 + 1e-4)


def test_calibration_of_a_large_map_tries_its_grids_on_images_from_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first half of the images is dark: they alone would ask for a finer grid."""
    bright = torch.rand(32, 16, generator=torch.Generator().manual_seed(0))
    x = torch.cat([bright / 32, bright])
    whole, sampled = Activation(8, signed=False), Activation(8, signed=False)
    whole.calibrate(x)
    monkeypatch.setattr(activations, "CALIBRATION_VALUES", 100)
    sampled.calibrate(x)
    assert sampled.grid.real == whole.grid.real == 2.0**-8
    sampled.calibrate(torch.cat([x[:32], x[:32], x[32:33]]))  # images 0, 10, ... 60 are dark, the largest value is not
    assert sampled.grid.real < whole.grid.real


def test_calibration_gives_up_a_rare_large_value_for_a_finer_step_at_four_bits() -> None:
    x = torch.cat([torch.full((10_000,), 0.3), torch.tensor([1.9])])
    activation = Activation(4, signed=False)
    activation.calibrate(x)
    assert int(activation.grid.exponent) < math.ceil(math.log2(1.9 / 15))


@pytest.mark.parametrize("x", [[0.0, 0.0], [-1.0, -2.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_calibration_leaves_the_grid_where_there_is_nothing_to_measure(x: list[float]) -> None:
    activation = Activation(8, signed=False, exponent=-6)
    activation.calibrate(torch.tensor(x))
    assert int(activation.grid.exponent) == -6


def test_calibration_to_the_largest_value_that_a_format_holds_does_not_waste_a_bit() -> None:
    activation = Activation(8, signed=False)
    activation.calibrate(torch.arange(256.0) * 2.0**-5)
    assert int(activation.grid.exponent) == -5
