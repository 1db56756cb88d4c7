"""Dropout whose draws cost little and come from a generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dropped(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Dropout: every element is 0 with probability ``share`` in steps of 1/256; the others grow to keep the mean.

    Eight elements take one draw of 64 bits, because drawing costs more than the layer behind it.
    """
    count, lost = x.numel(), math.floor(256 * share + 0.5)
    draws = torch.empty((count + 7) // 8, dtype=torch.int64, device=x.device)
    draws.random_(-(2**63), None, generator=generator)
    kept = draws.view(torch.uint8)[:count].view(x.shape) >= lost
    return x * kept.to(x.dtype).mul_(256 / (256 - lost))
