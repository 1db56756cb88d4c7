"""The affine step of one task and layer: batch norm and biases as multipliers, offsets and shifts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsn_hw.core.arithmetic import (
    INT32,
    ActFormat,
    accumulator_bounds,
    exact_in_float32,
    round_shift,
)
from tsn_hw.core.layers import AvgPool, Linear
from tsn_hw.learn.activations import Activation
from tsn_hw.learn.models import TaskAffine, average

# --- the affine step of one task and layer -------------------------------------------------------------------------


def normalising(gain: list[float], shift: list[float], mean: list[float], variance: list[float]) -> TaskAffine:
    """An affine step with batch norm of the given statistics, in evaluation mode."""
    affine = TaskAffine(Linear("fc", 3, len(gain)), batch_norm=True)
    assert affine.norm is not None
    assert affine.norm.running_mean is not None
    assert affine.norm.running_var is not None
    with torch.no_grad():
        for tensor, values in (
            (affine.norm.weight, gain),
            (affine.norm.bias, shift),
            (affine.norm.running_mean, mean),
            (affine.norm.running_var, variance),
        ):
            tensor.copy_(torch.tensor(values))
    return affine.eval()


def biased(*bias: float) -> TaskAffine:
    affine = TaskAffine(Linear("fc", 3, len(bias)), batch_norm=False)
    with torch.no_grad():
        affine.bias.copy_(torch.tensor(bias))
    return affine.eval()


numbers = st.floats(-4, 4, width=32)


@given(
    channels=st.lists(
        st.tuples(numbers, numbers, numbers, st.sampled_from([1e-6, 0.03, 1.0, 50.0])), min_size=1, max_size=5
    ),
    bits=st.sampled_from([4, 8, 12, 16]),
    exponent=st.integers(-24, -4),
)
def test_committed_batch_norm_stays_within_the_resolution_of_its_integers(
    channels: list[tuple[float, float, float, float]], bits: int, exponent: int
) -> None:
    gain, shift, mean, variance = (list(column) for column in zip(*channels, strict=True))
    affine = normalising(gain, shift, mean, variance)
    product = affine.commit(torch.ones(len(gain), 3), exponent, bits)
    power = -int(affine.multiplier_exponent)
    assert product == exponent - power
    top = 2 ** (bits - 1) - 1
    assert int(affine.multiplier.abs().max()) <= top
    slope = np.array(gain, np.float64) / np.sqrt(np.float32(variance).astype(np.float64) + 1e-5)
    offset = np.array(shift) - np.array(mean) * slope
    assert (np.abs(affine.multiplier.numpy() * 2.0**-power - slope) <= 2.0 ** (-power - 1) * 1.001).all()
    assert (np.abs(affine.offset.numpy() * 2.0**product - offset) <= 2.0 ** (product - 1) * 1.001).all()
    if np.abs(slope).max() > 2.0**-19:  # the range of the multiplier is used: one more power would leave it
        assert np.abs(slope).max() * 2.0 ** (power + 1) > top


def test_a_multiplier_of_batch_norm_by_hand() -> None:
    affine = normalising([1.0, -0.5], [0.25, 0.0], [0.5, 0.0], [1 - 1e-5, 1 - 1e-5])
    # 12 bits: 1.0 * 2**10 is the largest power that fits 2047; accumulators step by 2**-6, products by 2**-16
    assert affine.commit(torch.ones(2, 3), exponent=-6, bits=12) == -16
    assert affine.multiplier.tolist() == [1024, -512]
    assert affine.offset.tolist() == [-(2**14), 0]


def test_a_channel_that_no_weight_reaches_does_not_spoil_the_others() -> None:
    """Its running variance decays to nothing, so its gain explodes; nothing but the bias may be left of it."""
    alive = normalising([1.0], [0.25], [0.5], [1.0])
    both = normalising([1.0, 300.0], [0.25, 0.75], [0.5, 1e-3], [1.0, 1e-12])
    weight = torch.tensor([[1, 0, 2], [0, 0, 0]])
    product = both.commit(weight, -10, 12)
    assert product == alive.commit(weight[:1], -10, 12)
    assert both.multiplier.tolist() == [int(alive.multiplier), 0]
    assert both.offset.tolist() == [int(alive.offset), round(0.75 * 2.0**-product)]


def test_a_layer_without_any_weight_keeps_only_its_biases() -> None:
    affine = normalising([1.0, 2.0], [0.25, -0.5], [0.5, 0.5], [1.0, 1.0])
    product = affine.commit(torch.zeros(2, 3), -10, 12)
    assert affine.multiplier.tolist() == [0, 0]
    assert (affine.offset * 2.0**product).tolist() == pytest.approx([0.25, -0.5], abs=2.0**product)


def test_a_bias_becomes_the_nearest_offset_in_units_of_the_accumulator() -> None:
    affine = biased(0.5, -0.1875, 0.15625, 0.0)
    assert affine.commit(torch.ones(4, 3), exponent=-4, bits=12) == -4
    assert affine.multiplier.tolist() == [1, 1, 1, 1]
    assert affine.offset.tolist() == [8, -3, 2, 0]  # 2.5 goes to the even integer


@given(st.integers(0, 2**32 - 1), st.sampled_from([-2, -9, -17]), st.booleans(), st.sampled_from([0, 0, 1, 5]))
def test_a_committed_step_is_int64_arithmetic(seed: int, exponent: int, batch_norm: bool, dropped: int) -> None:
    rng = np.random.default_rng(seed)
    column = [rng.normal(size=4).tolist() for _ in range(3)]
    affine = normalising(*column, (rng.random(4) + 0.01).tolist()) if batch_norm else biased(*column[0])
    product = affine.commit(torch.ones(4, 3), exponent, bits=12)
    affine.dropped_bits.fill_(dropped)
    acc = rng.integers(-(2**30), 2**30, (6, 4))
    acc[0] = 2**dropped // 2  # ties
    carried = Activation(16, signed=True, exponent=exponent).double().eval()(torch.zeros(6, 4, dtype=torch.float64))
    result = affine.double()(carried.set(value=torch.from_numpy(acc).double() * 2.0**exponent))
    expected = acc * affine.multiplier.numpy() + affine.offset.numpy()
    np.testing.assert_array_equal(
        (result.detach().numpy() * 2.0**-product).astype(np.int64), round_shift(expected, dropped) << dropped
    )


def test_a_committed_step_no_longer_reads_its_float_parameters() -> None:
    affine = biased(0.5, -0.25)
    affine.commit(torch.ones(2, 3), -8, 12)
    carried = Activation(8, signed=False, exponent=-8).eval()(torch.rand(5, 2))
    before = affine(carried)
    with torch.no_grad():
        affine.bias.fill_(math.nan)
    assert torch.equal(affine(carried), before)


@pytest.mark.parametrize("signed", [False, True])
def test_a_settled_batch_norm_is_exact_in_float32_and_stays_near(signed: bool) -> None:
    rng = np.random.default_rng(0)
    affine = normalising(*rng.uniform(0.2, 1.0, (4, 12)).tolist())
    weight = torch.from_numpy(rng.integers(-127, 128, (12, 600)))
    product = affine.commit(weight, exponent=-15, bits=12)
    multiplier, offset = affine.multiplier.numpy().copy(), affine.offset.numpy().copy()
    source, output, shift = ActFormat(8, False, -8), ActFormat(8, signed, product + 20), 20
    affine.settle(weight, source, shift, output)
    settled, bias = affine.multiplier.numpy(), affine.offset.numpy() // affine.multiplier.numpy()
    assert (settled != multiplier).any()
    assert (affine.offset.numpy() == bias * settled).all()
    low, high = accumulator_bounds(weight.numpy(), source.range)
    assert exact_in_float32(settled, shift, output.range, low + bias, high + bias).all()
    np.testing.assert_allclose(settled, multiplier, rtol=1 / 16)
    assert (np.abs(affine.offset.numpy() - offset) <= np.abs(settled)).all()


def test_biases_and_wide_activations_are_not_settled() -> None:
    weight, source = torch.ones((2, 4), dtype=torch.int64), ActFormat(8, False, 0)
    wide = normalising([0.3, 0.9], [0.1, 0.2], [0.0, 0.0], [1.0, 1.0])
    wide.commit(weight, exponent=-15, bits=12)
    before = wide.multiplier.tolist(), wide.offset.tolist()
    wide.settle(weight, source, 10, ActFormat(16, False, 0))
    assert (wide.multiplier.tolist(), wide.offset.tolist()) == before
    plain = biased(0.5, 0.25)
    plain.commit(weight, exponent=-15, bits=12)
    plain.settle(weight, source, 10, ActFormat(8, False, 0))
    assert plain.multiplier.tolist() == [1, 1]


def limited(reach: int) -> int:
    """Dropped bits of a head whose largest logit is ``reach``: one weight of 2**15 on 16-bit features, and a bias."""
    affine = biased(0.0)
    affine.offset.fill_(reach - (reach // 65535) * 65535)
    affine.limit(torch.tensor([[reach // 65535, 0, 0]]), act_bits=16)
    return int(affine.dropped_bits)


@pytest.mark.parametrize(
    ("reach", "dropped"),
    [(0, 0), (2**30, 0), (2**31 - 2, 0), (2**31, 1), (2**31 + 1, 1), (2**32 - 3, 1), (2**32, 2), (2**36, 6)],
)
def test_logits_lose_bits_only_when_int32_needs_it(reach: int, dropped: int) -> None:
    assert limited(reach) == dropped


@given(st.integers(31, 50), st.integers(-3, 3))
def test_logits_that_are_left_always_pass_the_rule_of_the_packed_network(bits: int, beside: int) -> None:
    reach = 2**bits + beside
    assert reach >> limited(reach) < INT32[1]


def test_every_channel_and_both_signs_count_for_the_limit() -> None:
    affine = biased(0.0, 0.0)
    affine.offset.copy_(torch.tensor([0, -5]))
    affine.limit(torch.tensor([[1, -1, 1], [-(2**26), 2**26, 2**25]]), act_bits=4)
    assert int(affine.dropped_bits) == 1  # 2.5 * 2**26 * 15 + 5 = 2**31.2


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (4, 2), (3, 3), (3, 2), (7, 7), (16, 16), (15, 17)])
def test_an_average_divides_by_the_window_to_fifteen_bits(kernel: tuple[int, int]) -> None:
    multiplier, shift = average(AvgPool("average", kernel, (1, 1)))
    size = kernel[0] * kernel[1]
    assert abs(multiplier / 2**shift * size - 1) <= 2.0**-14
    assert 1 <= multiplier < 2**15
    if size & (size - 1) == 0:
        assert multiplier * size == 2**shift
