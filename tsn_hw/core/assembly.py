"""Networks of one body and a head a task, put together from words and steps that somebody else draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import INPUT, Layer, Linear, Shape, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, Bools, Step, Task


@dataclass(frozen=True)
class Outline:
    """What stands before any number is drawn: layers, and the bank of every task."""

    body: tuple[Layer, ...]
    heads: tuple[Linear, ...]  # by task
    bank_of: tuple[int, ...]  # by task

    @property
    def layers(self) -> tuple[Layer, ...]:
        return (*self.body, *self.heads)

    def is_head(self, index: int) -> bool:
        return index >= len(self.body)

    def is_run(self, task: int, index: int) -> bool:
        """Whether a task runs a layer: the body, and the head of its own."""
        return index < len(self.body) or index == len(self.body) + task

    def members(self, bank: int) -> list[int]:
        """The tasks of a bank, in the order of their prefixes."""
        return [task for task, own in enumerate(self.bank_of) if own == bank]

    def banks(self, words: Callable[[int, int, Weighted], BankLayer]) -> tuple[Bank, ...]:
        """The banks, from ``words`` of a bank and a layer with weights, by index, that a task of the bank runs."""

        def layer_of(bank: int, index: int, layer: Layer) -> BankLayer | None:
            is_run = any(self.is_run(task, index) for task in self.members(bank))
            return words(bank, index, layer) if is_run and isinstance(layer, Weighted) else None

        return tuple(
            Bank(tuple(layer_of(bank, index, layer) for index, layer in enumerate(self.layers)))
            for bank in range(max(self.bank_of) + 1)
        )

    def tasks(
        self, labels: Sequence[tuple[str, tuple[str, ...]]], step: Callable[[int, int, Layer], Step]
    ) -> tuple[Task, ...]:
        """The tasks, of these names and classes, from the ``step`` of a task and a layer, by index, that it runs."""

        def steps(task: int) -> tuple[Step | None, ...]:
            layers = enumerate(self.layers)
            return tuple(step(task, index, layer) if self.is_run(task, index) else None for index, layer in layers)

        names = enumerate(zip(labels, self.bank_of, strict=True))
        return tuple(Task(name, bank, classes, steps(task)) for task, ((name, classes), bank) in names)


def output_shape(input_shape: Shape, layers: Sequence[Layer]) -> Shape:
    """What comes out of the last of layers that have no network yet."""
    shapes = {INPUT: input_shape}
    for index, layer in enumerate(layers):
        shapes[index] = layer.output_shape(*(shapes[source] for source in layer.inputs))
    return shapes[len(layers) - 1]


def owners(masks: Mapping[int, Bools], shape: Shape) -> NDArray[np.int16]:
    """The owner of every weight: the first prefix whose mask holds it, UNUSED where there is none."""
    owner = np.full(shape, UNUSED, np.int16)
    for prefix in sorted(masks, reverse=True):
        owner[masks[prefix]] = prefix
    return owner


def drawn_words(
    rng: np.random.Generator,
    shape: Shape,
    masks: Mapping[int, Bools],
    codebooks: Sequence[Ints],
    centroids: tuple[int, int] = (8, 0),
) -> BankLayer:
    """The words of a layer: a random code for every weight that a mask holds, of its first owner's codebook.

    ``masks`` and ``codebooks`` are by prefix; the codebook of who owns nothing is left empty. ``centroids``: their bits
    and exponent.
    """
    owner = owners(masks, shape)
    sizes = np.array([len(book) for book in codebooks])
    is_owned = owner != UNUSED
    drawn = rng.integers(0, sizes.max(), shape) % sizes[np.where(is_owned, owner, sizes.argmax())]
    code = np.where(is_owned, drawn, 0).astype(np.uint8)
    own = set(np.unique(owner).tolist())
    books = tuple(book if prefix in own else book[:0] for prefix, book in enumerate(codebooks))
    return BankLayer(owner, code, books, *centroids)
