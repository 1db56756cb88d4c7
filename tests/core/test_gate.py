"""Gates: what they score, how they are stored, and which ones are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.gates import with_gates
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.small_network import content, small_network
from tests.helpers.tsn_files import forged, forgotten_tasks, refusal, set_at
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.artifact import after_each_task, from_bytes, seal, sections, to_bytes
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import NetworkError, SettingsError
from tsn_hw.core.gate import Component, Features, Gate

NET = small_network()
FEATURES = Features(pool=(3, 1), shift=1, edges=(3, 2))


def component(bias=7, linear=(1, 0, 0, -2), rows=((3, 0, 0, 0), (0, 0, 1, 0)), offset=(-4, 1), shift=(1, 0)):
    """A component of four features whose rows, by default, are the last two."""
    return Component(bias, *(np.array(part) for part in (linear, np.array(rows).reshape(-1, 4), offset, shift)))


def gated(*gates):
    """The small network with these gates."""
    return replace(NET, tasks=tuple(replace(task, gate=gate) for task, gate in zip(NET.tasks, gates, strict=True)))


PLAIN = Gate(FEATURES, (component(linear=(0, 0, 0, 0), rows=(), offset=(), shift=()),))
GATED = gated(Gate(FEATURES, (component(), component(bias=-9))), PLAIN)


def test_the_score_of_an_input_by_hand():
    x = np.array([[[[1, 10], [2, 20], [4, 100]]]])  # sums 7 and 130; differences 9 + 18 + 96 across, 3 + 90 down
    np.testing.assert_array_equal(reference.gate_features(FEATURES, x), [[3, 65, 22, 19]])
    y = round((3 * 3 - 4) / 2), 22 + 1  # 5 / 2 is rounded to the even 2
    first = 7 + 3 - 2 * 19 - y[0] ** 2 - y[1] ** 2
    np.testing.assert_array_equal(reference.gate_scores(GATED, x), [[first, 7]])


def test_rows_saturate_in_eight_bits():
    x = np.full((1, 1, 3, 2), 255)
    rows = component(0, (0, 0, 0, 0), ((0, 1, 0, 0), (-1, 0, 0, 0)), (0, 0), (0, 0))
    np.testing.assert_array_equal(
        reference.gate_scores(gated(Gate(FEATURES, (rows,)), PLAIN), x)[:, 0], -(127**2 + 128**2)
    )


@settings(max_examples=20)
@given(recipes(extremes=False), st.integers(0, 999))
def test_a_file_brings_back_every_gate_and_cuts_them_with_their_tasks(recipe: Recipe, seed: int) -> None:
    net = with_gates(random_network(recipe), seed)
    data = to_bytes(net)
    assert content(from_bytes(data)) == content(net)
    for count, written in enumerate(after_each_task(net), start=1):
        assert written == to_bytes(net.first_tasks(count))
        assert forgotten_tasks(from_bytes(written), net) == ()
    x = adversarial_inputs(net, 6, seed)
    scores = reference.gate_scores(net, x)
    for task, gate in enumerate(task.gate for task in net.tasks):
        reach = gate.features.range(net.input_shape, net.input)
        ends = [part.bounds(reach) for part in gate.components]
        assert max(low for low, _ in ends) <= scores[:, task].min()
        assert scores[:, task].max() <= max(high for _, high in ends)


def test_gates_are_counted_sealed_and_cost_nothing_where_there_are_none():
    bits = 8 * sum(len(part) for name, part in sections(to_bytes(GATED)).items() if name.endswith("/gate"))
    sizes = capacity(GATED)
    assert bits == sizes.gates_bits == 2 * 8 * 6  # of a component 4 x 2, 7 x 3, 2 x 3 and 2 x 6 bits; both in 12 bytes
    assert sizes.file_bits == 8 * len(to_bytes(GATED))
    assert capacity(NET).gates_bits == 0
    assert seal(GATED, 1) != seal(NET, 1)
    other = gated(GATED.tasks[0].gate, Gate(FEATURES, (replace(PLAIN.components[0], bias=8),)))
    assert forgotten_tasks(GATED, other) == ("b",)


def test_gates_that_do_not_fit_are_refused():
    wide = component(rows=((0, 0, 0, 0), (0, 0, 0, 1)))
    cases = [
        (lambda: gated(PLAIN, None), "task 'b': has no gate, as other tasks have"),
        (
            lambda: gated(PLAIN, replace(PLAIN, features=replace(FEATURES, shift=2))),
            "task 'b': features of its gate Features(pool=(3, 1), shift=2, edges=(3, 2)) are not those of other tasks",
        ),
        (
            lambda: component(rows=((0, 0, 0, 1), (0, 0, 0, 1))),
            "gate: a row of a map reads features behind its last one",
        ),
        (lambda: component(shift=(0, 63)), "gate: shifts 0..63, must be 0..62"),
        (lambda: component(linear=(1, 2)), "gate: map (2, 4) with linear, offset and shift of ((2,), (2,), (2,))"),
        (lambda: component(linear=(1 << 15, 0, 0, 0)), "gate: weights of 17 bits, offsets of 3, at most 16, 53"),
        (lambda: Gate(FEATURES, ()), "gate: has no components"),
        (lambda: Features((0, 1)), "gate: pool (0, 1): must be at least (1, 1)"),
        (lambda: Features(edges=(1, 0)), "gate: edges (1, 0): must be a window, or (0, 0) for none"),
        (lambda: Features((9, 9)).count((1, 3, 2)), "gate: windows (9, 9) and (0, 0) do not fit inputs (1, 3, 2)"),
        (lambda: Features((2, 1)).count((5,)), "gate: inputs (5,) have no windows; pool must be (1, 1), edges (0, 0)"),
        (
            lambda: gated(PLAIN, Gate(FEATURES, (replace(wide, bias=2**31),))),
            "task 'b': its gate reaches sums of 386 and scores 2147450116..2147484030, must fit 2**52 and int32",
        ),
    ]
    for make, message in cases:
        with pytest.raises(NetworkError) as error:
            make()
        assert str(error.value) == message
    with pytest.raises(SettingsError, match="has no gates to tell its tasks apart; tsn-hw gate makes them"):
        reference.gate_scores(NET, np.zeros((1, 1, 3, 2), np.int64))
    assert Features((2, 2), 2, (2, 2)).range((1, 4, 4), ActFormat(8, True, 0)) == (-128, 127)


def test_damaged_gates_are_refused_in_one_line():
    data = to_bytes(GATED)
    gate = ("tasks", 0, "gate", "components", 0)
    for change, message in (
        (set_at(*gate, 2, value=9), "task 'a', gate: a map of 9 rows, the inputs have 4 features"),
        (set_at(*gate, 3, value=9), "task 'a', gate: 30 fields of 136 bits in all take 17 bytes, found 12"),
        (set_at(*gate, 2, value=2**24), "the network takes"),
        (set_at("tasks", 0, "gate", value=None), "header: sizes: 18 entries, must be 17"),
        (set_at("tasks", 0, "gate", "features", 0, value=0), "the network contradicts itself: gate: pool (0, 1)"),
    ):
        assert refusal(forged(change, data=data)).startswith(message)
