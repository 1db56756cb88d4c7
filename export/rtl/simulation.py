"""RTL projects in simulation: the integers and cycles of every unit.

A project is compiled once; then calls run on it, at full speed or with stalls at random on both streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.project.golden import bus_beats, from_stream_order
from export.project.tools import run_tool
from export.rtl.project import MEMORIES, rtl_sources
from export.rtl.simulators import BENCH, BUILD, RtlSimulator, simulator
from export.rtl.top import watches
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import EngineError
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.loads import ALL_TASKS
from tsn_hw.hardware.units import ActivationStream

RUN, LOAD, RUN_TASKS = 0, 1, 2
CLASSES = 0x80
"""With RUN and RUN_TASKS: the class of an inference, not its logits."""
DONE, BAD_PACKET, REFUSED_HEADERS = 0, 4, 5
WATCH = "-DTSN_WATCH"
"""Lets the accelerator show what its units send."""
ONE_CLASS = ActivationStream((1,), 32, True)
"""What a call for classes gives for an input."""
UNKNOWN = 16
"""Stands for a digit that is none: some of its bits have no value."""


@dataclass(frozen=True, eq=False)
class RtlCall:
    """A call of the accelerator for a task: inputs (batch, *input_shape), or with LOAD the beats of a load.

    With RUN_TASKS every input has a header that names its task, and ``task`` tells nothing. With CLASSES, a bit of
    ``command``, every input gives its class alone.
    """

    task: int
    inputs: Ints
    command: int = RUN
    headers: tuple[int, ...] = ()

    def beats(self, design: Accelerator) -> NDArray[np.uint64]:
        """What the input stream carries."""
        if self.command == LOAD:
            return self.inputs.view(np.uint64)
        beats = bus_beats(design, self.inputs)
        if self.command & ~CLASSES == RUN_TASKS:
            beats = np.hstack([np.array(self.headers, np.uint64).reshape(-1, 1), beats])
        return beats


def tagged_call(tasks: Sequence[int], inputs: Ints, flags: int = 0) -> RtlCall:
    """A call whose inputs (batch, *input_shape) are each of a task of their own; flags: CLASSES, or 0."""
    return RtlCall(0, inputs, RUN_TASKS | flags, tuple(tasks))


def loading_calls(accelerator: Accelerator, task: int) -> list[RtlCall]:
    """The calls that load everything that a task needs; none where nothing is loaded."""
    needed = [number for number in accelerator.loads if number in (ALL_TASKS, task)]
    return [RtlCall(number, accelerator.load(number).beats.view(np.int64), LOAD) for number in needed]


@dataclass
class RtlResult:
    """What a call gave.

    layers: (batch, ...) integers of every unit, by name of the layer that the task runs there; of a call of many tasks
    the logits are those of the first task's head, with zeros behind those of smaller ones; of a call for classes there
    are none. classes: (batch,) of such a call, -1 where a header was refused.
    steps: (unit's name, "unit" or "window") → steps that the loop took. cycles: of the whole call.
    """

    status: int
    cycles: int
    layers: dict[str, Ints] = field(default_factory=dict)
    steps: dict[tuple[str, str], int] = field(default_factory=dict)
    classes: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class RtlSimulation:
    """The compiled simulation of a project in a folder, made by :func:`compile_rtl`; of a netlist only logits show."""

    accelerator: Accelerator
    folder: Path
    simulator: RtlSimulator
    is_netlist: bool

    def run(self, calls: Sequence[RtlCall], stall_percent: int = 0, seed: int = 1) -> list[RtlResult]:
        """What every call gives, one after the other, without a reset between them.

        stall_percent: how often a beat comes late, and a logit is taken late; below 100. Equal seeds, equal cycles,
        in every simulator. EngineError if the simulation fails.
        """
        beats = [call.beats(self.accelerator) for call in calls]
        lines = [f"{stall_percent} {seed} 0\n"]
        lines += [
            f"{call.task} {len(call.inputs)} {call.command} {words.size} 0 0\n"
            for call, words in zip(calls, beats, strict=True)
        ]
        (self.folder / "calls.txt").write_text("".join(lines))
        texts = (f"{word:x}\n" for words in beats for word in words.ravel().tolist())
        (self.folder / "beats.txt").write_text("".join(texts))
        output = run_tool(self.simulator.run, self.folder).splitlines()
        return self._results(calls, [words.size for words in beats], output)

    def _results(self, calls: Sequence[RtlCall], beats: Sequence[int], lines: Iterable[str]) -> list[RtlResult]:
        results: list[RtlResult] = []
        told: list[list[str]] = []
        for kind, *values in (line.split() for line in lines):
            if kind == "stuck":
                raise EngineError(f"RTL simulation: call {len(results)} stands still and does not end")
            if kind == "call":
                number = len(results)
                results.append(self._result(calls[number], beats[number], told, values))
                told = []
            elif kind in ("words", "logit"):
                told.append([kind, *values])
        if len(results) != len(calls):
            raise EngineError(f"RTL simulation: {len(results)} of {len(calls)} calls ended")
        return results

    def _result(self, call: RtlCall, beats: int, told: Sequence[list[str]], end: Sequence[str]) -> RtlResult:
        """The result of a call, from the lines of its words and logits and the values of its end."""
        status, cycles, taken = map(int, end[:3])
        wanted = beats if status in (DONE, BAD_PACKET, REFUSED_HEADERS) else 0
        if taken != wanted:
            raise EngineError(f"RTL simulation: {taken} of {wanted} beats were taken")
        result = RtlResult(status, cycles)
        if call.command == LOAD or status not in (DONE, REFUSED_HEADERS):
            return result
        words = [values for kind, *values in told if kind == "words"]
        logits = [values for kind, *values in told if kind == "logit"]
        if not self.is_netlist:
            self._add_watched(result, call, words, end[3])
        head, task = self.accelerator.head, self.accelerator.net.tasks[call.task]
        name = self.accelerator.layer_name(head, call.task)
        ends = [(keep, last) for _, keep, last in logits]
        if ends != [("f", "0")] * (len(ends) - 1) + [("f", "1")] * (len(ends) > 0):
            raise EngineError("RTL simulation: TLAST is not on the last logit alone, or bytes are missing in TKEEP")
        digits = _digits([value for value, _, _ in logits], 8)
        if call.command & CLASSES:
            result.classes = _integers(ONE_CLASS, 1, len(call.inputs), digits, name)[:, 0]
            return result
        layer = _integers(head.output, 1, len(call.inputs), digits, name)
        result.layers[name] = layer if call.command == RUN_TASKS else layer[:, : len(task.classes)]
        return result

    def _add_watched(self, result: RtlResult, call: RtlCall, words: Sequence[list[str]], steps: str) -> None:
        """Add the layers of all units but the head, whose logits leave the accelerator, and the steps of all loops."""
        loops, units = watches(self.accelerator.dataflow), self.accelerator.units
        sent = _bits(_digits([which for which, _ in words], -(-len(loops) // 4)))
        values = _digits([value for _, value in words], loops[-1].end_digit)
        counts = int(steps, 16)
        for number, loop in enumerate(loops):
            unit = units[loop.unit]
            result.steps[unit.name, loop.kind] = counts >> 32 * number & 0xFFFFFFFF
            if loop.kind == "unit" and unit is not self.accelerator.head:
                digits = values[sent[:, number] == 1, loop.first_digit : loop.end_digit]
                name = self.accelerator.layer_name(unit, call.task)
                result.layers[name] = _integers(unit.output, unit.pe, len(call.inputs), digits, name)


def compile_rtl(
    accelerator: Accelerator, folder: Path, netlist: Sequence[str] = (), chosen: RtlSimulator | None = None
) -> RtlSimulation:
    """Compile the simulation of the project of an accelerator in ``folder``.

    netlist: files and flags for Icarus Verilog in place of the files in rtl/, such as a netlist and the models of its
    cells. chosen: the simulator; else Icarus Verilog for a netlist, and the fastest that is installed for a project.
    Raises EngineError where there is none or it refuses.
    """
    chosen = chosen or simulator("icarus" if netlist else None)
    sources = netlist or [WATCH, MEMORIES, *rtl_sources(folder)]
    (folder / BUILD / chosen.name).mkdir(parents=True, exist_ok=True)
    for command in chosen.compile([*sources, f"testbench/{BENCH}.sv"]):
        run_tool(command, folder)
    return RtlSimulation(accelerator, folder, chosen, bool(netlist))


def _digits(texts: Sequence[str], count: int) -> NDArray[np.uint8]:
    """Hexadecimal numbers as (len(texts), count) digits, the lowest first; texts may have further zeros in front.

    >>> _digits(["00a1", "0x02"], 3)
    array([[ 1, 10,  0],
           [ 2,  0, 16]], dtype=uint8)
    """
    values = np.full(256, UNKNOWN, np.uint8)
    values[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)
    raw = np.frombuffer("".join(text[-count:] for text in texts).encode(), np.uint8)
    return values[raw].reshape(len(texts), count)[:, ::-1]


def _bits(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(words, digits) as (words, 4 * digits) bits."""
    bits = np.unpackbits(digits[..., None], axis=2, bitorder="little")
    return bits[..., :4].reshape(len(digits), 4 * digits.shape[1])


def _integers(stream: ActivationStream, lanes: int, batch: int, digits: NDArray[np.uint8], layer: str) -> Ints:
    """Words of so many lanes, (words, digits), as (batch, *shape)."""
    if len(digits) * lanes != batch * stream.elements:
        raise EngineError(f"RTL simulation: layer {layer!r} sent {len(digits) * lanes} values")
    if (digits == UNKNOWN).any():
        raise EngineError(f"RTL simulation: layer {layer!r} sent an unknown value")
    fields = _bits(digits)[:, : lanes * stream.bits].reshape(-1, stream.bits).astype(np.int64)
    weights = np.int64(1) << np.arange(stream.bits, dtype=np.int64)
    if stream.signed:
        weights[-1] = -weights[-1]
    return from_stream_order(stream, (fields @ weights).reshape(batch, stream.elements))
