"""Subnetwork layers: masks, gradients, and the two paths (training, Brevitas) that compute the same values."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from brevitas.quant_tensor import IntQuantTensor
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.learning import assert_same_state, state_of
from tsn_hw.core.arithmetic import ActFormat, quantize
from tsn_hw.core.layers import Conv2d, Linear
from tsn_hw.core.network import UNUSED
from tsn_hw.learn.activations import Activation
from tsn_hw.learn.layers import (
    Subnet,
    SubnetConv2d,
    SubnetLinear,
    kept_weights,
    top_k,
    weight_exponent,
    weight_layer,
)
from tsn_hw.learn.settings import Formats

Layer = SubnetLinear | SubnetConv2d


def linear(inputs: int = 6, outputs: int = 4, seed: int = 0) -> SubnetLinear:
    return filled(weight_layer(Linear("fc", inputs, outputs), Formats(), torch.Generator()), seed)


def convolution(seed: int = 0) -> SubnetConv2d:
    return filled(weight_layer(Conv2d("conv", 4, 6, (3, 2), (2, 1), (1, 0), 2), Formats(), torch.Generator()), seed)


def filled(layer: Layer, seed: int) -> Layer:
    """Random weights and scores."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (layer.weight, layer.subnet.scores):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return layer


def commit(layer: Layer, mask: Tensor, codebook: list[int]) -> None:
    """Let the next task use the mask's weights, its own ones on a codebook, and freeze it."""
    layer.subnet.start(1.0, layer.weight.data, layer.grid.real)
    layer.subnet.fix(mask)
    layer.subnet.snap(np.array(codebook, np.int64))
    layer.subnet.commit(layer.weight.data, layer.grid.real)


def random_mask(layer: Layer, share: float, seed: int) -> Tensor:
    return torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(seed)) < share


# --- the mask that follows the scores ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "keep_ratio", "kept"),
    [
        (10, 0.5, 5),  # the reference code keeps 6
        (10, 0.2, 2),
        (10, 0.25, 3),  # halves go up
        (10, 0.05, 1),
        (10, 0.01, 1),  # never nothing
        (10, 1.0, 10),
        (1, 0.1, 1),
        (3, 0.5, 2),
        (78_400, 0.2, 15_680),
    ],
)
def test_the_number_of_kept_weights_is_rounded_half_up_and_at_least_one(
    count: int, keep_ratio: float, kept: int
) -> None:
    assert kept_weights(count, keep_ratio) == kept


few_values = st.lists(st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 1.5, 2.0]), min_size=1, max_size=40)
any_values = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40)


@given(few_values | any_values, st.data())
def test_a_mask_holds_exactly_the_largest_magnitudes_and_ties_go_to_the_lower_index(
    values: list[float], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, len(values)))
    by_magnitude = sorted(range(len(values)), key=lambda i: (-abs(np.float32(values[i])), i))
    expected = np.zeros(len(values), bool)
    expected[by_magnitude[:kept]] = True
    assert top_k(torch.tensor(values), kept).tolist() == expected.tolist()


def test_a_mask_of_one_and_a_mask_of_all() -> None:
    scores = torch.tensor([[0.0, -5.0], [5.0, 1.0]])
    assert top_k(scores, 1).tolist() == [[False, True], [False, False]]
    assert top_k(scores, 3).tolist() == [[False, True], [True, True]]
    assert top_k(scores, 4).tolist() == [[True, True], [True, True]]


def test_equal_scores_keep_the_first_weights_of_the_flattened_tensor() -> None:
    assert top_k(torch.zeros(2, 3), 4).tolist() == [[True, True, True], [True, False, False]]
    assert top_k(torch.full((2, 3), -0.5), 2).flatten().tolist() == [True, True, False, False, False, False]


def test_choosing_a_mask_leaves_the_scores_alone_and_needs_no_gradient() -> None:
    scores = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    mask = top_k(scores, 2)
    assert not mask.requires_grad
    assert scores.tolist() == [1.0, -2.0, 3.0]


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [linear, convolution])
@pytest.mark.parametrize("owned_share", [0.0, 0.4, 1.0])
def test_gradients_are_those_of_the_method(make: type, owned_share: float) -> None:
    """dL/dW = G * M on free weights, 0 elsewhere; dL/dS = G * W * sign(S) everywhere, also on frozen weights."""
    layer = make()
    if owned_share:
        commit(layer, random_mask(layer, owned_share, 5), [-90, -7, 0, 31])
    subnet = layer.subnet
    subnet.start(0.5, layer.weight.data, layer.grid.real)
    with torch.no_grad():
        subnet.scores.view(-1)[0] = 0.0  # sign(0) = 0
    effective = layer.learned_weight()
    upstream = torch.randn(effective.shape, generator=torch.Generator().manual_seed(9))
    effective.backward(upstream)

    mask, free = top_k(subnet.scores, kept_weights(layer.weight.numel(), 0.5)), subnet.owner == UNUSED
    expected_weight_gradient = torch.where(mask & free, upstream, 0.0)
    expected_score_gradient = upstream * layer.weight.detach() * subnet.scores.detach().sign()
    assert layer.weight.grad is not None
    assert subnet.scores.grad is not None
    assert torch.equal(layer.weight.grad, expected_weight_gradient)
    assert torch.equal(subnet.scores.grad, expected_score_gradient)
    assert subnet.scores.grad[~mask].count_nonzero() > 0  # this is what lets a weight enter the mask


def test_gradients_agree_with_autograd_written_out_by_hand() -> None:
    layer = linear(5, 3)
    layer.subnet.start(0.4, layer.weight.data, layer.grid.real)
    layer.train()
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    layer(x).square().sum().backward()

    weight, scores = layer.weight.detach().clone().requires_grad_(), layer.subnet.scores.detach().clone()
    mask = top_k(scores, 6).float()
    surrogate = scores.abs().requires_grad_()
    # identity in the backward pass: M behaves as |S|, its value stays 0 or 1
    masked = weight * (mask + surrogate - surrogate.detach())
    F.linear(x, masked).square().sum().backward()
    assert surrogate.grad is not None
    assert weight.grad is not None
    torch.testing.assert_close(layer.subnet.scores.grad, surrogate.grad * scores.sign())
    torch.testing.assert_close(layer.weight.grad, weight.grad)


def test_gradients_go_straight_through_a_codebook_with_the_snapped_values_as_weights() -> None:
    layer = linear(4, 2)
    layer.subnet.start(1.0, layer.weight.data, layer.grid.real)
    layer.subnet.snap(np.array([-3, 5]))
    effective = layer.learned_weight()
    assert set((effective / layer.grid.real).flatten().tolist()) <= {-3.0, 5.0}
    effective.backward(torch.full_like(effective, 2.0))
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[2.0] * 4] * 2
    assert torch.equal(layer.subnet.scores.grad, 2.0 * effective.detach() * layer.subnet.scores.detach().sign())


# --- effective weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [linear, convolution])
def test_selected_weights_are_bitwise_themselves_and_the_others_exactly_zero(make: type) -> None:
    layer = make()
    layer.subnet.start(0.3, layer.weight.data, layer.grid.real)
    mask, effective = layer.subnet.mask(), layer.learned_weight().detach()
    assert int(mask.count_nonzero()) == kept_weights(layer.weight.numel(), 0.3)
    assert torch.equal(effective[mask], layer.weight.detach()[mask])
    assert effective[~mask].tolist() == [0.0] * int((~mask).count_nonzero())


def test_a_task_that_starts_sees_the_stored_integers_of_owned_weights() -> None:
    layer = linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[10.2, -5.0, 0.7]]) * layer.grid.real)
    commit(layer, torch.tensor([[True, True, False]]), [-4, 12])
    layer.subnet.start(1.0, layer.weight.data, layer.grid.real)
    assert (layer.weight.detach() / layer.grid.real).tolist() == [[12.0, -4.0, pytest.approx(0.7)]]
    assert layer.subnet.stored().tolist() == [[12, -4, 0]]
    assert layer.subnet.own().tolist() == [[False, False, True]]


def test_the_first_task_owns_and_later_tasks_only_read() -> None:
    layer = linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[10.0, 20.0, 30.0, 40.0]]) * layer.grid.real)
    commit(layer, torch.tensor([[True, True, False, False]]), [10, 20])
    commit(layer, torch.tensor([[False, True, True, False]]), [33])  # its own weight of 30 snaps to 33
    assert layer.subnet.owner.tolist() == [[0, 0, 1, UNUSED]]
    assert layer.subnet.entries.tolist() == [2, 1]
    assert layer.subnet.stored().tolist() == [[10, 20, 33, 0]]
    layer.eval()
    weights = []
    for task in (0, 1):
        layer.subnet.task = task
        weights.append((layer.quant_weight().value / layer.grid.real).tolist())
    assert weights == [[[10.0, 20.0, 0.0, 0.0]], [[0.0, 20.0, 33.0, 0.0]]]


def test_a_task_that_owns_nothing_commits_an_empty_codebook() -> None:
    layer = linear(2, 2)
    full = torch.ones(2, 2, dtype=torch.bool)
    commit(layer, full, [-1, 1])
    before = layer.subnet.stored()
    commit(layer, full, [])
    commit(layer, ~full, [])
    assert layer.subnet.entries.tolist() == [2, 0, 0]
    assert layer.subnet.owner.tolist() == [[0, 0], [0, 0]]
    assert torch.equal(layer.subnet.stored(), before)
    assert layer.subnet.masks.flatten(1).sum(1).tolist() == [4, 4, 0]


def test_a_codebook_of_256_entries_fits() -> None:
    layer = linear(64, 8)
    with torch.no_grad():
        layer.weight.copy_((torch.arange(512.0) % 256 - 128).reshape(8, 64) * layer.grid.real)
    commit(layer, torch.ones(8, 64, dtype=torch.bool), list(range(-128, 128)))
    assert layer.subnet.stored().flatten().tolist() == [*range(-128, 128), *range(-128, 128)]
    assert layer.subnet.code.max() == 255


def test_committed_weights_ignore_garbage_in_float_weights_and_scores() -> None:
    layer = convolution()
    commit(layer, random_mask(layer, 0.5, 1), [-20, 3, 40])
    layer.eval()
    before = layer.quant_weight().value.detach().clone()
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
        layer.subnet.scores.fill_(float("inf"))
    assert torch.equal(layer.quant_weight().value, before)
    assert before.count_nonzero() > 0


@pytest.mark.parametrize(
    ("fan_in", "centroid_bits", "headroom", "exponent"),
    [(64, 8, 4.0, -8), (64, 4, 4.0, -4), (100, 8, 4.0, -8), (1, 8, 4.0, -5), (9, 16, 1.0, -16)],
)
def test_the_weight_grid_reaches_the_headroom(fan_in: int, centroid_bits: int, headroom: float, exponent: int) -> None:
    assert weight_exponent(fan_in, centroid_bits, headroom) == exponent
    reach = 2.0 ** (centroid_bits - 1 + exponent)
    assert headroom / math.sqrt(fan_in) <= reach < 2 * headroom / math.sqrt(fan_in)


# --- training path = Brevitas path -------------------------------------------------------------------------------


def on_grid(shape: tuple[int, ...], scale: float, dtype: torch.dtype) -> Tensor:
    """A batch of 8-bit pixels."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3)).to(dtype) * scale


def value_of(result: Tensor | IntQuantTensor) -> Tensor:
    return result.value if isinstance(result, IntQuantTensor) else result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tasks", [0, 2])
@pytest.mark.parametrize("snapped", [False, True])
@pytest.mark.parametrize("make", [linear, convolution])
def test_training_and_brevitas_compute_bitwise_the_same_layer(
    make: type, snapped: bool, tasks: int, dtype: torch.dtype
) -> None:
    layer: Layer = make().to(dtype)
    for task in range(tasks):
        commit(layer, random_mask(layer, 0.3, task), [-60, -1, 8, 50])
    layer.subnet.start(0.5, layer.weight.data, layer.grid.real)
    if snapped:
        layer.subnet.snap(np.array([-77, -3, 0, 2, 101]))
    activation = Activation(8, signed=False, exponent=-8).eval().to(dtype)
    x = on_grid((5, 6) if isinstance(layer, SubnetLinear) else (5, 4, 7, 6), 2.0**-8, dtype)
    training = layer.train()(x)
    evaluation = layer.eval()(activation(x))
    assert isinstance(evaluation, IntQuantTensor)
    assert training.shape == evaluation.value.shape
    assert torch.equal(training, evaluation.value)
    assert torch.equal(layer.learned_weight(), layer.quant_weight().value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_training_and_brevitas_compute_bitwise_the_same_activation(signed: bool, bits: int, dtype: torch.dtype) -> None:
    activation = Activation(bits, signed, exponent=3 - bits).to(dtype)
    random = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=dtype) * 8
    ties = (torch.arange(-40, 40, dtype=dtype) / 2) * activation.grid.real
    x = torch.cat([random, ties, torch.tensor([0.0, -0.0, 1e30, -1e30], dtype=dtype)])
    training, evaluation = activation.train()(x), activation.eval()(x)
    assert isinstance(evaluation, IntQuantTensor)
    assert torch.equal(training, evaluation.value)
    assert float(evaluation.scale) == 2.0 ** (3 - bits)
    assert int(evaluation.bit_width) == bits
    expected = quantize(x.numpy(), ActFormat(bits, signed, 3 - bits))
    np.testing.assert_array_equal((training / activation.grid.real).numpy().astype(np.int64), expected)


def test_brevitas_carries_scale_and_bit_width_of_weights_and_sums() -> None:
    layer = linear()
    commit(layer, random_mask(layer, 0.5, 0), [-2, 3])
    layer.eval()
    weights = layer.quant_weight()
    assert float(weights.scale) == 2.0 ** weight_exponent(6, 8, 4.0)
    assert int(weights.bit_width) == 8
    layer.subnet.task = 0
    sums = layer(Activation(8, signed=False, exponent=-8).eval()(on_grid((1, 6), 2.0**-8, torch.float32)))
    assert float(sums.scale) == float(weights.scale) * 2.0**-8


# --- states ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [linear, convolution])
@pytest.mark.parametrize("tasks", [0, 1, 3])
def test_a_state_goes_into_a_fresh_layer_and_comes_out_bitwise(make: type, tasks: int) -> None:
    layer: Layer = make(seed=1)
    for task in range(tasks):
        commit(layer, random_mask(layer, 0.3, task), [-60 - task, -1, 8, 50])
    fresh: Layer = make(seed=2)
    fresh.load_state_dict(state_of(layer), strict=True)
    assert_same_state(state_of(fresh), state_of(layer))
    assert fresh.subnet.committed == tasks
    layer.eval(), fresh.eval()
    for task in range(tasks):
        layer.subnet.task = fresh.subnet.task = task
        assert torch.equal(layer.quant_weight().value, fresh.quant_weight().value)


def test_loading_a_state_keeps_the_quantizer_that_owns_the_scores() -> None:
    """Brevitas rebuilds a weight quantizer after a load; ours must stay the module that training holds."""
    layer = linear()
    subnet, scores = layer.subnet, layer.subnet.scores
    layer.load_state_dict(state_of(linear(seed=4)))
    assert layer.subnet is subnet
    assert layer.subnet.scores is scores
    assert any(parameter is scores for parameter in layer.parameters())
    layer.weight = torch.nn.Parameter(torch.ones(4, 6))  # the other way to trigger the rebuild
    assert layer.subnet is subnet


def test_a_state_with_more_tasks_replaces_one_with_fewer_and_back() -> None:
    layer, other = linear(seed=1), linear(seed=2)
    commit(layer, random_mask(layer, 0.3, 0), [1, 2])
    one = state_of(layer)
    commit(layer, random_mask(layer, 0.6, 1), [5])
    two = state_of(layer)
    for state, tasks in ((two, 2), (one, 1), (two, 2)):
        other.load_state_dict(state)
        assert other.subnet.committed == tasks
        assert_same_state(state_of(other), state)


def test_learning_goes_on_after_a_state_was_loaded() -> None:
    first, second = linear(seed=1), linear(seed=2)
    commit(first, random_mask(first, 0.3, 0), [-9, 4])
    second.load_state_dict(state_of(first))
    for layer in (first, second):
        commit(layer, random_mask(first, 0.6, 1), [-5, 0, 6])
    assert_same_state(state_of(first), state_of(second))


def test_the_grid_is_part_of_the_state() -> None:
    activation, other = Activation(8, signed=False), Activation(8, signed=False, exponent=5)
    activation.grid.set(-11)
    other.load_state_dict(activation.state_dict())
    assert other.grid.real == 2.0**-11
    assert float(other.eval()(torch.ones(1)).value) == 255 * 2.0**-11


def test_a_subnet_keeps_its_place_in_brevitas() -> None:
    assert isinstance(linear().subnet, Subnet)
    assert linear().bias is None
