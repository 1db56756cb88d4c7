"""What Brevitas computes, as integers: the trained model as an engine that can be compared with ``==``."""

from __future__ import annotations

import numpy as np
import torch
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor

from tsn_hw.arithmetic import Ints
from tsn_hw.errors import EngineError
from tsn_hw.learn.models import SubnetModel


@torch.no_grad()
def brevitas_integers(model: SubnetModel, task: int, x: Ints) -> dict[str, Ints]:
    """The integers of every layer for a committed task, by the architecture's names, and ``head``: the logits.

    ``x``: (batch, ...) integers of the input format. Every value is divided by its own QuantTensor's scale and must
    be a whole number. The model computes in float64, where the contract's integers are exact.
    """
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


def _integers(name: str, value: Tensor, scale: float) -> Ints:
    units = (value / scale).cpu().numpy()
    integers: Ints = units.astype(np.int64)
    if (integers != units).any():
        raise EngineError(f"layer {name!r}: Brevitas computes values off its own grid of {scale}")
    return integers
