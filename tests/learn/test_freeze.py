"""The only bridge: what Brevitas computes is what the packed network says, integer by integer, layer by layer."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.helpers.learning import (
    TINY,
    activation_of,
    add_task,
    commit_randomly,
    digits_data,
    digits_task,
    integers_of,
    labels_of,
    learn_task,
    model_of,
    pixels,
    quantize_task,
    residual,
    train_task,
)
from tsn_hw.core.arithmetic import ActFormat, quantize
from tsn_hw.core.errors import EngineError, NetworkError
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import UNUSED, PackedNetwork
from tsn_hw.core.reference import run
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.freezing import TaskLabel, commit, freeze
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import Formats, TrainSettings
from tsn_hw.learn.training import evaluate, start_task, to_real


def assert_frozen_exactly(model: SubnetModel, net: PackedNetwork, images: int = 6, seed: int = 0) -> None:
    """Every task, every layer: Brevitas' integers are those of the packed network."""
    x = pixels(model, images, seed)
    body = [layer.name for layer in model.architecture.layers]
    for task in range(len(net.tasks)):
        expected, actual = run(net, task, x), integers_of(model, task, x)
        assert list(actual) == [*body, "head"]
        assert list(expected) == [*body, f"head_task{task}"]
        for name, mine, packed in zip(actual, actual.values(), expected.values(), strict=True):
            np.testing.assert_array_equal(mine, packed, err_msg=f"task {task}, layer {name}")


ARCHITECTURES = {
    "mlp": lambda batch_norm: mlp((1, 4, 4), (9, 7), batch_norm),
    "alexnet": lambda batch_norm: alexnet((2, 8, 8), (4, 5), (9,), batch_norm),
    "residual": residual,
}


@settings(max_examples=6)
@pytest.mark.parametrize("act_bits", [4, 8, 16])
@pytest.mark.parametrize("kind", ARCHITECTURES)
@given(
    batch_norm=st.booleans(),
    banks=st.sampled_from([(0,), (0, 0), (0, 1), (0, 1, 0), (0, 0, 0), (0, 1, 1)]),
    widths=st.tuples(st.sampled_from([4, 8, 12, 16]), st.sampled_from([2, 8, 12, 16])),
    drawn=st.tuples(
        st.integers(0, 2**32 - 1),
        st.sampled_from([0.0, 0.05, 0.4, 1.0]),
        st.sampled_from([1, 3, 8]),
        st.sampled_from([0.01, 1.0, 6.0]),
    ),
)
def test_a_packed_network_computes_what_brevitas_computes(
    kind: str,
    act_bits: int,
    batch_norm: bool,
    banks: tuple[int, ...],
    widths: tuple[int, int],
    drawn: tuple[int, float, int, float],
) -> None:
    """``widths``: bits of centroids and multipliers; ``drawn``: seed, density of masks, bits of codes and spread."""
    seed, *chosen = drawn
    formats = Formats(act_bits, *widths)  # type: ignore[arg-type]
    model = model_of(ARCHITECTURES[kind](batch_norm), formats, banks, classes=3, seed=seed)
    for task in range(len(banks)):
        commit_randomly(model, task, seed + task, *chosen)
    net = freeze(model, labels_of(model))
    try:
        assert_frozen_exactly(model, net, seed=seed)
    except EngineError as error:  # Brevitas computes in floats, and says where they hold no more
        if not str(error).endswith("do not fit float64"):
            raise
        reject()


@pytest.mark.parametrize(
    ("architecture", "formats"),
    [
        (mlp((1, 8, 8), (14, 9)), Formats()),
        (mlp((1, 8, 8), (14, 9), batch_norm=True, dropout=0.1), Formats(act_bits=4, centroid_bits=4)),
        (alexnet((1, 8, 8), (4, 6), (10,), dropout=0.2), Formats(act_bits=16, centroid_bits=12)),
        (alexnet((1, 8, 8), (4, 6), (10,), dropout=0.0), Formats(act_bits=8, multiplier_bits=8)),
    ],
    ids=["mlp", "mlp-norm-4", "alexnet-16", "alexnet-8"],
)
def test_trained_tasks_in_two_banks_freeze_exactly_and_keep_their_accuracy(
    architecture: Architecture, formats: Formats
) -> None:
    model = model_of(architecture, formats)
    for task, bank in enumerate((0, 1, 0)):
        if task:
            add_task(model, bank, seed=task)
        learn_task(model, task, digits_task(task, 300), replace(TINY, epochs=2))
    net = freeze(model, labels_of(model))
    assert_frozen_exactly(model, net, images=30)
    for task in range(3):
        data = digits_data(task)
        logits = list(run(net, task, quantize(data.x_test[:100] / 256, net.input)).values())[-1]
        model.double()
        with torch.no_grad():
            brevitas = model(torch.from_numpy(np.array(data.x_test[:100])).double() / 256, task)
        model.float()
        np.testing.assert_array_equal(logits.argmax(1), brevitas.numpy().argmax(1))


def test_freezing_is_not_vacuous() -> None:
    """The random networks above do compute: many different integers, saturated and not, in every layer."""
    model = model_of(residual(batch_norm=True), classes=3)
    commit_randomly(model, 0, seed=0)
    taps = run(freeze(model, labels_of(model)), 0, pixels(model, 50))
    assert all(len(np.unique(values)) > 20 for values in taps.values())
    assert (taps["branch"] < 0).any()
    assert (taps["stem"] == 0).any()


def test_a_single_wrong_word_is_seen() -> None:
    model = model_of(mlp((1, 4, 4), (9, 7)), classes=3)
    commit_randomly(model, 0, seed=0)
    net = freeze(model, labels_of(model))
    alive = int(run(net, 0, pixels(model, 6))["fc2"].sum(0).argmax())
    code = model.modules_of(0).head.subnet.code
    code[0, alive] = (code[0, alive] + 1) % 8
    with pytest.raises(AssertionError, match="task 0, layer head"):
        assert_frozen_exactly(model, net)


# --- what the packed network holds -------------------------------------------------------------------------------


def three_tasks(density: float = 0.3) -> tuple[SubnetModel, PackedNetwork]:
    model = model_of(residual(), banks=(0, 1, 0), classes=4)
    for task in range(3):
        commit_randomly(model, task, seed=task, density=density)
    return model, freeze(model, labels_of(model))


def test_used_weights_are_the_union_of_the_masks_and_the_owner_is_the_lowest_bit() -> None:
    _, net = three_tasks()
    for bank in range(2):
        members = net.bank_tasks(bank)
        for index in net.body:
            words = net.words(members[0], index)
            masks = np.stack([net.step(task, index).mask for task in members])  # type: ignore[arg-type]
            np.testing.assert_array_equal(words.owner != UNUSED, masks.any(0))
            np.testing.assert_array_equal(words.owner, np.where(masks.any(0), masks.argmax(0), UNUSED))
            assert (words.code[words.owner == UNUSED] == 0).all()


def test_distinct_values_of_an_owner_fit_its_codebook() -> None:
    model, net = three_tasks(density=1.0)
    for index in net.body:
        assert [len(book) for book in net.words(0, index).codebooks] == [8, 0]  # task 2 owns nothing in a full bank
    assert model.body_layers(0)[0].subnet.entries.tolist() == [8, 0]


def test_tasks_of_one_bank_read_the_same_words_and_other_banks_their_own() -> None:
    _, net = three_tasks(density=1.0)
    for index in net.body:
        np.testing.assert_array_equal(net.weights(0, index), net.weights(2, index))
        assert (net.weights(0, index) != net.weights(1, index)).any()


def test_a_head_belongs_to_its_task_alone_and_its_owner_has_the_prefix_of_the_task() -> None:
    _, net = three_tasks()
    for task, prefix in ((0, 0), (1, 0), (2, 1)):
        head = net.head(task)
        assert net.layers[head] == Linear(f"head_task{task}", 5, 4, (7,))
        assert (net.words(task, head).owner == prefix).all()
        assert [len(book) for book in net.words(task, head).codebooks][prefix] == 8
        assert sum(other.steps[head] is not None for other in net.tasks) == 1


def test_labels_become_names_classes_and_routing_memories() -> None:
    model, _ = three_tasks()
    labels = [TaskLabel(f"t{i}", tuple(f"{i}{c}" for c in range(4)), bytes([i, 7])) for i in range(3)]
    net = freeze(model, labels)
    assert [(t.name, t.classes, t.routing, t.bank) for t in net.tasks] == [
        ("t0", ("00", "01", "02", "03"), b"\x00\x07", 0),
        ("t1", ("10", "11", "12", "13"), b"\x01\x07", 1),
        ("t2", ("20", "21", "22", "23"), b"\x02\x07", 0),
    ]


def test_freezing_twice_gives_the_same_words_and_changes_nothing() -> None:
    model, net = three_tasks()
    before = copy.deepcopy(model.state_dict())
    again = freeze(model, labels_of(model))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    for index in net.body:
        np.testing.assert_array_equal(net.words(0, index).code, again.words(0, index).code)


def test_formats_of_the_settings_reach_the_packed_network() -> None:
    model = model_of(residual(), Formats(act_bits=4, centroid_bits=12), classes=3)
    commit_randomly(model, 0, seed=0)
    net = freeze(model, labels_of(model))
    assert net.input == ActFormat(4, signed=False, exponent=-4)
    exponents = {name: int(activation_of(model, 0, name).grid.exponent) for name in ("stem", "branch", "fc")}
    assert net.format(0, 0) == ActFormat(4, signed=False, exponent=exponents["stem"])
    assert net.format(0, 1) == ActFormat(4, signed=True, exponent=exponents["branch"])
    assert net.format(0, 7) == ActFormat(4, signed=False, exponent=exponents["fc"])
    assert {net.words(0, index).centroid_bits for index in net.weighted} == {12}


def test_multipliers_are_one_without_batch_norm_and_within_their_bits_with_it() -> None:
    for batch_norm, top in ((False, 1), (True, 2**7 - 1)):
        model = model_of(residual(batch_norm), Formats(multiplier_bits=8), classes=3)
        commit_randomly(model, 0, seed=0)
        net = freeze(model, labels_of(model))
        multipliers = [net.step(0, index).requantization.multiplier for index in net.body]  # type: ignore[union-attr]
        assert max(np.abs(m).max() for m in multipliers) <= top
        assert batch_norm == any((np.abs(m) > 1).any() for m in multipliers)


# --- what enters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act_bits", [4, 8, 16])
def test_images_enter_a_model_as_they_enter_its_packed_network(act_bits: int) -> None:
    model = model_of(mlp((1, 16, 16), (3,)), Formats(act_bits=act_bits), classes=2)  # type: ignore[arg-type]
    commit_randomly(model, 0, seed=0)
    net = freeze(model, labels_of(model))
    every_pixel = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    entered = model.input.eval()(to_real(torch.from_numpy(every_pixel)))
    expected = quantize(every_pixel / 256, net.input)
    np.testing.assert_array_equal((entered.value / entered.scale).numpy().astype(np.int64), expected)
    if act_bits >= 8:
        np.testing.assert_array_equal(expected, every_pixel)  # a pixel is its own integer


# --- extremes ----------------------------------------------------------------------------------------------------


def test_a_dead_layer_freezes_and_leaves_the_biases() -> None:
    for batch_norm in (False, True):
        model = model_of(mlp((1, 4, 4), (5, 4), batch_norm), classes=3)
        commit_randomly(model, 0, seed=1, density=0.0)
        net = freeze(model, labels_of(model))
        assert_frozen_exactly(model, net)
        taps = run(net, 0, pixels(model, 6))
        assert (taps["fc2"] == taps["fc2"][0]).all()  # no image makes a difference
        assert [len(book) for index in net.body for book in net.words(0, index).codebooks] == [0, 0]


def test_activations_that_were_calibrated_finer_than_a_product_fall_back_on_its_grid() -> None:
    """The contract shifts right only."""
    model = model_of(mlp((1, 4, 4), (5,)), Formats(act_bits=16, centroid_bits=4), classes=2)
    start_task(model, 0, TrainSettings(), 1)
    with torch.no_grad():
        for layer in model.body_layers(0).values():
            layer.weight.fill_(layer.grid.real)
            layer.subnet.fix(layer.subnet.mask())
    quantize_task(model, 0)
    model.calibrate(torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0)), 0)
    product = -8 + int(model.body_layers(0)[1].grid.exponent)
    assert int(activation_of(model, 0, "fc1").grid.exponent) < product
    commit(model, 0)
    net = freeze(model, labels_of(model))
    assert net.step(0, 1).requantization.shift == 0  # type: ignore[union-attr]
    assert net.format(0, 1).exponent == product
    assert_frozen_exactly(model, net)


def test_wide_heads_drop_low_bits_in_both_engines() -> None:
    model = model_of(mlp((1, 4, 4), (300,)), Formats(act_bits=16, centroid_bits=16, headroom=0.1), classes=3)
    commit_randomly(model, 0, seed=2, density=1.0, spread=6)
    net = freeze(model, labels_of(model))
    assert net.step(0, net.head(0)).requantization.shift > 0  # type: ignore[union-attr]
    assert_frozen_exactly(model, net, images=30)


@pytest.mark.parametrize("reach", [2**31 - 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
def test_logits_at_the_very_edge_of_int32_freeze(reach: int) -> None:
    model = model_of(mlp((1, 1, 1), (1,)), Formats(act_bits=16, centroid_bits=16, headroom=1.0), classes=2)
    start_task(model, 0, TrainSettings(keep_ratio=1.0), 1)
    private = model.modules_of(0)
    with torch.no_grad():
        for layer in model.weight_layers(0).values():
            layer.subnet.fix(layer.subnet.mask())
            layer.weight.fill_(0.5)
        private.head.weight.copy_(torch.tensor([[30_000], [-30_000]]) * private.head.grid.real)
    quantize_task(model, 0, 4)
    commit(model, 0)
    used = private.head.subnet.stored()
    private.affine.offset.fill_(reach - int(used.max()) * 65535)
    private.affine.limit(used, act_bits=16)
    net = freeze(model, labels_of(model))
    assert_frozen_exactly(model, net)


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_task_that_is_not_committed_has_no_integers() -> None:
    model = model_of(mlp((1, 8, 8), (12,)))
    train_task(model, 0, digits_task(0, 100))
    with pytest.raises(EngineError, match=r"layer 'fc1': task 0 is not committed, it has no integers yet"):
        integers_of(model, 0, pixels(model, 4))


def test_names_that_the_packed_network_does_not_allow_are_refused() -> None:
    model, _ = three_tasks()
    good = labels_of(model)
    with pytest.raises(NetworkError, match="name"):
        freeze(model, [replace(good[0], name="task 0"), *good[1:]])
    with pytest.raises(NetworkError, match="used 2 times"):
        freeze(model, [good[1], *good[1:]])


def test_a_label_with_another_number_of_classes_is_refused() -> None:
    model, _ = three_tasks()
    good = labels_of(model)
    with pytest.raises(NetworkError, match="head_task0"):
        freeze(model, [replace(good[0], classes=("a", "b")), *good[1:]])


def test_committing_costs_no_accuracy_worth_speaking_of() -> None:
    model, data = model_of(mlp((1, 8, 8), (30,), batch_norm=True)), digits_task()
    train_task(model, 0, data, replace(TINY, epochs=5))
    quantize_task(model, 0, 4)
    before = evaluate(model, 0, data.x_valid, data.y_valid).accuracy
    commit(model, 0)
    assert before > 70
    assert evaluate(model, 0, data.x_valid, data.y_valid).accuracy > before - 1.5
