"""Golden data of an HLS project: what its test bench sends to the accelerator, and what must come back."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.design import BUS_BITS
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.loads import ALL_TASKS, Beats, sealed
from tsn_hw.hardware.memories import KINDS
from tsn_hw.hardware.units import ActivationStream, Unit

MAX_PROBE_PRODUCTS = 1 << 31
"""Products that the probes of one matrix unit may take in all tasks; of wider layers only some columns are probed."""
MAX_STREAM_LANES = 1 << 24
"""Activations that all streams together may hold in a call: simulation runs one process after the other."""
RUN, LOAD, NO_COMMAND = 0, 1, 3
UNKNOWN_TASK, NOT_LOADED, UNKNOWN_COMMAND, BAD_PACKET = 1, 2, 3, 4


@dataclass(frozen=True, eq=False)
class GoldenRun:
    """Inputs of one task, and what its layers give for them.

    inputs: (batch, *net.input_shape), integers of the network's input format. layers: (batch, ...) integers by name of
    the layer, at least those that a unit computes, as ``tsn_hw.core.reference.run`` gives them; empty: not known.
    """

    task: int
    inputs: Ints
    layers: Mapping[str, Ints]


def golden_data(accelerator: Accelerator, runs: Sequence[GoldenRun]) -> bytes:
    """golden.dat with every check: each input alone, the task changing every time, and all inputs of a task at once."""
    calls = [
        (number, sample, 1)
        for sample in range(max((len(run.inputs) for run in runs), default=0))
        for number, run in enumerate(runs)
        if sample < len(run.inputs)
    ]
    calls += _batches(accelerator, runs)
    tasks = range(len(accelerator.net.tasks))
    return _file(
        accelerator,
        _images(accelerator),
        [p for t in tasks for p in _probes(accelerator, t)],
        runs,
        calls,
        _refusals(accelerator),
    )


def input_data(accelerator: Accelerator, task: int, inputs: Ints) -> bytes:
    """golden.dat with nothing but inputs: for a test bench that writes what it computed, for :func:`read_dump`."""
    runs = [GoldenRun(task, inputs, {})]
    return _file(accelerator, [], [], runs, _batches(accelerator, runs), [])


def read_dump(accelerator: Accelerator, task: int, inferences: int, dump: bytes) -> dict[str, Ints]:
    """The integers (inferences, ...) of every layer that a unit computes, out of what a test bench dumped."""
    net, most, values = accelerator.net, _most_inferences(accelerator), np.frombuffer(dump, "<i4").astype(np.int64)
    per_inference = sum(unit.output.elements for unit in accelerator.units)
    parts: dict[str, list[Ints]] = {accelerator.layer_name(unit, task): [] for unit in accelerator.units}
    for begin in range(0, inferences, most):
        count = min(most, inferences - begin)
        call = values[begin * per_inference : (begin + count) * per_inference]
        for unit, part in zip(accelerator.units, parts.values(), strict=True):
            taken, call = np.split(call, [count * unit.output.elements])
            part.append(from_stream_order(unit.output, taken.reshape(count, unit.output.elements)))
    layers = {name: np.concatenate(part) for name, part in parts.items()}
    head = net.layers[net.head(task)].name
    return layers | {head: layers[head][:, : len(net.tasks[task].classes)]}


def _batches(accelerator: Accelerator, runs: Sequence[GoldenRun]) -> list[tuple[int, int, int]]:
    """Calls (run, first inference, inferences) of as many inferences as can be."""
    most = _most_inferences(accelerator)
    return [
        (number, first, min(most, len(run.inputs) - first))
        for number, run in enumerate(runs)
        for first in range(0, len(run.inputs), most)
    ]


def _most_inferences(accelerator: Accelerator) -> int:
    """Inferences of a call whose activations the streams of the simulation can hold."""
    return max(1, MAX_STREAM_LANES // sum(c.words * c.lanes for c in accelerator.dataflow.channels))


def bus_beats(accelerator: Accelerator, inputs: Ints) -> Beats:
    """Inputs (batch, *shape) as 64-bit beats (batch, beats) of the input stream; what is over in the last one is 1s."""
    container = accelerator.container_bits
    flat = in_stream_order(accelerator.input, inputs)
    padded = np.full((len(flat), accelerator.input_beats * BUS_BITS // container), -1, np.int64)
    padded[:, : flat.shape[1]] = flat
    return padded.astype(f"<i{container // 8}").view("<u8").astype(np.uint64)


def in_stream_order(stream: ActivationStream, values: Ints) -> Ints:
    """Values (batch, channels, ...) as they follow one another in a stream, (batch, elements)."""
    return np.moveaxis(values.reshape(len(values), *stream.shape), 1, -1).reshape(len(values), stream.elements)


def from_stream_order(stream: ActivationStream, values: Ints) -> Ints:
    """The inverse of :func:`in_stream_order`: (batch, *stream.shape)."""
    pixels = values.reshape(len(values), *stream.shape[1:], stream.channels)
    return np.moveaxis(pixels, -1, 1)


def _integers(accelerator: Accelerator, run: GoldenRun, unit: Unit) -> Ints:
    """What a unit sends for a run, (batch, elements); rows that a smaller head lacks give 0."""
    values = run.layers[accelerator.layer_name(unit, run.task)]
    if unit is accelerator.head:
        values = np.pad(values, ((0, 0), (0, unit.output.channels - values.shape[1])))
    return in_stream_order(unit.output, values)


def _images(accelerator: Accelerator) -> list[tuple[int, MemoryImage]]:
    """Memories and the task with which they hold this: ALL_TASKS where none must be loaded before."""
    images = [(ALL_TASKS, image) for image in accelerator.images if not image.layout.is_loaded]
    return images + [(task, image) for task in accelerator.loads for image in accelerator.load(task).images]


def _probes(accelerator: Accelerator, task: int) -> Iterator[tuple[int, int, Ints, list[int]]]:
    """(unit, task, columns, checksums of the accumulators of these unit vectors) of every matrix unit."""
    tasks = len(accelerator.net.tasks)
    for unit in accelerator.matrices:
        weights = unit.arrange(accelerator.net.weights(task, unit.layers[task]))
        affordable = max(1, MAX_PROBE_PRODUCTS // (weights.size * tasks))
        columns = np.unique(np.linspace(0, unit.columns - 1, min(unit.columns, affordable)).astype(np.int64))
        one = -1 if unit.sources[0].signed and unit.sources[0].bits == 1 else 1  # what a lowest bit of 1 stands for
        checksums = [zlib.crc32((one * column).astype("<i8").tobytes()) for column in weights.T[columns]]
        yield unit.number, task, columns, checksums


def _refusals(accelerator: Accelerator) -> list[tuple[int, int, int, int, Beats]]:
    """(command, task, count, status, packets) of calls that are to be refused, before anything is loaded."""
    nothing, loadable = np.zeros(0, np.uint64), accelerator.loads
    calls = [(RUN, accelerator.max_tasks, 1, UNKNOWN_TASK, nothing), (NO_COMMAND, 0, 1, UNKNOWN_COMMAND, nothing)]
    if not loadable:
        return [*calls, (LOAD, 0, 0, UNKNOWN_COMMAND, nothing)]
    packets = accelerator.load(loadable[-1]).beats
    to_nobody = packets[1:-1] | np.append(np.uint64(0xFFFF), np.zeros(len(packets) - 3, np.uint64))  # no unit has it
    unclaimed = sealed(to_nobody, loadable[-1], accelerator.design_number)
    return [
        *calls,
        (RUN, 0, 1, NOT_LOADED, nothing),
        (LOAD, accelerator.max_tasks, 0, UNKNOWN_TASK, nothing),
        (LOAD, loadable[-1], 0, BAD_PACKET, nothing),
        (LOAD, loadable[-1], len(packets) - 1, BAD_PACKET, packets[:-1]),
        (LOAD, loadable[-1], len(packets), BAD_PACKET, unclaimed),
        (RUN, 0, 1, NOT_LOADED, nothing),
    ]


def _file(
    accelerator: Accelerator,
    images: Sequence[tuple[int, MemoryImage]],
    probes: Sequence[tuple[int, int, Ints, list[int]]],
    runs: Sequence[GoldenRun],
    calls: Sequence[tuple[int, int, int]],
    refusals: Sequence[tuple[int, int, int, int, Beats]],
) -> bytes:
    """The parts in the order in which golden.hpp reads them."""
    names = [unit.name for unit in accelerator.units]
    parts = [b"TSNGOLD2", _u32(accelerator.input.elements, accelerator.container_bits // 8)]
    parts.append(_u32(len(names)))
    parts += [_unit(unit, len(accelerator.net.tasks)) for unit in accelerator.units]
    parts.append(_u32(len(images)))
    for task, image in images:
        crc = zlib.crc32(image.limbs.astype("<u8").tobytes())
        parts.append(_u32(names.index(image.unit), KINDS.index(image.kind), task, crc))
    parts.append(_u32(len(accelerator.loads)))
    for task in accelerator.loads:
        data = accelerator.load(task).data
        parts += [_u32(task, len(data) // 8), data]
    parts.append(_u32(len(probes)))
    parts += [_u32(unit, task, len(columns), *columns, *checksums) for unit, task, columns, checksums in probes]
    parts.append(_u32(len(runs)))
    for run in runs:
        parts += [_u32(run.task, len(run.inputs)), bus_beats(accelerator, run.inputs).astype("<u8").tobytes()]
        parts.append(_u32(len(run.layers) > 0))
        parts += [_integers(accelerator, run, unit).astype("<i4").tobytes() for unit in accelerator.units if run.layers]
    parts += [_u32(len(calls)), _u32(*(field for call in calls for field in call)), _u32(len(refusals))]
    for *fields, packets in refusals:
        parts += [_u32(*fields, len(packets)), packets.astype("<u8").tobytes()]
    return b"".join(parts)


def _unit(unit: Unit, tasks: int) -> bytes:
    """Name, integers and cycles of an inference: of the sliding window, and of the unit behind it with every task."""
    name, window = unit.name.encode(), np.array([unit.window.cycles if unit.window else 0], "<u8")
    own = np.array([unit.steps_of(task) for task in range(tasks)], "<u8")
    return _u32(len(name)) + name + _u32(unit.output.elements) + window.tobytes() + _u32(tasks) + own.tobytes()


def _u32(*numbers: int) -> bytes:
    return np.array(numbers, "<u4").tobytes()
