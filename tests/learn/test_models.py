"""The trainable network: integers of an affine step, private and shared state, and zero forgetting inside the model."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.learning import (
    activation_of,
    add_task,
    assert_same_integers,
    assert_same_state,
    commit_randomly,
    digits_task,
    integers_of,
    learn_task,
    model_of,
    pixels,
    residual,
    state_of,
    train_task,
)
from tsn_hw.core.arithmetic import (
    INT32,
    ActFormat,
    accumulator_bounds,
    exact_in_float32,
    quantize,
    requantize,
    round_shift,
)
from tsn_hw.core.layers import AvgPool, Linear
from tsn_hw.learn.architectures import Architecture, alexnet, mlp
from tsn_hw.learn.dropout import dropped
from tsn_hw.learn.freeze import commit
from tsn_hw.learn.layers import Activation
from tsn_hw.learn.models import SubnetModel, TaskAffine, average
from tsn_hw.learn.settings import Formats, TrainSettings
from tsn_hw.learn.train import generator_of, start_task

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


# --- what is private, what is shared, what is random ---------------------------------------------------------------


def test_tasks_of_one_bank_share_the_body_and_nothing_else() -> None:
    model = model_of(banks=(0, 1, 0, 0, 1))
    assert [model.prefix(task) for task in range(5)] == [0, 0, 1, 2, 1]
    assert model.body_layers(0) == model.body_layers(2) == model.body_layers(3)
    assert model.body_layers(1) == model.body_layers(4) != model.body_layers(0)
    owned = [{id(p) for p in model.parameters_of(task)} for task in range(5)]
    body = {id(p) for p in model.banks[0].parameters()}
    assert owned[0] & owned[2] == body
    assert not owned[0] & owned[1]


def test_the_scores_of_a_head_are_not_trained_because_it_is_dense() -> None:
    model = model_of()
    scores = model.modules_of(0).head.subnet.scores
    assert all(parameter is not scores for parameter in model.parameters_of(0))
    assert any(parameter is model.modules_of(0).head.weight for parameter in model.parameters_of(0))


def test_a_fresh_body_comes_from_its_generator_alone() -> None:
    first, second, other = (SubnetModel(mlp((1, 8, 8), (12,)), Formats()) for _ in range(3))
    for model, disturbance, seed in ((first, 1, 7), (second, 2, 7), (other, 1, 8)):
        torch.manual_seed(disturbance)
        model.add_bank(generator_of(seed))
        model.add_task(0, 10, generator_of(seed, "head"))
    assert_same_state(state_of(first), state_of(second))
    assert not torch.equal(first.body_layers(0)[1].weight, other.body_layers(0)[1].weight)


def test_fresh_weights_and_scores_are_uniform_within_one_over_root_fan_in() -> None:
    layer = model_of(mlp((1, 20, 20), (50,))).body_layers(0)[1]
    for tensor in (layer.weight, layer.subnet.scores):
        assert float(tensor.detach().abs().max()) <= 1 / 20
        assert float(tensor.detach().std()) == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    assert not torch.equal(layer.weight, layer.subnet.scores)


@pytest.mark.parametrize("architecture", [mlp((2, 7, 6), (9, 5)), residual(), alexnet((2, 7, 6), (5, 4), (6,), False)])
def test_training_and_evaluation_give_bitwise_the_same_logits(architecture: Architecture) -> None:
    model = model_of(architecture, classes=3)
    start_task(model, 0, TrainSettings(), 1)
    x = torch.rand(9, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    model.calibrate(x, 0)
    assert torch.equal(model.train()(x, 0), model.eval()(x, 0))


def test_dropout_follows_its_generator_and_is_off_in_evaluation() -> None:
    model = model_of(mlp((1, 8, 8), (12,), dropout=0.5))
    start_task(model, 0, TrainSettings(keep_ratio=1.0), 1)
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model.calibrate(x, 0)

    def logits(seed: int) -> Tensor:
        model.dropout_generator = torch.Generator().manual_seed(seed)
        return model(x, 0).detach()

    model.train()
    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    model.eval()
    assert torch.equal(logits(1), logits(2))


@pytest.mark.parametrize(("share", "lost"), [(0.1, 26), (0.5, 128), (0.9, 230)])
def test_dropout_loses_a_share_in_steps_of_a_256th(share: float, lost: int) -> None:
    x = dropped(torch.ones(7, 9999), share, torch.Generator().manual_seed(0))
    assert x.shape == (7, 9999)
    assert sorted(x.unique().tolist()) == pytest.approx([0.0, 256 / (256 - lost)])
    assert float((x == 0).float().mean()) == pytest.approx(lost / 256, abs=0.01)
    assert float(x.mean()) == pytest.approx(1.0, abs=0.02)
    again, other = (dropped(torch.ones(7, 9999), share, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)


def test_dropout_keeps_the_mean() -> None:
    model = model_of(mlp((1, 40, 50), (3,), dropout=0.25))
    model.train().dropout_generator = torch.Generator().manual_seed(0)  # type: ignore[union-attr]
    dropped = model._drop("flatten", torch.ones(20, 2000))
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)


def test_calibration_measures_every_activation_of_its_own_task_only() -> None:
    model = model_of(residual(), banks=(0, 0), classes=3)
    for task in (0, 1):
        start_task(model, task, TrainSettings(keep_ratio=1.0), 1)
    x = torch.rand(32, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    model.calibrate(x, 1)
    names = ["stem", "branch", "add", "down", "average", "fc"]
    assert [int(activation_of(model, 0, name).grid.exponent) for name in names] == [0] * 6
    assert all(int(activation_of(model, 1, name).grid.exponent) < 0 for name in names)


# --- states --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_model_goes_through_its_state_into_a_fresh_one(batch_norm: bool) -> None:
    banks = (0, 1, 0)
    model = model_of(residual(batch_norm), banks=banks, classes=4, seed=1)
    for task in range(3):
        commit_randomly(model, task, seed=task)
    fresh = model_of(residual(batch_norm), banks=banks, classes=4, seed=99)
    fresh.load_state_dict(state_of(model), strict=True)
    assert_same_state(state_of(fresh), state_of(model))
    x = pixels(model, 5)
    for task in range(3):
        assert_same_integers(integers_of(fresh, task, x), integers_of(model, task, x))


def test_a_loaded_model_learns_the_next_task_as_the_original_does() -> None:
    model, fresh = (model_of(mlp((1, 8, 8), (12,)), banks=(0, 0), seed=seed) for seed in (1, 2))
    learn_task(model, 0, digits_task(0, 200))
    fresh.load_state_dict(state_of(model))
    for either in (model, fresh):
        learn_task(either, 1, digits_task(1, 200))
    assert_same_state(state_of(model), state_of(fresh))


# --- zero forgetting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_committed_task_computes_the_same_integers_whatever_is_learned_after_it(batch_norm: bool) -> None:
    model = model_of(mlp((1, 8, 8), (14, 9), batch_norm))
    learn_task(model, 0, digits_task(0, 300))
    x = pixels(model, 40)
    first = integers_of(model, 0, x)
    assert len(np.unique(first["fc2"])) > 5  # not vacuous: the task does compute something
    for task, bank in ((1, 0), (2, 1), (3, 0)):
        add_task(model, bank, seed=task)
        learn_task(model, task, digits_task(task, 300))
        assert_same_integers(integers_of(model, 0, x), first)
    owners = model.body_layers(0)[1].subnet.owner
    assert {0, 1, 2} <= set(owners.flatten().tolist())  # the bank's later tasks did write words
    shared = model.body_layers(0)[1].subnet.masks[:2].all(0)
    assert shared.any()


def test_a_committed_task_survives_a_learner_that_runs_wild() -> None:
    model = model_of(residual(batch_norm=True), banks=(0, 0), classes=4)
    commit_randomly(model, 0, seed=3)
    x = pixels(model, 12)
    before = integers_of(model, 0, x)
    start_task(model, 1, TrainSettings(), 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e9)
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)):
            norm.running_mean.fill_(7.0)  # type: ignore[union-attr]
    assert_same_integers(integers_of(model, 0, x), before)


def test_calibrating_and_training_a_later_task_leaves_the_modules_of_earlier_ones_alone() -> None:
    model = model_of(mlp((1, 8, 8), (12,), batch_norm=True), banks=(0, 0))
    learn_task(model, 0, digits_task(0, 200))
    private = copy.deepcopy(model.modules_of(0).state_dict())
    words = {n: t for n, t in state_of(model).items() if n.startswith("banks") and n.endswith((".owner", ".code"))}
    train_task(model, 1, digits_task(1, 200))
    assert_same_state(dict(model.modules_of(0).state_dict()), dict(private))
    assert_same_state({n: t for n, t in state_of(model).items() if n in words}, words)


def test_owned_float_weights_stay_at_their_stored_value_through_training() -> None:
    model = model_of(banks=(0, 0))
    learn_task(model, 0, digits_task(0, 200))
    train_task(model, 1, digits_task(1, 200))
    for layer in model.body_layers(1).values():
        owned = layer.subnet.owner >= 0
        expected = layer.subnet.stored()[owned] * layer.grid.real
        assert torch.equal(layer.weight.detach()[owned], expected)


# --- the committed engine ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act_bits", [4, 8, 16])
def test_images_enter_as_the_integers_of_the_input_format(act_bits: int) -> None:
    model = model_of(formats=Formats(act_bits=act_bits))  # type: ignore[arg-type]
    every_pixel = np.arange(256)
    entered = model.input.eval()(torch.from_numpy(every_pixel).float() / 256)
    bits = min(act_bits, 8)
    expected = quantize(every_pixel / 256, ActFormat(bits, False, -bits))
    np.testing.assert_array_equal((entered.value * 2.0**bits).numpy().astype(np.int64), expected)
    assert expected[[0, 255]].tolist() == [0, 2**bits - 1]


def test_a_committed_layer_equals_the_contract_written_out() -> None:
    model = model_of(mlp((1, 4, 4), (5,), batch_norm=True), classes=3)
    commit_randomly(model, 0, seed=8)
    x = pixels(model, 7)
    taps = integers_of(model, 0, x)
    layer, affine = model.body_layers(0)[1], model.modules_of(0).affines["1"]
    weights = (layer.subnet.masks[0] * layer.subnet.stored()).numpy().astype(np.int64)
    output = int(activation_of(model, 0, "fc1").grid.exponent)
    shift = output - (-8 + int(layer.grid.exponent) + int(affine.multiplier_exponent))
    acc = x.reshape(7, -1) @ weights.T
    expected = requantize(acc, affine.multiplier.numpy(), affine.offset.numpy(), shift, (0, 255))
    np.testing.assert_array_equal(taps["fc1"], expected)
    head = model.modules_of(0)
    logits = expected @ head.head.subnet.stored().numpy().astype(np.int64).T + head.affine.offset.numpy()
    np.testing.assert_array_equal(taps["head"], logits)


def test_committing_keeps_what_the_quantized_float_model_computed() -> None:
    """Only biases are rounded once more, to a small part of an activation's step: few activations may move by one."""
    model = model_of(mlp((1, 8, 8), (12, 10)))
    train_task(model, 0, digits_task(0, 200))
    for layer in model.weight_layers(0):
        layer.subnet.snap(np.arange(-128, 128, 2))
    x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before, after = {}, {}
    model.eval()(x, 0, before)
    commit(model, 0)
    model(x, 0, after)
    for name in ("fc1", "fc2"):
        moved = ((before[name].value - after[name].value).abs() / after[name].scale).detach()
        assert float(moved.max()) <= 1
        assert float(moved.mean()) < 0.02
