"""The training loop: schedules, the best state, masks of the last moment, and seeds that decide everything."""

import functools
import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.learning import (
    CPU,
    TINY,
    add_task,
    assert_same_state,
    digits_data,
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
from tsn_hw.learn import train
from tsn_hw.learn.architectures import alexnet, mlp
from tsn_hw.learn.freeze import commit
from tsn_hw.learn.layers import kept_weights, top_k
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.train import (
    FEWEST_DECIDING,
    Evaluation,
    Fit,
    Tensors,
    evaluate,
    fit,
    generator_of,
    restore,
    seed_of,
    start_task,
    to_real,
    train_epoch,
    trainable_state,
)

FEW = digits_task(0, 70)  # three batches of TINY: 32, 32, 6


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the validation losses, epoch by epoch; the last one repeats."""

    def pretend(*values: float) -> None:
        left: Iterator[float] = iter(values)
        last = [math.nan]

        def fake(model: SubnetModel, task: int, x: Tensor, y: Tensor) -> Evaluation:
            last[0] = next(left, last[0])
            return Evaluation(last[0], 0.0)

        monkeypatch.setattr(train, "evaluate", fake)

    return pretend


def snapshots(model: SubnetModel, settings: TrainSettings, data: Tensors = FEW) -> tuple[Fit, list[dict[str, Tensor]]]:
    """Train task 0; returns its fit and the trainable state after every epoch."""
    states: list[dict[str, Tensor]] = []
    state = start_task(model, 0, settings, 1)
    keep: Callable[[Fit], None] = lambda _: states.append(  # noqa: E731
        {name: tensor.clone() for name, tensor in trainable_state(model, 0).items()}
    )
    fit(model, 0, data, settings, state, 0, keep)
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
    fit(model, 0, FEW, settings, state, 0, lambda s: seen.append(s.optimizer.param_groups[0]["lr"]))
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
    assert [layer.subnet.kept for layer in model.weight_layers(0)] == [160, 1, 100]  # a head is dense


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
    fit(model, 0, FEW, RAMPED, state, 0, lambda _: seen.append(model.body_layers(0)[1].subnet.kept))
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

    monkeypatch.setattr(train, "evaluate", counted)
    snapshots(model_of(mlp((1, 8, 8), (10,))), RAMPED)
    assert counts[0] > counts[1] > counts[2] == counts[3] == 160


@pytest.mark.parametrize(("epochs", "ramp"), [(1, 0.2), (4, 0.9), (2, 0.6)])
def test_a_ramp_that_leaves_no_epoch_after_it_is_refused(epochs: int, ramp: float) -> None:
    """No state of the ramp may be kept, so training could only fail, with a message about the learning rate."""
    with pytest.raises(SettingsError, match="ramp"):
        TrainSettings(epochs=epochs, ramp=ramp)


# --- determinism -------------------------------------------------------------------------------------------------


def learned_state(seed: int, global_seed: int) -> dict[str, Tensor]:
    torch.manual_seed(global_seed)
    np.random.seed(global_seed)
    model = model_of(alexnet((1, 8, 8), (3, 4), (8,), dropout=0.3))
    train_task(model, 0, FEW, replace(TINY, epochs=2), seed)
    torch.rand(global_seed)
    quantize_task(model, 0)
    return state_of(model)


def test_equal_seeds_give_bitwise_equal_states_whatever_the_global_random_state() -> None:
    first = learned_state(seed=5, global_seed=1)
    assert_same_state(first, learned_state(seed=5, global_seed=2))
    other = learned_state(seed=6, global_seed=1)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_training_leaves_the_global_random_state_alone() -> None:
    model = model_of(mlp((1, 8, 8), (8,), dropout=0.3))
    before = torch.get_rng_state()
    train_task(model, 0, FEW)
    assert torch.equal(torch.get_rng_state(), before)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        replace(TINY, epochs=4),
        replace(TINY, epochs=4, ramp=0.7),
        replace(TINY, epochs=4, schedule="plateau", patience=1),
    ],
    ids=["cosine", "ramp", "plateau"],
)
def test_a_fit_that_is_stopped_and_resumed_ends_bitwise_where_it_would_have_ended(
    settings: TrainSettings, stop_after: int
) -> None:
    architecture = mlp((1, 8, 8), (12,), batch_norm=True, dropout=0.2)
    whole, killed, resumed = (model_of(architecture, seed=seed) for seed in (0, 0, 9))
    train_task(whole, 0, FEW, settings)

    def kill(state: Fit) -> None:
        if state.epoch == stop_after:
            raise KilledError

    state = start_task(killed, 0, settings, 1)
    with pytest.raises(KilledError):
        fit(killed, 0, FEW, settings, state, 0, kill)
    resumed.load_state_dict(state_of(killed))
    again = start_task(resumed, 0, settings, 1)
    again.optimizer.load_state_dict(state.optimizer.state_dict())
    for name in ("lr", "epoch", "best_loss", "wait", "stopped", "best"):
        setattr(again, name, getattr(state, name))
    fit(resumed, 0, FEW, settings, again, 0, lambda _: None)
    assert_same_state(state_of(resumed), state_of(whole))
    assert torch.equal(resumed.body_layers(0)[1].subnet.mask(), whole.body_layers(0)[1].subnet.mask())


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_of(0, "epoch", 1) == 1_583_786_290_671_302_529
    assert seed_of("a", "b") == seed_of("a/b") != seed_of("ab")
    assert 0 <= min(seed_of(i) for i in range(100)) <= max(seed_of(i) for i in range(100)) < 2**63
    assert generator_of(3, "x").initial_seed() == seed_of(3, "x")


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


# --- one epoch ---------------------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """A network that only remembers which images came in which batch; image i has the pixel value i."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.dropout_generator: torch.Generator | None = None
        self.batches: list[list[int]] = []

    def forward(self, x: Tensor, task: int) -> Tensor:
        self.batches.append((x[:, 0, 0, 0] * 256).int().tolist())
        return self.weight.expand(len(x), 2)


def batches_of(images: int, batch: int, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    x, y = torch.arange(images, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.zeros(images, dtype=torch.int64)
    model, steps = Recorder(), list[int]()
    optimizer = torch.optim.SGD(model.parameters())
    train_epoch(model, 0, Tensors(x, y, x, y), optimizer, TrainSettings(batch=batch), generator_of(seed), steps.append)
    assert model.training
    return model.batches, steps


@pytest.mark.parametrize(
    ("images", "batch", "sizes"),
    [(8, 4, [4, 4]), (7, 4, [4, 3]), (9, 4, [4, 5]), (5, 4, [5]), (4, 4, [4]), (3, 4, [3]), (1, 4, [1])],
)
def test_every_image_is_seen_once_an_epoch_and_no_last_batch_holds_one_image_alone(
    images: int, batch: int, sizes: list[int]
) -> None:
    batches, steps = batches_of(images, batch)
    assert [len(b) for b in batches] == sizes
    assert sorted(functools.reduce(operator.iadd, batches, [])) == list(range(images))
    assert steps == list(range(len(sizes)))


def test_the_order_of_images_follows_the_generator() -> None:
    assert batches_of(50, 7, seed=1) == batches_of(50, 7, seed=1)
    assert batches_of(50, 7, seed=1) != batches_of(50, 7, seed=2)


def test_training_images_are_mirrored_and_moved_where_the_settings_say_so() -> None:
    """One white column in every image: it turns up on both sides, and one pixel beside them."""
    x, y = torch.zeros(64, 1, 1, 8, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64)
    x[..., 1] = 255
    seen: dict[bool, set[int]] = {}

    class Columns(Recorder):
        def forward(self, x: Tensor, task: int) -> Tensor:
            seen.setdefault(len(seen) == 1, set()).update(x.flatten(1).argmax(1).tolist())
            return self.weight.expand(len(x), 2)

    for settings in (TrainSettings(batch=64), TrainSettings(batch=64, mirror=True, shift=1)):
        model = Columns()
        optimizer = torch.optim.SGD(model.parameters())
        train_epoch(model, 0, Tensors(x, y, x, y), optimizer, settings, generator_of(0), lambda _: None)
    assert seen == {False: {1}, True: {0, 1, 2, 5, 6, 7}}


def test_bfloat16_products_train_a_network_whose_integers_stay_exact() -> None:
    settings = replace(TINY, epochs=6, precision="bfloat16")
    models = [model_of(alexnet((1, 8, 8), (5, 4), (12,))) for _ in range(2)]
    losses = []
    for model, chosen in zip(models, (settings, replace(settings, precision="float32")), strict=True):
        state = start_task(model, 0, chosen, 1)
        untrained = evaluate(model, 0, FEW.x_valid, FEW.y_valid).loss
        fit(model, 0, FEW, chosen, state, 0, lambda _: None)
        losses.append(evaluate(model, 0, FEW.x_valid, FEW.y_valid).loss)
        assert losses[-1] < untrained
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_batch_norm_survives_a_last_batch_of_one_image() -> None:
    model = model_of(mlp((1, 8, 8), (6,), batch_norm=True))
    train_task(model, 0, digits_task(0, 33))
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_an_epoch_takes_one_step_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference code returns inside its loop over batches (defect B2)."""
    model = model_of()
    state = start_task(model, 0, TINY, 1)
    fit(model, 0, FEW, TINY, state, 0, lambda _: None)
    steps = {int(slot["step"]) for slot in state.optimizer.state_dict()["state"].values()}
    assert steps == {TINY.epochs * 3}


# --- evaluation --------------------------------------------------------------------------------------------------


def test_evaluation_is_the_mean_over_all_images_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = model_of(), digits_task()
    start_task(model, 0, TINY, 1)
    monkeypatch.setattr(train, "EVALUATION_BATCH", 100)
    result = evaluate(model, 0, data.x_train[:250], data.y_train[:250])
    with torch.no_grad():
        logits = model(data.x_train[:250].float() / 256, 0)
    assert result.loss == pytest.approx(float(F.cross_entropy(logits, data.y_train[:250])), rel=1e-5)
    assert result.accuracy == 100 * float((logits.argmax(1) == data.y_train[:250]).double().mean())
    assert not model.training


def test_pixels_stand_for_numbers_below_one() -> None:
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert to_real(images).flatten().tolist() == [0.0, 0.5, 255 / 256]


def test_data_become_tensors_of_their_own() -> None:
    data = digits_data()
    tensors = Tensors.of(data, CPU)
    np.testing.assert_array_equal(tensors.x_train.numpy(), data.x_train)
    assert (tensors.x_train.dtype, tensors.y_valid.dtype) == (torch.uint8, torch.int64)
    before = int(data.x_train[0, 0, 0, 0])
    tensors.x_train[0, 0, 0, 0] += 1
    assert int(data.x_train[0, 0, 0, 0]) == before


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
