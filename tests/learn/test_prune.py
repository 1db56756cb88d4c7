"""Post-pruning with accuracies that are pretended, so that every branch of the greedy search is driven."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.learning import add_task, digits_task, learn_task, model_of, quantize_task, residual, train_task
from tsn_hw.learn.bodies import mlp
from tsn_hw.learn.freezing import commit
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.prune import CodedSize, Pruned, _importance, coded_bits, post_prune
from tsn_hw.learn.settings import PruneSettings, TrainSettings
from tsn_hw.learn.training import evaluate, start_task


def prunable(*widths: int, inputs: tuple[int, int, int] = (1, 2, 5)) -> SubnetModel:
    """A model whose task 0 uses every weight, with distinct magnitudes: weight i of a layer is +-(i + 1)."""
    model = model_of(mlp(inputs, widths or (10,)))
    start_task(model, 0, TrainSettings(keep_ratio=1.0), 1)
    for layer in model.body_layers(0).values():
        count = layer.weight.numel()
        with torch.no_grad():
            signs = torch.arange(count) % 2 * 2 - 1
            layer.weight.copy_(((torch.arange(count) + 1.0) * signs).reshape(layer.weight.shape))
        layer.subnet.fix(layer.subnet.mask())
    return model


def own_counts(model: SubnetModel, task: int = 0) -> list[int]:
    return [int(layer.subnet.own().count_nonzero()) for layer in model.body_layers(task).values()]


@dataclass
class Script:
    """Accuracies in the order of the calls; remembers how many own weights were left at each."""

    model: SubnetModel
    values: Iterable[float]
    left: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.iterator = iter(self.values)

    def __call__(self) -> float:
        self.left.append(own_counts(self.model))
        return next(self.iterator)


def forever(*values: float) -> Iterable[float]:
    """The values, the last one again and again."""
    yield from values
    while True:
        yield values[-1]


def pruned(model: SubnetModel, values: Iterable[float], seed: int = 0, **settings: float) -> tuple[Pruned, Script]:
    script = Script(model, values)
    chosen = PruneSettings(**settings)  # type: ignore[arg-type]
    return post_prune(model, 0, script, chosen, np.random.default_rng(seed)), script


# --- the branches ------------------------------------------------------------------------------------------------


def test_while_accuracy_holds_every_step_takes_its_share_of_the_smallest_weights() -> None:
    model = prunable(10)  # 100 weights
    result, script = pruned(model, forever(90.0), iterations=4, share=0.2)
    assert script.left == [[100], [80], [64], [52], [42]]  # floor of a fifth leaves each time
    assert result == Pruned(100, 42, 90.0, 90.0)
    layer = model.body_layers(0)[1]
    assert sorted(layer.weight.abs()[layer.subnet.mask()].int().tolist()) == list(range(59, 101))


def test_when_accuracy_falls_the_layer_is_restored_its_share_halved_and_at_one_weight_the_layer_closed() -> None:
    model = prunable(10)
    before = model.body_layers(0)[1].subnet.mask().clone()
    result, script = pruned(model, forever(90.0, 0.0), iterations=50, share=0.2)
    assert script.left == [[100], [80], [90], [95], [98], [99]]  # 20, 10, 5, 2, 1, then the layer is closed
    assert result == Pruned(100, 100, 90.0, 90.0)
    assert torch.equal(model.body_layers(0)[1].subnet.mask(), before)


def test_after_a_rejection_the_search_goes_on_with_half_the_share() -> None:
    model = prunable(10)
    result, script = pruned(model, forever(90.0, 0.0, 90.0, 0.0, 90.0), iterations=4, share=0.2)
    # 20 refused, 10 accepted, a tenth of 90 refused, a twentieth of 90 accepted
    assert script.left == [[100], [80], [90], [81], [86]]
    assert result.after == 86


def test_a_closed_layer_leaves_the_others_open() -> None:
    model = prunable(10, 10)
    second = list(model.body_layers(0).values())[1]

    def accuracy() -> float:
        return 90.0 if int(second.subnet.own().count_nonzero()) == 100 else 0.0

    result = post_prune(model, 0, accuracy, PruneSettings(iterations=300), np.random.default_rng(0))
    assert own_counts(model) == [1, 100]  # the last own weight of a layer is not asked for
    assert (result.before, result.after) == (200, 101)


@pytest.mark.parametrize("drop", [0.0, 0.2, 5.0])
def test_the_drop_is_a_budget_for_all_steps_together(drop: float) -> None:
    """Every step costs 0.15 points: single steps are always within 0.2, but two together are not."""
    model = prunable(10)
    lost = {100: 0.0}

    def accuracy() -> float:
        (left,) = own_counts(model)
        return 90.0 - lost.setdefault(left, 0.15 * (100 - left) / 5)

    result = post_prune(model, 0, accuracy, PruneSettings(100, 0.05, drop), np.random.default_rng(0))
    assert result.accuracy_after == accuracy() >= 90.0 - drop
    assert (result.after == 100) == (drop == 0.0)


def test_a_drop_of_exactly_the_tolerance_is_accepted_and_an_improvement_is_no_credit() -> None:
    result, script = pruned(prunable(10), [90.0, 95.0, 89.5, 89.0], iterations=3, share=0.2, tolerated_drop=0.5)
    assert script.left == [[100], [80], [64], [52]]
    assert result == Pruned(100, 64, 90.0, 89.5)  # the reference stays 90, and 89.0 is refused


@given(
    accuracies=st.lists(st.floats(80, 95), min_size=31, max_size=31),
    share=st.floats(0.01, 1.0),
    drop=st.floats(0, 3),
    seed=st.integers(0, 99),
)
def test_whatever_the_accuracies_are_the_total_drop_stays_within_the_budget(
    accuracies: list[float], share: float, drop: float, seed: int
) -> None:
    model = prunable(6, 3)
    result, script = pruned(model, accuracies, seed, iterations=30, share=share, tolerated_drop=drop)
    assert result.accuracy_before == accuracies[0]
    assert result.accuracy_after >= accuracies[0] - drop
    steps = zip(script.left[1:], accuracies[1:], strict=False)
    accepted = [(left, accuracy) for left, accuracy in steps if accuracy >= accuracies[0] - drop]
    assert own_counts(model) == (accepted[-1][0] if accepted else script.left[0])
    assert result.accuracy_after == (accepted[-1][1] if accepted else accuracies[0])
    assert (result.before, result.after) == (78, sum(own_counts(model)))


def test_a_share_of_one_may_empty_a_layer() -> None:
    model = prunable(10)
    result, _ = pruned(model, forever(90.0), iterations=9, share=1.0)
    assert result == Pruned(100, 0, 90.0, 90.0)


def test_no_iterations_change_nothing() -> None:
    model = prunable(10)
    assert pruned(model, forever(90.0), iterations=0)[0] == Pruned(100, 100, 90.0, 90.0)


def test_the_same_generator_prunes_the_same_weights() -> None:
    masks = []
    for seed in (1, 1, 2):
        model = prunable(10, 10, 10)
        pruned(model, forever(90.0), seed, iterations=7)
        masks.append(own_counts(model))
    assert masks[0] == masks[1] != masks[2]


def test_equal_weights_leave_in_the_order_of_their_indices() -> None:
    model = prunable(10)
    layer = model.body_layers(0)[1]
    with torch.no_grad():
        layer.weight.fill_(0.5)
    pruned(model, forever(90.0), iterations=1, share=0.25)
    assert layer.subnet.mask().flatten().tolist() == [False] * 25 + [True] * 75


# --- what belongs to others --------------------------------------------------------------------------------------


def second_task() -> tuple[SubnetModel, Tensor]:
    """Task 0 owns the even weights of a layer; task 1 uses all. Returns the model and task 0's weights."""
    model = prunable(10)
    layer = model.body_layers(0)[1]
    even = (torch.arange(100) % 2 == 0).reshape(10, 10)
    layer.subnet.fix(even)
    quantize_task(model, 0, 8)
    commit(model, 0)
    add_task(model, 0, seed=1)
    start_task(model, 1, TrainSettings(keep_ratio=1.0), 2)
    layer.subnet.fix(layer.subnet.mask())
    return model, even


def test_shared_weights_are_never_pruned() -> None:
    model, shared = second_task()
    with torch.no_grad():
        model.body_layers(1)[1].weight[shared] = 1e-9  # the smallest of all, but they belong to task 0
    result = post_prune(model, 1, lambda: 90.0, PruneSettings(iterations=200), np.random.default_rng(0))
    assert (result.before, result.after) == (50, 1)
    mask = model.body_layers(1)[1].subnet.mask()
    assert mask[shared].all()
    assert int(mask.count_nonzero()) == 51


def test_freed_weights_leave_the_mask_and_a_later_task_can_own_them() -> None:
    """The reference code frees them only in the union of the masks (defect B7)."""
    model, shared = second_task()
    layer = model.body_layers(1)[1]
    post_prune(model, 1, lambda: 90.0, PruneSettings(iterations=2), np.random.default_rng(0))
    freed = ~layer.subnet.mask()
    assert int(freed.count_nonzero()) == 18  # 10 of 50, then 8 of 40
    assert layer.learned_weight()[freed].count_nonzero() == 0
    quantize_task(model, 1)
    commit(model, 1)
    assert set(layer.subnet.owner[freed].tolist()) == {-1}
    assert not (layer.subnet.masks[1] & freed).any()

    add_task(model, 0, seed=2)
    start_task(model, 2, TrainSettings(keep_ratio=1.0), 3)
    assert torch.equal(layer.subnet.own(), freed)
    layer.subnet.fix(layer.subnet.mask())
    quantize_task(model, 2)
    commit(model, 2)
    assert set(layer.subnet.owner[freed].tolist()) == {2}
    assert set(layer.subnet.owner[shared].tolist()) == {0}


def test_pruning_touches_only_masks() -> None:
    model, _ = second_task()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    post_prune(model, 1, lambda: 90.0, PruneSettings(iterations=5), np.random.default_rng(0))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# --- by coded size -----------------------------------------------------------------------------------------------


def sized(model: SubnetModel, live: int = 10, code_bits: int = 3) -> CodedSize:
    """Inputs of which only the first ``live`` are ever positive."""
    shape = model.architecture.input_shape
    x = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0)).flatten(1)
    x[:, live:] = 0
    return CodedSize(x.view(64, *shape), code_bits)


def test_the_size_of_a_layer_is_the_entropy_of_its_masks_and_its_own_codes() -> None:
    model, _ = second_task()
    subnet = model.body_layers(1)[1].subnet
    assert coded_bits(subnet, 3) == 100 * 1.0 + 3 * 50  # half of the symbols are 3, half are 2
    subnet.fix(subnet.masks[0])
    assert coded_bits(subnet, 3) == 100 * 1.0  # the same mask again, and nothing of its own


def test_weights_of_inputs_that_are_always_zero_go_first_shared_or_not() -> None:
    model, shared = second_task()
    layer = model.body_layers(1)[1]
    post_prune(
        model, 1, lambda: 90.0, PruneSettings(1, 0.5), np.random.default_rng(0), sized(model, live=5, code_bits=8)
    )
    mask = layer.subnet.mask()
    assert mask[:, :5].all()  # small weights among them, but their inputs move
    assert not mask[:, 5:].any()
    assert layer.subnet.masks[0][:, 5:].any()  # the owner still reads what it owns
    assert (mask & shared).any()


def test_a_step_that_costs_bits_is_undone_although_accuracy_holds() -> None:
    model, _ = second_task()
    subnet = model.body_layers(1)[1].subnet
    subnet.fix(subnet.masks[0])  # equal masks cost nothing more; any removal makes a third symbol
    result = post_prune(model, 1, lambda: 90.0, PruneSettings(20), np.random.default_rng(0), sized(model))
    assert torch.equal(subnet.mask(), subnet.masks[0])
    assert result == Pruned(0, 0, 90.0, 90.0)


def test_importance_follows_the_input_channels_of_grouped_convolutions() -> None:
    model = model_of(residual())
    start_task(model, 0, TrainSettings(keep_ratio=1.0), 1)
    x = torch.rand(8, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    branch, place = model.body_layers(0)[1], 1
    stem = model.body_layers(0)[0]
    with torch.no_grad():
        stem.weight.abs_()
        stem.weight[1:] = 0  # of the four channels that the branch reads in two groups, only the first is alive
    (found,) = [by for index, by in zip(model.body_layers(0), _importance(model, 0, x), strict=True) if index == place]
    alive = found.flatten(2).any(dim=2)
    assert alive.tolist() == [[True, False], [True, False], [False, False], [False, False]]
    assert found.shape == branch.weight.shape


# --- the real thing ----------------------------------------------------------------------------------------------


def test_pruning_a_trained_task_frees_weights_within_the_budget_of_its_validation_accuracy() -> None:
    model = model_of(mlp((1, 8, 8), (30, 20)), banks=(0, 0))
    learn_task(model, 0, digits_task(0))
    data = digits_task(1)
    train_task(model, 1, data)
    accuracy: Callable[[], float] = lambda: evaluate(model, 1, data.x_valid, data.y_valid).accuracy  # noqa: E731
    start = accuracy()
    result = post_prune(model, 1, accuracy, PruneSettings(iterations=20), np.random.default_rng(0))
    assert result.accuracy_before == start
    assert result.accuracy_after == accuracy() >= start - 0.2
    assert 0 < result.after == sum(own_counts(model, 1)) < result.before
