"""What Brevitas computes, as integers: the trained model as an engine that can be compared with ``==``."""

from __future__ import annotations

import numpy as np
import torch
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor

from tsn_hw.core.arithmetic import FLOAT64_EXACT, Ints
from tsn_hw.core.errors import EngineError
from tsn_hw.core.layers import INPUT
from tsn_hw.learn.layers import Activation
from tsn_hw.learn.models import SubnetModel, TaskAffine


@torch.no_grad()
def brevitas_integers(model: SubnetModel, task: int, x: Ints) -> dict[str, Ints]:
    """The integers of every layer for a committed task, by the architecture's names, and ``head``: the logits.

    ``x``: (batch, ...) integers of the input format. Every value is divided by its own QuantTensor's scale and must
    be a whole number. The model is turned to float64 for good, where the contract's integers are exact; pass a copy of
    one that is still to be trained.
    """
    _check_reach(model, task)
    model.double().eval()
    taps: dict[str, Tensor | IntQuantTensor] = {}
    real = torch.from_numpy(x.astype(np.float64)) * 2.0**model.formats.input.exponent
    model(real.to(model.device), task, taps)
    private = model.modules_of(task)
    features = list(taps.values())[-2]
    assert isinstance(features, IntQuantTensor)
    scale = float(features.scale) * private.head.grid.real * 2.0 ** int(private.affine.dropped_bits)
    return {
        name: _integers(name, *((tap.value, float(tap.scale)) if isinstance(tap, IntQuantTensor) else (tap, scale)))
        for name, tap in taps.items()
    }


def _check_reach(model: SubnetModel, task: int) -> None:
    """Products beyond 2**53 are rounded when they become float64; that is harmless only where they saturate anyway."""
    private, exponents = model.modules_of(task), {INPUT: model.formats.input.exponent}
    for index, layer in enumerate(model.architecture.layers):
        finest = min(exponents[source] for source in layer.inputs)
        exponents[index] = finest
        if str(index) in private.activations:
            activation = private.activations[str(index)]
            assert isinstance(activation, Activation)
            exponents[index] = int(activation.grid.exponent)
        weights = model.body_layers(task).get(index)
        if weights is None:
            continue
        affine, subnet = private.affines[str(index)], weights.subnet
        assert isinstance(affine, TaskAffine)
        if model.prefix(task) >= subnet.committed:
            raise EngineError(f"layer {layer.name!r}: task {task} is not committed, it has no integers yet")
        used = (subnet.masks[model.prefix(task)] * subnet.stored()).abs().flatten(1).sum(dim=1).double()
        reach = used * 2.0**model.formats.act_bits * affine.multiplier.abs() + affine.offset.abs()
        shift = exponents[index] - finest - int(weights.grid.exponent) - int(affine.multiplier_exponent)
        if float(reach.max()) > FLOAT64_EXACT and shift + model.formats.act_bits + 1 > 53:
            raise EngineError(f"layer {layer.name!r}: products of {float(reach.max()):.3g} do not fit float64")


def _integers(name: str, value: Tensor, scale: float) -> Ints:
    units = (value / scale).cpu().numpy()
    integers: Ints = units.astype(np.int64)
    if (integers != units).any():
        raise EngineError(f"layer {name!r}: Brevitas computes values off its own grid of {scale}")
    return integers
