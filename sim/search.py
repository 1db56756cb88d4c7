"""The folding search: the fastest accelerator that fits a part, or the smallest that reaches a rate.

Every unit has a list of options, one for each legal folding and memory type, and what each takes of the part. For a
number of cycles that no unit may exceed, the search adds unit after unit to partial designs and keeps those that no
other betters in every resource. That is exact while at most :data:`KEPT` are left; of more it keeps those whose binding
resource has the smallest share. The fewest cycles are found by bisection over the cycles that options have.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.area import Coefficients
from sim.devices import Device
from sim.resources import (
    Estimate,
)
from tsn_hw.folding import MaskMode
from tsn_hw.network import PackedNetwork
from tsn_hw.units import Accelerator

KEPT = 200


@dataclass(frozen=True)
class Found:
    """The result of a search: the accelerator, whose settings are the folding, and its estimate."""

    accelerator: Accelerator
    estimate: Estimate


def search_folding(
    net: PackedNetwork,
    device: Device,
    *,
    target_fps: float | None = None,
    clock_mhz: float | None = None,
    limit_percent: float = 80.0,
    mask: MaskMode = "deep",
    max_tasks: int = 0,
    max_banks: int = 0,
    coefficients: Coefficients | None = None,
) -> Found:
    """The smallest accelerator that makes ``target_fps`` inferences a second; without a target, the fastest.

    limit_percent: share of every resource of the part that it may take. mask, max_tasks, max_banks: as in
    :class:`tsn_hw.folding.HardwareSettings`. Small means: the largest share of any resource is least, then their sum.

    Raises FoldingError if there is none: it says which resource binds, and by how much.
    """
    raise NotImplementedError
