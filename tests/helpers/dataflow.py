"""Processes of an accelerator in any order."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tsn_hw.hardware.dataflow import Dataflow, Process
from tsn_hw.hardware.depthwise import DepthwiseUnit
from tsn_hw.hardware.kinds import MatrixUnit, PoolUnit
from tsn_hw.hardware.list_unit import ListUnit

Step = tuple[tuple[int, ...], tuple[int, ...]]
"""Channels that one step of a loop reads, and then writes."""


def steps(graph: Dataflow, process: Process, task: int = 0) -> list[Step]:
    """All steps of a process in one inference of a task; of a unit with lists one thing after the other."""
    unit, inputs, outputs = graph.design.units[process.unit], process.inputs, process.outputs
    words = {channel: graph.channels[channel].words for channel in (*inputs, *outputs)}
    match process.kind:
        case "convert":
            return convert_steps(graph, inputs, outputs)
        case "window":
            return window_steps(unit.window, inputs, outputs)
        case "unit" if isinstance(unit, ListUnit):
            silent = [((), ())] * int(unit.list_lines[task])
            return ([(inputs, ())] * unit.column_folds + silent + [((), outputs)] * unit.row_folds) * unit.positions
        case "unit" if isinstance(unit, DepthwiseUnit | PoolUnit):
            area = unit.window.kernel[0] * unit.window.kernel[1]
            return [(inputs, outputs if i == area - 1 else ()) for _ in range(words[outputs[0]]) for i in range(area)]
        case "unit" if isinstance(unit, MatrixUnit):
            return [
                (inputs if row_fold == 0 else (), outputs if column_fold == unit.column_folds - 1 else ())
                for _ in range(unit.positions)
                for row_fold in range(unit.row_folds)
                for column_fold in range(unit.column_folds)
            ]
    return [(inputs, outputs)] * next(iter(words.values()))


@dataclass(frozen=True)
class Loops:
    """All loops of an accelerator for some inferences: the steps of each inference, and the depths of all channels."""

    programs: list[list[list[Step]]]
    depths: list[int]


def loops(graph: Dataflow, tasks: Sequence[int]) -> Loops:
    """The loops for inferences of these tasks, in the order of processes; a unit with lists has three."""
    found, depths = [], [channel.depth for channel in graph.channels]
    for process in graph.processes:
        unit = graph.design.units[process.unit]
        if process.kind == "unit" and isinstance(unit, ListUnit):
            first = len(depths)
            depths += [unit.vector_banks, unit.vector_banks, unit.result_banks, unit.result_banks]
            by_task = [list_loops(unit, task, process, range(first, first + 4)) for task in tasks]
            found += map(list, zip(*by_task, strict=True))
        else:
            found.append([steps(graph, process, task) for task in tasks])
    return Loops(found, depths)


def list_loops(unit: ListUnit, task: int, process: Process, banks: Sequence[int]) -> list[list[Step]]:
    """Vectors that arrive, lists that run, results that leave.

    A word in one of ``banks`` stands for a bank of vectors that is taken, one that is full, and the same of results. A
    vector takes its bank with the first word and leaves it with the last line, which the results take with the first.
    """
    taken, full, claimed, complete = banks

    def of_vector(count: int, each: Step, first: Step = ((), ()), last: Step = ((), ())) -> list[Step]:
        moves = [[*each] for _ in range(count)]
        for place, more in ((0, first), (-1, last)):
            moves[place] = [moves[place][side] + more[side] for side in range(2)]
        return [(reads, writes) for reads, writes in moves] * unit.positions

    return [
        of_vector(unit.column_folds, (process.inputs, ()), first=((), (taken,)), last=((), (full,))),
        of_vector(int(unit.list_lines[task]), ((), ()), ((full,), (claimed,)), ((taken,), (complete,))),
        of_vector(unit.row_folds, ((), process.outputs), first=((complete,), ()), last=((claimed,), ())),
    ]


def with_tasks(graph: Dataflow, made: Loops, places: int, under_way: int) -> Loops:
    """The same where the input says the task of every inference to each unit that must know, and to the output.

    Each hears it through a FIFO of so many places, and so many inferences are under way at most.
    """
    programs = [[list(one) for one in program] for program in made.programs]
    readers, number = list[int](), 0
    for process in graph.processes:
        is_list = process.kind == "unit" and isinstance(graph.design.units[process.unit], ListUnit)
        if process.layouts or process.kind == "output":
            readers.append(number + is_list)  # the loop that works off the list
        number += 3 if is_list else 1
    said = range(len(made.depths), len(made.depths) + len(readers))
    slots = len(made.depths) + len(readers)
    for one in programs[0]:  # the input
        one[0] = one[0][0], (slots, *said, *one[0][1])
    for channel, reader in zip(said, readers, strict=True):
        for one in programs[reader]:
            one[0] = (channel, *one[0][0]), one[0][1]
    for one in programs[-1]:  # the output
        one[-1] = (*one[-1][0], slots), one[-1][1]
    return Loops(programs, [*made.depths, *[places] * len(readers), under_way])


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


def runs_to_the_end(made: Loops, seed: int) -> bool:
    """Whether all loops finish when they read and write one word at a time, in random order."""
    rng, depths = random.Random(seed), made.depths
    programs = [  # a channel that is read, or the complement of one that is written
        [move for one in program for reads, writes in one for move in (*reads, *(~c for c in writes))]
        for program in made.programs
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
