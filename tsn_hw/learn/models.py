"""The trainable network: banks of Brevitas subnetwork layers, and the modules that every task has of its own.

A model interprets an :class:`Architecture`, layer by layer, exactly as the packed network that it is frozen
into. In training it passes plain tensors; in evaluation Brevitas' QuantTensors carry every scale, and a
committed task computes the integers of the contract (in float64, where all of them are exact).
"""

from __future__ import annotations

import math
from typing import Generic, TypeAlias, TypeVar, cast

import numpy as np
import torch
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import INPUT, Add, AvgPool, Layer, Linear, MaxPool, Weighted, refused
from tsn_hw.learn.activations import Activation, AnyTensor, value_of
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.forward import ENGINE, Interpreter, norm_of, parts_of, start_from, sums
from tsn_hw.learn.layers import WeightLayer, weight_layer
from tsn_hw.learn.methods import TSN, Method
from tsn_hw.learn.settings import Formats

LARGEST_POWER = 24
"""Multipliers are units of at least 2**-24: smaller gains of batch norm are zero, and shifts stay within float64."""
HEAD = "head"
"""Name of a task's head among its layers."""
Taps: TypeAlias = dict[str, AnyTensor]
M = TypeVar("M", bound=nn.Module)


class ByIndex(nn.ModuleDict, Generic[M]):
    """Modules by the index of their layer in the architecture."""

    def of(self, index: int) -> M:
        """The module of a layer."""
        return cast(M, self[str(index)])


class TaskAffine(nn.Module):
    """What one task does to the accumulators of one layer: add a bias, or normalise.

    :meth:`commit` turns it into the contract's integer multiplier and offset; from then on its forward is
    exact integer arithmetic, and its float parameters are not read.
    """

    multiplier: Tensor
    offset: Tensor
    multiplier_exponent: Tensor
    dropped_bits: Tensor
    committed: Tensor

    def __init__(self, layer: Weighted, batch_norm: bool) -> None:
        super().__init__()
        self.norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
        if batch_norm:
            self.norm = norm_of(layer)
        else:
            self.bias = nn.Parameter(torch.zeros(layer.channels))
        self.register_buffer("multiplier", torch.ones(layer.channels, dtype=torch.int64))
        self.register_buffer("offset", torch.zeros(layer.channels, dtype=torch.int64))
        self.register_buffer("multiplier_exponent", torch.tensor(0))
        self.register_buffer("dropped_bits", torch.tensor(0))
        self.register_buffer("committed", torch.tensor(False))

    @property
    def parts(self) -> dict[str, Tensor]:
        """Its tensors by the names that they have among a body's weights."""
        return {"bias": self.bias} if self.norm is None else parts_of(self.norm)

    def forward(self, x: AnyTensor) -> Tensor:
        values = value_of(x)
        view = (-1, *[1] * (values.dim() - 2))
        if self.training or not bool(self.committed):
            return values + self.bias.view(view) if self.norm is None else self.norm(values)
        scale = cast(IntQuantTensor, x).scale  # in evaluation every activation carries it
        integers = (values / scale).to(torch.int64) * self.multiplier.view(view) + self.offset.view(view)
        product = integers.to(values.dtype)
        dropped = int(self.dropped_bits)
        if dropped:
            product = torch.round(product * 2.0**-dropped) * 2.0**dropped  # torch rounds half to even, as the contract
        result: Tensor = product * (scale * 2.0 ** int(self.multiplier_exponent))
        return result

    @torch.no_grad()
    def commit(self, weight: Tensor, exponent: int, bits: int) -> int:
        """Become integers over accumulators of scale 2**exponent; returns the exponent of the product.

        ``weight`` tells the channels that no weight reaches: their gain means nothing and must not spoil
        the common exponent of the multipliers.
        """
        power = 0
        if self.norm is None:
            offset = self.bias.double()
        else:
            variance, mean = (cast(Tensor, part).double() for part in (self.norm.running_var, self.norm.running_mean))
            gain = self.norm.weight.double() / torch.sqrt(variance + self.norm.eps)
            gain = torch.where(weight.flatten(1).any(dim=1), gain, 0.0)
            offset = self.norm.bias.double() - mean * gain
            largest = max(float(gain.abs().max()), 2.0**-LARGEST_POWER)
            power = min(math.floor(math.log2((2 ** (bits - 1) - 1) / largest)), LARGEST_POWER)
            self.multiplier.copy_(torch.from_numpy(arithmetic.nearest((gain * 2.0**power).cpu().numpy())))
        product_exponent = exponent - power
        self.offset.copy_(torch.from_numpy(arithmetic.nearest((offset * 2.0**-product_exponent).cpu().numpy())))
        self.multiplier_exponent.fill_(-power)
        self.committed.fill_(True)
        return product_exponent

    @torch.no_grad()
    def settle(self, weight: Tensor, source: ActFormat, shift: int, output: ActFormat) -> None:
        """Move the multipliers of a batch norm to the nearest that float32 requantizes exactly, up to 8 bits.

        So a runtime may compute with one float scale a channel; the gains change by a fraction of a percent.
        """
        if self.norm is None or output.bits > 8:
            return
        bounds = arithmetic.accumulator_bounds(weight.cpu().numpy().astype(np.int64), source.range)
        given = self.multiplier.cpu().numpy(), self.offset.cpu().numpy()
        multiplier, offset = arithmetic.nearest_in_float32(*given, shift, output.range, *bounds)
        self.multiplier.copy_(torch.from_numpy(multiplier))
        self.offset.copy_(torch.from_numpy(offset))

    @torch.no_grad()
    def limit(self, weight: Tensor, act_bits: int) -> None:
        """Drop the low bits of a head's logits that int32 has no room for (wide activations, many features)."""
        reach = weight.long().abs().flatten(1).sum(dim=1) * ((1 << act_bits) - 1) + self.offset.abs()
        largest, dropped = int(reach.max()), 0
        while largest >> dropped >= arithmetic.INT32[1]:
            dropped += 1
        self.dropped_bits.fill_(dropped)


class TaskModules(nn.Module):
    """All that belongs to one task alone: biases or norms, activation grids, and its head."""

    def __init__(
        self, architecture: Architecture, formats: Formats, head: Linear, generator: torch.Generator, method: Method
    ) -> None:
        super().__init__()
        self.affines, self.activations = ByIndex[TaskAffine](), ByIndex[Activation]()
        for index, layer in enumerate(architecture.layers):
            if isinstance(layer, Weighted):
                self.affines[str(index)] = TaskAffine(layer, architecture.normalizes(layer))
                start_from(architecture.weights, layer.name, self.affines.of(index).parts)
            if layer.computes:
                self.activations[str(index)] = Activation(formats.act_bits, layer.name in architecture.signed)
        self.head = weight_layer(head, formats, generator, method)
        self.affine = TaskAffine(head, batch_norm=False)


class SubnetModel(Interpreter):
    """One body a bank, one set of private modules a task."""

    def __init__(self, architecture: Architecture, formats: Formats, method: Method = TSN) -> None:
        super().__init__(architecture)
        self.formats, self.method = formats, method
        image = formats.input
        self.input = Activation(image.bits, image.signed, image.exponent)
        self.banks, self.tasks = nn.ModuleList(), nn.ModuleList()
        self.bank_of: list[int] = []
        self._calibrating = False
        self._pooled = _only_pooled(architecture)

    def add_bank(self, generator: torch.Generator) -> int:
        """Append a fresh body: Kaiming-uniform scores from the generator, and weights unless the body has its own.

        Returns its index.
        """
        bank = ByIndex[WeightLayer]()
        for index, layer in self.architecture.weighted.items():
            bank[str(index)] = weight_layer(layer, self.formats, generator, self.method)
            bank.of(index).start_from(self.architecture.weights.get(f"{layer.name}.weight"))
        self.banks.append(bank.to(self.device))
        return len(self.banks) - 1

    def add_task(self, bank: int, classes: int, generator: torch.Generator) -> int:
        """Append a task that lives in a bank, with a fresh dense head. Returns its index."""
        head = self.architecture.head(HEAD, classes)
        modules = TaskModules(self.architecture, self.formats, head, generator, self.method)
        self.tasks.append(modules.to(self.device))
        self.bank_of.append(bank)
        return len(self.tasks) - 1

    def train(self, mode: bool = True) -> SubnetModel:
        """Turn to training or to evaluation; a committed task, which is never trained again, stays in evaluation.

        So a step of a stream takes no longer when many tasks are learned already.
        """
        self.training = self.tasks.training = mode
        for part in self.children():
            if part is not self.tasks:
                part.train(mode)
        for number in range(len(self.tasks)):
            private = self.modules_of(number)
            wanted = mode and not bool(private.affine.committed)
            if private.training != wanted:
                private.train(wanted)
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.input.grid.exponent.device

    def body_layers(self, task: int) -> dict[int, WeightLayer]:
        """Index in the architecture -> weight layer, of the task's bank."""
        bank = cast(ByIndex[WeightLayer], self.banks[self.bank_of[task]])
        return {index: bank.of(index) for index in self.architecture.weighted}

    def weight_layers(self, task: int) -> dict[str, WeightLayer]:
        """The weight layers of a task in order, the head last."""
        body = {self.architecture.layers[index].name: layer for index, layer in self.body_layers(task).items()}
        return body | {HEAD: self.modules_of(task).head}

    def modules_of(self, task: int) -> TaskModules:
        """The private modules of a task."""
        return cast(TaskModules, self.tasks[task])

    def prefix(self, task: int) -> int:
        """Position of a task among those of its bank."""
        return sum(bank == self.bank_of[task] for bank in self.bank_of[:task])

    def parameters_of(self, task: int) -> list[nn.Parameter]:
        """What training a task may change."""
        private, bank = self.modules_of(task), self.banks[self.bank_of[task]]
        scores = private.head.subnet.scores  # a head is dense: its scores have no say
        return [p for p in [*bank.parameters(), *private.parameters()] if p is not scores]

    def format(self, task: int, index: int) -> ActFormat:
        """The integers that a task's layer gives, as its activation grids stand (INPUT: those of the input)."""
        while index != INPUT and not self.architecture.layers[index].computes:  # it passes its operand on
            index = self.architecture.layers[index].inputs[0]
        return self.formats.input if index == INPUT else self.modules_of(task).activations.of(index).format

    def finest(self, task: int, layer: Layer) -> int:
        """Exponent of the grid on which a layer's operands meet."""
        return min(self.format(task, source).exponent for source in layer.inputs)

    def forward(self, x: Tensor, task: int, taps: Taps | None = None) -> Tensor:
        """Logits (batch, classes) of real inputs (batch, ...). Taps collect every layer's QuantTensor by name."""
        private, body = self.modules_of(task), self.body_layers(task)
        for weighted in body.values():
            weighted.subnet.task = self.prefix(task)

        def compute(index: int, layer: Layer, operands: list[AnyTensor]) -> AnyTensor:
            values = [value_of(operand) for operand in operands]
            result = sums(layer, values, lambda: private.affines.of(index)(body[index](operands[0])))
            value = self._activated(private.activations, index, result, operands[0])
            if taps is not None:
                taps[layer.name] = value
            return value

        logits: Tensor = private.affine(private.head(self.walk(self.input(self.laid_out(x)), compute)))
        if taps is not None:
            taps[HEAD] = logits
        return logits

    def _activated(self, activations: ByIndex[Activation], index: int, x: Tensor, operand: AnyTensor) -> AnyTensor:
        """The sums of a layer on its activation grid; a layer that computes nothing keeps the grid of its operand."""
        layer = self.architecture.layers[index]
        if isinstance(layer, AvgPool):
            multiplier, shift = average(layer)
            x = x * (multiplier * 2.0**-shift)
        if not layer.computes and not self._late(layer.inputs[0]):
            return operand.set(value=x) if isinstance(operand, IntQuantTensor) else x
        if layer.computes and self._late(index):
            return x
        activation = activations.of(index if layer.computes else layer.inputs[0])
        if self._calibrating:
            activation.calibrate(x)
        return activation(x)

    def _late(self, index: int) -> bool:
        """Whether a layer is activated after its pooling: the maximum is the same, and training has less to do."""
        return self.training and not self._calibrating and index in self._pooled

    @torch.no_grad()
    def calibrate(self, x: Tensor, task: int, trained: bool = False) -> None:
        """Choose the activation grids of the task that is being learned on a batch of real inputs.

        ``trained``: batch norms use the statistics that they have learned, and keep them.
        """
        self._calibrating, self.dropout_generator = True, None
        self.train(not trained)
        self(x, task)
        self._calibrating = False


def _only_pooled(architecture: Architecture) -> frozenset[int]:
    """Weighted layers that nothing but one MaxPool reads, and that drop nothing before it."""
    readers = [(source, layer) for layer in architecture.layers for source in layer.inputs]
    return frozenset(
        index
        for index, layer in architecture.weighted.items()
        if not architecture.dropout.get(layer.name)
        and [type(reader) for source, reader in readers if source == index] == [MaxPool]
    )


def own_scale(layer: Layer) -> tuple[int, int]:
    """Multiplier and shift of a layer that computes without weights."""
    match layer:
        case AvgPool():
            return average(layer)
        case Add():
            return 1, 0
    raise refused(layer, ENGINE)


def average(layer: AvgPool) -> tuple[int, int]:
    """Multiplier and shift that divide a window's sum by its size: exact for powers of two, else to 15 bits.

    >>> average(AvgPool("a", (2, 2), (2, 2))), average(AvgPool("a", (3, 3), (1, 1)))
    ((1, 2), (29127, 18))
    """
    size = math.prod(layer.kernel)
    if size & (size - 1) == 0:
        return 1, size.bit_length() - 1
    shift = 14 + size.bit_length()
    return ((1 << shift) + size // 2) // size, shift
