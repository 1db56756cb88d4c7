"""The packed network: the one structure that training ends in and every back end reads.

A network is geometry (layers), weight memories (banks) and the tasks that read them. It is immutable, holds
integers only, and is checked once, at birth: a :class:`PackedNetwork` that exists is consistent.

Words: a *bank* is one copy of the weight memory. Every used weight holds a *prefix* (its owner: the position,
among the tasks of the bank, of the first task that used it) and a *code* (index into the codebook of that owner
for that layer). A task reads the words under its *mask*; all other weights are zero for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsn_hw import arithmetic
from tsn_hw.arithmetic import ActFormat, Ints
from tsn_hw.errors import NetworkError
from tsn_hw.layers import INPUT, Add, AvgPool, Flatten, Layer, Linear, MaxPool, Shape, Weighted

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

UNUSED = -1
"""Owner of a weight that no task uses. It is never encoded in a word: the masks say it."""
MAX_CODE_BITS = 8
MAX_WEIGHTS = 2**28
"""Largest number of weights of one layer that is accepted."""
MAX_ALIGNMENT = 40
"""Largest difference between the exponents of two operands of an Add: 16 bits shifted by it stay well within 63."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


Scalar = TypeVar("Scalar", bound=np.generic)


def _frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """A read-only, C-contiguous array that nobody else can write to."""
    if array.flags.writeable or not array.flags.owndata or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.setflags(write=False)
    return array


def _exactly(array: NDArray[Any], dtype: type[Scalar], what: str) -> NDArray[Scalar]:
    """A frozen array of a dtype; an error if a value would change."""
    with np.errstate(invalid="ignore"):
        cast = np.asarray(array).astype(dtype)
    if not np.array_equal(cast, array) or (cast.dtype.kind == "i" and ((cast < 0) != (np.asarray(array) < 0)).any()):
        raise NetworkError(f"{what}: holds values that are no {np.dtype(dtype).name}")
    return _frozen(cast)


def code_bits(codebook: Ints) -> int:
    """Width of a code into a codebook: 0 for an empty one, otherwise at least 1.

    >>> [code_bits(np.zeros(entries, np.int64)) for entries in (0, 1, 2, 3, 16)]
    [0, 1, 1, 2, 4]
    """
    return max(1, (len(codebook) - 1).bit_length()) if len(codebook) else 0


@dataclass(frozen=True, eq=False)
class BankLayer:
    """The weight memory of one layer in one bank.

    owner:     weight-shaped; prefix of the owner, or UNUSED
    code:      weight-shaped; index into the owner's codebook (0 where unused)
    codebooks: one a task of the bank, in its order: integer centroids, empty where the task owns nothing here
    exponent:  real weight = centroid * 2**exponent, for all owners
    """

    owner: NDArray[np.int16]
    code: NDArray[np.uint8]
    codebooks: tuple[Ints, ...]
    centroid_bits: int
    exponent: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "owner", _exactly(self.owner, np.int16, "owner plane"))
        object.__setattr__(self, "code", _exactly(self.code, np.uint8, "code plane"))
        books = tuple(_exactly(book, np.int64, f"codebook {owner}") for owner, book in enumerate(self.codebooks))
        object.__setattr__(self, "codebooks", books)

    @property
    def centroid_range(self) -> tuple[int, int]:
        return -(1 << (self.centroid_bits - 1)), (1 << (self.centroid_bits - 1)) - 1

    @cached_property
    def table(self) -> Ints:
        """The flat codebook table, (owners, 2**widest code): row ``prefix``, column ``code``; zeros where undefined."""
        columns = 1 << max((code_bits(book) for book in self.codebooks), default=0)
        table = np.zeros((max(1, len(self.codebooks)), columns), np.int64)
        for row, book in zip(table, self.codebooks, strict=False):
            row[: len(book)] = book
        return _frozen(table)


@dataclass(frozen=True, eq=False)
class Bank:
    """One weight memory: an entry a layer of the network, None where the bank holds no weights for it."""

    layers: tuple[BankLayer | None, ...]


@dataclass(frozen=True, eq=False)
class Requantization:
    """y = saturate(round_half_even((acc * multiplier + offset) / 2**shift)).

    ``multiplier`` and ``offset`` have one entry an output channel (weighted layers) or one entry (AvgPool, Add).
    ``output`` None marks a head: raw int32 logits.
    """

    multiplier: Ints
    offset: Ints
    shift: int
    output: ActFormat | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", _exactly(self.multiplier, np.int64, "multiplier"))
        object.__setattr__(self, "offset", _exactly(self.offset, np.int64, "offset"))

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest output."""
        return arithmetic.INT32 if self.output is None else self.output.range

    def __call__(self, acc: Ints) -> Ints:
        """Requantize a batch of accumulators (batch, channels, ...)."""
        multiplier, offset = (arithmetic.per_channel(v, acc.ndim) for v in (self.multiplier, self.offset))
        return arithmetic.requantize(acc, multiplier, offset, self.shift, self.bounds)


@dataclass(frozen=True, eq=False)
class Step:
    """How one task runs one layer: a mask for weighted layers, a requantization for all that compute."""

    mask: Bools | None = None
    requantization: Requantization | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            object.__setattr__(self, "mask", _exactly(self.mask, np.bool_, "mask"))


@dataclass(frozen=True, eq=False)
class Task:
    """One task: its bank, its classes (in the order of the logits), and a step a layer, None where it does not run.

    ``routing`` is what the learner keeps to route later tasks into banks (statistics or samples, in its own
    format). Inference never reads it; it is stored, counted, and outside the seal.
    """

    name: str
    bank: int
    classes: tuple[str, ...]
    steps: tuple[Step | None, ...]
    routing: bytes = b""


@dataclass(frozen=True, eq=False)
class PackedNetwork:
    """Layers in execution order, banks of words, and the tasks that read them. See the module's docstring."""

    input_shape: Shape
    input: ActFormat
    layers: tuple[Layer, ...]
    banks: tuple[Bank, ...]
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        _check(self)

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
        if requantization is None:
            return self.format(task, self.layers[index].inputs[0])
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
            window = np.ones((1, layer.kernel[0] * layer.kernel[1]), np.int64)
            return arithmetic.accumulator_bounds(window, ranges[0])
        if isinstance(layer, Add):
            exponents = [self.format(task, source).exponent for source in layer.inputs]
            if abs(exponents[0] - exponents[1]) > MAX_ALIGNMENT:
                raise NetworkError(f"layer {layer.name!r}: adds exponents {exponents}, at most {MAX_ALIGNMENT} apart")
            low, high = (
                arithmetic.align(np.array([a]), exponents[0], np.array([b]), exponents[1])
                for a, b in zip(*ranges, strict=True)
            )
            return low, high
        raise NetworkError(f"layer {layer.name!r}: {type(layer).__name__} accumulates nothing")

    def first_tasks(self, count: int) -> PackedNetwork:
        """The network as it stood after its first ``count`` tasks: later words, masks and banks removed."""
        return _first_tasks(self, count)


def _check(net: PackedNetwork) -> None:
    names = [layer.name for layer in net.layers]
    for what, values in (("layer", names), ("task", [task.name for task in net.tasks])):
        for name in values:
            if not _NAME.fullmatch(name):
                raise NetworkError(f"{what} name {name!r}: must be 1..64 of letters, digits, '_', '.', '-'")
            if values.count(name) > 1:
                raise NetworkError(f"{what} name {name!r} is used {values.count(name)} times")
    if len(net.input_shape) not in (1, 3) or min(net.input_shape) < 1:
        raise NetworkError(f"input shape {net.input_shape}: must be (features,) or (channels, height, width)")
    for layer in net.layers:
        if isinstance(layer, Weighted) and not 1 <= int(np.prod(layer.weight_shape, dtype=object)) <= MAX_WEIGHTS:
            raise NetworkError(f"layer {layer.name!r}: {layer.weight_shape} weights, must be 1..{MAX_WEIGHTS}")
    _ = net.shapes
    if not net.banks:
        raise NetworkError("a network has at least one bank")
    for index in range(len(net.banks)):
        _check_bank(net, index)
    for index in range(len(net.tasks)):
        _check_task(net, index)
    _check_owners(net)


def _check_bank(net: PackedNetwork, bank: int) -> None:
    if len(net.banks[bank].layers) != len(net.layers):
        raise NetworkError(f"bank {bank}: {len(net.banks[bank].layers)} entries for {len(net.layers)} layers")
    owners = len(net.bank_tasks(bank))
    for layer, words in zip(net.layers, net.banks[bank].layers, strict=True):
        if words is None:
            continue
        where = f"bank {bank}, layer {layer.name!r}"
        if not isinstance(layer, Weighted):
            raise NetworkError(f"{where}: {type(layer).__name__} has no weights")
        for what, plane in (("owner", words.owner), ("code", words.code)):
            if plane.shape != layer.weight_shape:
                raise NetworkError(f"{where}: {what} plane has shape {plane.shape}, the weights {layer.weight_shape}")
        if not 4 <= words.centroid_bits <= 16:
            raise NetworkError(f"{where}: {words.centroid_bits} centroid bits, must be 4..16")
        if not -64 <= words.exponent <= 64:
            raise NetworkError(f"{where}: exponent {words.exponent}, must be -64..64")
        if len(words.codebooks) != owners:
            raise NetworkError(f"{where}: {len(words.codebooks)} codebooks for {owners} tasks")
        if words.owner.min() < UNUSED or words.owner.max() >= owners:
            raise NetworkError(f"{where}: owners {words.owner.min()}..{words.owner.max()}, the bank has {owners} tasks")
        _check_codes(where, words)


def _check_codes(where: str, words: BankLayer) -> None:
    low, high = words.centroid_range
    for owner, book in enumerate(words.codebooks):
        if len(book) > 1 << MAX_CODE_BITS:
            raise NetworkError(f"{where}: codebook {owner} has {len(book)} entries, at most {1 << MAX_CODE_BITS}")
        if len(book) and (book.min() < low or book.max() > high):
            raise NetworkError(f"{where}: codebook {owner} leaves the {words.centroid_bits}-bit range {low}..{high}")
    entries = np.array([len(book) for book in words.codebooks] + [1])  # last entry: UNUSED words, whose code is 0
    wrong = words.code >= entries[words.owner]
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise NetworkError(
            f"{where}: code {words.code[place]} at {place} exceeds the {entries[words.owner[place]]} entries "
            f"of codebook {words.owner[place]}"
        )


def _check_task(net: PackedNetwork, index: int) -> None:
    task = net.tasks[index]
    if not 0 <= task.bank < len(net.banks):
        raise NetworkError(f"task {task.name!r}: bank {task.bank}, the network has {len(net.banks)}")
    if len(task.steps) != len(net.layers):
        raise NetworkError(f"task {task.name!r}: {len(task.steps)} steps for {len(net.layers)} layers")
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
            raise NetworkError(f"{where}: {type(layer).__name__} takes no mask")
        if isinstance(layer, MaxPool | Flatten):
            if step.requantization is not None:
                raise NetworkError(f"{where}: {type(layer).__name__} takes no requantization")
        elif step.requantization is None:
            raise NetworkError(f"{where}: {type(layer).__name__} needs a requantization")
        else:
            _check_requantization(net, index, number, step.requantization, where)
    if not isinstance(net.layers[head], Linear) or net.step(index, head).requantization.output is not None:  # type: ignore[union-attr]
        raise NetworkError(
            f"task {task.name!r}: its last layer {net.layers[head].name!r} must be a Linear with raw output"
        )
    if any(other.steps[head] is not None for other in net.tasks if other is not task):
        raise NetworkError(f"task {task.name!r}: its head {net.layers[head].name!r} is run by another task too")
    if net.shapes[head] != (len(task.classes),):
        raise NetworkError(f"task {task.name!r}: {len(task.classes)} classes, its head gives {net.shapes[head]}")


def _check_requantization(net: PackedNetwork, task: int, index: int, requant: Requantization, where: str) -> None:
    layer = net.layers[index]
    channels = layer.channels if isinstance(layer, Weighted) else 1
    for what, vector in (("multiplier", requant.multiplier), ("offset", requant.offset)):
        if vector.shape != (channels,):
            raise NetworkError(f"{where}: {what} has shape {vector.shape}, must be ({channels},)")
    for multiplier in (int(requant.multiplier.min()), int(requant.multiplier.max())):
        if not -(1 << 15) <= multiplier < 1 << 15:
            raise NetworkError(f"{where}: multiplier {multiplier} needs more than 16 bits")
    if not 0 <= requant.shift <= arithmetic.MAX_SHIFT:
        raise NetworkError(f"{where}: shift {requant.shift}, must be 0..{arithmetic.MAX_SHIFT}")
    if requant.output is None and index != net.head(task):
        raise NetworkError(f"{where}: only a task's last layer gives raw logits")
    low, high = net.accumulator(task, index)
    largest = arithmetic.requantization_magnitude(low, high, requant.multiplier, requant.offset)
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
            for prefix, task in reversed(list(enumerate(net.bank_tasks(bank_index)))):
                step = net.tasks[task].steps[number]
                if step is not None and step.mask is not None:
                    first[step.mask] = prefix
            wrong = first != words.owner
            if wrong.any():
                place = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise NetworkError(
                    f"bank {bank_index}, layer {net.layers[number].name!r}: weight {place} has owner "
                    f"{words.owner[place]}, the first task that uses it is {first[place]} (-1: none)"
                )


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
