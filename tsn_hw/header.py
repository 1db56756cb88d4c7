"""The header of a .tsn file: all of a packed network but its numbers, as plain JSON values and back.

Reading is strict: every object has exactly its keys, every value its type and range, or an ArtifactError says where.
Whether the parts fit one another is left to PackedNetwork. The format stands in :mod:`tsn_hw.artifact`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import numpy as np

from tsn_hw.arithmetic import ActFormat, Ints
from tsn_hw.errors import ArtifactError
from tsn_hw.json_values import read_integer, read_integers, read_list, read_object, read_string, shown
from tsn_hw.layers import LAYER_KINDS, Layer, Shape
from tsn_hw.network import MAX_CODE_BITS, BankLayer, PackedNetwork, Step

FORMAT, VERSION = "tsn", 1
MAX_CLASSES = 2**20


@dataclass(frozen=True)
class WordsHeader:
    """What the header says of one layer in one bank: ``entries`` are the sizes of the codebooks, by prefix."""

    centroid_bits: int
    exponent: int
    entries: tuple[int, ...]


@dataclass(frozen=True)
class ScalingHeader:
    """What the header says of a requantization; widths of 0 bits stand for multipliers of 1 and offsets of 0."""

    shift: int
    multiplier_bits: int
    offset_bits: int
    output: ActFormat | None


@dataclass(frozen=True)
class StepHeader:
    """What the header says of a layer that a task runs."""

    scaling: ScalingHeader | None


@dataclass(frozen=True)
class TaskHeader:
    """What the header says of a task; a step a layer, None where it does not run."""

    name: str
    bank: int
    classes: tuple[str, ...]
    steps: tuple[StepHeader | None, ...]
    seal: str


@dataclass(frozen=True)
class Header:
    """A whole header, without its digest."""

    input_shape: Shape
    input: ActFormat
    layers: tuple[Layer, ...]
    banks: tuple[tuple[WordsHeader | None, ...], ...]
    tasks: tuple[TaskHeader, ...]


def header_of(net: PackedNetwork, seals: tuple[str, ...]) -> Header:
    """The header of a network whose tasks have these seals."""
    tasks = (
        TaskHeader(task.name, task.bank, task.classes, tuple(step_header(step) for step in task.steps), seal)
        for task, seal in zip(net.tasks, seals, strict=True)
    )
    banks = tuple(tuple(_words_header(words) for words in bank.layers) for bank in net.banks)
    return Header(net.input_shape, net.input, net.layers, banks, tuple(tasks))


def _words_header(words: BankLayer | None) -> WordsHeader | None:
    if words is None:
        return None
    return WordsHeader(words.centroid_bits, words.exponent, tuple(len(book) for book in words.codebooks))


def step_header(step: Step | None) -> StepHeader | None:
    """What the header says of a step."""
    if step is None or step.requantization is None:
        return None if step is None else StepHeader(None)
    scale = step.requantization
    widths = _signed_bits(scale.multiplier, neutral=1), _signed_bits(scale.offset, neutral=0)
    return StepHeader(ScalingHeader(scale.shift, *widths, scale.output))


def _signed_bits(values: Ints, neutral: int) -> int:
    """Two's complement bits that hold all values; 0 if all are neutral."""
    if (values == neutral).all():
        return 0
    return 1 + int(np.maximum(values, ~values).max()).bit_length()


# ---------------------------------------------------------------------------------------------------------- writing


def header_json(header: Header) -> dict[str, Any]:
    """The header as JSON values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "input": {"shape": header.input_shape, "format": format_json(header.input)},
        "layers": [layer_json(layer) for layer in header.layers],
        "banks": [[words and dataclasses.asdict(words) for words in bank] for bank in header.banks],
        "tasks": [
            dataclasses.asdict(task) | {"steps": [step and step_json(step) for step in task.steps]}
            for task in header.tasks
        ],
    }


def format_json(form: ActFormat) -> list[int]:
    """An activation format as JSON values."""
    return [form.bits, form.signed, form.exponent]


def layer_json(layer: Layer) -> dict[str, Any]:
    """A layer's kind and fields as JSON values."""
    return {"kind": type(layer).__name__} | dataclasses.asdict(layer)


def step_json(step: StepHeader) -> list[int]:
    """A step's shift, widths and output format as JSON values."""
    scaling = step.scaling
    if scaling is None:
        return []
    output = [] if scaling.output is None else format_json(scaling.output)
    return [scaling.shift, scaling.multiplier_bits, scaling.offset_bits, *output]


# ---------------------------------------------------------------------------------------------------------- reading


def read_header(value: dict[str, Any]) -> Header:
    """The header that :func:`header_json` gave; ArtifactError for anything else."""
    given = read_object(value, "header", {"format", "version", "input", "layers", "banks", "tasks"})
    read_integer(given["version"], "version", VERSION, VERSION)
    form = read_object(given["input"], "input", {"shape", "format"})
    layers = tuple(_layer(entry, f"layer {i}") for i, entry in enumerate(read_list(given["layers"], "layers")))
    banks = tuple(_bank(entry, f"bank {i}", len(layers)) for i, entry in enumerate(read_list(given["banks"], "banks")))
    tasks = tuple(
        _task(entry, f"task {i}", len(layers), len(banks)) for i, entry in enumerate(read_list(given["tasks"], "tasks"))
    )
    input_shape = tuple(read_integers(form["shape"], "input shape"))
    return Header(input_shape, _format(form["format"], "input format"), layers, banks, tasks)


def _layer(entry: object, where: str) -> Layer:
    name = entry.get("kind") if isinstance(entry, dict) else None
    kind = LAYER_KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ArtifactError(f"{where}: kind {name!r}, must be one of {', '.join(LAYER_KINDS)}")
    hints = get_type_hints(kind)
    given = read_object(entry, where, {"kind", *hints})
    values: dict[str, Any] = {}
    for field, hint in hints.items():
        place = f"{where}, {field}"
        if hint is str:
            values[field] = read_string(given[field], place)
        elif hint is int:
            values[field] = read_integer(given[field], place)
        else:
            values[field] = tuple(read_integers(given[field], place, len(get_args(hint))))
    return kind(**values)


def _bank(entry: object, where: str, layers: int) -> tuple[WordsHeader | None, ...]:
    return tuple(
        None if words is None else _words(words, f"{where}, layer {i}")
        for i, words in enumerate(read_list(entry, where, layers))
    )


def _words(entry: object, where: str) -> WordsHeader:
    given = read_object(entry, where, {"centroid_bits", "exponent", "entries"})
    entries = read_list(given["entries"], f"{where}, entries")
    return WordsHeader(
        read_integer(given["centroid_bits"], f"{where}, centroid_bits", 1, 64),
        read_integer(given["exponent"], f"{where}, exponent"),
        tuple(read_integer(count, f"{where}, entries", 0, 1 << MAX_CODE_BITS) for count in entries),
    )


def _task(entry: object, where: str, layers: int, banks: int) -> TaskHeader:
    given = read_object(entry, where, {"name", "bank", "classes", "steps", "seal"})
    classes = read_list(given["classes"], f"{where}, classes", most=MAX_CLASSES)
    steps = read_list(given["steps"], f"{where}, steps", layers)
    return TaskHeader(
        read_string(given["name"], f"{where}, name"),
        read_integer(given["bank"], f"{where}, bank", 0, banks - 1),
        tuple(read_string(name, f"{where}, class {i}") for i, name in enumerate(classes)),
        tuple(None if step is None else _step(step, f"{where}, step {i}") for i, step in enumerate(steps)),
        read_string(given["seal"], f"{where}, seal"),
    )


def _step(entry: object, where: str) -> StepHeader:
    given = read_list(entry, where)
    if not given:
        return StepHeader(None)
    if len(given) not in (3, 6):
        raise ArtifactError(f"{where}: {len(given)} entries, must be 0, 3 or 6")
    return StepHeader(
        ScalingHeader(
            read_integer(given[0], f"{where}, shift"),
            read_integer(given[1], f"{where}, multiplier bits", 0, 16),
            read_integer(given[2], f"{where}, offset bits", 0, 64),
            _format(given[3:], where) if given[3:] else None,
        )
    )


def _format(entry: object, where: str) -> ActFormat:
    bits, signed, exponent = read_list(entry, where, 3)
    if not isinstance(signed, bool):
        raise ArtifactError(f"{where}: signed is {shown(signed)}, must be true or false")
    return ActFormat(read_integer(bits, f"{where}, bits"), signed, read_integer(exponent, f"{where}, exponent"))
