"""One epoch, and what evaluation measures."""

import functools
import operator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.learning import (
    CPU,
    FEW,
    TINY,
    digits_data,
    digits_task,
    model_of,
    train_task,
)
from tsn_hw.learn import training
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.callbacks import Callbacks
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.training import (
    Fit,
    Tensors,
    evaluate,
    fit,
    generator_of,
    start_task,
    to_real,
    train_epoch,
)

# --- one epoch ---------------------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """A network that only remembers which images came in which batch; image i has the pixel value i."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.dropout_generator: torch.Generator | None = None
        self.callbacks = Callbacks()
        self.batches: list[list[int]] = []

    def forward(self, x: Tensor, task: int) -> Tensor:
        self.batches.append((x[:, 0, 0, 0] * 256).int().tolist())
        return self.weight.expand(len(x), 2)


def batches_of(images: int, batch: int, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    x, y = torch.arange(images, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.zeros(images, dtype=torch.int64)
    model, steps = Recorder(), list[int]()
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.register_step_post_hook(lambda *_: steps.append(len(steps)))
    train_epoch(model, 0, Tensors(x, y, x, y), Fit(optimizer, TrainSettings(batch=batch)), generator_of(seed))
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
        train_epoch(model, 0, Tensors(x, y, x, y), Fit(optimizer, settings), generator_of(0))
    assert seen == {False: {1}, True: {0, 1, 2, 5, 6, 7}}


def test_bfloat16_products_train_a_network_whose_integers_stay_exact() -> None:
    settings = replace(TINY, epochs=6, precision="bfloat16")
    models = [model_of(alexnet((1, 8, 8), (5, 4), (12,))) for _ in range(2)]
    losses = []
    for model, chosen in zip(models, (settings, replace(settings, precision="float32")), strict=True):
        state = start_task(model, 0, chosen, 1)
        untrained = evaluate(model, 0, FEW.x_valid, FEW.y_valid).loss
        fit(model, 0, FEW, state, lambda _: None)
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
    fit(model, 0, FEW, state, lambda _: None)
    steps = {int(slot["step"]) for slot in state.optimizer.state_dict()["state"].values()}
    assert steps == {TINY.epochs * 3}


# --- evaluation --------------------------------------------------------------------------------------------------


def test_evaluation_is_the_mean_over_all_images_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = model_of(), digits_task()
    start_task(model, 0, TINY, 1)
    monkeypatch.setattr(training, "EVALUATION_BATCH", 100)
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
