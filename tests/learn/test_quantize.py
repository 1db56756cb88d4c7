"""Adaptive bit-width and training with codebooks: the smallest codebooks that keep accuracy, for own weights only."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.learning import (
    TINY,
    activation_of,
    add_task,
    assert_same_state,
    digits_task,
    layers_of,
    learn_task,
    model_of,
    quantize_task,
    scripted,
    state_of,
    train_on,
    train_task,
)
from tsn_hw.learn.bodies import mlp
from tsn_hw.learn.freezing import commit
from tsn_hw.learn.layers import WeightLayer
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.quantize import accuracy_by_bits, adapt_bits, refit
from tsn_hw.learn.settings import Formats, QuantizeSettings, TrainSettings
from tsn_hw.learn.training import evaluate, start_task

INT8 = (-128, 127)


def integers(layer: WeightLayer) -> Tensor:
    """The weights that the current task sees, in units of the grid."""
    return layer.learned_weight().detach() / layer.grid.real


def distinct(layer: WeightLayer) -> int:
    """Number of distinct values among the own weights of the task that is being learned."""
    return len(integers(layer)[layer.subnet.own()].unique())


def synthetic(*values: int, widths: tuple[int, ...] = (32,)) -> SubnetModel:
    """Task 0 uses every weight; layer i holds exactly ``values[i]`` distinct integers, far apart."""
    model = model_of(mlp((1, 4, 8), widths))
    start_task(model, 0, TrainSettings(keep_ratio=1.0), 1)
    for layer, count in zip(layers_of(model), values, strict=True):
        levels = torch.linspace(-128, 127, count).round() if count > 1 else torch.tensor([50.0])
        with torch.no_grad():
            cycle = levels[torch.arange(layer.weight.numel()) % count]
            layer.weight.copy_(cycle.reshape(layer.weight.shape) * layer.grid.real)
        layer.subnet.fix(layer.subnet.mask())
    return model


def exactness(model: SubnetModel) -> Callable[[], float]:
    """A pretended accuracy: 90 while every body weight is what it was at the start, 80 otherwise."""
    originals = [layer.weight.detach().clone() for layer in layers_of(model)]
    return lambda: (
        90.0
        if all(torch.equal(layer.learned_weight(), w) for layer, w in zip(layers_of(model), originals, strict=True))
        else 80.0
    )


# --- the smallest width ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(1, 9))
def test_a_layer_of_two_to_the_k_values_takes_k_bits(k: int) -> None:
    model = synthetic(2**k)
    result = adapt_bits(model, 0, exactness(model), QuantizeSettings(min_bits=1, max_bits=8))
    assert result.bits == {"fc1": k}
    assert (result.accuracy_before, result.accuracy_after) == (90.0, 90.0)
    assert distinct(layers_of(model)[0]) == 2**k


@pytest.mark.parametrize(("values", "bits"), [(1, 1), (3, 2), (5, 3), (17, 5), (129, 8)])
def test_one_value_more_takes_one_bit_more(values: int, bits: int) -> None:
    model = synthetic(values)
    assert adapt_bits(model, 0, exactness(model), QuantizeSettings(min_bits=1)).bits == {"fc1": bits}


def test_the_search_starts_at_the_smallest_allowed_width() -> None:
    model = synthetic(2)
    assert adapt_bits(model, 0, exactness(model), QuantizeSettings(min_bits=3)).bits == {"fc1": 3}


def test_all_layers_share_one_width_by_default() -> None:
    model = synthetic(16, 2, 4, widths=(32, 32, 32))
    assert adapt_bits(model, 0, exactness(model), QuantizeSettings()).bits == {"fc1": 4, "fc2": 4, "fc3": 4}


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_a_drop_of_exactly_the_tolerance_is_accepted(drop: float) -> None:
    accuracy = scripted(90.0, 90.0 - drop - 0.25, 90.0 - drop, 77.0)
    result = adapt_bits(synthetic(64), 0, accuracy, QuantizeSettings(tolerated_drop=drop))
    assert result.bits == {"fc1": 3}
    assert (result.accuracy_before, result.accuracy_after) == (90.0, 77.0)


def test_a_gain_of_accuracy_is_no_drop() -> None:
    assert adapt_bits(synthetic(64), 0, scripted(90.0, 99.0, 99.0), QuantizeSettings()).bits == {"fc1": 2}


def test_when_no_width_is_good_enough_the_largest_stays_in_force() -> None:
    model = synthetic(64)
    result = adapt_bits(model, 0, scripted(90.0, 10.0, 20.0, 30.0, 30.0), QuantizeSettings(max_bits=4))
    assert result.bits == {"fc1": 4}
    assert result.accuracy_after == 30.0
    assert distinct(layers_of(model)[0]) == 16


def test_heads_have_codebooks_of_a_width_of_their_own() -> None:
    model = synthetic(4)
    head = model.modules_of(0).head
    adapt_bits(model, 0, exactness(model), QuantizeSettings(head_bits=3))
    assert len(integers(head).unique()) == 8


# --- layer by layer ----------------------------------------------------------------------------------------------


def test_layers_then_lose_bits_one_by_one_while_accuracy_holds() -> None:
    model = synthetic(16, 4, 8, widths=(32, 32, 32))
    settings = QuantizeSettings(min_bits=1, per_layer=True)
    assert adapt_bits(model, 0, exactness(model), settings).bits == {"fc1": 4, "fc2": 2, "fc3": 3}
    assert [distinct(layer) for layer in layers_of(model)] == [16, 4, 8]
    assert exactness(model)() == 90.0


def test_the_largest_layer_is_tried_first() -> None:
    """Accuracy bears one layer at two bits: fc2 with 40 * 50 weights gets there before fc1 with 32 * 40."""
    model = synthetic(64, 64, widths=(40, 50))

    def accuracy() -> float:
        fewer, more = sorted(distinct(layer) for layer in layers_of(model))
        return 90.0 if fewer >= 4 and more > 4 else 80.0

    result = adapt_bits(model, 0, accuracy, QuantizeSettings(per_layer=True))
    assert result.bits == {"fc1": 3, "fc2": 2}
    assert result.accuracy_after == 90.0


def test_a_layer_that_was_refused_goes_back_to_its_last_good_codebook() -> None:
    model = synthetic(64)
    adapt_bits(model, 0, scripted(90.0, 90.0, 0.0, 90.0), QuantizeSettings(min_bits=4, per_layer=True))
    assert distinct(layers_of(model)[0]) == 16


def test_no_layer_falls_below_the_smallest_allowed_width() -> None:
    model = synthetic(1, 8, widths=(32, 32))
    result = adapt_bits(model, 0, exactness(model), QuantizeSettings(min_bits=2, per_layer=True))
    assert result.bits == {"fc1": 2, "fc2": 3}


# --- own weights only --------------------------------------------------------------------------------------------


def test_the_codebook_is_fitted_to_own_weights_alone() -> None:
    """Pruned zeros take no centroid (defect B19), shared weights are not clustered again (defect B4)."""
    model = synthetic(4)
    layer = layers_of(model)[0]
    third = (torch.arange(layer.weight.numel()) % 3).reshape(layer.weight.shape)
    layer.subnet.fix(third == 0)
    quantize_task(model, 0, 2)
    commit(model, 0)
    add_task(model, 0, seed=1)
    start_task(model, 1, TrainSettings(keep_ratio=1.0), 2)
    with torch.no_grad():
        layer.weight[third > 0] = torch.where(third[third > 0] == 1, 9.0, 33.0) * layer.grid.real
    layer.subnet.fix(third < 2)
    refit(layer, 2, INT8)
    assert layer.subnet.codebook is not None
    assert layer.subnet.codebook.tolist() == [9]  # neither 0, nor task 0's four values, nor the unused 33
    shared = integers(layer)[third == 0]
    assert torch.equal(shared, layer.subnet.stored()[third == 0].float())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_after_a_commit_every_owner_has_at_most_two_to_the_bits_values_in_a_layer(bits: int) -> None:
    """The reference code of permuted MNIST never keeps what k-means found (defect B3)."""
    model = model_of(mlp((1, 8, 8), (12, 10)), banks=(0, 0, 0))
    for task in range(3):
        learn_task(model, task, digits_task(task, 200), bits=bits)
    for layer in layers_of(model):
        stored, owner = layer.subnet.stored(), layer.subnet.owner
        for prefix in range(3):
            assert 1 <= len(stored[owner == prefix].unique()) <= 2**bits
        assert (stored[owner < 0] == 0).all()


def test_a_commit_writes_what_the_quantized_task_computed() -> None:
    model = model_of(mlp((1, 8, 8), (12, 10)), banks=(0, 0))
    learn_task(model, 0, digits_task(0, 200))
    train_task(model, 1, digits_task(1, 200))
    adapt_bits(model, 1, lambda: 90.0, QuantizeSettings())
    before = [integers(layer) for layer in model.weight_layers(1).values()]
    commit(model, 1)
    for layer, expected in zip(model.weight_layers(1).values(), before, strict=True):
        subnet = layer.subnet
        assert torch.equal((subnet.masks[-1] * subnet.stored()).float(), expected)


@pytest.mark.parametrize("centroid_bits", [4, 8, 12, 16])
def test_centroids_stay_within_their_format_however_large_the_weights(centroid_bits: int) -> None:
    model = model_of(formats=Formats(centroid_bits=centroid_bits))
    start_task(model, 0, TrainSettings(), 1)
    with torch.no_grad():
        for layer in model.weight_layers(0).values():
            layer.weight.mul_(1000)
            layer.subnet.fix(layer.subnet.mask())
    quantize_task(model, 0, 3)
    for layer in model.weight_layers(0).values():
        book = layer.subnet.codebook
        assert book is not None
        assert (book[0], book[-1]) == (-(2 ** (centroid_bits - 1)), 2 ** (centroid_bits - 1) - 1)


def test_a_task_without_own_weights_quantizes_to_nothing() -> None:
    model = model_of(banks=(0, 0))
    start_task(model, 0, TrainSettings(keep_ratio=1.0), 1)
    quantize_task(model, 0)
    commit(model, 0)
    start_task(model, 1, TrainSettings(keep_ratio=0.5), 2)
    result = adapt_bits(model, 1, lambda: 90.0, QuantizeSettings(per_layer=True, min_bits=1))
    commit(model, 1)
    assert layers_of(model)[0].subnet.entries.tolist() == [8, 0]
    assert result.bits == {"fc1": 1}


# --- training with codebooks -------------------------------------------------------------------------------------


def coarse(bits: int, epochs: int = 3) -> tuple[SubnetModel, float, dict[str, int]]:
    """A trained task on codebooks of few bits, and its validation loss."""
    model, data = model_of(mlp((1, 8, 8), (20, 12))), digits_task(0, 400)
    train_task(model, 0, data, replace(TINY, epochs=epochs))
    quantize_task(model, 0, bits)
    return model, evaluate(model, 0, data.x_valid, data.y_valid).loss, {"fc1": bits, "fc2": bits}


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("lr", [0.02, 5.0])
def test_training_on_ends_no_worse_than_it_began(bits: int, lr: float) -> None:
    data = digits_task(0, 400)
    model, start, widths = coarse(bits)
    train_on(model, 0, data, widths, epochs=3, lr=lr)
    end = evaluate(model, 0, data.x_valid, data.y_valid).loss
    assert end < start if lr < 1 else end <= start
    assert all(distinct(layer) <= 2**bits for layer in layers_of(model))


def test_training_on_that_only_does_harm_ends_bitwise_where_it_began() -> None:
    model, _, widths = coarse(2)
    before, books = state_of(model), [layer.subnet.codebook for layer in model.weight_layers(0).values()]
    train_on(model, 0, digits_task(0, 400), widths, lr=1e6)
    assert_same_state(state_of(model), before)
    for layer, book in zip(model.weight_layers(0).values(), books, strict=True):
        np.testing.assert_array_equal(layer.subnet.codebook, book)


def test_masks_stay_fixed_while_training_on() -> None:
    model, _, widths = coarse(1)
    before = [layer.subnet.mask().clone() for layer in layers_of(model)]
    train_on(model, 0, digits_task(0, 400), widths)
    for layer, mask in zip(layers_of(model), before, strict=True):
        assert torch.equal(layer.subnet.mask(), mask)


def test_training_on_is_deterministic() -> None:
    states = []
    for disturbance in (1, 2):
        model, _, widths = coarse(1)
        torch.manual_seed(disturbance)
        train_on(model, 0, digits_task(0, 400), widths)
        states.append(state_of(model))
    assert_same_state(*states)


def test_training_on_keeps_the_activation_grids() -> None:
    model, _, widths = coarse(2)
    before = int(activation_of(model, 0, "fc1").grid.exponent)
    train_on(model, 0, digits_task(0, 400), widths)
    assert int(activation_of(model, 0, "fc1").grid.exponent) == before


def test_probed_widths_are_told_and_leave_the_codebooks_as_they_were() -> None:
    model = model_of(mlp((1, 8, 8), (12,)))
    start_task(model, 0, TrainSettings(), 1)
    quantize_task(model, 0, 4)
    layers = list(model.weight_layers(0).values())
    before = [layer.subnet.codebook for layer in layers]

    def entries() -> float:
        book = layers[0].subnet.codebook
        assert book is not None
        return float(len(book))

    assert accuracy_by_bits(model, 0, entries, QuantizeSettings(probe_bits=(5, 1))) == {5: 32.0, 1: 2.0}
    assert [layer.subnet.codebook for layer in layers] == before
