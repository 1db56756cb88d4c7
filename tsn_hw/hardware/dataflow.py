"""An accelerator as processes that run at the same time, and the FIFOs between them, with depths that cannot deadlock.

Every unit is a process; in front of it stand a width converter where its producer has other lanes, and a sliding window
where it has one. A stream with several readers goes through processes that copy every word to two channels. The first
process takes the input from a bus of 64 bits, the last gives one logit a word.

The first process also says the task of every inference, when it begins, to all units that must know. It waits where
one of them has not begun earlier ones yet (C++: its FIFO is full; RTL: as many inferences are under way as there are
slots). What was said before belongs to inferences whose words were sent whole: they end without this one, and the units
begin the next. So one place is enough; ``Accelerator.slots`` are so many that nobody is slowed down.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import INPUT
from tsn_hw.core.memory import index_bits
from tsn_hw.hardware.design import BUS_BITS, Design
from tsn_hw.hardware.memories import IN_PARTS, KINDS, MIN_DEPTH, Memory, MemoryLayout
from tsn_hw.hardware.ring import ring_steps
from tsn_hw.hardware.units import ActivationStream, Parameters, Unit
from tsn_hw.hardware.window import Window

ProcessKind = Literal["input", "copy", "convert", "window", "unit", "output"]


@dataclass(frozen=True)
class Channel:
    """A FIFO: words of ``lanes`` activations, ``words`` of them in an inference, and at most ``depth`` at a time."""

    name: str
    stream: ActivationStream
    lanes: int
    words: int
    depth: int = MIN_DEPTH

    @property
    def width_bits(self) -> int:
        """Bits of a word."""
        return self.lanes * self.stream.bits


@dataclass(frozen=True)
class Process:
    """A process, complete: what it is, its channels, and all that its module in C++ and in SystemVerilog needs to know.

    unit: the number of the unit that it belongs to (INPUT for what belongs to the input). name: its own among all
    processes: the unit's, or that of what it writes. title: what it does, in words. parameters: what it computes with.
    storage: sizes of its memories, what they are stored in, and the files of those that are constant. banks: vectors
    that buffers hold. cycles: of an inference, where it is the loop of a unit or of a window.
    """

    kind: ProcessKind
    unit: int
    name: str
    title: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: Parameters
    module: str = ""
    layouts: tuple[MemoryLayout, ...] = ()
    buffers: tuple[Memory, ...] = ()
    cycles: int = 0
    banks: Parameters = field(default_factory=dict)

    @property
    def is_loop(self) -> bool:
        """Whether its cycles depend on the unit; the others take a cycle a word."""
        return self.kind in ("window", "unit")

    @property
    def is_on_load_chain(self) -> bool:
        """Whether load packets write a memory of it."""
        return any(layout.is_loaded for layout in self.layouts)

    @property
    def instance(self) -> str:
        """Its name where processes and channels have one space of names."""
        names = {"unit": self.name, "output": "writer", "copy": f"copier_{self.name}"}
        return names.get(self.kind, f"{self.kind}_{self.name}")

    @property
    def storage(self) -> Parameters:
        """Sizes of its memories, what they are stored in, and the files of those that are constant."""
        found = _sizes(self.layouts) if self.layouts else {}
        parts = {layout.kind: layout.memory.part_words for layout in self.layouts}
        found |= {f"{kind.upper()}_PART": parts.get(kind, 1) for kind in IN_PARTS}
        found["READ_CYCLES"] = max((layout.memory.read_cycles for layout in self.layouts), default=0)
        for layout in self.layouts:
            found |= {} if layout.is_loaded else {f"{layout.kind.upper()}_FILE": layout.file}
        memories = [*(layout.memory for layout in self.layouts), *self.buffers]
        return found | {f"{memory.kind.upper()}_STYLE": memory.storage for memory in memories} | dict(self.banks)

    @property
    def declaration(self) -> str:
        """Its parameters as a struct of C++."""
        return declaration(self.name, self.title, self.parameters)


def _sizes(layouts: Sequence[MemoryLayout]) -> dict[str, int | str]:
    """How many tasks, regions and codebooks memories hold, and which of them load packets write."""
    lengths = {layout.kind: layout.axes[0][1] for layout in layouts}
    loaded = sum(layout.is_loaded << KINDS.index(layout.kind) for layout in layouts)
    found: dict[str, int | str] = {"TASKS": lengths["task"], "TASK_BITS": index_bits(lengths["task"]), "LOADED": loaded}
    axes = {(layout.kind, *layout.axes[0]) for layout in layouts}
    names = {("words", "region"): "REGIONS", ("words", "line"): "LIST_DEPTH", ("codebook", "region"): "CODEBOOKS"}
    return found | {names[kind, axis]: length for kind, axis, length in sorted(axes) if (kind, axis) in names}


def declaration(name: str, title: str, parameters: Parameters) -> str:
    """Parameters as a struct of C++."""
    members = "".join(
        f"    static const {_type(value)} {key} = {str(value).lower()};\n" for key, value in parameters.items()
    )
    return f"// {title}\nstruct {name} {{\n{members}}};\n"


def _type(value: int | str) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if int(value) < 1 << 31 else "unsigned"


@dataclass(frozen=True)
class Dataflow:
    """Channels, and processes in an order in which each stands behind all that it reads from."""

    design: Design
    channels: tuple[Channel, ...]
    processes: tuple[Process, ...]

    @property
    def loops(self) -> list[Process]:
        """The processes whose steps a simulation counts."""
        return [process for process in self.processes if process.is_loop]

    def ends(self, process: Process) -> tuple[list[Channel], list[Channel]]:
        """The channels that a process reads, and those that it writes."""
        inputs, outputs = ([self.channels[i] for i in numbers] for numbers in (process.inputs, process.outputs))
        return inputs, outputs

    @property
    def number(self) -> int:
        """What tells an accelerator from others: the CRC-32 of its processes. Its loads begin with it."""
        return zlib.crc32("\n".join(process.declaration for process in self.processes).encode())


def dataflow(design: Design) -> Dataflow:
    """The processes of an accelerator, and its channels with the depths of :func:`channel_depths`."""
    builder = _Builder(design)
    builder.build()
    graph = Dataflow(design, tuple(builder.channels), tuple(builder.processes))
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
    * A unit with lists is loops joined by banks, which this order never fills. It writes a vector's words when it has
      read all of it, and waits for no later one, however long lists are: depths hold for every task, and in turn.

    At the end of an inference every word is written and taken, so that the next one starts like the first. More places
    never hurt; some are added so that the slowest process need not wait: ``input_depth``, and where ways meet again,
    what the channels of the other way can hold.
    """
    depths = [MIN_DEPTH] * len(graph.channels)
    for process in graph.processes:
        for channel in process.inputs:
            depths[channel] = _flowing_depth(graph.design.units[process.unit], process.kind)
    flowing = list(depths)
    passed, behind = dict[int, set[int]](), dict[int, set[int]]()  # what all ways to a channel pass, and any
    for process in graph.processes:
        ways = [passed[i] for i in process.inputs]
        for output in process.outputs:
            passed[output] = {output}.union(set.intersection(*ways) if ways else set())
            behind[output] = {output}.union(*(behind[i] for i in process.inputs))
        if len(process.inputs) == 2:
            fork = max(set.intersection(*ways))
            held = _held(graph, fork, process)
            for channel, other in zip(process.inputs, reversed(process.inputs), strict=True):
                between = behind[other] - behind[fork] - {other}
                depths[channel] = held[channel] + _in_words_of(graph, channel, {i: flowing[i] for i in between})
    return depths


def _in_words_of(graph: Dataflow, channel: int, held: Mapping[int, int]) -> int:
    """The words of a channel that make up as much of an inference as other channels hold of theirs."""
    words = graph.channels[channel].words
    return sum(-(-count * words // graph.channels[i].words) for i, count in held.items())


def _flowing_depth(unit: Unit, kind: ProcessKind) -> int:
    """Words that may wait for a process of a unit, so that it and its writer go on while the other is busy."""
    if kind == "window" and unit.window is not None:
        return unit.window.input_depth
    return unit.input_depth if kind == "unit" else MIN_DEPTH


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
    unit = graph.design.units[process.unit]
    if process.kind == "convert":
        return -(-words * channels[output].lanes // channels[process.inputs[0]].lanes)
    if process.kind == "window" and unit.window is not None:
        return _window_reads(unit.window)
    return unit.words_read(words) if process.kind == "unit" else words


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
    design: Design
    channels: list[Channel] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)

    def build(self) -> None:
        design = self.design
        lanes = BUS_BITS // design.container_bits
        bus = self.add(Channel("bus", design.input, lanes, design.input_beats))
        numbers = {"BITS": design.input.bits, "CONTAINER_BITS": design.container_bits, "WORDS": design.input_beats}
        self.processes.append(
            Process("input", INPUT, "bus", f"input {design.input.shape}", (), (bus,), numbers, "input")
        )
        copies = {INPUT: self.copied(INPUT, bus)}
        for unit in design.units:
            inputs = [
                self.converted(
                    copies[source].pop(0), unit.number, f"{unit.identifier}_input{operand}", unit.input_lanes
                )
                for operand, source in enumerate(unit.inputs)
            ]
            copies[unit.number] = self.copied(unit.number, self.computed(unit, tuple(inputs)))
        last = design.head.number
        logits = self.converted(copies[last][0], last, "logits", 1)
        rows = {"ROWS": self.channels[logits].words, "CLASS_BITS": design.head.class_bits}
        self.processes.append(Process("output", last, "output", "logits", (logits,), (), rows, "output"))

    def add(self, channel: Channel) -> int:
        self.channels.append(channel)
        return len(self.channels) - 1

    def computed(self, unit: Unit, inputs: tuple[int, ...]) -> int:
        """What a unit sends, behind its window if it has one."""
        name, buffers = unit.identifier, unit.buffers
        if unit.window is not None:
            inputs = (self.windowed(unit, unit.window, inputs),)
        words = unit.output.elements // unit.pe
        made = self.add(Channel(f"{name}_out", unit.output, unit.pe, words))
        vectors = tuple(memory for memory in buffers if memory.kind in ("vector", "result"))
        self.processes.append(
            Process(
                "unit", unit.number, name, f"{unit.name}: {type(unit).__name__}", inputs, (made,), unit.parameters,
                unit.module, unit.layouts(self.design.max_tasks), vectors, unit.steps, unit.banks,
            )
        )  # fmt: skip
        return made

    def windowed(self, unit: Unit, window: Window, inputs: tuple[int, ...]) -> int:
        """The windows of a unit."""
        words = math.prod(window.output) * window.words_per_window
        channel = Channel(f"{unit.identifier}_window", unit.sources[0], window.lanes, words)
        numbers = {"INDEX": unit.number, "WORD_WIDTH": channel.width_bits, "BY_PART": unit.by_part}
        numbers["RING_STEPS"] = ring_steps(window, unit.by_part)
        ring = tuple(memory for memory in unit.buffers if memory.kind == "window")
        made, title = self.add(channel), f"windows of {unit.name}"
        self.processes.append(
            Process(
                "window", unit.number, channel.name, title, inputs, (made,), numbers | window.parameters,
                "window", buffers=ring, cycles=window.cycles,
            )
        )  # fmt: skip
        return made

    def copied(self, unit: int, channel: int) -> list[int]:
        """A channel for every operand that reads what a unit sends, in the order of the units."""
        ends = [channel]
        copies = sum(other.inputs.count(unit) for other in self.design.units) - 1
        base = self.channels[channel].name.removesuffix("_out")
        for number in range(copies):
            source = ends.pop()
            read = self.channels[source]
            made = [self.add(replace(read, name=f"{base}_{part}{number}")) for part in ("copy", "rest")]
            name, title = self.channels[made[0]].name, f"copies of {read.name}"
            numbers = {"WIDTH": read.width_bits, "WORDS": read.words}
            self.processes.append(Process("copy", unit, name, title, (source,), tuple(made), numbers, "copy"))
            ends += made
        return ends

    def converted(self, channel: int, unit: int, name: str, lanes: int) -> int:
        """The same activations, ``lanes`` in a word."""
        source = self.channels[channel]
        if source.lanes == lanes:
            return channel
        made = self.add(Channel(name, source.stream, lanes, source.stream.elements // lanes))
        numbers = {"FROM": source.lanes, "TO": lanes, "BITS": source.stream.bits}
        numbers |= {"ELEMENTS": source.stream.elements, "GRAIN": math.gcd(source.lanes, lanes)}
        title = f"{source.name} in other words"
        self.processes.append(Process("convert", unit, name, title, (channel,), (made,), numbers, "convert"))
        return made
