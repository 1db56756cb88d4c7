"""Codebooks of earlier tasks: taken while accuracy holds, and never changed."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.learning import (
    add_task,
    digits_task,
    integers_of,
    layers_of,
    learn_task,
    model_of,
    pixels,
    quantize_task,
    scripted,
    train_on,
    train_task,
)
from tsn_hw.learn.bodies import mlp
from tsn_hw.learn.freezing import commit
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.quantize import adapt_bits
from tsn_hw.learn.settings import Formats, QuantizeSettings, TrainSettings
from tsn_hw.learn.training import evaluate, start_task

# --- codebooks of earlier tasks ----------------------------------------------------------------------------------

SHARING = QuantizeSettings(min_bits=3, max_bits=3, share_codebooks=True)


def after(*books: list[int], widths: tuple[int, ...] = (8,)) -> SubnetModel:
    """Tasks whose body layers hold nothing but the values of one book each, and one more task that is free to differ.

    Task t owns row t of every layer; the last one owns the rest, and its weights are 10, 20, 30 and 40.
    """
    model = model_of(mlp((1, 4, 8), widths), banks=(0,) * (len(books) + 1))
    for task, book in enumerate([*books, [10, 20, 30, 40]]):
        start_task(model, task, TrainSettings(), 1)
        for layer in layers_of(model, task):
            mask = torch.zeros_like(layer.subnet.owner, dtype=torch.bool)
            mask[task if task < len(books) else slice(task, None)] = True
            with torch.no_grad():
                cycle = torch.tensor(book)[torch.arange(mask.numel()) % len(book)]
                free = layer.subnet.owner < 0
                layer.weight[free] = cycle.reshape(mask.shape)[free] * layer.grid.real
            layer.subnet.fix(mask)
        if task < len(books):
            quantize_task(model, task, 8)
            commit(model, task)
    return model


def books_of(model: SubnetModel, task: int) -> list[list[int]]:
    """The codebooks of all body layers of the task that is being learned."""
    books = [layer.subnet.codebook for layer in layers_of(model, task)]
    return [book.tolist() for book in books if book is not None]


def test_by_default_every_task_has_codebooks_of_its_own() -> None:
    model = after([9, 21, 29, 41])
    result = adapt_bits(model, 1, lambda: 90.0, replace(SHARING, share_codebooks=False))
    assert (result.shared, books_of(model, 1)) == ((), [[10, 20, 30, 40]])


def test_a_layer_takes_the_codebook_of_an_earlier_task_while_accuracy_holds() -> None:
    model = after([9, 21, 29, 41])
    result = adapt_bits(model, 1, scripted(90.0, 90.0, 90.0, 89.5, 89.5), SHARING)
    assert (result.shared, books_of(model, 1)) == (("fc1",), [[9, 21, 29, 41]])
    assert (result.accuracy_before, result.accuracy_after) == (90.0, 89.5)


def test_a_layer_keeps_its_own_codebook_where_an_earlier_one_costs_more_than_is_tolerated() -> None:
    model = after([9, 21, 29, 41])
    result = adapt_bits(model, 1, scripted(90.0, 90.0, 90.0, 89.25, 90.0), SHARING)
    assert (result.shared, books_of(model, 1)) == ((), [[10, 20, 30, 40]])
    assert result.bits == {"fc1": 3}


def test_layers_are_tried_one_by_one_and_the_largest_first() -> None:
    model = after([9, 21, 29, 41], widths=(8, 20))
    result = adapt_bits(model, 1, scripted(90.0, 90.0, 90.0, 0.0, 90.0, 90.0), SHARING)
    assert [layer.weight.numel() for layer in layers_of(model, 1)] == [256, 160]
    assert (result.shared, books_of(model, 1)) == (("fc2",), [[10, 20, 30, 40], [9, 21, 29, 41]])


def test_of_several_codebooks_the_nearest_to_the_weights_is_taken() -> None:
    model = after([1, 2, 3, 4], [9, 21, 29, 41], [-40, 40])
    assert adapt_bits(model, 3, lambda: 90.0, SHARING).shared == ("fc1",)
    assert books_of(model, 3) == [[9, 21, 29, 41]]


def test_equally_near_codebooks_leave_the_older_one() -> None:
    model = after([11, 21, 31, 41], [9, 19, 29, 39])
    adapt_bits(model, 2, lambda: 90.0, SHARING)
    assert books_of(model, 2) == [[11, 21, 31, 41]]


def test_a_wider_codebook_is_not_taken_and_a_narrower_one_saves_its_bits() -> None:
    wide, narrow = after([9, 10, 11, 20, 30, 40, 41, 42, 43]), after([15, 35])
    assert adapt_bits(wide, 1, lambda: 90.0, SHARING).shared == ()
    result = adapt_bits(narrow, 1, lambda: 90.0, SHARING)
    assert (result.shared, result.bits, books_of(narrow, 1)) == (("fc1",), {"fc1": 1}, [[15, 35]])


def test_where_no_width_is_good_enough_sharing_may_cost_nothing_more() -> None:
    for reached, shared in ((30.0, ("fc1",)), (29.75, ())):
        result = adapt_bits(after([9, 21, 29, 41]), 1, scripted(90.0, 30.0, 30.0, reached, 30.0), SHARING)
        assert result.shared == shared


def test_the_first_task_of_a_bank_has_nothing_to_take() -> None:
    model = after([9, 21, 29, 41])
    add_task(model, 1)
    start_task(model, 2, TrainSettings(), 3)
    assert adapt_bits(model, 2, lambda: 90.0, SHARING).shared == ()


def test_a_layer_without_own_weights_takes_nothing() -> None:
    model = after([9, 21, 29, 41])
    for layer in layers_of(model, 1):
        layer.subnet.fix(layer.subnet.owner == 0)
    result = adapt_bits(model, 1, lambda: 90.0, SHARING)
    assert (result.shared, books_of(model, 1)) == ((), [[]])


@pytest.mark.parametrize(("bits", "centroid_bits", "widths"), [(1, 8, (12,)), (4, 8, (10, 12)), (2, 4, (12, 10))])
def test_tasks_that_share_end_with_equal_codebooks_also_when_they_train_on(
    bits: int, centroid_bits: int, widths: tuple[int, ...]
) -> None:
    model = model_of(mlp((1, 8, 8), widths), Formats(centroid_bits=centroid_bits), banks=(0, 0, 0))
    settings = QuantizeSettings(min_bits=bits, max_bits=bits, share_codebooks=True, qat_epochs=2)
    x, told, before = pixels(model, 10), [], None
    for task in range(3):
        data = digits_task(task, 200)
        train_task(model, task, data)
        result = adapt_bits(model, task, lambda: 90.0, settings)
        fitted = {name: width for name, width in result.bits.items() if name not in result.shared}
        train_on(model, task, data, fitted)
        commit(model, task)
        told.append(result.shared)
        before = before or integers_of(model, 0, x)
    assert [sorted(names) for names in told] == [[], sorted(result.bits), sorted(result.bits)]
    for layer in layers_of(model):
        assert torch.equal(layer.subnet.codebooks, layer.subnet.codebooks[:1].expand(3, -1))
        assert layer.subnet.entries.unique().tolist() == [2**bits]
    after_all = integers_of(model, 0, x)
    assert all((before[name] == after_all[name]).all() for name in before)


def test_quantizing_and_training_on_change_nothing_that_an_earlier_task_reads() -> None:
    model = model_of(mlp((1, 8, 8), (12,)), banks=(0, 0))
    learn_task(model, 0, digits_task(0, 200))
    x = pixels(model, 10)
    before = integers_of(model, 0, x)
    data = digits_task(1, 200)
    train_task(model, 1, data)
    result = adapt_bits(model, 1, lambda: evaluate(model, 1, data.x_valid, data.y_valid).accuracy, QuantizeSettings())
    train_on(model, 1, data, result.bits)
    commit(model, 1)
    after = integers_of(model, 0, x)
    assert all((before[name] == after[name]).all() for name in before)
