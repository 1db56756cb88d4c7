"""Trained model to packed network: the only bridge between learning and everything that comes after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.layers import INPUT, Add, AvgPool, Layer, Linear, Weighted
from tsn_hw.core.network import UNUSED, Bank, BankLayer, Bools, PackedNetwork, Requantization, Step, Task
from tsn_hw.learn.layers import Activation, Subnet
from tsn_hw.learn.models import SubnetModel, TaskAffine, TaskModules, WeightLayer, average


@dataclass(frozen=True)
class TaskLabel:
    """What the model does not know of a task: its name, its classes, and its routing memory."""

    name: str
    classes: tuple[str, ...]
    routing: bytes = b""


def commit(model: SubnetModel, task: int) -> None:
    """Turn everything that a task owns into integers: weights into codes, biases and norms, activation grids."""
    private, weights = model.modules_of(task), model.body_layers(task)
    formats = {INPUT: model.formats.input}
    for index, layer in enumerate(model.architecture.layers):
        finest = min(formats[source].exponent for source in layer.inputs)
        if isinstance(layer, Weighted):
            affine = _affine(private, index)
            used = _commit_weights(weights[index])
            product = affine.commit(used, finest + int(weights[index].grid.exponent), model.formats.multiplier_bits)
        elif isinstance(layer, AvgPool | Add):
            product = finest - (average(layer)[1] if isinstance(layer, AvgPool) else 0)
        else:
            formats[index] = formats[layer.inputs[0]]
            continue
        activation = _activation(private, index)
        activation.grid.set(max(product, int(activation.grid.exponent)))  # the contract shifts right only
        formats[index] = ActFormat(activation.bits, activation.signed, int(activation.grid.exponent))
        if isinstance(layer, Weighted):
            affine.settle(used, formats[layer.inputs[0]], formats[index].exponent - product, formats[index])
    features = formats[len(model.architecture.layers) - 1]
    used = _commit_weights(private.head)
    private.affine.commit(used, features.exponent + int(private.head.grid.exponent), bits=16)
    private.affine.limit(used, model.formats.act_bits)


def freeze(model: SubnetModel, labels: Sequence[TaskLabel]) -> PackedNetwork:
    """The packed network of a model's committed tasks, one label each."""
    body = model.architecture.layers
    heads = tuple(
        Linear(f"head_{label.name}", model.architecture.features, len(label.classes), (len(body) - 1,))
        for label in labels
    )
    layers: tuple[Layer, ...] = body + heads
    banks = tuple(_bank(model, index, len(labels)) for index in range(max(model.bank_of[: len(labels)]) + 1))
    tasks = tuple(_task(model, number, label, len(labels)) for number, label in enumerate(labels))
    return PackedNetwork(model.architecture.input_shape, model.formats.input, layers, banks, tasks)


def _commit_weights(layer: WeightLayer) -> Tensor:
    """Commit the words of one layer; returns the integers that the task reads."""
    layer.subnet.commit(layer.weight.data, layer.grid.real)
    return layer.subnet.mask() * layer.subnet.stored()


def _affine(private: TaskModules, index: int) -> TaskAffine:
    affine = private.affines[str(index)]
    assert isinstance(affine, TaskAffine)
    return affine


def _activation(private: TaskModules, index: int) -> Activation:
    activation = private.activations[str(index)]
    assert isinstance(activation, Activation)
    return activation


def _bank(model: SubnetModel, bank: int, tasks: int) -> Bank:
    members = [t for t in range(tasks) if model.bank_of[t] == bank]
    layers: list[BankLayer | None] = [None] * (len(model.architecture.layers) + tasks)
    for index, layer in model.body_layers(members[0]).items():
        layers[index] = _words(layer, len(members), model.formats.centroid_bits, first=0)
    for prefix, task in enumerate(members):
        head = model.modules_of(task).head
        layers[len(model.architecture.layers) + task] = _words(
            head, len(members), model.formats.centroid_bits, first=prefix
        )
    return Bank(tuple(layers))


def _words(layer: WeightLayer, owners: int, centroid_bits: int, first: int) -> BankLayer:
    """The words of one layer; ``first`` is the prefix of its first owner (a head has just one)."""
    subnet = layer.subnet
    books: list[Ints] = [np.zeros(0, np.int64)] * owners
    for row, (entries, book) in enumerate(zip(subnet.entries.tolist(), subnet.codebooks.cpu().numpy(), strict=True)):
        books[first + row] = book[:entries].astype(np.int64)
    owner = subnet.owner.cpu().numpy()
    return BankLayer(
        np.where(owner == UNUSED, UNUSED, owner + first).astype(np.int16),
        subnet.code.cpu().numpy(),
        tuple(books),
        centroid_bits,
        int(layer.grid.exponent),
    )


def _task(model: SubnetModel, task: int, label: TaskLabel, tasks: int) -> Task:
    private, body, weights = model.modules_of(task), model.architecture.layers, model.body_layers(task)
    steps: list[Step | None] = [None] * (len(body) + tasks)
    exponents = {INPUT: model.formats.input.exponent}
    for index, layer in enumerate(body):
        finest = min(exponents[source] for source in layer.inputs)
        exponents[index] = finest
        if not isinstance(layer, Weighted | AvgPool | Add):
            steps[index] = Step()
            continue
        activation = _activation(private, index)
        exponents[index] = int(activation.grid.exponent)
        output = ActFormat(activation.bits, activation.signed, exponents[index])
        if isinstance(layer, Weighted):
            affine = _affine(private, index)
            product = finest + int(weights[index].grid.exponent) + int(affine.multiplier_exponent)
            requantization = _requantization(affine, output.exponent - product, output)
            steps[index] = Step(_mask(weights[index].subnet, model.prefix(task)), requantization)
        else:
            multiplier, shift = average(layer) if isinstance(layer, AvgPool) else (1, 0)
            shift += output.exponent - finest
            steps[index] = Step(None, Requantization(np.array([multiplier]), np.zeros(1, np.int64), shift, output))
    head = _requantization(private.affine, int(private.affine.dropped_bits), None)
    steps[len(body) + task] = Step(_mask(private.head.subnet, 0), head)
    return Task(label.name, model.bank_of[task], label.classes, tuple(steps), label.routing)


def _mask(subnet: Subnet, prefix: int) -> Bools:
    mask: Bools = subnet.masks[prefix].cpu().numpy()
    return mask


def _requantization(affine: TaskAffine, shift: int, output: ActFormat | None) -> Requantization:
    return Requantization(affine.multiplier.cpu().numpy(), affine.offset.cpu().numpy(), shift, output)
