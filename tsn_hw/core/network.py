"""The packed network: the one structure that training ends in and every back end reads.

A network is geometry (layers), weight memories (banks) and the tasks that read them. It is immutable, holds
integers only, and is checked once, at birth: a :class:`PackedNetwork` that exists is consistent.

Words: a *bank* is one copy of the weight memory. Every used weight holds a *prefix* (its owner: the position,
among the tasks of the bank, of the first task that used it) and a *code* (index into the codebook of that owner
for that layer). A task reads the words under its *mask*; all other weights are zero for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass, replace
from functools import cached_property

import numpy as np

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import NetworkError, SettingsError, shown
from tsn_hw.core.facts import LayerFacts
from tsn_hw.core.gate import check_gates
from tsn_hw.core.layers import INPUT, Layer, Linear, Shape, Weighted
from tsn_hw.core.parts import (
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
from tsn_hw.core.records import exact

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

MAX_SUMMARY_LINES = 22
"""Lines of a network as text: fewer than a screen has."""
MAX_WEIGHTS = 2**28
"""Largest number of weights of one layer that is accepted."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What layers, tasks and the files of their memories may be called."""


@dataclass(frozen=True, eq=False)
class PackedNetwork:
    """Layers in execution order, banks of words, and the tasks that read them. See the module's docstring.

    ``earlier`` is a network that this one has grown from: tasks that are the same there are not checked again.
    """

    input_shape: Shape
    input: ActFormat
    layers: tuple[Layer, ...]
    banks: tuple[Bank, ...]
    tasks: tuple[Task, ...]
    earlier: InitVar[PackedNetwork | None] = None

    def __post_init__(self, earlier: PackedNetwork | None) -> None:
        exact(self)
        _check(self, earlier)

    def __repr__(self) -> str:
        """One screen at most: shapes, tasks, banks and bits."""
        return _summary(self)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every layer, without the batch."""
        shapes: list[Shape] = []
        for index, layer in enumerate(self.layers):
            if len(layer.inputs) != layer.operands:
                raise NetworkError(f"layer {layer.name!r}: has {len(layer.inputs)} inputs, must have {layer.operands}")
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
        return self._members.get(bank, ())

    def runners(self, bank: int, layer: int) -> Sequence[tuple[int, Step]]:
        """The tasks of a bank that run a layer, oldest first: their prefixes and steps."""
        return self._runners.get((bank, layer), ())

    @cached_property
    def _members(self) -> dict[int, tuple[int, ...]]:
        members: dict[int, list[int]] = {}
        for number, task in enumerate(self.tasks):
            members.setdefault(task.bank, []).append(number)
        return {bank: tuple(numbers) for bank, numbers in members.items()}

    @cached_property
    def _runners(self) -> dict[tuple[int, int], list[tuple[int, Step]]]:
        runners: dict[tuple[int, int], list[tuple[int, Step]]] = {}
        for bank, members in self._members.items():
            for prefix, task in enumerate(members):
                for layer, _, step in self.run_order(task):
                    runners.setdefault((bank, layer), []).append((prefix, step))
        return runners

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
        known = self._runs.get(task)
        if known is None:
            steps = enumerate(self.tasks[task].steps)
            known = [(index, self.layers[index], step) for index, step in steps if step is not None]
            self._runs[task] = known
        return iter(known)

    @cached_property
    def _runs(self) -> dict[int, list[tuple[int, Layer, Step]]]:
        return {}

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

    def mask(self, task: int, layer: int) -> Bools:
        """Which weights of a layer a task uses; an error if the layer has none."""
        mask = self.step(task, layer).mask
        if mask is None:
            raise NetworkError(f"layer {self.layers[layer].name!r}: {self.layers[layer].kind} has no mask")
        return mask

    def requantization(self, task: int, layer: int) -> Requantization:
        """How a task requantizes what a layer computes; an error if it computes nothing."""
        requantization = self.step(task, layer).requantization
        if requantization is None:
            raise NetworkError(f"layer {self.layers[layer].name!r}: {self.layers[layer].kind} has no requantization")
        return requantization

    def weights(self, task: int, layer: int) -> Ints:
        """The integer weights of a layer as a task sees them: the meaning of bank, prefix, code and mask."""
        words = self.words(task, layer)
        return np.where(self.mask(task, layer), words.centroids(), 0)

    def format(self, task: int, index: int) -> ActFormat:
        """Activation format of a layer's output for a task (INPUT: the network's input)."""
        while index != INPUT and not self.layers[index].computes:  # it keeps the format of what it reads
            index = self.layers[index].inputs[0]
        if index == INPUT:
            return self.input
        output = self.requantization(task, index).output
        if output is None:
            raise NetworkError(f"layer {self.layers[index].name!r}: raw logits have no activation format")
        return output

    def facts(self, task: int, index: int) -> LayerFacts:
        """What a task computes in a layer, derived once; an error if the layer computes nothing."""
        known = self._facts.get((task, index))
        if known is None:
            layer = self.layers[index]
            inputs = tuple(self.format(task, source) for source in layer.inputs)
            weights = self.weights(task, index) if isinstance(layer, Weighted) else None
            low, high = layer.accumulator(inputs, weights)
            sources = tuple(self.shape(source) for source in layer.inputs)
            requantization = self.requantization(task, index)
            known = LayerFacts(layer, inputs, sources, self.shapes[index], requantization, low, high)
            self._facts[task, index] = known
        return known

    def accumulator(self, task: int, index: int) -> tuple[Ints, Ints]:
        """Smallest and largest accumulator a channel of a computing layer, before its requantization (proven)."""
        facts = self.facts(task, index)
        return facts.low, facts.high

    @cached_property
    def _facts(self) -> dict[tuple[int, int], LayerFacts]:
        return {}

    def first_tasks(self, count: int) -> PackedNetwork:
        """The network as it stood after its first ``count`` tasks: later words, masks and banks removed."""
        return _first_tasks(self, count)


def _summary(net: PackedNetwork) -> str:
    lines = [
        f"PackedNetwork: {len(net.tasks)} tasks, {len(net.banks)} banks, {len(net.layers)} layers, "
        f"input {net.input_shape} of {net.input.bits} {'signed' if net.input.signed else 'unsigned'} bits"
    ]
    for index, layer in enumerate(net.layers):
        held = [bank.layers[index] for bank in net.banks]
        bits = {code_bits(book) for words in held if words is not None for book in words.codebooks if len(book)}
        codes = f", codes of {' '.join(map(str, sorted(bits)))} bits" if bits else ""
        weights = f", weights {layer.weight_shape}" if isinstance(layer, Weighted) else ""
        lines.append(f"  {layer.name}: {layer.kind} to {net.shapes[index]}{weights}{codes}")
    names = ", ".join(task.name for task in net.tasks)
    lines.append(f"  tasks: {names if len(names) <= 100 else f'{names[:97]}...'}")
    if len(lines) > MAX_SUMMARY_LINES:
        half = MAX_SUMMARY_LINES // 2
        lines[half:-half] = [f"  ... {len(lines) - 2 * half} more ..."]
    return "\n".join(lines)


def _first_tasks(net: PackedNetwork, count: int) -> PackedNetwork:
    if not 1 <= count <= len(net.tasks):
        raise NetworkError(f"first_tasks({count}): the network has {len(net.tasks)} tasks")
    tasks = net.tasks[:count]
    kept = [i for i in range(len(net.layers)) if any(task.steps[i] is not None for task in tasks)]
    number = {INPUT: INPUT} | {old: new for new, old in enumerate(kept)}
    inputs = [tuple(number[source] for source in net.layers[i].inputs) for i in kept]
    layers = tuple(replace(net.layers[i], inputs=new) for i, new in zip(kept, inputs, strict=True))  # type: ignore[type-var]
    banks = []
    for index in range(max(task.bank for task in tasks) + 1):
        owners = sum(task.bank == index for task in tasks)
        held = (net.banks[index].layers[i] for i in kept)
        banks.append(Bank(tuple(words and words.first_owners(owners) for words in held)))
    cut = tuple(Task(t.name, t.bank, t.classes, tuple(t.steps[i] for i in kept), t.routing, t.gate) for t in tasks)
    return PackedNetwork(net.input_shape, net.input, layers, tuple(banks), cut)


# What makes a network consistent: every contradiction is refused with place, rule and value.


def _check(net: PackedNetwork, earlier: PackedNetwork | None) -> None:
    names = [layer.name for layer in net.layers]
    for what, values in (("layer", names), ("task", [task.name for task in net.tasks])):
        for name, count in Counter(values).items():
            if not NAME.fullmatch(name):
                raise NetworkError(f"{what} name {shown(name)}: must be 1..64 of letters, digits, '_', '.', '-'")
            if count > 1:
                raise NetworkError(f"{what} name {name!r} is used {count} times")
    if len(net.input_shape) not in (1, 3) or min(net.input_shape) < 1:
        raise NetworkError(f"input shape {net.input_shape}: must be (features,) or (channels, height, width)")
    for layer in net.layers:
        if isinstance(layer, Weighted) and not 1 <= layer.weight_count <= MAX_WEIGHTS:
            raise NetworkError(f"layer {layer.name!r}: {layer.weight_shape} weights, must be 1..{MAX_WEIGHTS}")
    _ = net.shapes
    if not net.banks:
        raise NetworkError("a network has at least one bank")
    for index in range(len(net.banks)):
        _check_bank(net, index)
    for task in net.tasks:
        if not 0 <= task.bank < len(net.banks):
            raise NetworkError(f"task {task.name!r}: bank {task.bank}, the network has {len(net.banks)}")
        if len(task.steps) != len(net.layers):
            raise NetworkError(f"task {task.name!r}: {len(task.steps)} steps for {len(net.layers)} layers")
    kept = 0 if earlier is None else _kept_tasks(net, earlier)
    for index, task in enumerate(net.tasks):
        if index >= kept:
            _check_task(net, index)
        head = net.head(index)
        if sum(len(net.runners(bank, head)) for bank in range(len(net.banks))) > 1:
            raise NetworkError(f"task {task.name!r}: its head {net.layers[head].name!r} is run by another task too")
    _check_owners(net)
    check_gates({task.name: task.gate for task in net.tasks}, net.input_shape, net.input)


def _kept_tasks(net: PackedNetwork, earlier: PackedNetwork) -> int:
    """How many first tasks compute what they do in an earlier network, whose facts of them are taken over."""
    count, banks = len(earlier.layers), zip(net.banks, earlier.banks, strict=False)
    words = [pair for bank, then in banks for pair in zip(bank.layers, then.layers, strict=False)]
    same = (net.input_shape, net.input, net.layers[:count]) == (earlier.input_shape, earlier.input, earlier.layers)
    if not same or not all(old is None or (new is not None and new.extends(old)) for new, old in words):
        return 0
    kept = 0
    for task, then in zip(net.tasks, earlier.tasks, strict=False):
        known = (then.bank, then.classes, then.gate, (*then.steps, *[None] * (len(net.layers) - count)))
        if (task.bank, task.classes, task.gate, task.steps) != known:
            break
        kept += 1
    net._facts.update((key, facts) for key, facts in earlier._facts.items() if key[0] < kept)
    return kept


def _check_bank(net: PackedNetwork, bank: int) -> None:
    held, owners = net.banks[bank].layers, len(net.bank_tasks(bank))
    if len(held) != len(net.layers):
        raise NetworkError(f"bank {bank}: {len(held)} entries for {len(net.layers)} layers")
    for layer, words in zip(net.layers, held, strict=True):
        if words is None:
            continue
        where = f"bank {bank}, layer {layer.name!r}"
        if not isinstance(layer, Weighted):
            raise NetworkError(f"{where}: {layer.kind} has no weights")
        words.check(where, layer.weight_shape, owners)


def _check_task(net: PackedNetwork, index: int) -> None:
    task = net.tasks[index]
    if not any(step is not None for step in task.steps):
        raise NetworkError(f"task {task.name!r}: runs no layer")
    head = net.head(index)
    for number, layer, step in net.run_order(index):
        where = f"task {task.name!r}, layer {layer.name!r}"
        for source in layer.inputs:
            if source != INPUT and task.steps[source] is None:
                raise NetworkError(f"{where}: its input {net.layers[source].name!r} is not run")
        if isinstance(layer, Weighted):
            net.words(index, number)
            if step.mask is None or step.mask.shape != layer.weight_shape:
                shape = None if step.mask is None else step.mask.shape
                raise NetworkError(f"{where}: mask has shape {shape}, the weights {layer.weight_shape}")
        elif step.mask is not None:
            raise NetworkError(f"{where}: {layer.kind} takes no mask")
        if (step.requantization is not None) != layer.computes:
            needs = "needs a" if layer.computes else "takes no"
            raise NetworkError(f"{where}: {layer.kind} {needs} requantization")
        if step.requantization is not None:
            _check_requantization(net, index, number, step.requantization, where)
    if not isinstance(net.layers[head], Linear) or net.requantization(index, head).output is not None:
        raise NetworkError(
            f"task {task.name!r}: its last layer {net.layers[head].name!r} must be a Linear with raw output"
        )
    if net.shapes[head] != (len(task.classes),):
        raise NetworkError(f"task {task.name!r}: {len(task.classes)} classes, its head gives {net.shapes[head]}")


def _check_requantization(net: PackedNetwork, task: int, index: int, requant: Requantization, where: str) -> None:
    requant.check(where, net.layers[index].multipliers)
    if requant.output is None and index != net.head(task):
        raise NetworkError(f"{where}: only a task's last layer gives raw logits")
    largest = net.facts(task, index).bound
    if largest + (1 << requant.shift >> 1) >= 1 << 63:
        raise NetworkError(f"{where}: accumulator * multiplier + offset reaches {largest}, must fit 63 bits")
    if requant.output is None and (largest >> requant.shift) >= arithmetic.INT32[1]:
        raise NetworkError(f"{where}: logits reach {largest >> requant.shift}, must fit int32")


def _check_owners(net: PackedNetwork) -> None:
    """A weight's owner is the first task of the bank whose mask holds it; no mask, no owner."""
    for bank_index, bank in enumerate(net.banks):
        for number, words in enumerate(bank.layers):
            if words is None:
                continue
            first = np.full(words.owner.shape, UNUSED, np.int16)
            for prefix, step in reversed(net.runners(bank_index, number)):
                if step.mask is not None:
                    first[step.mask] = prefix
            wrong = first != words.owner
            if wrong.any():
                place = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise NetworkError(
                    f"bank {bank_index}, layer {net.layers[number].name!r}: weight {place} has owner "
                    f"{words.owner[place]}, the first task that uses it is {first[place]} (-1: none)"
                )
