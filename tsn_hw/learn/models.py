"""The trainable network: banks of Brevitas subnetwork layers, and the modules that every task has of its own.

A model interprets an :class:`Architecture`, layer by layer, exactly as the packed network that it is frozen
into. In training it passes plain tensors; in evaluation Brevitas' QuantTensors carry every scale, and a
committed task computes the integers of the contract (in float64, where all of them are exact).
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Weighted, refused
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.dropout import dropped
from tsn_hw.learn.layers import Activation, SubnetConv2d, SubnetLinear, SubnetWeight
from tsn_hw.learn.methods import TSN, Method
from tsn_hw.learn.settings import Formats

LARGEST_POWER = 24
"""Multipliers are units of at least 2**-24: smaller gains of batch norm are zero, and shifts stay within float64."""
AnyTensor: TypeAlias = Tensor | IntQuantTensor
Taps: TypeAlias = dict[str, Tensor | IntQuantTensor]
WeightLayer = SubnetLinear | SubnetConv2d


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
            self.norm = (nn.BatchNorm2d if isinstance(layer, Conv2d) else nn.BatchNorm1d)(layer.channels)
        else:
            self.bias = nn.Parameter(torch.zeros(layer.channels))
        self.register_buffer("multiplier", torch.ones(layer.channels, dtype=torch.int64))
        self.register_buffer("offset", torch.zeros(layer.channels, dtype=torch.int64))
        self.register_buffer("multiplier_exponent", torch.tensor(0))
        self.register_buffer("dropped_bits", torch.tensor(0))
        self.register_buffer("committed", torch.tensor(False))

    def forward(self, x: AnyTensor) -> Tensor:
        values: Tensor = x.value if isinstance(x, IntQuantTensor) else x
        view = (-1, *[1] * (values.dim() - 2))
        if self.training or not bool(self.committed):
            return values + self.bias.view(view) if self.norm is None else self.norm(values)
        assert isinstance(x, IntQuantTensor)  # in evaluation every activation carries its scale
        scale: Tensor = x.scale
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
            variance, mean = self.norm.running_var, self.norm.running_mean
            assert variance is not None
            assert mean is not None
            variance, mean = variance.double(), mean.double()
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

    def __init__(self, architecture: Architecture, formats: Formats, classes: int, method: Method) -> None:
        super().__init__()
        self.affines = nn.ModuleDict()
        self.activations = nn.ModuleDict()
        for index, layer in enumerate(architecture.layers):
            if isinstance(layer, Weighted):
                self.affines[str(index)] = TaskAffine(layer, architecture.batch_norm)
            if isinstance(layer, Weighted | AvgPool | Add):
                self.activations[str(index)] = Activation(formats.act_bits, layer.name in architecture.signed)
        head = Linear("head", architecture.features, classes)
        self.head = _weight_layer(head, formats, method)
        self.affine = TaskAffine(head, batch_norm=False)


class SubnetModel(nn.Module):
    """One body a bank, one set of private modules a task."""

    def __init__(self, architecture: Architecture, formats: Formats, method: Method = TSN) -> None:
        super().__init__()
        self.architecture, self.formats, self.method = architecture, formats, method
        image = formats.input
        self.input = Activation(image.bits, image.signed, image.exponent)
        self.banks = nn.ModuleList()
        self.tasks = nn.ModuleList()
        self.bank_of: list[int] = []
        self.dropout_generator: torch.Generator | None = None  # None: nothing is dropped
        self._calibrating = False
        self._pooled = _only_pooled(architecture)

    def add_bank(self, generator: torch.Generator) -> int:
        """Append a fresh body: Kaiming-uniform weights and scores from the generator. Returns its index."""
        bank = nn.ModuleDict()
        for index, layer in enumerate(self.architecture.layers):
            if isinstance(layer, Weighted):
                bank[str(index)] = initialised(_weight_layer(layer, self.formats, self.method), generator)
        self.banks.append(bank.to(self.device))
        return len(self.banks) - 1

    def add_task(self, bank: int, classes: int, generator: torch.Generator) -> int:
        """Append a task that lives in a bank, with a fresh dense head. Returns its index."""
        modules = TaskModules(self.architecture, self.formats, classes, self.method)
        initialised(modules.head, generator)
        self.tasks.append(modules.to(self.device))
        self.bank_of.append(bank)
        return len(self.tasks) - 1

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.input.grid.exponent.device

    def body_layers(self, task: int) -> dict[int, WeightLayer]:
        """Index in the architecture -> weight layer, of the task's bank."""
        return {int(key): layer for key, layer in self.banks[self.bank_of[task]].items()}  # type: ignore[operator]

    def weight_layers(self, task: int) -> list[WeightLayer]:
        """The body's weight layers in order, then the head."""
        return [*self.body_layers(task).values(), self.modules_of(task).head]

    def modules_of(self, task: int) -> TaskModules:
        """The private modules of a task."""
        modules = self.tasks[task]
        assert isinstance(modules, TaskModules)
        return modules

    def prefix(self, task: int) -> int:
        """Position of a task among those of its bank."""
        return sum(bank == self.bank_of[task] for bank in self.bank_of[:task])

    def parameters_of(self, task: int) -> list[nn.Parameter]:
        """What training a task may change."""
        private, bank = self.modules_of(task), self.banks[self.bank_of[task]]
        scores = private.head.subnet.scores  # a head is dense: its scores have no say
        return [p for p in chain(bank.parameters(), private.parameters()) if p is not scores]

    def forward(self, x: Tensor, task: int, taps: Taps | None = None) -> Tensor:
        """Logits (batch, classes) of real inputs (batch, ...). Taps collect every layer's QuantTensor by name."""
        private, body = self.modules_of(task), self.body_layers(task)
        for weighted in body.values():
            weighted.subnet.task = self.prefix(task)
        outputs: dict[int, AnyTensor] = {INPUT: self.input(x)}
        for index, layer in enumerate(self.architecture.layers):
            value = self._run(index, layer, [outputs[i] for i in layer.inputs], private, body)
            if taps is not None:
                taps[layer.name] = value
            outputs[index] = self._drop(layer.name, value)
        logits: Tensor = private.affine(private.head(outputs[len(self.architecture.layers) - 1]))
        if taps is not None:
            taps["head"] = logits
        return logits

    def _run(
        self,
        index: int,
        layer: Layer,
        sources: list[AnyTensor],
        private: TaskModules,
        body: dict[int, WeightLayer],
    ) -> AnyTensor:
        key, x = str(index), sources[0]
        if isinstance(layer, Weighted):
            sums = private.affines[key](body[index](x))
            return sums if self._late(index) else self._activate(private, key, sums)
        values = x.value if isinstance(x, IntQuantTensor) else x
        if isinstance(layer, AvgPool):
            multiplier, shift = average(layer)
            total = F.avg_pool2d(values, layer.kernel, layer.stride, divisor_override=1)
            return self._activate(private, key, total * (multiplier * 2.0**-shift))
        if isinstance(layer, Add):
            other = sources[1].value if isinstance(sources[1], IntQuantTensor) else sources[1]
            return self._activate(private, key, values + other)
        if isinstance(layer, MaxPool):
            values = F.max_pool2d(values, layer.kernel, layer.stride)
        elif isinstance(layer, Flatten):
            values = values.flatten(1)
        else:
            raise refused(layer, "the learner")
        if self._late(layer.inputs[0]):
            return self._activate(private, str(layer.inputs[0]), values)
        return x.set(value=values) if isinstance(x, IntQuantTensor) else values

    def _late(self, index: int) -> bool:
        """Whether a layer is activated after its pooling: the maximum is the same, and training has less to do."""
        return self.training and not self._calibrating and index in self._pooled

    def _activate(self, private: TaskModules, key: str, x: Tensor) -> AnyTensor:
        activation = private.activations[key]
        assert isinstance(activation, Activation)
        if self._calibrating:
            activation.calibrate(x)
        return activation(x)

    @torch.no_grad()
    def calibrate(self, x: Tensor, task: int, trained: bool = False) -> None:
        """Choose the activation grids of the task that is being learned on a batch of real inputs.

        ``trained``: batch norms use the statistics that they have learned, and keep them.
        """
        self._calibrating, self.dropout_generator = True, None
        self.train(not trained)
        self(x, task)
        self._calibrating = False

    def _drop(self, name: str, x: AnyTensor) -> AnyTensor:
        share = self.architecture.dropout.get(name, 0.0)
        if not self.training or not share or self.dropout_generator is None or not isinstance(x, Tensor):
            return x
        return dropped(x, share, self.dropout_generator)


def _only_pooled(architecture: Architecture) -> frozenset[int]:
    """Weighted layers that nothing but one MaxPool reads, and that drop nothing before it."""
    readers = [(source, layer) for layer in architecture.layers for source in layer.inputs]
    return frozenset(
        index
        for index, layer in enumerate(architecture.layers)
        if isinstance(layer, Weighted)
        and not architecture.dropout.get(layer.name)
        and [type(reader) for source, reader in readers if source == index] == [MaxPool]
    )


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


def initialised(layer: WeightLayer, generator: torch.Generator) -> WeightLayer:
    """Kaiming-uniform weights and scores (a = sqrt 5) from a generator on the CPU."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    with torch.no_grad():
        for tensor in (layer.weight, layer.subnet.scores):
            tensor.copy_(torch.rand(tensor.shape, generator=generator).mul_(2 * bound).sub_(bound))
    return layer


def _weight_layer(layer: Weighted, formats: Formats, method: Method) -> WeightLayer:
    quantizer = SubnetWeight.let(centroid_bits=formats.centroid_bits, headroom=formats.headroom)
    made: WeightLayer
    if isinstance(layer, Linear):
        made = SubnetLinear(layer.in_features, layer.out_features, quantizer)
    else:
        channels = (layer.in_channels, layer.out_channels)
        made = SubnetConv2d(channels, layer.kernel, layer.stride, layer.padding, layer.groups, quantizer)
    made.subnet.method = method
    return made
