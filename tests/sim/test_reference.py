"""The contract by hand: small layers whose integers can be checked with a pencil, through both engines."""

from collections.abc import Callable

import numpy as np
import pytest

from sim import Simulator
from tests.helpers.handmade import S8, U8, linear, network, requantization
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.reference import run

Engine = Callable[[PackedNetwork, Ints], dict[str, np.ndarray]]


@pytest.fixture(params=["reference", "simulator"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "reference":
        return lambda net, x: run(net, 0, x)
    return lambda net, x: Simulator(net, 0).taps(x)


def column(*values: int) -> Ints:
    """A batch of samples of one feature."""
    return np.array(values)[:, None]


def image(*rows: list[int]) -> Ints:
    """A batch of one sample of one channel."""
    return np.array(rows)[None, None]


def test_ties_go_to_the_even_integer(engine: Engine) -> None:
    net = linear([[1]], requantization(S8, shift=1), S8)
    halves = column(1, 3, 5, 7, -1, -3, -5)  # 0.5 1.5 2.5 3.5 -0.5 -1.5 -2.5
    assert engine(net, halves)["fc"].ravel().tolist() == [0, 2, 2, 4, 0, -2, -2]


def test_just_beside_a_tie_the_nearer_integer_wins(engine: Engine) -> None:
    net = linear([[1]], requantization(S8, shift=3), S8)
    assert engine(net, column(3, 4, 5, 11, 12, 13, -3, -4, -5, -12))["fc"].ravel().tolist() == [
        0, 0, 1, 1, 2, 2, 0, 0, -1, -2,
    ]  # fmt: skip


def test_unsigned_formats_saturate_at_zero_and_at_the_top(engine: Engine) -> None:
    net = linear([[2], [-2]], requantization(U8, channels=2), U8)
    assert engine(net, column(0, 127, 128, 255))["fc"].tolist() == [[0, 0], [254, 0], [255, 0], [255, 0]]


def test_signed_formats_saturate_at_both_ends(engine: Engine) -> None:
    net = linear([[2]], requantization(S8), S8)
    assert engine(net, column(-128, -65, -64, 63, 64))["fc"].ravel().tolist() == [-128, -128, -128, 126, 127]


def test_a_value_that_rounds_up_to_the_limit_is_not_clipped_early(engine: Engine) -> None:
    net = linear([[1]], requantization(ActFormat(4, False, 0), shift=4), U8)
    assert engine(net, column(232, 231, 248, 255))["fc"].ravel().tolist() == [14, 14, 15, 15]


def test_a_negative_offset_is_added_before_the_shift(engine: Engine) -> None:
    net = linear([[1], [1]], requantization(S8, shift=2, offset=[-7, 6], channels=2), U8)
    assert engine(net, column(10, 1))["fc"].tolist() == [[1, 4], [-2, 2]]  # 0.75 4 -1.5 1.75


def test_multipliers_scale_before_the_offset_whatever_their_sign(engine: Engine) -> None:
    net = linear([[1], [1], [1]], requantization(S8, 1, offset=5, multiplier=[3, -3, 0], channels=3), U8)
    assert engine(net, column(4, 5))["fc"].tolist() == [[8, -4, 2], [10, -5, 2]]  # 8.5 -3.5 2.5 and 10 -5 2.5


def test_logits_are_the_raw_sum_and_the_class_is_the_first_maximum(engine: Engine) -> None:
    net = linear([[1, 0], [0, 2], [2, 1]], requantization(None, offset=[0, 0, -4], channels=3), U8, head=False)
    x = np.array([[3, 1], [0, 2], [1, 1], [0, 0]])
    logits = [[3, 2, 3], [0, 4, -2], [1, 2, -1], [0, 0, -4]]
    assert engine(net, x)["fc"].tolist() == logits
    assert Simulator(net, 0).predict(x).tolist() == [0, 1, 1, 0]


def test_logits_may_exceed_what_an_activation_can_hold(engine: Engine) -> None:
    net = linear([[30000, 30000]], requantization(None, offset=-1), U8, head=False)
    assert engine(net, np.array([[255, 255], [0, 0]]))["fc"].tolist() == [[15299999], [-1]]


def test_convolution_pads_with_zeros(engine: Engine) -> None:
    layer = Conv2d("conv", 1, 1, (3, 3), padding=(1, 1))
    net = network((1, 3, 3), U8, [(layer, np.ones((1, 1, 3, 3), int), requantization(U8))])
    x = image([1, 1, 1], [1, 1, 1], [1, 1, 1])
    assert engine(net, x)["conv"].tolist() == [[[[4, 6, 4], [6, 9, 6], [4, 6, 4]]]]


def test_convolution_does_not_flip_the_kernel_and_strides_apart(engine: Engine) -> None:
    layer = Conv2d("conv", 1, 1, (2, 2), stride=(1, 2))
    net = network((1, 3, 4), U8, [(layer, [[[[1, 10], [100, 0]]]], requantization(ActFormat(16, False, 0)))])
    x = image([1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 1, 2])
    assert engine(net, x)["conv"].tolist() == [[[[521, 743], [965, 187]]]]


def test_padding_differs_between_height_and_width(engine: Engine) -> None:
    layer = Conv2d("conv", 1, 1, (1, 2), padding=(0, 1))
    net = network((1, 1, 2), U8, [(layer, [[[[1, 10]]]], requantization(U8))])
    assert engine(net, image([2, 3]))["conv"].tolist() == [[[[20, 32, 3]]]]


def test_groups_see_only_their_own_channels(engine: Engine) -> None:
    layer = Conv2d("conv", 4, 2, (1, 1), groups=2)
    net = network((4, 1, 1), U8, [(layer, [[[[1]], [[2]]], [[[3]], [[4]]]], requantization(U8, channels=2))])
    assert engine(net, np.array([1, 2, 3, 4]).reshape(1, 4, 1, 1))["conv"].ravel().tolist() == [5, 25]


def test_maximum_pooling_takes_requantized_integers(engine: Engine) -> None:
    conv = Conv2d("conv", 1, 2, (1, 1))
    requant = requantization(S8, shift=1, multiplier=[1, -1], channels=2)
    net = network(
        (1, 2, 3), U8, [(conv, [[[[1]]], [[[1]]]], requant), (MaxPool("pool", (2, 2), (1, 1), (0,)), None, None)]
    )
    values = engine(net, image([1, 2, 9], [3, 4, 5]))
    assert values["conv"].tolist() == [[[[0, 1, 4], [2, 2, 2]], [[0, -1, -4], [-2, -2, -2]]]]
    assert values["pool"].tolist() == [[[[2, 4]], [[0, -1]]]]


def test_maximum_pooling_may_come_first(engine: Engine) -> None:
    net = network((1, 2, 2), S8, [(MaxPool("pool", (2, 1), (1, 1)), None, None)])
    assert engine(net, image([-5, 3], [-7, 4]))["pool"].tolist() == [[[[-5, 4]]]]


def test_average_pooling_sums_and_then_rounds_once(engine: Engine) -> None:
    net = network((1, 2, 3), U8, [(AvgPool("mean", (2, 2), (1, 1)), None, requantization(U8, shift=2))])
    assert engine(net, image([1, 2, 3], [3, 4, 255]))["mean"].tolist() == [[[[2, 66]]]]  # 2.5 and 66


def test_addition_aligns_the_finer_exponent(engine: Engine) -> None:
    coarse, fine = ActFormat(8, False, -2), ActFormat(8, False, -4)
    net = network(
        (1,),
        ActFormat(8, False, 0),
        [
            (Linear("coarse", 1, 1), [[1]], requantization(coarse)),
            (Linear("fine", 1, 1), [[3]], requantization(fine)),
            (Add("add", (0, 1)), None, requantization(S8, shift=1, offset=-6)),
        ],
    )
    values = engine(net, column(1, 3, 9))
    assert values["add"].ravel().tolist() == [0, 8, 28]  # (4 * x + 3 * x - 6) / 2 = 0.5 7.5 28.5


def test_an_addition_may_double_a_value(engine: Engine) -> None:
    net = network((2,), S8, [(Add("add", (-1, -1)), None, requantization(S8, multiplier=-1))])
    assert engine(net, np.array([[-64, 63], [10, -100]]))["add"].tolist() == [[127, -126], [-20, 127]]


def test_flatten_runs_over_channels_first(engine: Engine) -> None:
    net = network((2, 1, 2), U8, [(Flatten("flat"), None, None)])
    assert engine(net, np.array([[[[1, 2]], [[3, 4]]]]))["flat"].tolist() == [[1, 2, 3, 4]]


def test_a_layer_without_weights_gives_its_offset(engine: Engine) -> None:
    net = linear([[0, 0]], requantization(U8, shift=1, offset=7), U8)
    assert engine(net, np.array([[255, 255]]))["fc"].tolist() == [[4]]  # 3.5


def test_layers_come_in_execution_order_and_the_logits_last(engine: Engine) -> None:
    net = linear([[1, 1]], requantization(U8), U8)
    assert list(engine(net, np.array([[1, 2]]))) == ["fc", "head"]
