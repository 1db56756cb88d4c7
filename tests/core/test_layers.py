"""The geometry of layers, against torch's shapes and its count of operations."""

import dataclasses

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tsn_hw.core.errors import NetworkError
from tsn_hw.core.header import layer_json
from tsn_hw.core.layers import LAYER_KINDS, Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Pad

PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))
SIZES = st.tuples(st.integers(4, 12), st.integers(4, 12))


def torch_result(module, shape):
    """Output shape and multiply-accumulates of a torch module for one input, without the batch."""
    counter = FlopCounterMode(display=False)
    with counter:
        output = module(torch.empty(1, *shape, device="meta"))
    return tuple(output.shape[1:]), counter.get_total_flops() // 2


@given(
    groups=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=PAIRS,
    stride=PAIRS,
    around=st.tuples(*[st.tuples(st.integers(low, 3), st.integers(low, 3)) for low in (0, 1)]),
    size=SIZES,
)
def test_a_convolution_has_torchs_shapes_and_operations(groups, widths, kernel, stride, around, size):
    padding, dilation = around
    assume(all(d * (k - 1) < s + 2 * p for k, s, p, d in zip(kernel, size, padding, dilation, strict=True)))
    channels, filters = groups * widths[0], groups * widths[1]
    window = {"groups": groups, "dilation": dilation}
    theirs = torch.nn.Conv2d(channels, filters, kernel, stride, padding, **window, bias=False, device="meta")
    ours = Conv2d("conv", channels, filters, kernel, stride, padding, **window)
    source = (channels, *size)
    assert ours.weight_shape == tuple(theirs.weight.shape)
    assert ours.channels == filters
    assert (ours.output_shape(source), ours.macs(source)) == torch_result(theirs, source)


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_linear_layer_has_torchs_shapes_and_operations(inputs, outputs):
    theirs = torch.nn.Linear(inputs, outputs, bias=False, device="meta")
    ours = Linear("fc", inputs, outputs)
    assert ours.weight_shape == tuple(theirs.weight.shape)
    assert ours.channels == outputs
    assert (ours.output_shape((inputs,)), ours.macs((inputs,))) == torch_result(theirs, (inputs,))


@pytest.mark.parametrize(("ours", "theirs"), [(MaxPool, torch.nn.MaxPool2d), (AvgPool, torch.nn.AvgPool2d)])
@given(kernel=PAIRS, stride=PAIRS, size=SIZES)
def test_pooling_has_torchs_shapes(ours, theirs, kernel, stride, size):
    expected, _ = torch_result(theirs(kernel, stride), (3, *size))
    assert ours("pool", kernel, stride).output_shape((3, *size)) == expected


@given(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)))
def test_flatten_has_torchs_shape(shape):
    assert Flatten("flatten").output_shape(shape) == torch_result(torch.nn.Flatten(), shape)[0]


def test_flatten_keeps_features_as_they_are():
    assert Flatten("flatten").output_shape((7,)) == (7,)


def test_add_keeps_the_shape_of_its_operands():
    assert Add("add", (0, 1)).output_shape((2, 3, 4), (2, 3, 4)) == (2, 3, 4)


@given(kernel=PAIRS, stride=PAIRS, padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), size=SIZES)
def test_every_window_lies_inside_the_padded_input_and_one_more_would_not(kernel, stride, padding, size):
    assume(all(k <= s + 2 * p for k, s, p in zip(kernel, size, padding, strict=True)))
    shape = Conv2d("conv", 1, 1, kernel, stride, padding).output_shape((1, *size))
    for windows, side, k, step, pad in zip(shape[1:], size, kernel, stride, padding, strict=True):
        assert (windows - 1) * step + k <= side + 2 * pad < windows * step + k


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (2, "layer 'conv': groups=2 does not divide 3 input and 6 output channels"),
        (4, "layer 'conv': groups=4 does not divide 3 input and 6 output channels"),
        (0, "layer 'conv': groups=0 does not divide 3 input and 6 output channels"),
        (-1, "layer 'conv': groups=-1 does not divide 3 input and 6 output channels"),
    ],
)
def test_groups_must_divide_the_channels(groups, message):
    with pytest.raises(NetworkError) as error:
        Conv2d("conv", 3, 6, (1, 1), groups=groups)
    assert str(error.value) == message


def test_a_pad_has_torchs_shapes():
    pad = Pad("pad", (1, 2, 3, 4))
    assert pad.output_shape((5, 6, 7)) == torch_result(torch.nn.ZeroPad2d((2, 4, 1, 3)), (5, 6, 7))[0] == (5, 10, 13)


def test_a_dilation_stands_in_files_where_there_is_one():
    assert "dilation" not in layer_json(Conv2d("conv", 1, 1, (1, 1)))
    assert layer_json(Conv2d("conv", 1, 1, (1, 1), dilation=(2, 1)))["dilation"] == (2, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Conv2d("conv", 1, 1, (1, 1), dilation=(0, 1)),
            "layer 'conv': dilation (0, 1) must be two numbers of at least 1",
        ),
        (
            lambda: Pad("pad", (1, 0, -1, 0)),
            "layer 'pad': padding (1, 0, -1, 0) must be four numbers of at least 0",
        ),
        (
            lambda: Pad("pad", (1, 1, 1, 1)).output_shape((4,)),
            "layer 'pad': takes (channels, height, width), its input is (4,)",
        ),
    ],
)
def test_sizes_that_no_window_has_are_refused(make, message):
    with pytest.raises(NetworkError) as error:
        make()
    assert str(error.value) == message


def test_padding_is_not_negative():
    with pytest.raises(NetworkError) as error:
        Conv2d("conv", 1, 1, (1, 1), padding=(0, -1))
    assert str(error.value) == "layer 'conv': padding (0, -1) is negative"


@pytest.mark.parametrize(
    ("layer", "sources", "message"),
    [
        (Linear("fc", 4, 2), [(5,)], "layer 'fc': takes (4,), its input is (5,)"),
        (Linear("fc", 4, 2), [(1, 2, 2)], "layer 'fc': takes (4,), its input is (1, 2, 2)"),
        (Conv2d("conv", 2, 3, (1, 1)), [(4,)], "layer 'conv': takes (2, height, width), its input is (4,)"),
        (Conv2d("conv", 2, 3, (1, 1)), [(3, 4, 4)], "layer 'conv': takes (2, height, width), its input is (3, 4, 4)"),
        (
            Conv2d("conv", 1, 1, (5, 3), padding=(0, 1)),
            [(1, 4, 4)],
            "layer 'conv': kernel (5, 3) does not fit its input (1, 4, 4) with padding (0, 1)",
        ),
        (
            Conv2d("conv", 1, 1, (3, 3), stride=(0, 1)),
            [(1, 4, 4)],
            "layer 'conv': kernel (3, 3) and stride (0, 1) must be at least 1",
        ),
        (MaxPool("pool", (2, 2), (2, 2)), [(4,)], "layer 'pool': takes (channels, height, width), its input is (4,)"),
        (AvgPool("pool", (2, 2), (2, 2)), [(4,)], "layer 'pool': takes (channels, height, width), its input is (4,)"),
        (
            MaxPool("pool", (0, 2), (2, 2)),
            [(1, 4, 4)],
            "layer 'pool': kernel (0, 2) and stride (2, 2) must be at least 1",
        ),
        (
            AvgPool("pool", (2, 5), (2, 2)),
            [(1, 4, 4)],
            "layer 'pool': kernel (2, 5) does not fit its input (1, 4, 4) with padding (0, 0)",
        ),
        (Add("add", (0, 1)), [(2, 3), (3, 2)], "layer 'add': adds (2, 3) to (3, 2), the shapes must be equal"),
    ],
)
def test_a_layer_refuses_shapes_that_it_cannot_take(layer, sources, message):
    with pytest.raises(NetworkError) as error:
        layer.output_shape(*sources)
    assert str(error.value) == message


def test_layers_are_immutable_values():
    layer = Linear("fc", 4, 2)
    assert layer == Linear("fc", 4, 2)
    assert layer != Linear("fc", 4, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.in_features = 5


def test_every_kind_is_listed_under_its_own_name():
    assert sorted(LAYER_KINDS) == ["Add", "AvgPool", "Conv2d", "Flatten", "Linear", "MaxPool", "Pad"]
    assert all(name == kind.__name__ for name, kind in LAYER_KINDS.items())
