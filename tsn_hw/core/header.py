"""The header of a .tsn file: all of a packed network but its numbers, as plain JSON values and back.

Reading is strict: every object has exactly its keys, every value its type and range, or an ArtifactError says where.
Whether the parts fit one another is left to PackedNetwork. The format stands in :mod:`tsn_hw.core.artifact`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ArtifactError, shown
from tsn_hw.core.layers import LAYER_KINDS, Layer, Shape
from tsn_hw.core.network import MAX_CODE_BITS, BankLayer, PackedNetwork, Step
from tsn_hw.core.records import Bounds, build, convert

FORMAT, VERSION = "tsn", 1
MAX_PARTS, MAX_CLASSES = Bounds(0, 4096), Bounds(0, 2**20)
"""How many layers, banks, tasks and codebooks are read, and how many classes."""
FORM = tuple[int, bool, int]


@dataclass(frozen=True)
class WordsHeader:
    """What the header says of one layer in one bank: ``entries`` are the sizes of the codebooks, by prefix."""

    centroid_bits: Annotated[int, Bounds(1, 64)]
    exponent: int
    entries: Annotated[tuple[Annotated[int, Bounds(0, 1 << MAX_CODE_BITS)], ...], MAX_PARTS]


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
        "banks": [[words and vars(words) for words in bank] for bank in header.banks],
        "tasks": [vars(task) | {"steps": [step and step_json(step) for step in task.steps]} for task in header.tasks],
    }


def format_json(form: ActFormat) -> list[int]:
    """An activation format as JSON values."""
    return [form.bits, form.signed, form.exponent]


def layer_json(layer: Layer) -> dict[str, Any]:
    """A layer's kind and fields as JSON values."""
    return {"kind": type(layer).__name__} | vars(layer)


def step_json(step: StepHeader) -> list[int]:
    """A step's shift, widths and output format as JSON values."""
    scaling = step.scaling
    if scaling is None:
        return []
    output = [] if scaling.output is None else format_json(scaling.output)
    return [scaling.shift, scaling.multiplier_bits, scaling.offset_bits, *output]


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Input:
    shape: tuple[int, ...]
    format: FORM


@dataclass(frozen=True)
class _Task:
    name: str
    bank: int
    classes: Annotated[tuple[str, ...], MAX_CLASSES]
    steps: tuple[tuple[Any, ...] | None, ...]
    seal: str


@dataclass(frozen=True)
class _Header:
    """The JSON values, each of its type."""

    format: Literal["tsn"]
    version: Literal[1]
    input: _Input
    layers: Annotated[tuple[dict[str, Any], ...], MAX_PARTS]
    banks: Annotated[tuple[tuple[WordsHeader | None, ...], ...], MAX_PARTS]
    tasks: Annotated[tuple[_Task, ...], MAX_PARTS]


def read_header(value: object) -> Header:
    """The header that :func:`header_json` gave; ArtifactError for anything else."""
    given = build(_Header, value, "header", ArtifactError)
    layers = tuple(_layer(entry, f"header: layers[{i}]") for i, entry in enumerate(given.layers))
    count = len(layers)
    for i, bank in enumerate(given.banks):
        if len(bank) != count:
            raise ArtifactError(f"header: banks[{i}]: {len(bank)} entries, must be {count}")
    tasks = tuple(_task(task, f"header: tasks[{i}]", count, len(given.banks)) for i, task in enumerate(given.tasks))
    return Header(given.input.shape, ActFormat(*given.input.format), layers, given.banks, tasks)


def _layer(entry: dict[str, Any], where: str) -> Layer:
    values = dict(entry)
    name = values.pop("kind", None)
    kind = LAYER_KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ArtifactError(f"{where}: kind = {shown(name)}: must be one of {', '.join(LAYER_KINDS)}")
    return build(kind, values, where, ArtifactError)


def _task(task: _Task, where: str, layers: int, banks: int) -> TaskHeader:
    if not 0 <= task.bank < banks:
        raise ArtifactError(f"{where}: bank = {task.bank}: must be 0..{banks - 1}")
    if len(task.steps) != layers:
        raise ArtifactError(f"{where}: steps: {len(task.steps)} entries, must be {layers}")
    steps = (None if step is None else _step(step, f"{where}: steps[{i}]") for i, step in enumerate(task.steps))
    return TaskHeader(task.name, task.bank, task.classes, tuple(steps), task.seal)


def _step(entry: tuple[Any, ...], where: str) -> StepHeader:
    if len(entry) not in (0, 3, 6):
        raise ArtifactError(f"{where}: {len(entry)} entries, must be 0, 3 or 6")
    if not entry:
        return StepHeader(None)
    kind = tuple[int, Annotated[int, Bounds(0, 16)], Annotated[int, Bounds(0, 64)]]
    shift, multiplier, offset = convert(kind, entry[:3], where, ArtifactError)
    output = ActFormat(*convert(FORM, entry[3:], f"{where}: format", ArtifactError)) if entry[3:] else None
    return StepHeader(ScalingHeader(shift, multiplier, offset, output))
