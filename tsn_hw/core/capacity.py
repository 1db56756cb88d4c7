"""What a packed network costs: the bits of the sections that its file really has, against a dense float32 network.

Body figures leave heads, requantization and header out: they are what the continual-learning literature compares.
The total counts every bit of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsn_hw.core import artifact
from tsn_hw.core.layers import Weighted
from tsn_hw.core.memory import index_bits
from tsn_hw.core.network import UNUSED, BankLayer, PackedNetwork, code_bits

FLOAT_BITS = 32
WSN_MASK_SHARE = 0.22
"""Bits that Winning SubNetworks (Kang et al., ICML 2022) charges for a mask bit, whatever the masks are."""


@dataclass(frozen=True)
class LayerCapacity:
    """The words of one layer in one bank: weights, and the bits that are stored for them."""

    bank: int
    layer: str
    is_head: bool
    weights: int
    used: int
    code_widths: tuple[int, ...]  # by prefix
    codes_bits: int
    codebooks_bits: int
    masks_bits: int

    @property
    def bits(self) -> int:
        return self.codes_bits + self.codebooks_bits + self.masks_bits


@dataclass(frozen=True)
class TaskCapacity:
    """The body weights of one task, and the bits that are stored for it alone."""

    task: str
    bank: int
    weights: int  # of the body layers that it runs
    used: int  # under its masks
    owned: int  # used by no earlier task
    requantization_bits: int
    routing_bits: int
    gate_bits: int

    @property
    def sparsity_percent(self) -> float:
        return _percent(self.weights - self.used, self.weights)


@dataclass(frozen=True)
class Capacity:
    """Bits of a whole .tsn file, by layer, by task and by kind.

    body_weights:     weights of the body, counted once however many banks there are
    dense_parameters: of one dense network with a head a task: weights, and a bias and a scale a channel where any task
                      has them
    """

    layers: tuple[LayerCapacity, ...]
    tasks: tuple[TaskCapacity, ...]
    header_bits: int
    body_weights: int
    dense_parameters: int

    @property
    def body(self) -> tuple[LayerCapacity, ...]:
        return tuple(layer for layer in self.layers if not layer.is_head)

    @property
    def codes_bits(self) -> int:
        return sum(layer.codes_bits for layer in self.body)

    @property
    def codebooks_bits(self) -> int:
        return sum(layer.codebooks_bits for layer in self.body)

    @property
    def masks_bits(self) -> int:
        return sum(layer.masks_bits for layer in self.body)

    @property
    def heads_bits(self) -> int:
        return sum(layer.bits for layer in self.layers if layer.is_head)

    @property
    def requantization_bits(self) -> int:
        return sum(task.requantization_bits for task in self.tasks)

    @property
    def routing_bits(self) -> int:
        return sum(task.routing_bits for task in self.tasks)

    @property
    def gates_bits(self) -> int:
        return sum(task.gate_bits for task in self.tasks)

    @property
    def file_bits(self) -> int:
        body = self.codes_bits + self.codebooks_bits + self.masks_bits
        private = self.heads_bits + self.requantization_bits + self.routing_bits + self.gates_bits
        return body + private + self.header_bits

    @property
    def body_percent(self) -> float:
        """Codes, codebooks and masks of the body, in percent of the dense float32 body."""
        return self._of_body(self.codes_bits + self.codebooks_bits + self.masks_bits)

    @property
    def replay_percent(self) -> float:
        """What is kept to route later tasks, in percent of the dense float32 body."""
        return self._of_body(self.routing_bits)

    @property
    def gates_percent(self) -> float:
        """What names the task of an input, in percent of the dense float32 body."""
        return self._of_body(self.gates_bits)

    @property
    def total_percent(self) -> float:
        """The whole file in percent of one dense float32 network with all heads."""
        return _percent(self.file_bits, FLOAT_BITS * self.dense_parameters)

    @property
    def wsn_rule_percent(self) -> float:
        """The body by the rule of Winning SubNetworks: used weights in float32, masks at a flat 0.22 bits."""
        used = sum(layer.used for layer in self.body)
        return _percent(used, self.body_weights) + 100 * WSN_MASK_SHARE * len(self.tasks) / FLOAT_BITS

    @property
    def prefix_rule_percent(self) -> float:
        """The body if every weight stored the index of its owner instead of masks (it could not tell who shares it)."""
        owners = sum(layer.weights * index_bits(len(layer.code_widths)) for layer in self.body)
        return self._of_body(self.codes_bits + self.codebooks_bits + owners)

    def _of_body(self, bits: int) -> float:
        return _percent(bits, FLOAT_BITS * self.body_weights)


def capacity(net: PackedNetwork, data: bytes | None = None) -> Capacity:
    """What a network costs, from the sections of its file; ``data``: the file, if it is at hand."""
    data = artifact.to_bytes(net) if data is None else data
    sizes = {name: 8 * len(part) for name, part in artifact.sections(data).items()}
    layers = tuple(
        _layer_capacity(net, bank, index, words, sizes)
        for bank, entry in enumerate(net.banks)
        for index, words in enumerate(entry.layers)
        if words is not None
    )
    tasks = tuple(_task_capacity(net, task, sizes) for task in range(len(net.tasks)))
    body_weights = sum(net.layers[index].weight_count for index in net.body)
    parameters = sum(dense_parameters(net, index) for index in range(len(net.layers)))
    return Capacity(layers, tasks, 8 * len(data) - sum(sizes.values()), body_weights, parameters)


def dense_parameters(net: PackedNetwork, index: int) -> int:
    """Parameters of a dense layer: weights, and a bias and a scale a channel where any task has them."""
    layer = net.layers[index]
    if not isinstance(layer, Weighted):
        return 0
    steps = [step for task in net.tasks if (step := task.steps[index]) is not None]
    scales = [step.requantization for step in steps if step.requantization is not None]
    has_bias = any((scale.offset != 0).any() for scale in scales)
    has_scale = any((scale.multiplier != 1).any() for scale in scales)
    return net.layers[index].weight_count + layer.channels * (has_bias + has_scale)


def _layer_capacity(
    net: PackedNetwork, bank: int, index: int, words: BankLayer, sizes: dict[str, int]
) -> LayerCapacity:
    name = net.layers[index].name
    codes, codebooks, masks = (
        sizes.get(artifact.bank_section(bank, name, kind), 0) for kind in ("codes", "codebooks", "masks")
    )
    widths = tuple(code_bits(book) for book in words.codebooks)
    used = int(np.count_nonzero(words.owner != UNUSED))
    return LayerCapacity(bank, name, index in net.heads, words.owner.size, used, widths, codes, codebooks, masks)


def _task_capacity(net: PackedNetwork, task: int, sizes: dict[str, int]) -> TaskCapacity:
    entry = net.tasks[task]
    prefix = net.bank_tasks(entry.bank).index(task)
    run = [index for index in net.body if entry.steps[index] is not None]
    return TaskCapacity(
        entry.name,
        entry.bank,
        sum(net.layers[index].weight_count for index in run),
        sum(int(np.count_nonzero(net.mask(task, index))) for index in run),
        sum(int(np.count_nonzero(net.words(task, index).owner == prefix)) for index in run),
        sizes.get(artifact.task_section(task, "requantization"), 0),
        sizes.get(artifact.task_section(task, "routing"), 0),
        sizes.get(artifact.task_section(task, "gate"), 0),
    )


def _percent(part: int, whole: int) -> float:
    """A share; of nothing it is 0."""
    return 100 * part / whole if whole else 0.0
