"""Processes and channels: simulated with bounded FIFOs, from the loops of every process written down a second time."""

import random

import numpy as np
import pytest

from tests.helpers.dataflow import Loops, loops, runs_to_the_end, steps, with_tasks
from tests.helpers.handmade import S8, U8, network, requantization
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network
from tsn_hw.core.layers import INPUT, Add, Linear
from tsn_hw.hardware.dataflow import Dataflow, words_read
from tsn_hw.hardware.pipeline import accelerator


def interval_cycles(made: Loops) -> int:
    """Cycles between the last two inferences, when every loop takes a step a cycle as soon as it can."""
    depths, programs = made.depths, made.programs
    position, done, fill, ends = [0] * len(programs), [0] * len(programs), [0] * len(depths), []
    cycle = 0
    while done[-1] < len(programs[-1]):
        ready = []
        for number, program in enumerate(programs):
            if done[number] < len(program):
                reads, writes = program[done[number]][position[number]]
                if all(fill[c] > 0 for c in reads) and all(fill[c] < depths[c] for c in writes):
                    ready.append(number)
        assert ready, "deadlock"
        for number in ready:
            reads, writes = programs[number][done[number]][position[number]]
            for channel in reads:
                fill[channel] -= 1
            for channel in writes:
                fill[channel] += 1
            position[number] += 1
            if position[number] == len(programs[number][done[number]]):
                position[number] = 0
                done[number] += 1
                if number == len(programs) - 1:
                    ends.append(cycle)
        cycle += 1
    return ends[-1] - ends[-2]


LAYOUTS = {"dense": ("dense",), "lists": ("lists",), "mixed": ("lists", "dense")}
TASKS = 3


def random_graph(kind: str, seed: int, layout: str = "dense") -> Dataflow:
    """Tasks that use nothing, everything, one weight and some of a layer, in turn."""
    rng, layouts = random.Random(seed), LAYOUTS[layout]
    masks = ("empty", "full", "random", "one weight") if layout != "dense" else ("random",)
    net = random_network(Recipe(kind=kind, tasks=TASKS if layout != "dense" else 1, seed=seed, mask_kinds=masks))
    pe, simd = rng.choice([1, 2, 4]), rng.choice([1, 2, 4])
    chosen = settings(net, pe=pe, simd=simd, layout=lambda number: layouts[number % len(layouts)])
    return accelerator(net, chosen).dataflow


def joins(graph: Dataflow) -> list[int]:
    return [channel for process in graph.processes if len(process.inputs) == 2 for channel in process.inputs]


def test_a_network_as_processes_and_channels():
    net = random_network(Recipe(kind="mlp", tasks=3, banks=2, seed=5))  # 33 -> 1 -> 33 -> 19 features, heads of 3
    graph = accelerator(net, settings(net, pe=2, simd=3)).dataflow
    names = [channel.name for channel in graph.channels]
    assert [(p.kind, [names[i] for i in p.inputs], [names[i] for i in p.outputs]) for p in graph.processes] == [
        ("input", [], ["bus"]),
        ("convert", ["bus"], ["u0_fc0_input0"]),
        ("unit", ["u0_fc0_input0"], ["u0_fc0_out"]),
        ("unit", ["u0_fc0_out"], ["u1_fc1_out"]),
        ("convert", ["u1_fc1_out"], ["u2_fc2_input0"]),
        ("unit", ["u2_fc2_input0"], ["u2_fc2_out"]),
        ("unit", ["u2_fc2_out"], ["u3_head_out"]),
        ("output", ["u3_head_out"], []),
    ]
    assert [(c.lanes, c.words, c.depth) for c in graph.channels] == [
        (8, 5, 2),
        (3, 11, 11),  # a vector waits in front of a matrix unit
        (1, 1, 2),
        (1, 33, 2),
        (3, 11, 11),
        (1, 19, 19),
        (1, 3, 2),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["mlp", "conv", "residual", "resnet"])
def test_a_word_is_written_behind_the_words_that_are_read_before_it(kind, layout):
    for seed in range(3):
        graph = random_graph(kind, seed, layout)
        for process in graph.processes:
            for output in process.outputs:
                read, seen = 0, []
                for reads, writes in steps(graph, process):
                    read += len(reads) > 0
                    seen += [read] * (output in writes)
                if process.inputs:
                    np.testing.assert_array_equal(words_read(graph, process, output), seen)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["residual", "resnet"])
def test_no_order_of_the_processes_deadlocks(kind, seed):
    assert runs_to_the_end(loops(random_graph(kind, seed), (0, 0)), seed)


@pytest.mark.parametrize("layout", ["lists", "mixed"])
@pytest.mark.parametrize("kind", ["mlp", "conv", "residual", "resnet"])
def test_nor_does_any_with_lists_whatever_their_lengths(kind, layout):
    """Every task alone, and vectors of all tasks in any order behind one another."""
    for seed in range(1 if kind == "resnet" else 2):
        graph = random_graph(kind, seed, layout)
        for tasks in [(task, task) for task in range(TASKS)] + [random.Random(seed).choices(range(TASKS), k=3)]:
            assert runs_to_the_end(loops(graph, tasks), seed)


@pytest.mark.parametrize(("places", "under_way"), [(1, 9), (9, 1)])
@pytest.mark.parametrize(("kind", "layout"), [("residual", "mixed"), ("residual", "lists"), ("conv", "dense")])
def test_nor_does_any_where_the_input_says_the_task_of_every_inference(kind, layout, places, under_way):
    """Through FIFOs of one place, or with one inference under way."""
    for seed in range(2):
        graph = random_graph(kind, seed, layout)
        made = loops(graph, random.Random(seed).choices(range(TASKS), k=4))
        assert runs_to_the_end(with_tasks(graph, made, places, under_way), seed)


@pytest.mark.parametrize("layout", ["dense", "lists"])
def test_without_room_beside_a_long_way_they_do_deadlock(layout):
    for seed in range(4):
        graph = random_graph("residual", seed, layout)
        made, tight = loops(graph, (0, 0)), dict.fromkeys(joins(graph), 2)
        depths = [tight.get(number, depth) for number, depth in enumerate(made.depths)]
        assert not runs_to_the_end(Loops(made.programs, depths), seed)


@pytest.mark.parametrize(("kind", "seeds"), [("mlp", 8), ("conv", 8), ("residual", 8), ("resnet", 2)])
def test_the_slowest_process_sets_the_interval(kind, seeds):
    for seed in range(seeds):
        made = loops(random_graph(kind, seed), (0,) * 4)
        assert interval_cycles(made) == max(len(program[0]) for program in made.programs)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_with_lists_it_is_the_slowest_of_the_task(kind):
    for seed in range(2):
        graph = random_graph(kind, seed, "lists")
        ports = graph.design.input_beats, graph.design.head.rows
        for task in range(TASKS):
            slowest = max(*ports, *(unit.cycles_of(task) for unit in graph.design.units))
            assert interval_cycles(loops(graph, (task,) * 4)) == slowest


def test_streams_with_several_readers_are_copied_for_each():
    ones = np.ones((6, 6), np.int64)
    net = network(
        (6,),
        U8,
        [
            (Linear("a", 6, 6), ones, requantization(S8, 4, channels=6)),
            (Add("b", (0, 0)), None, requantization(U8)),
            (Linear("c", 6, 6, (1,)), ones, requantization(U8, 2, channels=6)),
            (Linear("d", 6, 6, (INPUT,)), ones, requantization(U8, 2, channels=6)),
            (Add("e", (2, 3)), None, requantization(U8, 1)),
            (Add("f", (4, INPUT)), None, requantization(U8, 1)),
            (Add("g", (5, 0)), None, requantization(U8, 1)),
        ],
    )
    graph = accelerator(net, settings(net, pe=1, simd=2)).dataflow
    names = [channel.name for channel in graph.channels]
    copies = [[names[i] for i in (*p.inputs, *p.outputs)] for p in graph.processes if p.kind == "copy"]
    assert copies == [
        ["bus", "bus_copy0", "bus_rest0"],
        ["bus_rest0", "bus_copy1", "bus_rest1"],
        ["u0_a_out", "u0_a_copy0", "u0_a_rest0"],
        ["u0_a_rest0", "u0_a_copy1", "u0_a_rest1"],
    ]
    made = loops(graph, (0, 0))
    assert all(runs_to_the_end(made, seed) for seed in range(20))
    shallow = [2 if number in joins(graph) else depth for number, depth in enumerate(made.depths)]
    assert not runs_to_the_end(Loops(made.programs, shallow), 0)
