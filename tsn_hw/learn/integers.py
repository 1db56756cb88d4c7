"""What Brevitas computes, as integers: the trained model as an engine that can be compared with ``==``."""

from __future__ import annotations

import numpy as np
import torch
from brevitas.quant_tensor import IntQuantTensor

from tsn_hw.core.arithmetic import FLOAT64_EXACT, Ints
from tsn_hw.core.errors import EngineError
from tsn_hw.learn.activations import value_of
from tsn_hw.learn.freezing import requantization
from tsn_hw.learn.models import SubnetModel, Taps


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
