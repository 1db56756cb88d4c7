"""The integer contract, against exact fractions and brute force."""

import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsn_hw.core.arithmetic import (
    INT32,
    MAX_SHIFT,
    ActFormat,
    accumulator_bounds,
    align,
    carrier,
    exact_in_float32,
    magnitude,
    nearest,
    nearest_in_float32,
    per_channel,
    quantize,
    requantization_magnitude,
    requantize,
    round_shift,
    saturate,
)
from tsn_hw.core.errors import NetworkError

TABLE = json.loads((Path(__file__).parents[1] / "cases" / "requantize.json").read_text())
CASES = [dict(zip(TABLE["columns"], row, strict=True)) for rows in TABLE["rules"].values() for row in rows]


def integer_range(bits, signed):
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


# formats ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [
        (1, False, (0, 1)),
        (1, True, (-1, 0)),
        (4, True, (-8, 7)),
        (8, False, (0, 255)),
        (16, False, (0, 65535)),
        (16, True, (-32768, 32767)),
    ],
)
def test_a_format_spans_all_integers_of_its_width(bits, signed, expected):
    assert ActFormat(bits, signed, exponent=-3).range == expected


@pytest.mark.parametrize(
    ("bits", "exponent", "message"),
    [
        (0, 0, "activation format: 0 bits, must be 1..16"),
        (17, 0, "activation format: 17 bits, must be 1..16"),
        (8, -65, "activation format: exponent -65, must be -64..64"),
        (8, 65, "activation format: exponent 65, must be -64..64"),
    ],
)
def test_a_format_outside_the_contract_is_refused(bits, exponent, message):
    with pytest.raises(NetworkError) as error:
        ActFormat(bits, False, exponent)
    assert str(error.value) == message


# rounding and requantization ----------------------------------------------------------------------------------------


def test_the_case_table_is_exact_arithmetic():
    for case in CASES:
        exact = round(Fraction(case["value"] * case["multiplier"] + case["offset"], 2 ** case["shift"]))
        low, high = integer_range(case["bits"], case["signed"])
        assert case["expected"] == min(max(exact, low), high), case


def test_the_case_table_reaches_both_ends_of_the_contract():
    assert {case["shift"] for case in CASES} >= {0, 1, 2, 8, 31, MAX_SHIFT}
    assert {abs(case["value"]) for case in CASES} >= {0, 2**63 - 1}
    assert any(case["multiplier"] < 0 for case in CASES)


@pytest.mark.parametrize("rule", TABLE["rules"])
def test_requantize_follows_the_case_table(rule):
    for value, multiplier, offset, shift, bits, signed, expected in TABLE["rules"][rule]:
        acc, factor, add = (np.array([number], np.int64) for number in (value, multiplier, offset))
        assert requantize(acc, factor, add, shift, integer_range(bits, signed)).tolist() == [expected]


@given(
    st.integers(0, MAX_SHIFT).flatmap(lambda s: st.tuples(st.integers(-(2**63) + 2**s, 2**63 - 1 - 2**s), st.just(s)))
)
def test_round_shift_is_the_exact_quotient_rounded_half_to_even(value_and_shift):
    value, shift = value_and_shift
    assert round_shift(np.array([value]), shift).tolist() == [round(Fraction(value, 2**shift))]


@given(quotient=st.integers(-(2**20), 2**20), shift=st.integers(1, 40), beside=st.sampled_from([-1, 0, 1]))
def test_ties_go_to_the_even_neighbour_and_only_ties(quotient, shift, beside):
    value = (2 * quotient + 1) * 2 ** (shift - 1) + beside
    assert round_shift(np.array([value]), shift).tolist() == [round(Fraction(value, 2**shift))]


def test_round_shift_keeps_the_shape_and_the_argument():
    value = np.arange(-12, 12).reshape(2, 3, 4)
    assert round_shift(value, 3).shape == (2, 3, 4)
    assert value.tolist() == np.arange(-12, 12).reshape(2, 3, 4).tolist()


def test_saturate_keeps_both_ends_of_the_range():
    assert saturate(np.array([-9, -8, 0, 7, 8]), (-8, 7)).tolist() == [-8, -8, 0, 7, 7]


def test_multiplier_and_offset_act_per_channel():
    acc = np.array([[[4, 6], [4, 6]], [[-4, -6], [-4, -6]]])  # (batch, channels, positions)
    multiplier, offset = per_channel(np.array([1, -1]), 3), per_channel(np.array([0, 1]), 3)
    assert requantize(acc, multiplier, offset, 2, (-128, 127)).tolist() == [[[1, 2], [-1, -1]], [[-1, -2], [1, 2]]]


@pytest.mark.parametrize(("dims", "shape"), [(2, (1, 3)), (3, (1, 3, 1)), (4, (1, 3, 1, 1))])
def test_per_channel_stands_behind_the_batch(dims, shape):
    assert per_channel(np.arange(3), dims).shape == shape


# grids --------------------------------------------------------------------------------------------------------------


@given(
    st.integers(-(2**15), 2**16),
    st.integers(-20, 20),
    st.integers(-(2**15), 2**16),
    st.integers(-20, 20),
)
def test_align_adds_exactly_on_the_finer_grid(a, a_exponent, b, b_exponent):
    exact = a * Fraction(2) ** a_exponent + b * Fraction(2) ** b_exponent
    aligned = align(np.array([a]), a_exponent, np.array([b]), b_exponent)
    assert aligned.tolist() == [exact / Fraction(2) ** min(a_exponent, b_exponent)]


@given(
    real=st.floats(-(2.0**40), 2.0**40),
    bits=st.integers(1, 16),
    signed=st.booleans(),
    exponent=st.integers(-20, 20),
)
def test_quantize_is_the_exact_real_number_rounded_half_to_even_and_saturated(real, bits, signed, exponent):
    low, high = integer_range(bits, signed)
    exact = round(Fraction(real) / Fraction(2) ** exponent)
    assert quantize([real], ActFormat(bits, signed, exponent)).tolist() == [min(max(exact, low), high)]


def test_quantize_sends_ties_to_even_and_saturates():
    ties = [-0.625, -0.375, -0.125, 0.125, 0.375, 0.625]
    assert quantize(ties, ActFormat(4, True, -2)).tolist() == [-2, -2, 0, 0, 2, 2]
    assert quantize([-1e30, 1e30], ActFormat(8, True, 0)).tolist() == [-128, 127]


def test_quantize_sees_the_last_bit_of_a_double_and_of_a_single():
    whole = ActFormat(8, False, 0)
    assert quantize([0.5, 0.5 + 2**-52, 1.5 - 2**-52], whole).tolist() == [0, 1, 1]
    assert quantize(np.array([0.5, 0.5 + 2**-24], np.float32), whole).tolist() == [0, 1]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_quantize_refuses_numbers_that_are_none(broken):
    with pytest.raises(NetworkError) as error:
        quantize([0.0, broken], ActFormat(8, False, 0))
    assert str(error.value) == "quantize: the input holds NaN or infinity"


@given(st.floats(-(2.0**61), 2.0**61))
def test_nearest_is_the_exact_real_number_rounded_half_to_even(real):
    assert nearest([real]).tolist() == [round(Fraction(real))]


@pytest.mark.parametrize("real", [float("nan"), float("inf"), 2.0**62, -(2.0**62)])
def test_nearest_refuses_what_has_no_integer(real):
    with pytest.raises(NetworkError) as error:
        nearest(real)
    assert str(error.value) == "nearest: a value is NaN or reaches 2**62"


# bounds -------------------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3), min_size=1, max_size=3),
    ends=st.tuples(st.integers(-3, 3), st.integers(-3, 3)).map(sorted),
)
def test_accumulator_bounds_are_the_extremes_of_all_partial_sums(rows, ends):
    activations = sorted({0, *range(ends[0], ends[1] + 1)})
    low, high = accumulator_bounds(np.array(rows), tuple(ends))
    for row, least, most in zip(rows, low, high, strict=True):
        sums = [sum(w * x for w, x in zip(row, xs, strict=True)) for xs in itertools.product(activations, repeat=3)]
        assert (least, most) == (min(sums), max(sums))


def test_a_row_without_weights_accumulates_nothing():
    low, high = accumulator_bounds(np.zeros((2, 3, 1, 1), np.int64), (-128, 127))
    assert (low.tolist(), high.tolist()) == ([0, 0], [0, 0])


def test_bounds_of_the_widest_layer_do_not_overflow():
    low, high = accumulator_bounds(np.full((1, 2**20), -(2**15)), (0, 2**16 - 1))
    assert (low.tolist(), high.tolist()) == ([-(2**35) * (2**16 - 1)], [0])


def test_magnitude_is_exact_for_the_most_negative_integer():
    assert magnitude(np.array([3, -(2**63)]), 7) == 2**63
    assert magnitude() == 0


def test_requantization_magnitude_counts_in_exact_integers():
    low, high = np.array([-(2**40), 0]), np.array([5, 2**41])
    multiplier, offset = np.array([-(2**30), 2**30]), np.array([1, -1])
    assert requantization_magnitude(low, high, multiplier, offset) == 2**71 + 1


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (0, "float32"),
        (2**24, "float32"),
        (2**24 + 1, "float64"),
        (2**53, "float64"),
        (2**53 + 1, "int64"),
    ],
)
def test_the_carrier_is_the_narrowest_exact_type(largest, expected):
    assert carrier(largest) == expected
    assert int(np.array(largest).astype(expected)) == largest


def test_one_above_the_bound_a_narrower_carrier_would_be_wrong():
    assert int(np.float32(2**24 + 1)) != 2**24 + 1
    assert int(np.float64(2**53 + 1)) != 2**53 + 1


def test_raw_logits_are_int32():
    assert (np.iinfo(np.int32).min, np.iinfo(np.int32).max) == INT32


# requantization in float32 ------------------------------------------------------------------------------------------


@st.composite
def float32_cases(draw):
    """A multiplier, a shift, an output range, and the first and last value."""
    multiplier = draw(st.integers(-4096, 4096).filter(bool))
    shift = draw(st.integers(0, 24))
    bounds = integer_range(draw(st.integers(1, 8)), draw(st.booleans()))
    low = draw(st.integers(-(2**25), 2**25))
    return multiplier, shift, bounds, low, low + draw(st.integers(0, 2**17))


def in_float32(value, multiplier, shift, bounds):
    scaled = value.astype(np.float32) * np.float32(multiplier / 2**shift)
    return np.clip(np.rint(scaled), *bounds)


@given(float32_cases())
def test_the_proof_for_float32_says_what_trying_every_value_says(case):
    multiplier, shift, bounds, low, high = case
    value = np.arange(low, high + 1)
    wanted = requantize(value, np.array(multiplier), np.array(0), shift, bounds)
    is_equal = (in_float32(value, multiplier, shift, bounds) == wanted).all()
    proof = exact_in_float32(np.array([multiplier]), shift, bounds, np.array([low]), np.array([high]))
    assert proof.tolist() == [is_equal]


def test_multipliers_of_zero_and_huge_shifts_are_not_proven():
    low, high = np.array([-5, -5]), np.array([5, 5])
    assert exact_in_float32(np.array([0, 1]), 1, (0, 255), low, high).tolist() == [False, False]
    assert exact_in_float32(np.array([1, 1]), 41, (0, 255), low, high).tolist() == [False, False]


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_nearest_multipliers_are_exact_and_near(seed, signed):
    rng = np.random.default_rng(seed)
    bounds, shift = integer_range(8, signed), int(rng.integers(18, 23))
    multiplier = rng.integers(512, 2048, 9) * rng.choice([-1, 1], 9)
    reach = rng.integers(1, 2**21, 9)
    offset = rng.integers(-(2**30), 2**30, 9)
    found, shifted = nearest_in_float32(multiplier, offset, shift, bounds, -reach, reach)
    bias, rest = np.divmod(shifted, found)
    changed = (found != multiplier) | (rest == 0)
    assert changed.mean() > 0.8
    assert exact_in_float32(found, shift, bounds, bias - reach, bias + reach)[changed].all()
    assert (np.abs(found - multiplier) * 16 <= np.abs(multiplier)).all()
    assert (2 * np.abs(shifted - offset) <= np.abs(found)).all()


def test_a_channel_without_an_exact_multiplier_keeps_its_own():
    reach = np.array([2**24])
    kept = nearest_in_float32(np.array([3]), np.array([7]), 13, (0, 255), -reach, reach)
    assert [vector.tolist() for vector in kept] == [[3], [6]] or [vector.tolist() for vector in kept] == [[3], [7]]
