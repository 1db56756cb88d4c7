"""Golden data of an HLS project: inputs, and the integers that every unit must give for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tsn_hw.arithmetic import Ints


@dataclass(frozen=True, eq=False)
class GoldenRun:
    """Inputs of one task, and what its layers give for them.

    inputs: (batch, *net.input_shape), integers of the network's input format. layers: (batch, ...) integers by name of
    the layer, at least those that a unit computes; ``sim.reference.run`` gives them.
    """

    task: int
    inputs: Ints
    layers: Mapping[str, Ints]
