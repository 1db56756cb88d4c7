"""Processes and channels: simulated with bounded FIFOs, from the loops of every process written down a second time."""

import random

import numpy as np
import pytest

from tests.hardware.test_images import settings
from tests.helpers.handmade import S8, U8, network, requantization
from tests.helpers.networks import Recipe, random_network
from tsn_hw.core.layers import INPUT, Add, Linear
from tsn_hw.hardware.dataflow import Dataflow, Process, words_read
from tsn_hw.hardware.kinds import MatrixUnit, PoolUnit
from tsn_hw.hardware.pipeline import accelerator

Step = tuple[tuple[int, ...], tuple[int, ...]]
"""Channels that one step of a loop reads, and then writes."""


def steps(graph: Dataflow, process: Process) -> list[Step]:
    """All steps of a process in one inference."""
    unit, inputs, outputs = graph.design.units[process.unit], process.inputs, process.outputs
    words = {channel: graph.channels[channel].words for channel in (*inputs, *outputs)}
    match process.kind:
        case "convert":
            return convert_steps(graph, inputs, outputs)
        case "window":
            return window_steps(unit.window, inputs, outputs)
        case "unit" if isinstance(unit, MatrixUnit):
            return [
                (inputs if row_fold == 0 else (), outputs if column_fold == unit.column_folds - 1 else ())
                for _ in range(unit.positions)
                for row_fold in range(unit.row_folds)
                for column_fold in range(unit.column_folds)
            ]
        case "unit" if isinstance(unit, PoolUnit):
            area = unit.window.kernel[0] * unit.window.kernel[1]
            return [(inputs, outputs if i == area - 1 else ()) for _ in range(words[outputs[0]]) for i in range(area)]
    return [(inputs, outputs)] * next(iter(words.values()))


def convert_steps(graph, inputs, outputs) -> list[Step]:
    source, target = graph.channels[inputs[0]], graph.channels[outputs[0]]
    found, waiting, written = [], 0, 0
    while written < target.words:
        reads = waiting < target.lanes
        waiting += source.lanes * reads
        writes = waiting >= target.lanes
        waiting -= target.lanes * writes
        written += writes
        found.append((inputs if reads else (), outputs if writes else ()))
    return found


def window_steps(window, inputs, outputs) -> list[Step]:
    ends = [0] + [window.rows_needed(row) for row in range(window.output[0])] + [window.source[1]]
    found = []
    for row in range(-1, window.output[0]):
        loads = (ends[row + 2] - ends[row + 1]) * window.words_per_row
        sends = window.output[1] * window.words_per_window if row >= 0 else 0
        found += [(inputs if i < loads else (), outputs if i < sends else ()) for i in range(max(loads, sends))]
    return found


def runs_to_the_end(graph: Dataflow, depths: list[int], seed: int, inferences: int = 2) -> bool:
    """Whether all processes finish when they read and write one word at a time, in random order."""
    rng = random.Random(seed)
    programs = [  # a channel that is read, or the complement of one that is written
        [move for reads, writes in steps(graph, process) * inferences for move in (*reads, *(~c for c in writes))]
        for process in graph.processes
    ]
    position, fill = [0] * len(programs), [0] * len(depths)

    def go_on(number: int, most: int) -> bool:
        program, moved = programs[number], 0
        while moved < most and position[number] < len(program):
            channel = program[position[number]]
            if channel >= 0 and fill[channel] > 0:
                fill[channel] -= 1
            elif channel < 0 and fill[~channel] < depths[~channel]:
                fill[~channel] += 1
            else:
                break
            position[number] += 1
            moved += 1
        return moved > 0

    unfinished = set(range(len(programs)))
    while unfinished:
        order = rng.sample(sorted(unfinished), len(unfinished))
        if not any(go_on(number, rng.choice([1, 2, 1000])) for number in order):
            return False
        unfinished = {number for number in unfinished if position[number] < len(programs[number])}
    return fill == [0] * len(depths)


def interval_cycles(graph: Dataflow, inferences: int = 4) -> int:
    """Cycles between the last two inferences, when every process takes a step a cycle as soon as it can."""
    depths = [channel.depth for channel in graph.channels]
    programs = [steps(graph, process) for process in graph.processes]
    position, done, fill, ends = [0] * len(programs), [0] * len(programs), [0] * len(depths), []
    cycle = 0
    while done[-1] < inferences:
        ready = []
        for number, program in enumerate(programs):
            if done[number] < inferences:
                reads, writes = program[position[number]]
                if all(fill[c] > 0 for c in reads) and all(fill[c] < depths[c] for c in writes):
                    ready.append(number)
        assert ready, "deadlock"
        for number in ready:
            reads, writes = programs[number][position[number]]
            for channel in reads:
                fill[channel] -= 1
            for channel in writes:
                fill[channel] += 1
            position[number] += 1
            if position[number] == len(programs[number]):
                position[number] = 0
                done[number] += 1
                if number == len(programs) - 1:
                    ends.append(cycle)
        cycle += 1
    return ends[-1] - ends[-2]


def random_graph(kind: str, seed: int) -> Dataflow:
    rng = random.Random(seed)
    net = random_network(Recipe(kind=kind, tasks=1, seed=seed))
    return accelerator(net, settings(net, pe=rng.choice([1, 2, 4]), simd=rng.choice([1, 2, 4]))).dataflow


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


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["mlp", "conv", "residual", "resnet"])
def test_a_word_is_written_behind_the_words_that_are_read_before_it(kind, seed):
    graph = random_graph(kind, seed)
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
    graph = random_graph(kind, seed)
    assert runs_to_the_end(graph, [channel.depth for channel in graph.channels], seed)


@pytest.mark.parametrize("seed", range(4))
def test_without_room_beside_a_long_way_they_do_deadlock(seed):
    graph = random_graph("residual", seed)
    depths = [2 if number in joins(graph) else channel.depth for number, channel in enumerate(graph.channels)]
    assert not runs_to_the_end(graph, depths, seed)


@pytest.mark.parametrize(("kind", "seeds"), [("mlp", 8), ("conv", 8), ("residual", 8), ("resnet", 2)])
def test_the_slowest_process_sets_the_interval(kind, seeds):
    for seed in range(seeds):
        graph = random_graph(kind, seed)
        slowest = max(len(steps(graph, process)) for process in graph.processes)
        assert interval_cycles(graph) == slowest


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
    depths = [channel.depth for channel in graph.channels]
    assert all(runs_to_the_end(graph, depths, seed) for seed in range(20))
    shallow = [2 if number in joins(graph) else depth for number, depth in enumerate(depths)]
    assert not runs_to_the_end(graph, shallow, 0)
