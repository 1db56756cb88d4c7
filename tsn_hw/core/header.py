"""The header of a .tsn file: all of a packed network but its numbers, as plain JSON values and back.

Only what is there is written: a step for every layer that a task runs, words for every layer that a bank holds. So a
header grows with the number of tasks, not with its square. Reading is strict: every object has exactly its keys, every
value its type and range, or an ArtifactError says where. Whether the parts fit one another is left to PackedNetwork.
The format stands in :mod:`tsn_hw.core.artifact`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any

from tsn_hw.core.arithmetic import ActFormat, signed_bits
from tsn_hw.core.errors import ArtifactError, shown
from tsn_hw.core.gate import Features, Gate
from tsn_hw.core.layers import LAYER_KINDS, Layer, Shape
from tsn_hw.core.network import MAX_CODE_BITS, BankLayer, PackedNetwork, Requantization, Step
from tsn_hw.core.records import Bounds, build, convert

MAX_PARTS, MAX_CLASSES = Bounds(0, 4096), Bounds(0, 2**20)
"""How many layers, banks, tasks and codebooks are read, and how many classes."""
FORM = tuple[int, bool, int]
ENTRIES = Annotated[int, Bounds(0, 1 << MAX_CODE_BITS)]


@dataclass(frozen=True)
class WordsHeader:
    """What the header says of one layer in one bank.

    ``entries`` are the sizes of the codebooks by prefix, from the first that is not empty to the last.
    """

    layer: int
    centroid_bits: Annotated[int, Bounds(1, 64)]
    exponent: int
    first: Annotated[int, MAX_PARTS]
    entries: Annotated[tuple[ENTRIES, ...], MAX_PARTS]


@dataclass(frozen=True)
class ScalingHeader:
    """What the header says of a requantization; widths of 0 bits stand for multipliers of 1 and offsets of 0."""

    shift: int
    multiplier_bits: int
    offset_bits: int
    output: ActFormat | None


BITS = Annotated[int, Bounds(0, 64)]
ROWS = Annotated[int, Bounds(0, 2**24)]


@dataclass(frozen=True)
class GateHeader:
    """What the header says of a gate: pool, shift and edges of its features, and for every component its bias, bits of
    linear, rows of the map, bits of the map and of offsets."""

    features: tuple[int, int, int, int, int]
    components: Annotated[tuple[tuple[int, BITS, ROWS, BITS, BITS], ...], MAX_PARTS]

    def made(self) -> Features:
        """How inputs become features; NetworkError for what cannot be."""
        high, wide, shift, *edges = self.features
        return Features((high, wide), shift, (edges[0], edges[1]))


@dataclass(frozen=True)
class TaskHeader:
    """What the header says of a task: a step for every layer that it runs, in their order; see :func:`scaling_of`."""

    name: str
    bank: int
    classes: Annotated[tuple[str, ...], MAX_CLASSES]
    steps: Annotated[tuple[tuple[Any, ...], ...], MAX_PARTS]
    gate: GateHeader | None = None


@dataclass(frozen=True)
class Header:
    """A whole header without the sizes of sections; the words of every bank by the index of their layer."""

    input_shape: Shape
    input: ActFormat
    layers: tuple[Layer, ...]
    banks: tuple[dict[int, WordsHeader], ...]
    tasks: tuple[TaskHeader, ...]


# ---------------------------------------------------------------------------------------------------------- writing


def task_json(net: PackedNetwork, number: int, places: tuple[int, ...]) -> dict[str, Any]:
    """What the header says of a task; ``places`` are the indices of the layers that it runs, in the file."""
    task = net.tasks[number]
    steps = [[place, *_step_json(step)] for place, (_, _, step) in zip(places, net.run_order(number), strict=True)]
    told = {"name": task.name, "bank": task.bank, "classes": task.classes, "steps": steps}
    return told if task.gate is None else told | {"gate": gate_json(task.gate)}


def gate_json(gate: Gate) -> dict[str, Any]:
    """What the header says of a gate."""
    components = [[c.bias, c.bits[0], len(c.map), *c.bits[1:]] for c in gate.components]
    features = gate.features
    return {"features": [*features.pool, features.shift, *features.edges], "components": components}


def words_json(words: BankLayer, owners: int) -> dict[str, Any]:
    """What the header says of a layer in a bank, but its index: of what the first owners wrote."""
    used = [prefix for prefix, _ in words.owned if prefix < owners] or [0, -1]
    return {
        "centroid_bits": words.centroid_bits,
        "exponent": words.exponent,
        "first": used[0],
        "entries": [len(book) for book in words.codebooks[used[0] : used[-1] + 1]],
    }


def _step_json(step: Step) -> list[int]:
    scale = step.requantization
    if scale is None:
        return []
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

    input: _Input
    layers: Annotated[tuple[dict[str, Any], ...], MAX_PARTS]
    banks: Annotated[tuple[Annotated[tuple[WordsHeader, ...], MAX_PARTS], ...], MAX_PARTS]
    tasks: Annotated[tuple[TaskHeader, ...], MAX_PARTS]


def read_header(value: object) -> Header:
    """The header that :func:`tsn_hw.core.writing.header_json` gave; ArtifactError for anything else."""
    given = build(_Header, value, "header", ArtifactError)
    layers = tuple(_layer(entry, f"header: layers[{i}]") for i, entry in enumerate(given.layers))
    count = len(layers)
    for i, bank in enumerate(given.banks):
        _check_indices([words.layer for words in bank], f"header: banks[{i}]", count)
    for i, task in enumerate(given.tasks):
        _check_task(task, f"header: tasks[{i}]", count, len(given.banks))
    banks = tuple({words.layer: words for words in bank} for bank in given.banks)
    return Header(given.input.shape, ActFormat(*given.input.format), layers, banks, given.tasks)


def _check_indices(indices: list[Any], where: str, count: int) -> None:
    """Refuse what are no indices of layers, in rising order."""
    for before, index in itertools.pairwise([-1, *indices]):
        if type(index) is not int or not before < index < count:
            raise ArtifactError(f"{where}: layer {shown(index)} after {before}: must rise, below {count}")


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
    _check_indices([step[0] if step else None for step in task.steps], f"{where}: steps", layers)
    for i, step in enumerate(task.steps):
        scaling_of(step, f"{where}: steps[{i}]")


def scaling_of(step: tuple[Any, ...], where: str = "header") -> ScalingHeader | None:
    """The requantization of a step, ``(layer, ...)``; None where it has none."""
    if len(step) not in (1, 4, 7):
        raise ArtifactError(f"{where}: {len(step)} entries, must be 1, 4 or 7")
    if len(step) == 1:
        return None
    kind = tuple[int, Annotated[int, Bounds(0, 16)], Annotated[int, Bounds(0, 64)]]
    shift, multiplier, offset = convert(kind, step[1:4], where, ArtifactError)
    output = ActFormat(*convert(FORM, step[4:], f"{where}: format", ArtifactError)) if step[4:] else None
    return ScalingHeader(shift, multiplier, offset, output)
