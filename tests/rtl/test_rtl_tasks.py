"""Headers name the tasks of inferences: the reference's integers in every order, and no cycle for a change."""

from dataclasses import replace

import numpy as np
import pytest

from export.rtl.simulation import loading_calls
from tests.helpers.networks import Recipe, random_network
from tests.helpers.rtl_designs import folded, icarus, loaded, needs_iverilog
from tests.helpers.tagged_calls import REFUSED, different, every_pair, expected, tagged
from tests.rtl.test_rtl import CONV, MLP, RESIDUAL
from tests.rtl.test_rtl_lists import design

SMALL = replace(MLP, widths=(12, 6), classes=3)
ANY_MASKS = replace(SMALL, mask_kinds=("empty", "full", "one weight", "random"))


DESIGNS = {
    "MLP": lambda: design(SMALL, 2, 2, layout="dense"),
    "MLP, one line a unit": lambda: design(replace(MLP, widths=(4, 4), classes=2), 2, 4, layout="dense"),
    "MLP, lists, tasks that use nothing, everything, one weight": lambda: design(ANY_MASKS, 2, 4),
    "MLP, mixed, room for tasks": lambda: design(SMALL, 2, 2, layout="mixed", max_tasks=6),
    "conv": lambda: folded(random_network(CONV), np.random.default_rng(0)),
    "conv, lists": lambda: design(CONV, 2, 2),
    "depthwise": lambda: folded(random_network(Recipe(kind="depthwise", tasks=2, seed=3)), np.random.default_rng(0)),
    "residual": lambda: folded(random_network(RESIDUAL), np.random.default_rng(0)),
    "residual, mixed": lambda: design(RESIDUAL, 2, 2, layout="mixed otherwise"),
}


@needs_iverilog
@pytest.mark.parametrize("name", DESIGNS)
def test_every_order_of_tasks_gives_the_integers_of_the_reference_whatever_stalls(tmp_path, name):
    made = DESIGNS[name]()
    compiled, tasks = icarus(tmp_path, made), len(made.net.tasks)
    for stall_percent in (0, 40):
        calls = [tagged(made, every_pair(tasks, stall_percent))]
        results = compiled.run(calls, stall_percent, seed=3)
        assert results[0].status == 0
        assert different(made, calls, results) == 0


@needs_iverilog
@pytest.mark.parametrize("name", ["MLP", "residual, mixed"])
def test_a_header_that_names_no_task_is_refused_and_its_logits_are_marked(tmp_path, name):
    made = DESIGNS[name]()
    tasks = len(made.net.tasks)
    wrong = [tasks, 0, 0xFFFF, 1, 1 << 16, 1 << 63, tasks - 1, tasks]
    calls = [tagged(made, [0, 1]), tagged(made, wrong), tagged(made, wrong[:1]), tagged(made, []), tagged(made, [1])]
    for stall_percent in (0, 40):
        results = icarus(tmp_path, made).run(calls, stall_percent)
        assert [result.status for result in results] == [0, 5, 5, 0, 0]
        assert different(made, calls, results) == 0


@needs_iverilog
@pytest.mark.parametrize("ram_style", ["auto", "ultra"])
def test_where_one_task_is_loaded_headers_of_others_are_refused(tmp_path, ram_style):
    made = loaded(DESIGNS["MLP"](), "runtime", ram_style)
    runs = [tagged(made, tasks) for tasks in ([0, 0], [2, 2, 1, 2], [2], [1])]
    loads = [loading_calls(made, task) for task in (2, 1)]
    calls = [runs[0], *loads[0], *runs[1:3], loads[1][-1], runs[3]]
    results = icarus(tmp_path, made).run(calls, 20)
    assert [result.status for result in results] == [2, *[0] * len(loads[0]), 5, 0, 0, 0]
    ran = [(call, result) for call, result in zip(calls, results, strict=True) if call.headers and result.layers]
    head = made.layer_name(made.head, 0)
    (first, of_first), *rest = ran
    truth = expected(made, first.headers, first.inputs)[head]
    truth[2] = REFUSED
    np.testing.assert_array_equal(of_first.layers[head], truth)
    assert different(made, *zip(*rest, strict=True)) == 0


@needs_iverilog
@pytest.mark.parametrize("name", ["MLP", "MLP, lists, tasks that use nothing, everything, one weight"])
def test_a_change_of_task_costs_no_cycle(tmp_path, name):
    made = DESIGNS[name]()
    tasks, compiled = range(len(made.net.tasks)), icarus(tmp_path, made)

    def interval(order: list[int]) -> float:
        """Cycles between two inferences, once the pipeline is full."""
        few, many = compiled.run([tagged(made, order * 2), tagged(made, order * 4)])
        return (many.cycles - few.cycles) / (2 * len(order))

    alone = [interval([task] * 4) for task in tasks]
    assert alone == [max(made.input_beats + 1, *(unit.cycles_of(task) for unit in made.units)) for task in tasks]
    assert interval([*tasks]) <= 1.02 * np.mean(alone)
