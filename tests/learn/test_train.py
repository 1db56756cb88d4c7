"""The training loop: schedules, the best state, masks of the last moment, and seeds that decide everything."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers.learning import (
    FEW,
    TINY,
    add_task,
    assert_same_state,
    digits_task,
    learn_task,
    model_of,
    quantize_task,
    state_of,
    train_task,
)
from tests.helpers.tiny_run import TINY as RUN
from tests.helpers.tiny_run import learn
from tsn_hw.core.errors import SettingsError, TrainingError
from tsn_hw.learn import training
from tsn_hw.learn.bodies import mlp
from tsn_hw.learn.freezing import commit
from tsn_hw.learn.layers import kept_weights, top_k
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.training import (
    FEWEST_DECIDING,
    Evaluation,
    Fit,
    Tensors,
    evaluate,
    fit,
    restore,
    start_task,
    trainable_state,
)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the validation losses, epoch by epoch; the last one repeats."""

    def pretend(*values: float) -> None:
        left: Iterator[float] = iter(values)
        last = [math.nan]

        def fake(model: SubnetModel, task: int, x: Tensor, y: Tensor) -> Evaluation:
            last[0] = next(left, last[0])
            return Evaluation(last[0], 0.0)

        monkeypatch.setattr(training, "evaluate", fake)

    return pretend


def snapshots(model: SubnetModel, settings: TrainSettings, data: Tensors = FEW) -> tuple[Fit, list[dict[str, Tensor]]]:
    """Train task 0; returns its fit and the trainable state after every epoch."""
    states: list[dict[str, Tensor]] = []
    state = start_task(model, 0, settings, 1)
    keep: Callable[[Fit], None] = lambda _: states.append(  # noqa: E731
        {name: tensor.clone() for name, tensor in trainable_state(model, 0).items()}
    )
    fit(model, 0, data, state, keep)
    return state, states


# --- the best state and its masks --------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [0, 1, 3])
def test_training_ends_in_the_state_of_least_validation_loss(losses: Callable[..., None], best: int) -> None:
    losses(*[0.5 if epoch == best else 2.0 - epoch / 10 for epoch in range(4)])
    model = model_of()
    state, states = snapshots(model, replace(TINY, epochs=4))
    assert state.best_loss == 0.5
    assert_same_state(trainable_state(model, 0), states[best])
    assert any(not torch.equal(states[best][name], states[(best + 1) % 4][name]) for name in states[0])


def test_of_equal_losses_the_earliest_state_wins(losses: Callable[..., None]) -> None:
    losses(1.0)
    model = model_of()
    _, states = snapshots(model, TINY)
    assert_same_state(trainable_state(model, 0), states[0])


@pytest.mark.parametrize("keep_ratio", [0.01, 0.2, 0.5, 1.0])
def test_masks_are_recomputed_from_the_restored_scores(losses: Callable[..., None], keep_ratio: float) -> None:
    """The reference code keeps the mask of the last batch (defect B15)."""
    losses(1.0, 2.0)
    model = model_of(mlp((1, 8, 8), (12, 10)))
    snapshots(model, replace(TINY, keep_ratio=keep_ratio))
    for layer in model.body_layers(0).values():
        kept = kept_weights(layer.weight.numel(), keep_ratio)
        assert layer.subnet.fixed is not None
        assert torch.equal(layer.subnet.fixed, top_k(layer.subnet.scores, kept))
        assert int(layer.subnet.fixed.count_nonzero()) == kept


def test_masks_stay_fixed_when_scores_move_on() -> None:
    model = model_of()
    train_task(model, 0, FEW)
    layer = model.body_layers(0)[1]
    before = layer.subnet.mask().clone()
    with torch.no_grad():
        layer.subnet.scores.neg_().add_(1.0)
    assert torch.equal(layer.subnet.mask(), before)


def test_masks_do_change_during_training() -> None:
    model = model_of()
    start_task(model, 0, TINY, 1)
    before = model.body_layers(0)[1].subnet.mask()
    train_task(model, 0, digits_task())
    after = model.body_layers(0)[1].subnet.mask()
    assert int((before ^ after).count_nonzero()) > 0


def test_a_state_goes_back_bitwise_and_touches_no_other_bank_or_task() -> None:
    model = model_of(banks=(0, 1, 0))
    learn_task(model, 0, FEW)
    kept = {name: tensor.clone() for name, tensor in trainable_state(model, 2).items()}
    before = state_of(model)
    with torch.no_grad():
        for tensor in trainable_state(model, 2).values():
            tensor.copy_(1 - tensor.float())
    restore(model, kept)
    assert_same_state(state_of(model), before)
    assert all(name.startswith(("banks.0.", "tasks.2.")) for name in kept)
    endings = {name.rsplit(".", 1)[-1] for name in kept}
    assert {"weight", "scores", "bias", "exponent"} <= endings
    assert not endings & {"owner", "code", "codebooks", "entries", "masks"}


# --- schedules ---------------------------------------------------------------------------------------------------


def rates(settings: TrainSettings) -> list[float]:
    """Learning rate of the last step of every epoch."""
    seen: list[float] = []
    model = model_of()
    state = start_task(model, 0, settings, 1)
    fit(model, 0, FEW, state, lambda s: seen.append(s.optimizer.param_groups[0]["lr"]))
    return seen


def test_the_plateau_schedule_halves_after_its_patience_and_stops_below_the_floor(
    losses: Callable[..., None],
) -> None:
    losses(1.0)
    settings = TrainSettings(epochs=50, batch=32, schedule="plateau", lr=0.08, patience=2, decay=0.5, lr_floor=0.03)
    assert rates(settings) == [0.08, 0.08, 0.08, 0.04, 0.04]  # then 0.02


def test_a_rate_exactly_at_the_floor_is_still_used(losses: Callable[..., None]) -> None:
    losses(1.0)
    settings = TrainSettings(epochs=50, batch=32, schedule="plateau", lr=0.08, patience=1, decay=0.5, lr_floor=0.04)
    assert rates(settings) == [0.08, 0.08, 0.04]


def test_a_better_loss_renews_the_patience(losses: Callable[..., None]) -> None:
    losses(1.0, 2.0, 0.9, 2.0, 2.0, 2.0)
    settings = TrainSettings(epochs=6, batch=32, schedule="plateau", lr=0.08, patience=2, lr_floor=0.01)
    assert rates(settings) == [0.08, 0.08, 0.08, 0.08, 0.08, 0.04]


def test_the_cosine_schedule_falls_from_step_to_step_and_never_stops_early(losses: Callable[..., None]) -> None:
    losses(1.0)
    settings = TrainSettings(epochs=10, batch=32, schedule="cosine", lr=0.08, patience=1, lr_floor=0.05)
    steps = [3 * epoch + 2 for epoch in range(10)]
    assert rates(settings) == pytest.approx([0.04 * (1 + math.cos(math.pi * step / 30)) for step in steps])


def test_one_cycle_rises_for_three_tenths_of_the_steps_and_falls_to_zero(losses: Callable[..., None]) -> None:
    losses(1.0)
    seen = rates(TrainSettings(epochs=10, batch=32, schedule="one_cycle", lr=0.08))
    steps = [3 * epoch + 2 for epoch in range(10)]
    rising = [0.0032 + 0.0384 * (1 - math.cos(math.pi * step / 9)) for step in steps[:3]]
    assert seen == pytest.approx(rising + [0.04 * (1 + math.cos(math.pi * (step - 9) / 21)) for step in steps[3:]])


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("constant", [0.2, 0.2, 0.2]), ("equal_remaining", [1 / 3, 1 / 2, 1.0]), ("per_layer", [0.2, 0.2, 0.2])],
)
def test_keep_policies_decide_for_task_and_layer(policy: str, kept: list[float]) -> None:
    settings = TrainSettings(keep_policy=policy, keep_ratio=0.2, keep_table={"fc2": 0.7})  # type: ignore[arg-type]
    assert [settings.keep("fc1", task, 3) for task in range(3)] == kept
    assert settings.keep("fc2", 0, 3) == (0.7 if policy == "per_layer" else kept[0])


def test_a_task_starts_with_the_kept_weights_of_its_policy() -> None:
    model = model_of(mlp((1, 8, 8), (10, 10)))
    start_task(model, 0, TrainSettings(keep_policy="per_layer", keep_ratio=0.25, keep_table={"fc2": 0.005}), 1)
    assert [layer.subnet.kept for layer in model.weight_layers(0).values()] == [160, 1, 100]  # a head is dense


def test_a_task_inherits_a_share_of_the_scores_and_the_first_one_its_own() -> None:
    model = model_of(mlp((1, 8, 8), (10,)), banks=(0, 0))
    settings = TrainSettings(inherit=0.25)
    scores = model.body_layers(0)[1].subnet.scores
    first = scores.detach().clone()
    start_task(model, 0, settings, 2)
    assert torch.equal(scores, first)
    quantize_task(model, 0)
    commit(model, 0)
    start_task(model, 1, settings, 2)
    assert torch.equal(scores, 0.25 * first)


def test_permuted_images_lie_in_memory_one_after_the_other() -> None:
    assert all(part.is_contiguous() for part in vars(digits_task(1)).values())


# --- the ramp ----------------------------------------------------------------------------------------------------

RAMPED = replace(TINY, epochs=4, ramp=0.5, keep_ratio=0.25)


def test_the_ramp_falls_along_a_cubic_to_the_kept_weights() -> None:
    model = model_of(mlp((1, 8, 8), (10,)))
    seen: list[int] = []
    state = start_task(model, 0, RAMPED, 1)
    fit(model, 0, FEW, state, lambda _: seen.append(model.body_layers(0)[1].subnet.kept))
    last_steps = [2 / 6, 5 / 6]  # of the six steps of the ramp
    assert seen == [*(160 + math.floor(480 * (1 - done) ** 3) for done in last_steps), 160, 160]


def test_no_state_of_the_ramp_is_ever_kept(losses: Callable[..., None]) -> None:
    losses(0.1, 0.2, 3.0, 4.0)
    model = model_of()
    state, states = snapshots(model, RAMPED)
    assert state.best_loss == 3.0
    assert_same_state(trainable_state(model, 0), states[2])
    for layer in model.body_layers(0).values():
        assert int(layer.subnet.mask().count_nonzero()) == kept_weights(layer.weight.numel(), 0.25)


def test_the_loss_that_chooses_the_best_state_is_measured_with_the_final_number_of_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []

    def counted(model: SubnetModel, task: int, x: Tensor, y: Tensor) -> Evaluation:
        counts.append(int(model.body_layers(task)[1].subnet.mask().count_nonzero()))
        return Evaluation(1.0, 0.0)

    monkeypatch.setattr(training, "evaluate", counted)
    snapshots(model_of(mlp((1, 8, 8), (10,))), RAMPED)
    assert counts[0] > counts[1] > counts[2] == counts[3] == 160


@pytest.mark.parametrize(("epochs", "ramp"), [(1, 0.2), (4, 0.9), (2, 0.6)])
def test_a_ramp_that_leaves_no_epoch_after_it_is_refused(epochs: int, ramp: float) -> None:
    """No state of the ramp may be kept, so training could only fail, with a message about the learning rate."""
    with pytest.raises(SettingsError, match="ramp"):
        TrainSettings(epochs=epochs, ramp=ramp)


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_small_validation_parts_do_not_decide_alone() -> None:
    """One image of ten is a drop of ten points, or of none by luck."""
    images, labels = torch.zeros(40, 1, 2, 2, dtype=torch.uint8), torch.arange(40)
    for count in (10, FEWEST_DECIDING - 1, FEWEST_DECIDING):
        x, y = torch.ones(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count)
        decided_x, decided_y = Tensors(images, labels, x, y).deciding
        joined = [y] if count == FEWEST_DECIDING else [y, labels]
        assert torch.equal(decided_y, torch.cat(joined))
        assert int(decided_x[:, 0, 0, 0].sum()) == count


def test_numbers_that_no_format_holds_are_told_as_divergence(tmp_path: Path) -> None:
    settings = replace(
        RUN, model=replace(RUN.model, batch_norm=True), train=replace(RUN.train, lr=1e30, transfer=False)
    )
    with pytest.raises(TrainingError) as error:
        learn(settings, tmp_path)
    assert re.fullmatch(
        r"task 'digits-permuted-0': training diverged \(epoch 2 of 2, least validation loss [\d.e+]+: .+\); "
        r"lower train\.lr \(1e\+30\)",
        str(error.value),
    )
    assert not (tmp_path / "net.tsn").exists()


def test_a_loss_that_is_never_finite_is_an_error() -> None:
    with pytest.raises(TrainingError) as error:
        train_task(model_of(), 0, FEW, replace(TINY, lr=1e38))
    assert str(error.value) == (
        f"task 0: training diverged (epoch {TINY.epochs} of {TINY.epochs}, no validation loss was finite); "
        "lower train.lr (1e+38)"
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_stops_being_finite_leaves_the_last_good_state(losses: Callable[..., None], bad: float) -> None:
    losses(bad, 1.0, bad)
    model = model_of()
    state, states = snapshots(model, TINY)
    assert state.best_loss == 1.0
    assert_same_state(trainable_state(model, 0), states[1])


# --- learning ----------------------------------------------------------------------------------------------------


def test_a_subnetwork_of_a_fifth_of_the_weights_learns_the_digits_and_so_does_the_next_task() -> None:
    settings = TrainSettings(epochs=12, batch=64, lr=2e-2, keep_ratio=0.2)
    model = model_of(mlp((1, 8, 8), (40,)))
    for task in (0, 1):
        if task:
            add_task(model, 0, seed=task)
        data = digits_task(task)
        train_task(model, task, data, settings)
        assert evaluate(model, task, data.x_valid, data.y_valid).accuracy > 85  # chance is 10
        quantize_task(model, task, bits=4)
        commit(model, task)
    assert evaluate(model, 0, digits_task(0).x_valid, digits_task(0).y_valid).accuracy > 85
