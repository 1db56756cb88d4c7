"""A network that grows task by task is checked and written for what is new, with the outcome of one that is new."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import put, small_network
from tsn_hw.core.artifact import to_bytes
from tsn_hw.core.errors import NetworkError
from tsn_hw.core.writing import Writer


@given(recipes())
def test_files_of_one_writer_are_those_of_the_networks(recipe: Recipe) -> None:
    net, writer = random_network(recipe), Writer()
    for count in range(1, len(net.tasks) + 1):
        assert writer.file(net.first_tasks(count)) == to_bytes(net.first_tasks(count))
    assert writer.file(net) == to_bytes(net)


def test_a_writer_sees_every_change() -> None:
    net, writer = small_network(), Writer()
    changes = [
        (("tasks", 0, "name"), "other"),
        (("tasks", 0, "routing"), b"other"),
        (("tasks", 0, "steps", 0, "requantization", "shift"), 3),
        (("banks", 0, "layers", 0, "exponent"), -3),
    ]
    writer.file(net)
    for path, value in changes:
        changed = put(net, path, value)
        assert writer.file(changed) == to_bytes(changed) != to_bytes(net)


def test_facts_of_kept_tasks_are_taken_over_and_those_of_changed_ones_are_not() -> None:
    net, earlier = small_network(), small_network().first_tasks(1)
    kept = tuple(replace(task, steps=(*then.steps, None)) for task, then in zip(net.tasks, earlier.tasks, strict=False))
    grown = replace(net, tasks=(*kept, *net.tasks[1:]), earlier=earlier)
    changed = put(grown, ("banks", 0, "layers", 0, "exponent"), -3)
    assert grown.facts(0, 0) is earlier.facts(0, 0)
    assert replace(changed, earlier=earlier).facts(0, 0) is not earlier.facts(0, 0)
    assert to_bytes(grown) == to_bytes(net)
    for task in range(len(net.tasks)):
        for index, layer, _ in net.run_order(task):
            if layer.computes:
                np.testing.assert_array_equal(grown.accumulator(task, index), net.accumulator(task, index))


def test_what_contradicts_itself_is_refused_beside_an_earlier_network_too() -> None:
    net = small_network()
    wrong = put(net.tasks[0], ("steps", 0, "requantization", "shift"), 99)
    with pytest.raises(NetworkError, match=r"shift 99, must be 0\.\."):
        replace(net, tasks=(wrong, *net.tasks[1:]), earlier=net)
