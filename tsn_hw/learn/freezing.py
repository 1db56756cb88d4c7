"""Trained model to packed network: the only bridge between learning and everything that comes after.

And what Brevitas computes, as integers: the trained model as an engine that can be compared with ``==``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor

from tsn_hw.core.arithmetic import FLOAT64_EXACT, ActFormat, Ints
from tsn_hw.core.errors import EngineError
from tsn_hw.core.network import UNUSED, Bank, BankLayer, Bools, PackedNetwork, Requantization, Step, Task
from tsn_hw.core.parts import NO_CODEBOOK
from tsn_hw.learn.activations import value_of
from tsn_hw.learn.layers import Subnet, WeightLayer
from tsn_hw.learn.models import SubnetModel, Taps, TaskAffine, own_scale


@dataclass(frozen=True)
class TaskLabel:
    """What the model does not know of a task: its name, its classes, and its routing memory."""

    name: str
    classes: tuple[str, ...]
    routing: bytes = b""


def commit(model: SubnetModel, task: int) -> None:
    """Turn everything that a task owns into integers: weights into codes, biases and norms, activation grids."""
    private, weights = model.modules_of(task), model.body_layers(task)
    for index, layer in enumerate(model.architecture.layers):
        if not layer.computes:
            continue
        product, activation = model.finest(task, layer), private.activations.of(index)
        if index in weights:
            affine, used = private.affines.of(index), _commit_weights(weights[index])
            grid = product + int(weights[index].grid.exponent)
            product = affine.commit(used, grid, model.formats.multiplier_bits)
        else:
            product -= own_scale(layer)[1]
        activation.grid.set(max(product, int(activation.grid.exponent)))  # the contract shifts right only
        if index in weights:
            output = activation.format
            affine.settle(used, model.format(task, layer.inputs[0]), output.exponent - product, output)
    features = model.format(task, len(model.architecture.layers) - 1)
    used = _commit_weights(private.head)
    private.affine.commit(used, features.exponent + int(private.head.grid.exponent), bits=16)
    private.affine.limit(used, model.formats.act_bits)


def _commit_weights(layer: WeightLayer) -> Tensor:
    """Commit the words of one layer; returns the integers that the task reads."""
    layer.subnet.commit(layer.weight.data, layer.grid.real)
    return layer.subnet.mask() * layer.subnet.stored()


def freeze(model: SubnetModel, labels: Sequence[TaskLabel], earlier: PackedNetwork | None = None) -> PackedNetwork:
    """The packed network of a model's committed tasks, one label each.

    Labels may be those of the first tasks alone. Heads and steps that an ``earlier`` network of the same model has are
    taken from there: those of committed tasks never change. Raises NetworkError for numbers that no format holds.
    """
    architecture = model.architecture
    heads = tuple(architecture.head(f"head_{label.name}", len(label.classes)) for label in labels)
    banks = tuple(_bank(model, index, len(labels), earlier) for index in range(max(model.bank_of[: len(labels)]) + 1))
    tasks = tuple(_task(model, number, label, len(labels), earlier) for number, label in enumerate(labels))
    layers = (*architecture.layers, *heads)
    return PackedNetwork(architecture.input_shape, model.formats.input, layers, banks, tasks, earlier)


def requantization(model: SubnetModel, task: int, index: int) -> Requantization:
    """What a committed task does to the accumulators of a computing layer of the body."""
    layer, output = model.architecture.layers[index], model.format(task, index)
    shift = output.exponent - model.finest(task, layer)
    if index in model.architecture.weighted:
        affine, weights = model.modules_of(task).affines.of(index), model.body_layers(task)[index]
        shift -= int(weights.grid.exponent) + int(affine.multiplier_exponent)
        return _of_channels(affine, shift, output)
    multiplier, own_shift = own_scale(layer)
    return Requantization(np.array([multiplier]), np.zeros(1, np.int64), shift + own_shift, output)


def _bank(model: SubnetModel, bank: int, tasks: int, earlier: PackedNetwork | None) -> Bank:
    members = [t for t in range(tasks) if model.bank_of[t] == bank]
    body, centroid_bits = len(model.architecture.layers), model.formats.centroid_bits
    layers: list[BankLayer | None] = [None] * (body + tasks)
    for index, layer in model.body_layers(members[0]).items():
        layers[index] = _words(layer, len(members), centroid_bits, first=0)
    for prefix, task in enumerate(members):
        known = earlier.words(task, body + task) if earlier is not None and task < len(earlier.tasks) else None
        if known is not None:
            books = (*known.codebooks, *[NO_CODEBOOK] * (len(members) - len(known.codebooks)))
            layers[body + task] = replace(known, codebooks=books)
        else:
            layers[body + task] = _words(model.modules_of(task).head, len(members), centroid_bits, first=prefix)
    return Bank(tuple(layers))


def _words(layer: WeightLayer, owners: int, centroid_bits: int, first: int) -> BankLayer:
    """The words of one layer; ``first`` is the prefix of its first owner (a head has just one)."""
    subnet = layer.subnet
    books = [NO_CODEBOOK] * owners
    books[first : first + subnet.committed] = subnet.books()
    owner = subnet.owner.cpu().numpy()
    return BankLayer(
        np.where(owner == UNUSED, UNUSED, owner + first).astype(np.int16),
        subnet.code.cpu().numpy(),
        tuple(books),
        centroid_bits,
        int(layer.grid.exponent),
    )


def _task(model: SubnetModel, task: int, label: TaskLabel, tasks: int, earlier: PackedNetwork | None) -> Task:
    if earlier is not None and task < len(earlier.tasks):
        known = earlier.tasks[task].steps
        later: list[Step | None] = [None] * (tasks - len(earlier.tasks))
        return Task(label.name, model.bank_of[task], label.classes, (*known, *later), label.routing)
    private, body, weights = model.modules_of(task), model.architecture.layers, model.body_layers(task)
    steps: list[Step | None] = [None] * (len(body) + tasks)
    for index, layer in enumerate(body):
        mask = _mask(weights[index].subnet, model.prefix(task)) if index in weights else None
        steps[index] = Step(mask, requantization(model, task, index)) if layer.computes else Step()
    head = _of_channels(private.affine, int(private.affine.dropped_bits), None)
    steps[len(body) + task] = Step(_mask(private.head.subnet, 0), head)
    return Task(label.name, model.bank_of[task], label.classes, tuple(steps), label.routing)


def _mask(subnet: Subnet, prefix: int) -> Bools:
    mask: Bools = subnet.masks[prefix].cpu().numpy()
    return mask


def _of_channels(affine: TaskAffine, shift: int, output: ActFormat | None) -> Requantization:
    return Requantization(affine.multiplier.cpu().numpy(), affine.offset.cpu().numpy(), shift, output)


@torch.no_grad()
def brevitas_integers(model: SubnetModel, task: int, x: Ints) -> dict[str, Ints]:
    """The integers of every layer for a committed task, by the architecture's names, and ``head``: the logits.

    ``x``: (batch, ...) integers of the input format. Every value is divided by its own QuantTensor's scale and must
    be a whole number. The model is turned to float64 for good, where the contract's integers are exact; pass a copy of
    one that is still to be trained.
    """
    _check_reach(model, task)
    model.double().eval()
    taps: Taps = {}
    real = torch.from_numpy(x.astype(np.float64)) * 2.0**model.formats.input.exponent
    model(real.to(model.device), task, taps)
    private, features = model.modules_of(task), model.format(task, len(model.architecture.layers) - 1)
    head_scale = 2.0**features.exponent * private.head.grid.real * 2.0 ** int(private.affine.dropped_bits)
    integers = {}
    for name, tap in taps.items():
        scale = float(tap.scale) if isinstance(tap, IntQuantTensor) else head_scale
        units = (value_of(tap) / scale).cpu().numpy()
        integers[name] = units.astype(np.int64)
        if (integers[name] != units).any():
            raise EngineError(f"layer {name!r}: Brevitas computes values off its own grid of {scale}")
    return integers


def _check_reach(model: SubnetModel, task: int) -> None:
    """Products beyond 2**53 are rounded when they become float64; that is harmless only where they saturate anyway."""
    for index, weights in model.body_layers(task).items():
        name, subnet = model.architecture.layers[index].name, weights.subnet
        if model.prefix(task) >= subnet.committed:
            raise EngineError(f"layer {name!r}: task {task} is not committed, it has no integers yet")
        affine, shift = model.modules_of(task).affines.of(index), requantization(model, task, index).shift
        used = (subnet.masks[model.prefix(task)] * subnet.stored()).abs().flatten(1).sum(dim=1).double()
        reach = used * 2.0**model.formats.act_bits * affine.multiplier.abs() + affine.offset.abs()
        if float(reach.max()) > FLOAT64_EXACT and shift + model.formats.act_bits + 1 > 53:
            raise EngineError(f"layer {name!r}: products of {float(reach.max()):.3g} do not fit float64")
