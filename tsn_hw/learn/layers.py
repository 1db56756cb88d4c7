"""Brevitas layers whose weights are the subnetwork of the current task.

A weight is stored once, by the first task that uses it, as an integer (owner, code, codebook). A task that is
*committed* reads only those integers: no gradient, momentum or decay can touch what it computes. The task that
is being learned sees the owned integers, and its own float weights where nothing is owned yet.

Two paths compute the same weights: in evaluation Brevitas' proxies and QuantTensors carry scale and bit width
(the engine that ``verify`` compares); in training the layers call the same quantizer directly, which is several
times faster.
"""

from __future__ import annotations

import math
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
import torch.nn.functional as F
from brevitas.inject import value
from brevitas.proxy.parameter_quant import WeightQuantProxyFromInjector
from brevitas.quant.base import IntQuant, PerTensorPoTScaling8bit, UintQuant
from brevitas.quant.solver.act import ActQuantSolver
from brevitas.quant.solver.weight import WeightQuantSolver
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.network import MAX_CODE_BITS, UNUSED
from tsn_hw.learn.codebook import nearest_code
from tsn_hw.learn.methods import TSN, Method


def kept_weights(count: int, keep_ratio: float) -> int:
    """Number of weights that a task may use of ``count``: rounded half up, at least one (method.md 1.4)."""
    return max(1, math.floor(keep_ratio * count + 0.5))


def top_k(scores: Tensor, kept: int) -> Tensor:
    """Mask of exactly ``kept`` entries with the largest |score|; ties go to the lower index.

    >>> top_k(torch.tensor([1.0, -3.0, 2.0, -2.0, 2.0]), 3).tolist()
    [False, True, True, True, False]
    """
    magnitude = scores.detach().abs()
    if kept >= magnitude.numel() or kept == 0:
        return torch.full_like(magnitude, kept > 0, dtype=torch.bool)
    position = magnitude.numel() - kept
    if magnitude.device.type == "cpu":  # numpy's quickselect is ten times faster than torch.topk
        threshold = float(np.partition(magnitude.numpy(), position, axis=None)[position])
    else:
        threshold = float(magnitude.flatten().kthvalue(position + 1).values)
    mask = magnitude >= threshold
    surplus = int(mask.count_nonzero()) - kept
    if surplus:
        ties = (magnitude == threshold).flatten().nonzero().flatten()
        mask.view(-1)[ties[len(ties) - surplus :]] = False
    return mask


CALIBRATION_VALUES = 1 << 22
"""Values, about, on which the grid of an activation is tried; large feature maps have fifty million."""


class PowerOfTwoScale(nn.Module):
    """A scale of 2**exponent, held as an integer in the state; stands where Brevitas puts its scaling."""

    exponent: Tensor

    def __init__(self, exponent: int = 0) -> None:
        super().__init__()
        self.register_buffer("exponent", torch.tensor(exponent))

    @property
    def real(self) -> float:
        """The scale."""
        return 2.0 ** int(self.exponent)

    def set(self, exponent: int) -> None:
        """Move the grid; only a task that is not committed may."""
        self.exponent.fill_(exponent)

    def forward(self, x: Tensor, threshold: Tensor | None = None) -> Tensor:
        return torch.tensor(self.real, dtype=x.dtype, device=x.device)


class _Subnetwork(torch.autograd.Function):
    """effective * mask, exactly. d/dweight = g on free selected weights; d/dscores = g * effective * sign(score).

    Masks become floats before they multiply: torch is three times slower at float * bool.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, scores: Tensor, effective: Tensor, mask: Tensor, free: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(scores, effective, mask if free is None else mask & free)
        return effective * mask.to(effective.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        scores, effective, learned = ctx.saved_tensors
        weight_grad = learned.to(grads[0].dtype).mul_(grads[0])
        score_grad = (grads[0] * effective).mul_(scores.sign()) if ctx.needs_input_grad[1] else None
        return weight_grad, score_grad, None, None, None


class Subnet(nn.Module):
    """Stands where Brevitas' IntQuant stands: float weights in, the current task's weights out.

    State of the committed tasks of the bank: ``owner`` (prefix, or UNUSED), ``code``, ``codebooks``
    (tasks, 256), ``entries`` (codebook lengths) and ``masks`` (tasks, ...).
    While a task is learned: ``kept`` weights by score, until :meth:`fix` freezes its mask and
    :meth:`snap` puts its own weights on a codebook.
    """

    scores: nn.Parameter
    owner: Tensor
    code: Tensor
    codebooks: Tensor
    entries: Tensor
    masks: Tensor

    def __init__(self, tracked_parameter_list: list[nn.Parameter], input_view_impl: nn.Module) -> None:
        super().__init__()
        shape = tracked_parameter_list[0].shape
        self.input_view_impl = input_view_impl  # Brevitas' proxy asks for it
        self.scores = nn.Parameter(torch.zeros(shape))
        self.register_buffer("owner", torch.full(shape, UNUSED, dtype=torch.int16))
        self.register_buffer("code", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("codebooks", torch.zeros(0, 1 << MAX_CODE_BITS, dtype=torch.int32))
        self.register_buffer("entries", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("masks", torch.zeros(0, *shape, dtype=torch.bool))
        self.method: Method = TSN
        self.task = 0
        self.kept = self.scores.numel()
        self.fixed: Tensor | None = None
        self.codebook: Ints | None = None
        self._free: Tensor | None = None
        self._weight: Tensor | None = None

    @property
    def committed(self) -> int:
        """Number of tasks of the bank that are frozen in this layer."""
        return len(self.masks)

    def start(self, keep_ratio: float, weight: Tensor, scale: float) -> None:
        """Begin the next task: owned weights take their stored value, the rest stays as the last task left it."""
        self.task = self.committed
        self.kept = kept_weights(self.scores.numel(), keep_ratio)
        self.fixed = self.codebook = None
        owned = self.owner >= 0
        self._free = ~owned if bool(owned.any()) else None
        self._weight = weight
        if self.method.codes:
            weight.copy_(torch.where(owned, self.stored().to(weight.dtype) * scale, weight))

    def stored(self) -> Tensor:
        """Integers that committed tasks wrote, 0 where the weight is free."""
        if not self.committed:
            return torch.zeros_like(self.owner, dtype=torch.int32)
        rows = self.codebooks[self.owner.clamp(min=0).long(), self.code.long()]
        return torch.where(self.owner >= 0, rows, 0)

    def mask(self) -> Tensor:
        """Weights that the current task uses."""
        if self.task < self.committed:
            return self.masks[self.task]
        return self._chosen() if self.fixed is None else self.fixed

    def _chosen(self) -> Tensor:
        """The mask that the method chooses as things stand."""
        ranking = self.scores if self.method.ranking == "score" else self._weight
        assert ranking is not None
        if self.method.borrowed == "chosen" or self._free is None:
            return top_k(ranking, self.kept)
        own = top_k(ranking * self._free, min(self.kept, int(self._free.count_nonzero()))) & self._free
        return own | ~self._free if self.method.borrowed == "all" else own

    def own(self) -> Tensor:
        """Weights that the current task is the first to use."""
        return self.mask() & (self.owner < 0)

    def fix(self, mask: Tensor) -> None:
        """Freeze the mask of the task that is being learned."""
        self.fixed = mask.clone()

    def snap(self, codebook: Ints | None) -> None:
        """Put the task's own weights on a codebook (straight-through in training); None takes them off it."""
        self.codebook = codebook

    def snapped(self, weight: Tensor, scale: float) -> Tensor:
        """The task's weights with its own ones on their nearest centroids, in real units."""
        assert self.codebook is not None
        own = self.own()
        result = weight.detach().clone()
        if len(self.codebook):
            values = (weight.detach()[own].double() / scale).cpu().numpy()
            centroids = torch.from_numpy(self.codebook[nearest_code(values, self.codebook)])
            result[own] = (centroids.double() * scale).to(weight.dtype).to(weight.device)
        return result

    def effective(self, weight: Tensor, scale: float) -> Tensor:
        """The weights of the task that is being learned, differentiable in ``weight`` and the scores."""
        values = weight.detach() if self.codebook is None else self.snapped(weight, scale)
        scores = self.scores if self.method.ranking == "score" else self.scores.detach()
        masked: Tensor = _Subnetwork.apply(weight, scores, values, self.mask(), self._free)
        return masked

    def forward(self, scale: Tensor, zero_point: Tensor, bit_width: Tensor, x: Tensor) -> Tensor:
        """Brevitas' call: the current task's weights on the layer's grid."""
        if self.task < self.committed:
            return (self.mask() * self.stored()).to(x.dtype) * scale if self.method.codes else self.mask() * x
        return self.effective(x, float(scale))

    @torch.no_grad()
    def commit(self, weight: Tensor, scale: float) -> None:
        """Write the task's own weights as codes of its codebook, for good; float methods own them as they are."""
        mask, own = self.mask(), self.own()
        book = self.codebook if self.method.codes else np.zeros(0, np.int64)
        assert book is not None, "commit: the task's own weights have no codebook yet"
        if len(book):
            values = (weight[own].double() / scale).cpu().numpy()
            self.code[own] = torch.from_numpy(nearest_code(values, book)).to(self.code.device)
        if self.method.frozen:
            self.owner[own] = self.committed
        row = torch.zeros(1, 1 << MAX_CODE_BITS, dtype=torch.int32)
        row[0, : len(book)] = torch.from_numpy(book)
        self.codebooks = torch.cat([self.codebooks, row.to(self.codebooks.device)])
        self.entries = torch.cat([self.entries, self.entries.new_tensor([len(book)])])
        self.masks = torch.cat([self.masks, mask[None]])

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name in ("codebooks", "entries", "masks"):  # their first axis grows with the tasks
            if prefix + name in state:
                setattr(self, name, torch.zeros_like(state[prefix + name], device=self.owner.device))
        super()._load_from_state_dict(state, prefix, *args)


class SubnetProxy(WeightQuantProxyFromInjector):
    """Brevitas rebuilds a weight quantizer when a state is loaded; one that owns learned state is built once."""

    def init_tensor_quant(self, preserve_state_dict: bool = False) -> None:
        """Build the quantizer, the first time only."""
        if self.tensor_quant is None:
            super().init_tensor_quant(preserve_state_dict)


class SubnetWeight(IntQuant, PerTensorPoTScaling8bit, WeightQuantSolver):
    """Weight quantizer of the subnetwork layers: integer centroids on one constant power-of-two grid a layer."""

    proxy_class = SubnetProxy
    int_quant = Subnet
    scaling_impl = PowerOfTwoScale
    centroid_bits = 8
    headroom = 4.0

    @value
    def bit_width(centroid_bits: int) -> int:  # noqa: N805
        return centroid_bits

    @value
    def exponent(module: nn.Linear | nn.Conv2d, centroid_bits: int, headroom: float) -> int:  # noqa: N805
        return weight_exponent(module.weight[0].numel(), centroid_bits, headroom)


def weight_exponent(fan_in: int, centroid_bits: int, headroom: float) -> int:
    """Exponent of the grid that holds weights up to headroom / sqrt(fan_in); fixed before the first task.

    >>> weight_exponent(64, 8, 4.0)  # 2**7 steps of 2**-8 reach 0.5
    -8
    """
    return math.ceil(math.log2(headroom / math.sqrt(fan_in))) - (centroid_bits - 1)


class _SubnetLayer:
    """What the two layer kinds share: their subnetwork and its grid."""

    weight: nn.Parameter
    weight_quant: SubnetProxy

    @property
    def subnet(self) -> Subnet:
        """The masks, codes and scores of this layer."""
        subnet = self.weight_quant.tensor_quant.int_quant
        assert isinstance(subnet, Subnet)
        return subnet

    @property
    def grid(self) -> PowerOfTwoScale:
        """The scale of the weights."""
        grid = self.weight_quant.tensor_quant.scaling_impl
        assert isinstance(grid, PowerOfTwoScale)
        return grid

    def learned_weight(self) -> Tensor:
        """Effective weights of the task that is being learned."""
        return self.subnet.effective(self.weight, self.grid.real)


class SubnetLinear(_SubnetLayer, qnn.QuantLinear):
    """A Brevitas linear layer over a subnetwork."""

    def __init__(self, in_features: int, out_features: int, quantizer: type[SubnetWeight]) -> None:
        super().__init__(in_features, out_features, bias=False, weight_quant=quantizer, return_quant_tensor=True)

    def forward(self, x: Tensor | IntQuantTensor) -> Tensor | IntQuantTensor:
        if self.training:
            return F.linear(x, self.learned_weight())
        return super().forward(x)


class SubnetConv2d(_SubnetLayer, qnn.QuantConv2d):
    """A Brevitas convolution over a subnetwork."""

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        groups: int,
        quantizer: type[SubnetWeight],
    ) -> None:
        super().__init__(
            *channels,
            kernel,
            stride=stride,
            padding=padding,
            groups=groups,
            bias=False,
            weight_quant=quantizer,
            return_quant_tensor=True,
        )

    def forward(self, x: Tensor | IntQuantTensor) -> Tensor | IntQuantTensor:
        if self.training:
            return F.conv2d(x, self.learned_weight(), None, self.stride, self.padding, 1, self.groups)
        return super().forward(x)


class _FixedPoint(torch.autograd.Function):
    """Round half to even onto a grid and saturate; gradients pass where nothing saturates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, low: int, high: int) -> Tensor:
        rounded = (x * (1 / scale)).round_()  # 1 / 2**e is exact
        if ctx.needs_input_grad[0]:  # images need none
            above = x > 0 if low == 0 else rounded >= low
            ctx.save_for_backward(above.logical_and_(rounded <= high))
        return rounded.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return inside.to(grads[0].dtype).mul_(grads[0]), None, None, None


class FixedPointQuant(nn.Module):
    """Stands where Brevitas' IntQuant stands for activations: the contract's rounding, in one fused step."""

    def __init__(self, signed: bool, bit_width: int, input_view_impl: nn.Module) -> None:
        super().__init__()
        self.input_view_impl = input_view_impl
        self.low = -(1 << (bit_width - 1)) if signed else 0
        self.high = (1 << (bit_width - int(signed))) - 1

    def apply_grid(self, x: Tensor, scale: float) -> Tensor:
        """Fixed-point values of x, differentiable straight through."""
        values: Tensor = _FixedPoint.apply(x, scale, self.low, self.high)
        return values

    def forward(self, scale: Tensor, zero_point: Tensor, bit_width: Tensor, x: Tensor) -> Tensor:
        """Brevitas' call."""
        return self.apply_grid(x, float(scale))


class SignedActivation(IntQuant, PerTensorPoTScaling8bit, ActQuantSolver):
    """Activation quantizer on a static power-of-two grid, two's complement."""

    int_quant = FixedPointQuant
    scaling_impl = PowerOfTwoScale
    exponent = 0


class UnsignedActivation(UintQuant, PerTensorPoTScaling8bit, ActQuantSolver):
    """Activation quantizer on a static power-of-two grid; its saturation at 0 is the ReLU."""

    int_quant = FixedPointQuant
    scaling_impl = PowerOfTwoScale
    exponent = 0


class Activation(qnn.QuantIdentity):
    """Fixed-point activation of one layer and task. An unsigned format is a ReLU."""

    def __init__(self, bits: int, signed: bool, exponent: int = 0) -> None:
        quantizer = SignedActivation if signed else UnsignedActivation
        super().__init__(quantizer.let(bit_width=bits, exponent=exponent), return_quant_tensor=True)
        self.bits, self.signed = bits, signed

    @property
    def grid(self) -> PowerOfTwoScale:
        """The scale of this activation."""
        grid = self.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl
        assert isinstance(grid, PowerOfTwoScale)
        return grid

    @property
    def quant(self) -> FixedPointQuant:
        """The rounding of this activation."""
        quant = self.act_quant.fused_activation_quant_proxy.tensor_quant.int_quant
        assert isinstance(quant, FixedPointQuant)
        return quant

    def forward(self, x: Tensor | IntQuantTensor) -> Tensor | IntQuantTensor:
        if self.training:
            x = x.to(torch.promote_types(x.dtype, torch.float32))  # products may come in bfloat16
            return self.quant.apply_grid(x, self.grid.real)
        return super().forward(x)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Choose the grid with the least squared error on a sample of x.

        The largest value gives the coarsest candidate; four finer ones are tried, because at few bits
        saturating rare large values costs less than a coarse step.
        """
        top = float(x.abs().max() if self.signed else x.max())
        if not math.isfinite(top) or top <= 0:
            return
        coarsest = math.ceil(math.log2(top / self.quant.high))
        x = x[:: max(1, x.numel() // CALIBRATION_VALUES)]
        target = x if self.signed else x.clamp(min=0)
        errors: dict[int, float] = {}
        for exponent in range(coarsest, coarsest - 5, -1):
            errors[exponent] = float((self.quant.apply_grid(x, 2.0**exponent) - target).square().mean())
        self.grid.set(min(errors, key=lambda exponent: errors[exponent]))
