"""Lists of calls of an accelerator at random, legal and illegal, and what each of its forms answers to them."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.project.golden import bus_beats
from export.project.tools import run_tool
from export.rtl.simulation import RtlSimulation
from tests.helpers.compiled_top import CompiledTop
from tests.helpers.fake_board import ALL_TASKS, CLASSES, Model
from tests.helpers.networks import adversarial_inputs
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.loads import sealed

RUN, LOAD, RUN_TASKS = 0, 1, 2
LONGEST = 8
"""Calls between two resets, at most."""


@dataclass(frozen=True)
class Call:
    """Registers, the beats that wait for the call, and the cycles after which a reset or an abort ends it, or 0."""

    command: int
    task: int
    count: int
    beats: tuple[int, ...]
    reset_after: int = 0
    abort_after: int = 0


@dataclass(frozen=True)
class Answer:
    """Status, logits and the beats that were taken; of a call that a reset ended nothing."""

    status: int | None
    words: tuple[int, ...] = ()
    taken: int = 0


class Caller:
    """Draws calls, and says what the model of the protocol answers to them."""

    def __init__(self, design: Accelerator, seed: int) -> None:
        self.design, self.rng = design, np.random.default_rng(seed)
        self.model = Model(design)
        self.loads = {task: design.load(task).beats.tolist() for task in design.loads}
        self.inputs = [tuple(beats) for beats in bus_beats(design, adversarial_inputs(design.net, 6)).tolist()]
        self.tasks = [*range(design.max_tasks + 1), ALL_TASKS]
        self.wrongs = itertools.islice(itertools.cycle(WRONG), seed % len(WRONG), None)

    def sequences(self, count: int) -> Iterator[tuple[Call, Answer]]:
        """Calls and answers; the last call of each of so many sequences is ended by a reset."""
        for number in range(count):
            if self.loads and number % 2:
                calls = self.around_a_wrong_load()
            else:
                calls = (self.call() for _ in range(self.rng.integers(LONGEST)))
            for call in calls:
                rest = list(call.beats)
                status, words = self.model(call.command, call.task, call.count, rest)
                yield call, Answer(status, tuple(words), len(call.beats) - len(rest))
            yield self.starving(), Answer(None)
            self.model.loaded.clear()

    def call(self) -> Call:
        """One that ends by itself, more often than not of what has been loaded last."""
        kind = self.rng.choice(["run", "tasks", "load", "wrong", "unknown"], p=[0.3, 0.2, 0.25, 0.2, 0.05])
        if kind == "tasks":
            return self.run_tasks()
        if kind == "unknown":
            unknown = self.rng.choice([LOAD | CLASSES, *range(3, CLASSES), *range(CLASSES | 3, 256)])
            return Call(int(unknown), self.task(), int(self.rng.integers(3)), self.inputs[0])
        if kind == "run" or not self.loads:
            return self.run(RUN if kind == "run" else LOAD)
        task = int(self.rng.choice(list(self.loads)))
        return self.wrong(task) if kind == "wrong" else self.load(task, self.loads[task])

    def around_a_wrong_load(self) -> Iterator[Call]:
        """All that a task needs is loaded; then a load that is wrong; then each load again, runs between."""
        task = int(self.rng.choice(list(self.loads)))
        needed = [number for number in (ALL_TASKS, task % ALL_TASKS) if number in self.loads]
        for number in needed:
            yield self.load(number, self.loads[number])
        yield self.wrong(task)
        for number in self.rng.permutation(needed).tolist():
            yield self.run(RUN)
            yield self.run_tasks()
            yield self.load(number, self.loads[number])
        yield self.run(RUN)

    def load(self, task: int, beats: list[int]) -> Call:
        surplus = [7] * int(self.rng.integers(2))  # of the next call, if this one takes what its count says
        return Call(LOAD, task, len(beats), (*beats, *surplus))

    def wrong(self, task: int) -> Call:
        return self.load(*next(self.wrongs)(self, task, self.loads[task]))

    def run(self, command: int) -> Call:
        inputs = self.rng.integers(len(self.inputs), size=self.rng.integers(3)).tolist()
        surplus = self.inputs[0][: self.rng.integers(2)]
        beats = [beat for number in inputs for beat in self.inputs[number]]
        return Call(command | self.flag(command), self.task(), len(inputs), (*beats, *surplus))

    def run_tasks(self) -> Call:
        """Headers of tasks that are there more often than not, of others, and with bits above them."""
        beats = list[int]()
        count = int(self.rng.integers(5))
        for number in self.rng.integers(len(self.inputs), size=count).tolist():
            above = 1 << int(self.rng.integers(16, 64)) if self.rng.random() < 0.1 else 0
            beats += [self.task() | above, *self.inputs[number]]
        surplus = self.inputs[0][: self.rng.integers(2)]
        return Call(RUN_TASKS | self.flag(), self.task(), count, (*beats, *surplus))

    def flag(self, command: int = RUN) -> int:
        """Whether classes are asked for, not logits."""
        return CLASSES if command != LOAD and self.rng.integers(2) else 0

    def task(self) -> int:
        last = [task for task in self.model.loaded if task != ALL_TASKS]
        return last[0] if last and self.rng.integers(4) else int(self.rng.choice(self.tasks))

    def starving(self) -> Call:
        """One that gets less than it asks for, so that nothing but a reset ends it; and one that is hardly begun."""
        run = self.run_tasks() if self.rng.integers(2) else self.run(RUN)
        cycles = int(self.rng.integers(1, 400))
        if self.loads and self.rng.integers(2):
            task = int(self.rng.choice(list(self.loads)))
            beats = self.loads[task][: self.rng.integers(len(self.loads[task]))]
            return Call(LOAD, task, len(self.loads[task]), tuple(beats), cycles)
        if self.model.verdict(run.command, run.task):
            cycles = int(self.rng.integers(1, 20))  # else it were refused before
        return Call(run.command, run.task, run.count + 2, run.beats, cycles)


Wrong = Callable[[Caller, int, list[int]], tuple[int, list[int]]]
"""A load and its task → one that is refused."""


def nothing(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return task, []


def head_alone(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return task, [task | 1 << 32]


def first_packet(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return task, beats[:3]


def cut(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return task, beats[: caller.rng.integers(len(beats))]


def with_more_behind(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return task, beats + beats[: 1 + caller.rng.integers(len(beats))]


def without_a_beat(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    place = caller.rng.integers(len(beats))
    return task, beats[:place] + beats[place + 1 :]


def with_a_beat_twice(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    place = 1 + caller.rng.integers(len(beats) - 1)
    return task, beats[:place] + beats[place - 1 :]


def flipped(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    place = caller.rng.integers(len(beats))
    return task, [*beats[:place], beats[place] ^ 1 << int(caller.rng.integers(64)), *beats[place + 1 :]]


def with_bits_above_the_crc(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return task, [*beats[:-1], beats[-1] | 1 << int(caller.rng.integers(32, 64))]


def of_another_task(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return int(caller.rng.choice([other for other in caller.tasks if other != task])), beats


def of_no_task(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return caller.design.max_tasks, beats


def of_another_design(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    packets = np.array(beats[1:-1], np.uint64)
    return task, sealed(packets, task, caller.model.design ^ 1 << int(caller.rng.integers(32))).tolist()


# Of these the CRC is right ------------------------------------------------------------------------------------------


def with_another_head(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    wrong = np.array(beats[:-1], "<u8")
    wrong[0] ^= np.uint64(1 << int(caller.rng.integers(16, 64)))
    return task, [*wrong.tolist(), zlib.crc32(wrong.tobytes(), caller.model.design)]


def with_a_packet_for_nobody(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    packets = np.array([beats[1] | 0xFFFF, *beats[2:-1]], np.uint64)
    return task, sealed(packets, task, caller.model.design).tolist()


def with_half_a_packet(caller: Caller, task: int, beats: list[int]) -> tuple[int, list[int]]:
    return task, sealed(np.array(beats[1:-2], np.uint64), task, caller.model.design).tolist()


WRONG: tuple[Wrong, ...] = (
    nothing,
    head_alone,
    first_packet,
    cut,
    with_more_behind,
    without_a_beat,
    with_a_beat_twice,
    flipped,
    with_bits_above_the_crc,
    of_another_task,
    of_no_task,
    of_another_design,
    with_another_head,
    with_a_packet_for_nobody,
    with_half_a_packet,
)


def answers_of_hls(top: CompiledTop, calls: Sequence[Call]) -> list[Answer]:
    """What the compiled C++ answers; a call that a reset ends is one that it never sees."""
    answers = []
    for call in calls:
        if call.reset_after:
            top.reset()
            answers.append(Answer(None))
            continue
        rest = list(call.beats)
        status, words = top(call.command, call.task, call.count, rest)
        answers.append(Answer(status, tuple(words), len(call.beats) - len(rest)))
    return answers


def answers_of_rtl(compiled: RtlSimulation, calls: Sequence[Call], stall_percent: int, seed: int) -> list[Answer]:
    """What the RTL answers while the host writes other values into its registers, and starts it again."""
    lines = [
        f"{call.task} {call.count} {call.command} {len(call.beats)} {call.reset_after} {call.abort_after}\n"
        for call in calls
    ]
    write(compiled.folder / "calls.txt", f"{stall_percent} {seed} 1\n", *lines)
    write(compiled.folder / "beats.txt", *(f"{beat:x}\n" for call in calls for beat in call.beats))
    answers: list[Answer] = []
    logits: list[tuple[str, ...]] = []
    for kind, *values in map(str.split, run_tool(compiled.simulator.run, compiled.folder).splitlines()):
        if kind == "logit":
            logits.append(tuple(values))
        elif kind == "call":
            is_cut = values[0] == "6"  # before its last word, or behind it
            ends = [(keep, last) for _, keep, last in logits]
            assert ends[:-1] == [("f", "0")] * (len(ends) - 1)
            assert ends[-1:] in ([], [("f", "1")], [("f", "0" if is_cut else "1")])
            answers.append(Answer(int(values[0]), tuple(int(value, 16) for value, *_ in logits), int(values[2])))
            logits = []
        else:
            assert kind in ("words", "reset"), kind
            answers += [Answer(None)] * (kind == "reset")
            logits = [] if kind == "reset" else logits
    return answers


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(lines))
