"""The trainable network: integers of an affine step, private and shared state, and zero forgetting inside the model."""

import copy
import math

import numpy as np
import pytest
import torch
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
    ActFormat,
    quantize,
    requantize,
)
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.forward import dropped
from tsn_hw.learn.freezing import commit
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import Formats, TrainSettings
from tsn_hw.learn.training import generator_of, start_task

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
    dropped = model.walk(torch.ones(20, 2000), lambda index, layer, operands: operands[0])
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
    for layer in model.weight_layers(0).values():
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
