"""The header of a .tsn file: all of a packed network but its numbers, as plain JSON values and back.

Reading is strict: every object has exactly its keys, every value its type and range, or an ArtifactError says where.
Whether the parts fit one another is left to PackedNetwork. The format stands in :mod:`tsn_hw.core.artifact`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tsn_hw.core.arithmetic import ActFormat, signed_bits
from tsn_hw.core.errors import ArtifactError, shown
from tsn_hw.core.layers import LAYER_KINDS, Layer, Shape
from tsn_hw.core.network import MAX_CODE_BITS, BankLayer, PackedNetwork, Requantization, Step, Task
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
class TaskHeader:
    """What the header says of a task: a step a layer, None where it does not run; :func:`scaling_of` reads it."""

    name: str
    bank: int
    classes: Annotated[tuple[str, ...], MAX_CLASSES]
    steps: tuple[tuple[Any, ...] | None, ...]
    seal: str


@dataclass(frozen=True)
class Header:
    """A whole header, without its digest."""

    input_shape: Shape
    input: ActFormat
    layers: tuple[Layer, ...]
    banks: tuple[tuple[WordsHeader | None, ...], ...]
    tasks: tuple[TaskHeader, ...]


# ---------------------------------------------------------------------------------------------------------- writing


def header_json(net: PackedNetwork, seals: Sequence[str]) -> dict[str, Any]:
    """The header of a network whose tasks have these seals, as JSON values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "input": {"shape": net.input_shape, "format": format_json(net.input)},
        "layers": [layer_json(layer) for layer in net.layers],
        "banks": [[words and _words_json(words) for words in bank.layers] for bank in net.banks],
        "tasks": [_task_json(task, seal) for task, seal in zip(net.tasks, seals, strict=True)],
    }


def _task_json(task: Task, seal: str) -> dict[str, Any]:
    steps = [_step_json(step) for step in task.steps]
    return {"name": task.name, "bank": task.bank, "classes": task.classes, "steps": steps, "seal": seal}


def _words_json(words: BankLayer) -> dict[str, Any]:
    entries = [len(book) for book in words.codebooks]
    return {"centroid_bits": words.centroid_bits, "exponent": words.exponent, "entries": entries}


def _step_json(step: Step | None) -> list[int] | None:
    if step is None or step.requantization is None:
        return None if step is None else []
    scale = step.requantization
    return [scale.shift, *scaling_bits(scale), *(format_json(scale.output) if scale.output else [])]


def scaling_bits(scale: Requantization) -> tuple[int, int]:
    """Two's complement bits of all multipliers, 0 if all are 1, and of all offsets, 0 if all are 0."""
    vectors = (scale.multiplier, 1), (scale.offset, 0)
    multiplier, offset = (0 if (vector == neutral).all() else signed_bits(vector) for vector, neutral in vectors)
    return multiplier, offset


def format_json(form: ActFormat) -> list[int]:
    """An activation format as JSON values."""
    return [form.bits, form.signed, form.exponent]


def layer_json(layer: Layer) -> dict[str, Any]:
    """A layer's kind and fields as JSON values; a dilation where there is one, which older versions do not know."""
    fields = {key: value for key, value in vars(layer).items() if key != "dilation" or value != (1, 1)}
    return {"kind": type(layer).__name__} | fields


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Input:
    shape: tuple[int, ...]
    format: FORM


@dataclass(frozen=True)
class _Header:
    """The JSON values, each of its type."""

    format: Literal["tsn"]
    version: Literal[1]
    input: _Input
    layers: Annotated[tuple[dict[str, Any], ...], MAX_PARTS]
    banks: Annotated[tuple[tuple[WordsHeader | None, ...], ...], MAX_PARTS]
    tasks: Annotated[tuple[TaskHeader, ...], MAX_PARTS]


def read_header(value: object) -> Header:
    """The header that :func:`header_json` gave; ArtifactError for anything else."""
    given = build(_Header, value, "header", ArtifactError)
    layers = tuple(_layer(entry, f"header: layers[{i}]") for i, entry in enumerate(given.layers))
    count = len(layers)
    for i, bank in enumerate(given.banks):
        if len(bank) != count:
            raise ArtifactError(f"header: banks[{i}]: {len(bank)} entries, must be {count}")
    for i, task in enumerate(given.tasks):
        _check_task(task, f"header: tasks[{i}]", count, len(given.banks))
    return Header(given.input.shape, ActFormat(*given.input.format), layers, given.banks, given.tasks)


def _layer(entry: dict[str, Any], where: str) -> Layer:
    values = dict(entry)
    name = values.pop("kind", None)
    kind = LAYER_KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ArtifactError(f"{where}: kind = {shown(name)}: must be one of {', '.join(LAYER_KINDS)}")
    return build(kind, values, where, ArtifactError)


def _check_task(task: TaskHeader, where: str, layers: int, banks: int) -> None:
    if not 0 <= task.bank < banks:
        raise ArtifactError(f"{where}: bank = {task.bank}: must be 0..{banks - 1}")
    if len(task.steps) != layers:
        raise ArtifactError(f"{where}: steps: {len(task.steps)} entries, must be {layers}")
    for i, step in enumerate(task.steps):
        scaling_of(step, f"{where}: steps[{i}]")


def scaling_of(step: tuple[Any, ...] | None, where: str = "header") -> ScalingHeader | None:
    """The requantization of a step; None where the layer does not run, or has none."""
    if not step:
        return None
    if len(step) not in (3, 6):
        raise ArtifactError(f"{where}: {len(step)} entries, must be 0, 3 or 6")
    kind = tuple[int, Annotated[int, Bounds(0, 16)], Annotated[int, Bounds(0, 64)]]
    shift, multiplier, offset = convert(kind, step[:3], where, ArtifactError)
    output = ActFormat(*convert(FORM, step[3:], f"{where}: format", ArtifactError)) if step[3:] else None
    return ScalingHeader(shift, multiplier, offset, output)
