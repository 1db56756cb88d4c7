"""Activations on grids of powers of two, as Brevitas quantizers: the contract's rounding in one fused step."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import brevitas.nn as qnn
import torch
from brevitas.quant.base import IntQuant, PerTensorPoTScaling8bit, UintQuant
from brevitas.quant.solver.act import ActQuantSolver
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.learn.forward import as_float

AnyTensor: TypeAlias = Tensor | IntQuantTensor
"""Plain numbers in training, numbers with scale and bit width in evaluation."""
CALIBRATION_VALUES = 1 << 20
"""Values, about, on which the grid of an activation is tried; large feature maps have fifty million."""


def value_of(x: AnyTensor) -> Tensor:
    """The numbers of a tensor, whether or not they carry a scale."""
    values: Tensor = x.value if isinstance(x, IntQuantTensor) else x
    return values


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
        return as_float(inside, grads[0].dtype).mul_(grads[0]), None, None, None


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
        grid: PowerOfTwoScale = self.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl
        return grid

    @property
    def quant(self) -> FixedPointQuant:
        """The rounding of this activation."""
        quant: FixedPointQuant = self.act_quant.fused_activation_quant_proxy.tensor_quant.int_quant
        return quant

    @property
    def format(self) -> ActFormat:
        """The integers that this activation gives."""
        return ActFormat(self.bits, self.signed, int(self.grid.exponent))

    def forward(self, x: AnyTensor) -> AnyTensor:
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
