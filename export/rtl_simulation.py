"""RTL projects in simulation by Icarus Verilog: the integers and cycles of every unit.

A project is compiled once; then calls run on it, at full speed or with stalls at random on both streams.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.hls_golden import bus_beats, from_stream_order
from tsn_hw.arithmetic import Ints
from tsn_hw.errors import EngineError
from tsn_hw.units import Accelerator, Stream

SIMULATION = "simulation.vvp"
RUN = 0


@dataclass(frozen=True, eq=False)
class RtlCall:
    """A call of the accelerator: inputs (batch, *input_shape) of one task; ``command`` as docs/rtl.md numbers them."""

    task: int
    inputs: Ints
    command: int = RUN


@dataclass
class RtlResult:
    """What a call gave.

    layers: (batch, ...) integers of every unit, by name of the layer that the task runs there.
    steps: (unit's name, "unit" or "window") → steps that the loop took. cycles: of the whole call.
    """

    status: int = 0
    cycles: int = 0
    layers: dict[str, Ints] = field(default_factory=dict)
    steps: dict[tuple[str, str], int] = field(default_factory=dict)


def missing_simulator() -> str | None:
    """What to install where there is no simulator."""
    missing = shutil.which("iverilog") is None or shutil.which("vvp") is None
    return "Icarus Verilog is not installed; on Debian, apt-get install iverilog" if missing else None


@dataclass(frozen=True)
class RtlSimulation:
    """The compiled simulation of a project in a folder, made by :func:`compile_rtl`."""

    accelerator: Accelerator
    folder: Path

    def run(self, calls: Sequence[RtlCall], stall_percent: int = 0, seed: int = 1) -> list[RtlResult]:
        """What every call gives, one after the other, without a reset between them.

        stall_percent: how often a beat comes late, and a logit is taken late. EngineError if the simulation fails.
        """
        beats = [_beats_of(self.accelerator, call) for call in calls]
        lines = [
            f"{call.task} {len(call.inputs)} {call.command} {words.size}\n"
            for call, words in zip(calls, beats, strict=True)
        ]
        (self.folder / "calls.txt").write_text("".join(lines))
        texts = (f"{word:x}\n" for words in beats for word in words.ravel().tolist())
        (self.folder / "beats.txt").write_text("".join(texts))
        options = ["+calls=calls.txt", "+beats=beats.txt", f"+stalls={stall_percent}", f"+seed={seed}"]
        output = _execute(["vvp", "-n", SIMULATION, *options], self.folder)
        return _results(self.accelerator, calls, output.splitlines())


def compile_rtl(accelerator: Accelerator, folder: Path, netlist: Sequence[str] = ()) -> RtlSimulation:
    """Compile the simulation of the project of an accelerator in ``folder``.

    netlist: files and flags for the compiler in place of those in rtl/, such as a netlist and the simulation models of
    its cells; then only the logits are seen. Raises EngineError where Icarus Verilog is missing or refuses.
    """
    missing = missing_simulator()
    if missing is not None:
        raise EngineError(missing)
    sources = netlist or [f"rtl/{path.name}" for path in sorted((folder / "rtl").glob("*.sv"))]
    command = ["iverilog", "-g2012", "-s", "testbench", "-o", SIMULATION, *sources, "testbench/testbench.sv"]
    _execute(command, folder)
    return RtlSimulation(accelerator, folder)


def _beats_of(accelerator: Accelerator, call: RtlCall) -> NDArray[np.uint64]:
    """The beats that a call takes; one that is refused takes none."""
    if call.command != RUN or call.task >= len(accelerator.net.tasks):
        return np.zeros(0, np.uint64)
    return bus_beats(accelerator, call.inputs)


def _execute(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines() or ["failed without a word"]
        raise EngineError(f"{command[0]}: {told[0]}")
    return done.stdout


def _results(accelerator: Accelerator, calls: Sequence[RtlCall], lines: Iterable[str]) -> list[RtlResult]:
    results: list[RtlResult] = []
    words: list[list[str]] = [[] for _ in accelerator.units]
    logits: list[str] = []
    steps: dict[tuple[str, str], int] = {}
    for line in lines:
        kind, *values = line.split() or [""]
        if kind == "word":
            words[int(values[0])].append(values[1])
        elif kind == "logit":
            logits.append(values[0])
        elif kind == "steps":
            steps[accelerator.units[int(values[0])].name, values[1]] = int(values[2])
        elif kind == "call":
            call = calls[len(results)]
            status, cycles = int(values[0]), int(values[1])
            layers = _layers(accelerator, call, words, logits) if call.command == RUN and not status else {}
            results.append(RtlResult(status, cycles, layers, steps))
            words, logits, steps = [[] for _ in accelerator.units], [], {}
        elif kind == "error:":
            raise EngineError(f"RTL simulation: {line.removeprefix('error: ')}")
    if len(results) != len(calls):
        raise EngineError(f"RTL simulation: {len(results)} of {len(calls)} calls ended")
    return results


def _layers(accelerator: Accelerator, call: RtlCall, words: Sequence[list[str]], logits: list[str]) -> dict[str, Ints]:
    """Integers of every layer that was watched; the logits are those that left the accelerator."""
    layers = {}
    for unit, sent in zip(accelerator.units[:-1], words, strict=False):
        if any(words):
            name = accelerator.net.layers[unit.layers[call.task]].name
            layers[name] = _integers(unit.output, unit.output_lanes, len(call.inputs), sent, name)
    head, task = accelerator.head, accelerator.net.tasks[call.task]
    name = accelerator.net.layers[head.layers[call.task]].name
    layers[name] = _integers(head.output, 1, len(call.inputs), logits, name)[:, : len(task.classes)]
    return layers


def _integers(stream: Stream, lanes: int, batch: int, words: list[str], layer: str) -> Ints:
    """Words in hexadecimal as (batch, *shape)."""
    if len(words) * lanes != batch * stream.elements:
        raise EngineError(f"RTL simulation: layer {layer!r} sent {len(words) * lanes} values")
    if unknown := next((word for word in words if re.search("[^0-9a-f]", word)), None):
        raise EngineError(f"RTL simulation: layer {layer!r} sent the unknown value {unknown}")
    octets = -(-lanes * stream.bits // 8)
    raw = b"".join(int(word, 16).to_bytes(octets, "little") for word in words)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(-1, octets), axis=1, bitorder="little")
    fields = bits[:, : lanes * stream.bits].reshape(-1, stream.bits).astype(np.int64)
    weights = np.int64(1) << np.arange(stream.bits, dtype=np.int64)
    if stream.signed:
        weights[-1] = -weights[-1]
    return from_stream_order(stream, (fields @ weights).reshape(batch, stream.elements))
