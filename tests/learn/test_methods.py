"""The methods of one loop: which weights a task gets, what is kept of them, and that only fine-tuning forgets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.learning import CPU, add_task, digits_task
from tests.helpers.tiny_run import TINY
from tsn_hw.core.errors import SettingsError, TrainingError
from tsn_hw.core.masks import encode_masks
from tsn_hw.learn.baselines import float_body_percent
from tsn_hw.learn.bodies import mlp
from tsn_hw.learn.config import stream_of
from tsn_hw.learn.methods import METHODS
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.run import train, train_floats
from tsn_hw.learn.settings import Formats, Settings, TrainSettings
from tsn_hw.learn.training import fit, start_task

FLOATS = [name for name, method in METHODS.items() if not method.codes]


def model_by(method: str) -> SubnetModel:
    """A body of one row of eight weights, of which task 0 owns the first two; scores fall, |weights| rise."""
    model = SubnetModel(mlp((8,), (1,)), Formats(), METHODS[method])
    add_task(model, 0)
    add_task(model, 0, seed=1)
    layer = model.body_layers(0)[0]
    with torch.no_grad():
        layer.subnet.scores.copy_(torch.arange(8.0, 0, -1)[None])
        layer.weight.copy_(torch.arange(1.0, 9)[None] / 16)
    start_task(model, 0, TrainSettings(keep_ratio=0.25), 2)
    layer.subnet.fix(torch.arange(8)[None] < 2)
    layer.subnet.snap(np.array([8, 16]))
    layer.subnet.commit(layer.weight.data, layer.grid.real)
    return model


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("tsn", [0, 1, 2, 3]),  # the largest scores, owned or not
        ("wsn", [0, 1, 2, 3]),
        ("packnet", [0, 1, 4, 5, 6, 7]),  # all that is owned, and the largest free weights
        ("ada_qpacknet", [4, 5, 6, 7]),
        ("finetune", [4, 5, 6, 7]),  # nothing is owned
    ],
)
def test_a_method_chooses_the_weights_of_a_task(method: str, expected: list[int]) -> None:
    model = model_by(method)
    start_task(model, 1, TrainSettings(keep_ratio=0.5), 2)
    assert model.body_layers(1)[0].subnet.mask().flatten().nonzero().flatten().tolist() == expected


@pytest.mark.parametrize(("method", "kept"), [("packnet", 8), ("ada_qpacknet", 6)])
def test_who_shares_a_body_out_gets_at_most_what_is_free(method: str, kept: int) -> None:
    model = model_by(method)
    start_task(model, 1, TrainSettings(keep_ratio=1.0), 2)
    assert int(model.body_layers(1)[0].subnet.mask().count_nonzero()) == kept


def test_a_body_without_free_weights_is_an_error_for_a_method_that_borrows_none() -> None:
    model = model_by("ada_qpacknet")
    model.body_layers(0)[0].subnet.owner.fill_(0)
    with pytest.raises(TrainingError) as error:
        start_task(model, 1, TrainSettings(keep_ratio=0.5), 2)
    assert str(error.value) == "layer 'fc1': task 1 finds no free weight and borrows none; lower train.keep_ratio (0.5)"


def logits_before_and_after(method: str) -> tuple[Tensor, Tensor]:
    """What task 0 computes when it is committed, and after task 1 was learned."""
    model = SubnetModel(mlp((1, 8, 8), (12,)), Formats(act_bits=16), METHODS[method])
    settings = TrainSettings(epochs=2, batch=32, lr=2e-2, keep_ratio=0.4)
    x, found = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for task in range(2):
        add_task(model, 0, seed=task)
        state = start_task(model, task, settings, 2)
        fit(model, task, digits_task(task, 200), state, lambda _: None)
        for layer in model.weight_layers(task).values():
            layer.subnet.commit(layer.weight.data, layer.grid.real)
        model.eval()
        with torch.no_grad():
            found.append(model(x.to(CPU), 0))
    return found[0], found[1]


@pytest.mark.parametrize("method", ["wsn", "packnet"])
def test_frozen_float_weights_compute_the_same_bits_for_ever(method: str) -> None:
    before, after = logits_before_and_after(method)
    assert torch.equal(before, after)


def test_fine_tuning_changes_what_earlier_tasks_compute() -> None:
    before, after = logits_before_and_after("finetune")
    assert (before != after).any(dim=1).all()


def test_the_size_of_float_bodies_is_used_weights_at_32_bits_and_coded_masks() -> None:
    model = model_by("wsn")
    masks = 8 * len(encode_masks(np.array([[True, True] + [False] * 6])))
    assert float_body_percent(model) == 100 * (2 * 32 + masks) / (8 * 32)


def settings_of(method: str, **changes: object) -> Settings:
    return replace(TINY, train=replace(TINY.train, method=method, transfer=False, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", FLOATS)
def test_a_run_of_a_float_method_ends_in_accuracies_and_resumes_to_the_same(method: str, tmp_path: Path) -> None:
    settings = settings_of(method)
    stream = stream_of(settings)
    records = train_floats(settings, stream, tmp_path, quiet=True)
    assert [len(record["accuracy_percent"]) for record in records] == [1, 2]
    again = train_floats(settings, stream, tmp_path, resume=True, quiet=True)
    assert again == records
    assert not (tmp_path / "net.tsn").exists()
    if method != "finetune":
        assert records[1]["accuracy_percent"][0] == records[0]["accuracy_percent"][0]


@pytest.mark.parametrize("method", FLOATS)
def test_a_float_method_makes_no_network(method: str, tmp_path: Path) -> None:
    settings = settings_of(method)
    with pytest.raises(SettingsError) as error:
        train(settings, stream_of(settings), tmp_path, quiet=True)
    assert str(error.value) == (
        f"train.method = {method!r}: keeps float32 weights and ends in no network; "
        "it is a baseline of `tsn-hw bench paper`"
    )


def test_ada_qpacknet_makes_a_network_whose_tasks_share_nothing(tmp_path: Path) -> None:
    net = train(settings_of("ada_qpacknet", ramp=0.5), stream_of(TINY), tmp_path, quiet=True)
    first, second = (net.step(task, 1).mask for task in range(2))
    assert first is not None
    assert second is not None
    assert not (first & second).any()
    assert second.any()
