"""What a PackedNetwork means: its words, its accumulators, its growth."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import (
    ADD,
    AVERAGE,
    CONV,
    FLATTEN,
    HEAD_A,
    HEAD_B,
    MIX,
    NET,
    POOL,
    U8,
    arrays_of,
    content,
    put,
    scale,
    words,
)
from tsn_hw.core.arithmetic import INT32, ActFormat
from tsn_hw.core.errors import NetworkError
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Linear, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task, code_bits

# what it means ------------------------------------------------------------------------------------------------------


def test_a_task_reads_the_centroids_under_its_mask_and_zeros_elsewhere():
    assert NET.weights(0, CONV).ravel().tolist() == [127, 0]
    assert NET.weights(1, CONV).ravel().tolist() == [127, 5]
    assert NET.weights(0, MIX)[:, :, 0, 0].tolist() == [[3, 0], [0, -4]]
    assert NET.weights(1, MIX)[:, :, 0, 0].tolist() == [[3, 0], [30, 0]]
    assert NET.weights(0, HEAD_A).tolist() == [[1, -1], [-1, 0]]
    assert NET.weights(1, HEAD_B).tolist() == [[-7, -7], [-7, -7], [0, -7]]


@given(recipes())
def test_weights_are_what_a_naive_loop_over_the_words_reads(recipe):
    net = random_network(recipe)
    for t, task in enumerate(net.tasks):
        for index, layer, run in net.run_order(t):
            if isinstance(layer, Weighted):
                memory = net.banks[task.bank].layers[index]
                expected = np.zeros(layer.weight_shape, np.int64)
                for place in map(tuple, np.argwhere(run.mask)):
                    expected[place] = memory.codebooks[memory.owner[place]][memory.code[place]]
                np.testing.assert_array_equal(net.weights(t, index), expected)


def test_the_codebook_table_is_addressed_by_prefix_and_code():
    memory = words([[0, 2]], [[2, 0]], [7, 8, 9], [], [-1])
    assert memory.table.tolist() == [[7, 8, 9, 0], [0, 0, 0, 0], [-1, 0, 0, 0]]


def test_a_memory_that_no_task_has_used_has_a_table_of_one_zero():
    assert words([[UNUSED]], [[0]]).table.tolist() == [[0]]


@pytest.mark.parametrize(
    ("entries", "bits"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4), (17, 5), (256, 8)]
)
def test_a_code_is_as_wide_as_its_codebook_needs(entries, bits):
    assert code_bits(np.zeros(entries, np.int64)) == bits


@pytest.mark.parametrize(("bits", "expected"), [(4, (-8, 7)), (8, (-128, 127)), (16, (-32768, 32767))])
def test_centroids_are_twos_complement(bits, expected):
    assert replace(words([[UNUSED]], [[0]]), centroid_bits=bits).centroid_range == expected


def test_shapes_flow_through_every_kind_of_layer():
    assert NET.shapes == ((2, 3, 2), (2, 3, 2), (2, 3, 2), (2, 1, 1), (2, 1, 1), (2,), (2,), (3,))
    assert [NET.shape(index) for index in (INPUT, FLATTEN)] == [(1, 3, 2), (2,)]


def test_heads_are_the_last_layers_that_tasks_run_and_the_body_is_the_rest():
    assert NET.weighted == (CONV, MIX, HEAD_A, HEAD_B)
    assert [NET.head(0), NET.head(1)] == [HEAD_A, HEAD_B]
    assert NET.heads == {HEAD_A, HEAD_B}
    assert NET.body == (CONV, MIX)


def test_a_task_runs_the_layers_that_it_has_steps_for():
    assert [index for index, _, _ in NET.run_order(1)] == [CONV, MIX, ADD, AVERAGE, POOL, FLATTEN, HEAD_B]
    assert all(layer is NET.layers[i] and run is NET.tasks[1].steps[i] for i, layer, run in NET.run_order(1))


def test_prefixes_count_the_tasks_of_a_bank():
    net = random_network(Recipe(tasks=5, banks=2, seed=1))
    assert [net.bank_tasks(bank) for bank in range(2)] == [
        tuple(t for t in range(5) if net.tasks[t].bank == bank) for bank in range(2)
    ]
    assert NET.bank_tasks(0) == (0, 1)


def test_layers_that_do_not_compute_keep_the_format_of_their_input():
    coarse = ActFormat(4, True, 3)
    net = put(NET, ("tasks", 0, "steps", AVERAGE, "requantization", "output"), coarse)
    assert [net.format(0, index) for index in (INPUT, ADD, AVERAGE, POOL, FLATTEN)] == [U8, U8, coarse, coarse, coarse]
    assert net.format(1, FLATTEN) == U8


def test_a_requantization_acts_per_channel_and_rounds_half_to_even():
    form = Requantization(np.array([1, -1]), np.array([0, 2]), 2, ActFormat(4, True, 0))
    assert form(np.array([[6, 6], [10, -100]])).tolist() == [[2, -1], [2, 7]]
    assert form.bounds == (-8, 7)


def test_a_head_gives_int32_logits():
    assert scale(1, shift=0, output=None).bounds == INT32


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: NET.step(0, HEAD_B), "task 'a' does not run layer 'head_b'"),
        (lambda: NET.words(0, ADD), "layer 'add': holds no words in the bank of 'a'"),
        (lambda: NET.weights(1, HEAD_A), "task 'b' does not run layer 'head_a'"),
        (lambda: NET.format(0, HEAD_A), "layer 'head_a': raw logits have no activation format"),
        (lambda: NET.accumulator(0, FLATTEN), "layer 'flatten': Flatten accumulates nothing"),
        (lambda: NET.accumulator(0, POOL), "layer 'pool': MaxPool accumulates nothing"),
        (lambda: NET.first_tasks(0), "first_tasks(0): the network has 2 tasks"),
        (lambda: NET.first_tasks(3), "first_tasks(3): the network has 2 tasks"),
    ],
)
def test_a_question_without_an_answer_is_refused(ask, message):
    with pytest.raises(NetworkError) as error:
        ask()
    assert str(error.value) == message


# accumulators -------------------------------------------------------------------------------------------------------


def products(net, task, index, activations):
    """All products that a computing layer adds up, (sums, terms, channels), for inputs (batch, ...) of its sources."""
    layer = net.layers[index]
    if isinstance(layer, Linear):
        return np.einsum("bi,oi->bio", activations[0], net.weights(task, index))
    if isinstance(layer, Add):
        exponents = [net.format(task, source).exponent for source in layer.inputs]
        terms = [x.ravel() * 2 ** (e - min(exponents)) for x, e in zip(activations, exponents, strict=True)]
        return np.stack(terms, axis=1)[:, :, None]
    pad_y, pad_x = layer.padding if isinstance(layer, Conv2d) else (0, 0)
    padded = np.pad(activations[0], ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel, (2, 3))
    windows = windows[:, :, :: layer.stride[0], :: layer.stride[1]]  # (batch, in, y, x, kernel height, kernel width)
    if isinstance(layer, AvgPool):
        return windows.reshape(-1, layer.kernel[0] * layer.kernel[1], 1)
    weights = net.weights(task, index)
    per_group = len(weights) // layer.groups
    channels = []
    for out, kernel in enumerate(weights):
        first = out // per_group * kernel.shape[0]
        taken = windows[:, first : first + kernel.shape[0]]
        channels.append((taken * kernel[None, :, None, None]).transpose(0, 2, 3, 1, 4, 5).reshape(-1, kernel.size))
    return np.stack(channels, axis=2)


@given(recipes())
def test_every_partial_sum_in_any_order_stays_within_the_accumulator(recipe):
    net = random_network(recipe)
    rng = np.random.default_rng(recipe.seed)
    task = int(rng.integers(len(net.tasks)))
    for index, layer, run in net.run_order(task):
        if run.requantization is None:
            continue
        activations = []
        for source in layer.inputs:
            low, high = net.format(task, source).range
            x = rng.integers(low, high + 1, (3, *net.shape(source)))
            x[0], x[1] = low, rng.choice([low, high], net.shape(source))
            activations.append(x)
        terms = products(net, task, index, activations)
        partial = rng.permuted(terms, axis=1).cumsum(axis=1)
        least, most = net.accumulator(task, index)
        assert (least <= partial.min(axis=(0, 1))).all()
        assert (most >= partial.max(axis=(0, 1))).all()


@given(recipes())
def test_the_accumulator_of_a_linear_layer_is_reached(recipe):
    net = random_network(replace(recipe, kind="mlp"))
    for index, layer, _ in net.run_order(0):
        low, high = net.format(0, layer.inputs[0]).range
        weights = net.weights(0, index)
        least, most = net.accumulator(0, index)
        assert least.tolist() == (weights * np.where(weights > 0, min(low, 0), high)).sum(axis=1).tolist()
        assert most.tolist() == (weights * np.where(weights > 0, high, min(low, 0))).sum(axis=1).tolist()


def test_accumulators_of_every_kind_of_layer():
    low_high = [tuple(bound.tolist() for bound in NET.accumulator(0, i)) for i in (CONV, MIX, ADD, AVERAGE, HEAD_A)]
    assert low_high == [
        ([0, 0], [127 * 255, 0]),
        ([0, -4 * 255], [3 * 255, 0]),
        ([0], [510]),
        ([0], [6 * 255]),
        ([-255, -255], [255, 0]),
    ]


def test_an_addition_counts_on_the_finer_grid():
    net = put(NET, ("tasks", 0, "steps", MIX, "requantization", "output"), ActFormat(4, True, -3))
    assert [bound.tolist() for bound in net.accumulator(0, ADD)] == [[-8], [8 * 255 + 7]]


# growth -------------------------------------------------------------------------------------------------------------


def test_the_first_task_is_what_stood_before_the_second_came():
    first = NET.first_tasks(1)
    assert [layer.name for layer in first.layers] == ["conv", "mix", "add", "average", "pool", "flatten", "head_a"]
    assert [task.name for task in first.tasks] == ["a"]
    conv, mix = first.banks[0].layers[:2]
    assert conv.owner.ravel().tolist() == [0, UNUSED]
    assert mix.owner.ravel().tolist() == [0, UNUSED, UNUSED, 0]
    assert mix.code.ravel().tolist() == [0, 0, 0, 1]
    assert [book.tolist() for book in mix.codebooks] == [[3, -4]]
    assert (mix.centroid_bits, mix.exponent) == (8, -7)


def test_later_inputs_are_renumbered_when_earlier_layers_go():
    swapped = (0, 1, 2, 3, 4, 5, HEAD_B, HEAD_A)  # task b's head stands before task a's
    net = PackedNetwork(
        NET.input_shape,
        NET.input,
        tuple(NET.layers[i] for i in swapped),
        (Bank(tuple(NET.banks[0].layers[i] for i in swapped)),),
        tuple(replace(task, steps=tuple(task.steps[i] for i in swapped)) for task in NET.tasks),
    )
    assert content(net.first_tasks(1)) == content(NET.first_tasks(1))


def test_banks_of_later_tasks_are_gone():
    net = random_network(Recipe(tasks=3, banks=3, seed=5))
    assert [len(net.first_tasks(count).banks) for count in (1, 2, 3)] == [1, 2, 3]


@given(recipes(), st.data())
def test_a_task_reads_the_same_before_and_after_later_tasks_came(recipe, data):
    net = random_network(recipe)
    count = data.draw(st.integers(1, len(net.tasks)))
    before = net.first_tasks(count)
    position = {layer.name: index for index, layer in enumerate(before.layers)}
    assert len(before.tasks) == count
    for t in range(count):
        old, new = list(before.run_order(t)), list(net.run_order(t))
        assert [layer.name for _, layer, _ in old] == [layer.name for _, layer, _ in new]
        for index, layer, run in new:
            there = position[layer.name]
            assert content(before.step(t, there)) == content(run)
            if isinstance(layer, Weighted):
                np.testing.assert_array_equal(before.weights(t, there), net.weights(t, index))


@given(recipes(), st.data())
def test_going_back_twice_is_going_back_once(recipe, data):
    net = random_network(recipe)
    count = data.draw(st.integers(1, len(net.tasks)))
    earlier = data.draw(st.integers(1, count))
    assert content(net.first_tasks(count).first_tasks(earlier)) == content(net.first_tasks(earlier))
    assert content(net.first_tasks(len(net.tasks))) == content(net)


# immutability -------------------------------------------------------------------------------------------------------


def test_no_array_of_a_network_can_be_written():
    arrays = [*arrays_of(NET), NET.banks[0].layers[CONV].table]
    assert len(arrays) > 40
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_no_field_of_a_network_can_be_replaced():
    bank = NET.banks[0]
    parts = (NET, bank, bank.layers[CONV], NET.tasks[0], NET.tasks[0].steps[CONV], scale(1), U8, NET.layers[CONV])
    for part in parts:
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, None)


def test_a_network_does_not_follow_the_arrays_it_was_made_from():
    owner, code, book = np.zeros((1, 1), np.int16), np.zeros((1, 1), np.uint8), np.array([3])
    mask, multiplier, offset = np.ones((1, 1), bool), np.array([2]), np.array([1])
    memory = BankLayer(owner, code, (book,), 8, 0)
    run = Step(mask, Requantization(multiplier, offset, 0, None))
    net = PackedNetwork((1,), U8, (Linear("fc", 1, 1),), (Bank((memory,)),), (Task("only", 0, ("x",), (run,)),))
    for array in (owner, code, book, mask, multiplier, offset):
        array[...] = 0
    assert net.weights(0, 0).tolist() == [[3]]
    assert run.requantization(np.array([[5]])).tolist() == [[11]]
    assert run.mask.tolist() == [[True]]


@given(st.integers(0, 2**32 - 1), st.sampled_from(["mlp", "conv", "residual"]))
def test_a_task_may_use_no_weight_at_all(seed, kind):
    net = random_network(Recipe(kind=kind, mask_kinds=("empty",), seed=seed))
    for index, layer, _ in net.run_order(0):
        if isinstance(layer, Weighted):
            assert not net.weights(0, index).any()
            assert [bound.any() for bound in net.accumulator(0, index)] == [False, False]


# as text ----------------------------------------------------------------------------------------------------


def test_a_network_is_shown_by_its_shapes_tasks_banks_and_bits():
    net = random_network(Recipe(kind="mlp", tasks=2, banks=2, code_bits=(2, 4), widths=(6, 5), classes=3, seed=1))
    assert repr(net).splitlines() == [
        "PackedNetwork: 2 tasks, 2 banks, 3 layers, input (6,) of 8 unsigned bits",
        "  fc0: Linear to (5,), weights (5, 6), codes of 4 bits",
        "  head0: Linear to (3,), weights (3, 5), codes of 4 bits",
        "  head1: Linear to (3,), weights (3, 5), codes of 2 bits",
        "  tasks: task0, task1",
    ]


def test_a_network_of_any_size_is_shown_on_one_screen():
    shown = repr(random_network(Recipe(tasks=40, widths=(3, 3), classes=2))).splitlines()
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 120
    assert any("more ..." in line for line in shown)
