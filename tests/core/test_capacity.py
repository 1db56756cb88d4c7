"""Capacity: hand-computed figures, and figures that are the sizes of what was written."""

import bz2
import json

import numpy as np
import pytest
from hypothesis import given

from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import CONV, NET, U8, put, scale, step, words
from tsn_hw.core.artifact import sections, to_bytes
from tsn_hw.core.capacity import capacity
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import UNUSED, Bank, PackedNetwork, Task


def case_study():
    """The three tasks of the paper: 2-3-2, task 1 owns 3 + 3 weights of 2 bits, task 2 one and one of 1 bit, task 3
    only shares. The heads are dense, 2 in and 2 out."""
    layers = (Linear("fc1", 2, 3), Linear("fc2", 3, 2, (0,)), *(Linear(f"head{t}", 2, 2, (1,)) for t in range(3)))
    one, two = [0, 1, 2, 3], [4, 5]
    first = words([[0, 0], [0, 1], [UNUSED, UNUSED]], [[0, 1], [2, 1], [0, 0]], one, two, [])
    second = words([[0, 0, 0], [1, UNUSED, UNUSED]], [[3, 2, 1], [0, 0, 0]], one, two, [])
    heads = [words([[t, t]] * 2, [[0, 1]] * 2, *([6, 7] if owner == t else [] for owner in range(3))) for t in range(3)]
    masks = [
        ([[1, 1], [1, 0], [0, 0]], [[1, 1, 1], [0, 0, 0]]),
        ([[1, 0], [0, 1], [0, 0]], [[0, 1, 1], [1, 0, 0]]),
        ([[0, 1], [1, 1], [0, 0]], [[1, 0, 1], [1, 0, 0]]),
    ]
    tasks = []
    for t, (mask1, mask2) in enumerate(masks):
        steps = [step(mask1, scale(3)), step(mask2, scale(2)), None, None, None]
        steps[2 + t] = step([[1, 1]] * 2, scale(2, 0, None))
        tasks.append(Task(f"task{t + 1}", 0, ("no", "yes"), tuple(steps), routing=b"1234"))
    return PackedNetwork((2,), U8, layers, (Bank((first, second, *heads)),), tuple(tasks))


# by hand ------------------------------------------------------------------------------------------------------------


def test_the_dense_body_of_the_case_study_has_384_bits():
    assert 32 * capacity(case_study()).body_weights == 384


@pytest.mark.parametrize(("tasks", "used_bits"), [(1, 12), (2, 14), (3, 14)])
def test_the_codes_of_the_case_study(tasks, used_bits):
    """12, 14 and 14 bits, each layer's filled up to whole bytes."""
    net = case_study().first_tasks(tasks)
    figures = capacity(net)
    exact = sum(layer.code_widths[owner] * count for layer, owner, count in owned(net, figures))
    assert exact == used_bits
    assert figures.codes_bits == 2 * 8


def owned(net, figures):
    for layer, memory in zip(figures.body, [net.banks[0].layers[index] for index in net.body], strict=True):
        for owner in range(len(layer.code_widths)):
            yield layer, owner, np.count_nonzero(memory.owner == owner)


def test_the_whole_case_study_by_hand():
    figures = capacity(case_study())
    masks = 2 * 8 * (1 + 3)  # two layers; six symbols of three tasks, stored plainly: 18 bits
    codebooks = 2 * 8 * (4 + 2)
    assert (figures.codes_bits, figures.codebooks_bits, figures.masks_bits) == (16, codebooks, masks)
    assert figures.heads_bits == 3 * (8 * 1 + 8 * 2 + 8 * 2)  # four codes of a bit, two centroids, a constant mask
    assert (figures.requantization_bits, figures.routing_bits) == (0, 3 * 32)
    assert figures.body_percent == 100 * (16 + codebooks + masks) / 384
    assert figures.replay_percent == 100 * 96 / 384
    assert figures.dense_parameters == 12 + 3 * 4
    assert figures.total_percent == 100 * 8 * len(to_bytes(case_study())) / (32 * 24)
    assert figures.wsn_rule_percent == pytest.approx(100 * (8 / 12 + 3 * 0.22 / 32))
    assert figures.prefix_rule_percent == 100 * (16 + codebooks + 12 * 2) / 384


def test_the_tasks_of_the_case_study():
    rows = [(task.weights, task.used, task.owned, task.sparsity_percent) for task in capacity(case_study()).tasks]
    assert rows == [(12, 6, 6, 50.0), (12, 5, 2, 100 - 100 * 5 / 12), (12, 6, 0, 50.0)]


def test_the_layers_of_the_case_study():
    first, second, *heads = capacity(case_study()).layers
    assert (first.layer, first.bank, first.is_head, first.weights, first.used) == ("fc1", 0, False, 6, 4)
    assert (second.used, second.code_widths) == (4, (2, 1, 0))
    assert [(head.layer, head.is_head, head.masks_bits) for head in heads] == [(f"head{t}", True, 16) for t in range(3)]


def test_biases_and_scales_count_as_parameters_of_the_dense_network_once():
    plain = capacity(NET).dense_parameters
    biased = put(NET, ["tasks", 0, "steps", CONV, "requantization", "offset"], np.array([0, 4]))
    both = put(biased, ["tasks", 1, "steps", CONV, "requantization", "multiplier"], np.array([3, 1]))
    assert plain == 2 + 4 + 4 + 6
    assert capacity(biased).dense_parameters == plain + 2
    assert capacity(both).dense_parameters == plain + 4


def test_a_network_without_a_body_has_no_body_figure_and_does_not_fail():
    head = Linear("head", 2, 1)
    net = PackedNetwork(
        (2,),
        U8,
        (head,),
        (Bank((words([[0, 0]], [[0, 0]], [1]),)),),
        (Task("t", 0, ("yes",), (step([[1, 1]], scale(1, 0, None)),)),),
    )
    figures = capacity(net)
    assert (figures.body_weights, figures.body_percent, figures.replay_percent) == (0, 0.0, 0.0)


# against the file ---------------------------------------------------------------------------------------------------


@given(recipes())
def test_every_bit_of_the_file_is_counted_once(recipe):
    net = random_network(recipe)
    data = to_bytes(net)
    parts = {name: 8 * len(part) for name, part in sections(data).items()}
    figures = capacity(net)

    def size(kind, head):
        return sum(bits for name, bits in parts.items() if name.endswith(kind) and ("/head" in name) is head)

    assert figures.codes_bits == size("/codes", head=False)
    assert figures.codebooks_bits == size("/codebooks", head=False)
    assert figures.masks_bits == size("/masks", head=False)
    assert figures.heads_bits == sum(size(kind, head=True) for kind in ("/codes", "/codebooks", "/masks"))
    assert figures.requantization_bits == size("/requantization", head=False)
    assert figures.header_bits == 8 * (40 + int.from_bytes(data[4:8], "little"))
    assert figures.file_bits == 8 * len(data)


def test_the_header_is_what_is_no_section():
    data = to_bytes(NET)
    length = int.from_bytes(data[4:8], "little")
    assert json.loads(bz2.decompress(data[40 : 40 + length]))["tasks"]
    assert capacity(NET).header_bits == 8 * (40 + length)


def test_every_bank_counts_against_one_body():
    net = random_network(Recipe("mlp", tasks=4, banks=2, seed=3))
    figures = capacity(net)
    assert figures.body_weights == sum(layer.weights for layer in figures.body if layer.bank == 0)
    assert figures.body_weights == sum(layer.weights for layer in figures.body if layer.bank == 1)
    stored = sum(layer.bits for layer in figures.body)
    assert figures.body_percent == 100 * stored / (32 * figures.body_weights)
