"""The packed network: the one structure that training ends in and every back end reads.

A network is geometry (layers), weight memories (banks) and the tasks that read them. It is immutable, holds
integers only, and is checked once, at birth: a :class:`PackedNetwork` that exists is consistent.

Words: a *bank* is one copy of the weight memory. Every used weight holds a *prefix* (its owner: the position,
among the tasks of the bank, of the first task that used it) and a *code* (index into the codebook of that owner
for that layer). A task reads the words under its *mask*; all other weights are zero for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tsn_hw import arithmetic, rules
from tsn_hw.arithmetic import ActFormat, Ints
from tsn_hw.errors import NetworkError, SettingsError
from tsn_hw.layers import INPUT, Add, AvgPool, Layer, Shape, Weighted
from tsn_hw.parts import (
    MAX_CODE_BITS,
    UNUSED,
    Bank,
    BankLayer,
    Bools,
    Bytes,
    Requantization,
    Step,
    Task,
    code_bits,
)
from tsn_hw.records import exact

__all__ = [
    "MAX_CODE_BITS",
    "UNUSED",
    "Bank",
    "BankLayer",
    "Bools",
    "Bytes",
    "PackedNetwork",
    "Requantization",
    "Step",
    "Task",
    "code_bits",
]

MAX_ALIGNMENT = 40
"""Largest difference between the exponents of two operands of an Add: 16 bits shifted by it stay well within 63."""


@dataclass(frozen=True, eq=False)
class PackedNetwork:
    """Layers in execution order, banks of words, and the tasks that read them. See the module's docstring."""

    input_shape: Shape
    input: ActFormat
    layers: tuple[Layer, ...]
    banks: tuple[Bank, ...]
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        exact(self)
        rules.check(self)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every layer, without the batch."""
        shapes: list[Shape] = []
        for index, layer in enumerate(self.layers):
            expected = 2 if isinstance(layer, Add) else 1
            if len(layer.inputs) != expected:
                raise NetworkError(f"layer {layer.name!r}: has {len(layer.inputs)} inputs, must have {expected}")
            if any(not INPUT <= source < index for source in layer.inputs):
                raise NetworkError(f"layer {layer.name!r}: inputs {layer.inputs} must be -1 or earlier than {index}")
            shapes.append(layer.output_shape(*(self.input_shape if s == INPUT else shapes[s] for s in layer.inputs)))
        return tuple(shapes)

    def shape(self, index: int) -> Shape:
        """Output shape of a layer, or the input's for INPUT."""
        return self.input_shape if index == INPUT else self.shapes[index]

    @cached_property
    def weighted(self) -> tuple[int, ...]:
        """Indices of the layers that have weights."""
        return tuple(i for i, layer in enumerate(self.layers) if isinstance(layer, Weighted))

    @cached_property
    def heads(self) -> frozenset[int]:
        """Indices of the layers that end a task."""
        return frozenset(self.head(task) for task in range(len(self.tasks)))

    @cached_property
    def body(self) -> tuple[int, ...]:
        """Indices of the weighted layers that are no heads."""
        return tuple(i for i in self.weighted if i not in self.heads)

    def bank_tasks(self, bank: int) -> tuple[int, ...]:
        """Tasks that live in a bank, oldest first. A prefix is a position in this tuple."""
        return tuple(t for t, task in enumerate(self.tasks) if task.bank == bank)

    def task_number(self, task: int | str) -> int:
        """The number of a task that is given by its number or its name; SettingsError if there is none."""
        names = [known.name for known in self.tasks]
        if isinstance(task, str):
            task = names.index(task) if task in names else task
        if isinstance(task, str | bool | float) or not 0 <= task < len(names):
            raise SettingsError(f"task {task!r}: must be 0..{len(names) - 1} or a name, such as {names[0]!r}")
        return int(task)

    def run_order(self, task: int) -> Iterator[tuple[int, Layer, Step]]:
        """(index, layer, step) of every layer that a task runs, in execution order."""
        for index, (layer, step) in enumerate(zip(self.layers, self.tasks[task].steps, strict=True)):
            if step is not None:
                yield index, layer, step

    def head(self, task: int) -> int:
        """Index of the layer that gives a task's logits: the last one it runs."""
        return max(index for index, _, _ in self.run_order(task))

    def step(self, task: int, layer: int) -> Step:
        """How a task runs a layer; an error if it does not."""
        step = self.tasks[task].steps[layer]
        if step is None:
            raise NetworkError(f"task {self.tasks[task].name!r} does not run layer {self.layers[layer].name!r}")
        return step

    def words(self, task: int, layer: int) -> BankLayer:
        """The weight memory that a task reads in a layer."""
        words = self.banks[self.tasks[task].bank].layers[layer]
        if words is None:
            raise NetworkError(
                f"layer {self.layers[layer].name!r}: holds no words in the bank of {self.tasks[task].name!r}"
            )
        return words

    def weights(self, task: int, layer: int) -> Ints:
        """The integer weights of a layer as a task sees them: the meaning of bank, prefix, code and mask."""
        words, mask = self.words(task, layer), self.step(task, layer).mask
        assert mask is not None  # checked at birth: a weighted layer's step has one
        return np.where(mask, words.table[words.owner, words.code], 0)

    def format(self, task: int, index: int) -> ActFormat:
        """Activation format of a layer's output for a task (INPUT: the network's input)."""
        if index == INPUT:
            return self.input
        requantization = self.step(task, index).requantization
        while requantization is None:  # pooling and flattening keep the format of what they read
            index = self.layers[index].inputs[0]
            if index == INPUT:
                return self.input
            requantization = self.step(task, index).requantization
        if requantization.output is None:
            raise NetworkError(f"layer {self.layers[index].name!r}: raw logits have no activation format")
        return requantization.output

    def accumulator(self, task: int, index: int) -> tuple[Ints, Ints]:
        """Smallest and largest accumulator a channel of a computing layer, before its requantization (proven)."""
        layer = self.layers[index]
        ranges = [self.format(task, source).range for source in layer.inputs]
        if isinstance(layer, Weighted):
            return arithmetic.accumulator_bounds(self.weights(task, index), ranges[0])
        if isinstance(layer, AvgPool):
            low, high = arithmetic.accumulator_bounds(np.ones((1, 1), np.int64), ranges[0])
            area = layer.kernel[0] * layer.kernel[1]
            return low * area, high * area
        if isinstance(layer, Add):
            exponents = [self.format(task, source).exponent for source in layer.inputs]
            if abs(exponents[0] - exponents[1]) > MAX_ALIGNMENT:
                raise NetworkError(f"layer {layer.name!r}: adds exponents {exponents}, at most {MAX_ALIGNMENT} apart")
            lowest, highest = (
                arithmetic.align(np.array([a]), exponents[0], np.array([b]), exponents[1])
                for a, b in zip(*ranges, strict=True)
            )
            return lowest, highest
        raise NetworkError(f"layer {layer.name!r}: {type(layer).__name__} accumulates nothing")

    def first_tasks(self, count: int) -> PackedNetwork:
        """The network as it stood after its first ``count`` tasks: later words, masks and banks removed."""
        return _first_tasks(self, count)


def _first_tasks(net: PackedNetwork, count: int) -> PackedNetwork:
    if not 1 <= count <= len(net.tasks):
        raise NetworkError(f"first_tasks({count}): the network has {len(net.tasks)} tasks")
    tasks = net.tasks[:count]
    kept = [i for i in range(len(net.layers)) if any(task.steps[i] is not None for task in tasks)]
    number = {INPUT: INPUT} | {old: new for new, old in enumerate(kept)}
    layers = tuple(_renumbered(net.layers[i], number) for i in kept)
    banks = []
    for index in range(max(task.bank for task in tasks) + 1):
        owners = sum(task.bank == index for task in tasks)
        banks.append(Bank(tuple(_first_owners(net.banks[index].layers[i], owners) for i in kept)))
    cut = tuple(Task(t.name, t.bank, t.classes, tuple(t.steps[i] for i in kept), t.routing) for t in tasks)
    return PackedNetwork(net.input_shape, net.input, layers, tuple(banks), cut)


def _renumbered(layer: Layer, number: dict[int, int]) -> Layer:
    return replace(layer, inputs=tuple(number[source] for source in layer.inputs))  # type: ignore[arg-type]


def _first_owners(words: BankLayer | None, owners: int) -> BankLayer | None:
    if words is None:
        return None
    kept = words.owner < owners
    return BankLayer(
        np.where(kept, words.owner, UNUSED).astype(np.int16),
        np.where(kept, words.code, 0).astype(np.uint8),
        words.codebooks[:owners],
        words.centroid_bits,
        words.exponent,
    )
