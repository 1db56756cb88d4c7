"""What C for microcontrollers costs: flash and RAM exactly, instructions by a model fitted to counts in qemu."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.c_code.project import scratch_bytes
from export.c_code.records import Stored, is_narrow
from export.c_code.sections import Sections, sections
from export.c_code.weights import PAIRED_BITS, Optimize
from tsn_hw.core.layers import Conv2d, Weighted
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import build, read_json

MODEL = Path(__file__).with_name("instructions.json")


@dataclass(frozen=True)
class Core:
    """A core: the instructions of each kind of work, and what else is known of it.

    instructions: of one unit of each kind of work of :func:`work`. code_bytes: the runtime with ``-Os``.
    cycles_per_instruction: an assumption, see docs/microcontrollers.md. median_percent, worst_percent: how far
    estimates are from counts of networks that were left out of the fit. networks: how many were counted.
    """

    instructions: dict[str, float]
    code_bytes: int
    cycles_per_instruction: float
    median_percent: float
    worst_percent: float
    networks: int


@dataclass(frozen=True)
class TaskEstimate:
    """One inference of a task: bytes of its own section, products of the dense layers and those computed, and by core
    the instructions."""

    task: str
    section_bytes: int
    macs: int
    used_macs: int
    instructions: dict[str, int]


@dataclass(frozen=True)
class CEstimate:
    """A network in C: bytes of flash and of the scratch buffer, its tasks, and the cores."""

    optimize: Optimize
    constants_bytes: int
    scratch_bytes: int
    tasks: tuple[TaskEstimate, ...]
    cores: dict[str, Core]


def cores() -> dict[str, Core]:
    """Name → core, as ``benchmarks/bench_c_instructions.py`` fitted them."""
    return build(_Model, read_json(MODEL), MODEL.name).cores


@dataclass(frozen=True)
class _Model:
    measured: str
    cores: dict[str, Core]


def estimate_c(net: PackedNetwork, optimize: Optimize) -> CEstimate:
    """The cost of a network in C; ExportError where this back end does not compute a layer."""
    made, known = sections(net, optimize), cores()
    tasks = []
    for task in range(len(net.tasks)):
        counts = work(net, task, made)
        instructions = {name: round(instructions_of(core, counts)) for name, core in known.items()}
        layers = [(index, layer) for index, layer, _ in net.run_order(task) if isinstance(layer, Weighted)]
        places = {index: math.prod(net.shape(index)[1:]) for index, _ in layers}
        macs = sum(layer.weight_count * places[index] for index, layer in layers)
        used = sum(int(np.count_nonzero(net.weights(task, index))) * places[index] for index, _ in layers)
        tasks.append(TaskEstimate(net.tasks[task].name, len(made.tasks[task]), macs, used, instructions))
    return CEstimate(optimize, made.flash_bytes, scratch_bytes(made), tuple(tasks), known)


def instructions_of(core: Core, counts: Mapping[str, int]) -> float:
    """Instructions of an inference."""
    return sum(core.instructions[name] * count for name, count in counts.items())


def work(net: PackedNetwork, task: int, made: Sections) -> dict[str, int]:
    """What an inference does, counted: name of a kind of work → units."""
    counts = dict.fromkeys(WORK, 0)
    for index, layer, _ in net.run_order(task):
        shape, is_wide = net.shape(index), layer.computes and not is_narrow(net.facts(task, index))
        if not isinstance(layer, Weighted):
            window = math.prod(getattr(layer, "kernel", (1, 1)))
            counts["moved"] += (window if layer.kind != "Flatten" else 0) * math.prod(shape)
            counts["requantized wide" if is_wide else "requantized"] += math.prod(shape) if layer.computes else 0
            continue
        weights, source = net.weights(task, index), net.format(task, layer.inputs[0])
        used = int(np.count_nonzero(weights))
        is_common = source.bits <= 8 and not source.signed and net.facts(task, index).accumulator < 1 << 31
        counts["layers"] += 1
        counts["requantized wide" if is_wide else "requantized"] += math.prod(shape)
        if isinstance(layer, Conv2d):
            done = _products(net, layer, used, is_common)
        elif is_common:
            done = _of_linear(made.stored[task][index], used)
        else:
            done = {"general weights": used}
        for name, count in done.items():
            counts[name] += count
    return counts


def _of_linear(stored: Stored, used: int) -> dict[str, int]:
    """The work of a Linear with inputs of uint8_t and sums of 32 bits, by the loop that ``tsn_linear`` takes."""
    if stored.words is not None and stored.mask is not None:
        kind = "masked codes" if stored.words.values.entry_bytes else "masked bytes"
        return {"masks": stored.mask.size, kind: used}
    listed = stored.listed
    if listed is None or not len(listed.gaps):
        return {}
    gap_bits, values, entries = listed.gap_bits, listed.values, len(listed.gaps)
    if values.entry_bytes == 0 and values.bits == 8 and gap_bits in (0, 8):
        return {"listed bytes" if gap_bits else "dense weights": entries}
    if values.entry_bytes != 1:
        return {"general weights": entries}
    if gap_bits == 0:
        return {"dense codes": entries}
    return {"listed pairs" if gap_bits + values.bits == PAIRED_BITS and entries % 2 == 0 else "listed bits": entries}


def _products(net: PackedNetwork, layer: Conv2d, used: int, is_common: bool) -> dict[str, int]:
    """The work of a convolution: four windows inside of its input at a time, single ones, others anywhere."""
    rows, columns = (
        sum(i * stride >= pad and i * stride - pad + window <= size for i in range(out))
        for out, size, window, stride, pad in zip(
            layer.output_shape(net.shape(layer.inputs[0]))[1:],
            net.shape(layer.inputs[0])[1:],
            layer.kernel,
            layer.stride,
            layer.padding,
            strict=True,
        )
    )
    places = math.prod(layer.output_shape(net.shape(layer.inputs[0]))[1:])
    fours, singles = (4 * (columns // 4) * rows, columns % 4 * rows) if is_common else (0, 0)
    taken = {"taken weights": used * -(-places // SUMS), "windows": layer.out_channels * places}
    products = {"products by four": fours, "products": singles, "general products": places - fours - singles}
    return taken | {name: used * count for name, count in products.items()}


SUMS = 64
"""TSN_SUMS of the runtime: outputs of a convolution at a time."""
WORK = {
    "layers": "layers with weights",
    "requantized": "integers requantized in 32 bits",
    "requantized wide": "integers requantized in 64 bits",
    "moved": "integers read by pools and additions",
    "listed bits": "weights of a Linear in lists of narrow fields",
    "listed pairs": "weights of a Linear in lists of two in three bytes",
    "listed bytes": "weights of a Linear in lists of bytes",
    "dense codes": "weights of a Linear without gaps, as places in a table",
    "dense weights": "weights of a Linear without gaps, of a byte",
    "masks": "bits of masks of a Linear",
    "masked codes": "weights that they take, as places in a table",
    "masked bytes": "weights that they take, of a byte",
    "general weights": "weights of a Linear with signed or wide inputs",
    "taken weights": "weights of a convolution, read again for every 64 outputs",
    "windows": "windows of a convolution, in each of its output channels",
    "products by four": "products of a convolution, of four windows at a time",
    "products": "those of single windows",
    "general products": "those at a border, or with signed or wide inputs",
}
"""Kinds of work, and what is counted of each."""


def model_text(measured: str, found: Mapping[str, Core]) -> str:
    """The file of the model."""
    return (
        json.dumps({"measured": measured, "cores": {name: vars(core) for name, core in found.items()}}, indent=1) + "\n"
    )
