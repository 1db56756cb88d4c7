"""An accelerator as processes that run at the same time, and the FIFOs between them, with depths that cannot deadlock.

Every unit is a process; in front of it stand a width converter where its producer has other lanes, and a sliding window
where it has one. A stream with several readers goes through processes that copy every word to two channels. The first
process takes the input from a bus of 64 bits, the last gives one logit a word.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import INPUT
from tsn_hw.hardware.units import Accelerator, MatrixUnit, PoolUnit, Stream, Unit, Window

BUS_BITS = 64
MIN_DEPTH = 2
"""Depth of a FIFO that need not hold anything back: a word comes while one goes."""

Kind = Literal["input", "copy", "convert", "window", "unit", "output"]


@dataclass(frozen=True)
class Channel:
    """A FIFO: words of ``lanes`` activations, ``words`` of them in an inference, and at most ``depth`` at a time."""

    name: str
    stream: Stream
    lanes: int
    words: int
    depth: int = MIN_DEPTH

    @property
    def width_bits(self) -> int:
        """Bits of a word."""
        return self.lanes * self.stream.bits


@dataclass(frozen=True)
class Process:
    """A process: its kind, the unit that it belongs to (INPUT for what belongs to the input), and its channels."""

    kind: Kind
    unit: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Dataflow:
    """Channels, and processes in an order in which each stands behind all that it reads from."""

    accelerator: Accelerator
    channels: tuple[Channel, ...]
    processes: tuple[Process, ...]


def identifier(index: int, unit: Unit) -> str:
    """Name of a unit in C++ and in an HDL: unique, and like the layer's.

    >>> from types import SimpleNamespace as Some
    >>> identifier(3, Some(name="conv-1.a"))
    'u3_conv_1_a'
    """
    return f"u{index}_{re.sub(r'[^A-Za-z0-9]+', '_', unit.name).strip('_')}"


def bus_container_bits(accelerator: Accelerator) -> int:
    """Bits that an activation takes on the input bus."""
    return 8 if accelerator.input.bits <= 8 else 16


def dataflow(accelerator: Accelerator) -> Dataflow:
    """The processes of an accelerator, and its channels with the depths of :func:`channel_depths`."""
    builder = _Builder(accelerator)
    builder.build()
    graph = Dataflow(accelerator, tuple(builder.channels), tuple(builder.processes))
    depths = channel_depths(graph)
    channels = tuple(replace(channel, depth=depth) for channel, depth in zip(graph.channels, depths, strict=True))
    return replace(graph, channels=channels)


def channel_depths(graph: Dataflow) -> list[int]:
    """A depth for every channel with which the processes never deadlock, in whatever order they run.

    Processes read and write in an order of their own that no other changes, and wait where a channel is empty or full.
    What such a network does is the same in whatever order its processes run (Kahn 1974; a full channel is one that is
    empty of free places). So one order in which nobody ever waits for a place shows that there is no deadlock in any.

    Take this: of all processes that can go on, the one that stands furthest behind does. Then nobody waits for a place:

    * The reader of a channel, if that is its only one, stands behind the writer and waits for nothing else: it takes
      every word as soon as it is there. The channel never holds more than one.
    * A unit with two inputs takes word k when both have it. Let ``fork`` be the last channel that all ways there pass.
      A word comes through it only when nothing behind can go on without. So after t words of it, each input has got
      the words that are ready with t; of them it still holds at most those that the other did not have after t - 1
      words, and one that is being taken.

    At the end of an inference every word is written and taken, so that the next one starts like the first. More
    places than these never hurt; some are added so that the slowest process need not wait for the others: those of
    :func:`flowing_depth`, and where ways meet again, what the channels of the other way can hold.
    """
    depths = [MIN_DEPTH] * len(graph.channels)
    for process in graph.processes:
        for channel in process.inputs:
            depths[channel] = flowing_depth(graph.accelerator.units[process.unit], process.kind)
    flowing = list(depths)
    passed: dict[int, set[int]] = {}  # the channels that all ways to a channel pass, itself included
    behind: dict[int, set[int]] = {}  # the channels that any way to a channel passes
    for process in graph.processes:
        ways = [passed[i] for i in process.inputs]
        for output in process.outputs:
            passed[output] = {output}.union(set.intersection(*ways) if ways else set())
            behind[output] = {output}.union(*(behind[i] for i in process.inputs))
        if len(process.inputs) == 2:
            fork = max(set.intersection(*ways))
            held = _held(graph, fork, process)
            for channel, other in zip(process.inputs, reversed(process.inputs), strict=True):
                words = graph.channels[channel].words
                between = behind[other] - behind[fork] - {other}
                depths[channel] = held[channel] + sum(
                    -(-flowing[i] * words // graph.channels[i].words) for i in between
                )
    return depths


def flowing_depth(unit: Unit, kind: Kind) -> int:
    """Words that may wait for a process of a unit, so that it and its writer go on while the other is busy.

    In front of a matrix unit: a vector, and as many more as it takes while the window before it loads its first rows.
    In front of a window: the rows that it loads at once.
    """
    window = unit.window if isinstance(unit, MatrixUnit | PoolUnit) else None
    if kind == "window" and window is not None:
        return max(MIN_DEPTH, max(window.kernel[0], window.stride[0]) * window.words_per_row)
    if kind == "unit" and isinstance(unit, MatrixUnit):
        first = window.rows_needed(0) * window.words_per_row if window else 0
        return max(MIN_DEPTH, unit.column_folds * (1 + -(-first // unit.lines)))
    return MIN_DEPTH


def _held(graph: Dataflow, fork: int, process: Process) -> dict[int, int]:
    """The most words that each of two inputs holds while words come through ``fork`` one by one."""
    ready = _ready(graph, fork)
    steps = np.arange(graph.channels[fork].words + 1)
    counts = [np.searchsorted(ready[i], steps, side="right") for i in process.inputs]
    held = {}
    for channel, here, other in zip(process.inputs, counts, reversed(counts), strict=True):
        before = np.concatenate([[0], other[:-1]])
        held[channel] = max(MIN_DEPTH, 1 + int((here - before).max()))
    return held


def _ready(graph: Dataflow, fork: int) -> dict[int, Ints]:
    """For every channel that hangs on ``fork`` alone: how many words of it a writer has read before each word."""
    ready: dict[int, Ints] = {fork: np.arange(1, graph.channels[fork].words + 1)}
    for process in graph.processes:
        if process.inputs and all(i in ready for i in process.inputs):
            for output in process.outputs:
                reads = words_read(graph, process, output)
                ready[output] = np.maximum.reduce([np.concatenate([[0], ready[i]])[reads] for i in process.inputs])
    return ready


def words_read(graph: Dataflow, process: Process, output: int) -> Ints:
    """For every word that a process writes to a channel in an inference: words of each input that it reads before."""
    channels, words = graph.channels, np.arange(1, graph.channels[output].words + 1)
    unit = graph.accelerator.units[process.unit]
    if process.kind == "convert":
        return -(-words * channels[output].lanes // channels[process.inputs[0]].lanes)
    if process.kind == "window":
        assert isinstance(unit, MatrixUnit | PoolUnit)
        assert unit.window is not None
        return _window_reads(unit.window)
    if process.kind == "unit" and isinstance(unit, MatrixUnit):
        return -(-words // unit.row_folds) * unit.column_folds
    if process.kind == "unit" and isinstance(unit, PoolUnit):
        return words * (unit.window.kernel[0] * unit.window.kernel[1])
    return words


def _window_reads(window: Window) -> Ints:
    """Words that have been loaded when each word of a window is sent."""
    ends = [window.rows_needed(row) for row in range(window.output[0])] + [window.source[1]]
    steps = np.arange(1, window.output[1] * window.words_per_window + 1)
    loads = [
        before * window.words_per_row + np.minimum(steps, (after - before) * window.words_per_row)
        for before, after in itertools.pairwise(ends)
    ]
    return np.concatenate(loads)


@dataclass
class _Builder:
    accelerator: Accelerator
    channels: list[Channel] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)

    def build(self) -> None:
        design = self.accelerator
        lanes = BUS_BITS // bus_container_bits(design)
        words = -(-design.input.elements // lanes)
        (bus,) = self.add("input", INPUT, (), Channel("bus", design.input, lanes, words))
        copies = {INPUT: self.copied(INPUT, bus)}
        for index, unit in enumerate(design.units):
            name = identifier(index, unit)
            inputs = [
                self.converted(copies[source].pop(0), index, f"{name}_input{operand}", unit.input_lanes)
                for operand, source in enumerate(unit.inputs)
            ]
            if isinstance(unit, MatrixUnit | PoolUnit) and unit.window is not None:
                window = unit.window
                words = math.prod(window.output) * window.words_per_window
                inputs = self.add(
                    "window", index, tuple(inputs), Channel(f"{name}_window", unit.sources[0], window.lanes, words)
                )
            words = unit.output.elements // unit.output_lanes
            (made,) = self.add(
                "unit", index, tuple(inputs), Channel(f"{name}_out", unit.output, unit.output_lanes, words)
            )
            copies[index] = self.copied(index, made)
        last = len(design.units) - 1
        self.add("output", last, (self.converted(copies[last][0], last, "logits", 1),))

    def add(self, kind: Kind, unit: int, inputs: tuple[int, ...], *outputs: Channel) -> list[int]:
        """A process and the channels that it writes."""
        numbers = list(range(len(self.channels), len(self.channels) + len(outputs)))
        self.channels += outputs
        self.processes.append(Process(kind, unit, inputs, tuple(numbers)))
        return numbers

    def copied(self, unit: int, channel: int) -> list[int]:
        """A channel for every operand that reads what a unit sends, in the order of the units."""
        ends = [channel]
        copies = sum(other.inputs.count(unit) for other in self.accelerator.units) - 1
        for number in range(copies):
            source = self.channels[ends.pop()]
            name = self.channels[channel].name.removesuffix("_out")
            names = (f"{name}_copy{number}", f"{name}_rest{number}")
            ends += self.add(
                "copy", unit, (self.channels.index(source),), *(replace(source, name=name) for name in names)
            )
        return ends

    def converted(self, channel: int, unit: int, name: str, lanes: int) -> int:
        """The same activations, ``lanes`` in a word."""
        source = self.channels[channel]
        if source.lanes == lanes:
            return channel
        words = source.stream.elements // lanes
        (number,) = self.add("convert", unit, (channel,), Channel(name, source.stream, lanes, words))
        return number
