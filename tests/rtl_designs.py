"""Accelerators for tests of the RTL: foldings at random, and the steps that every loop must take."""

import math

import numpy as np

from tsn_hw.folding import Folding, HardwareSettings, UnitSettings, divisors
from tsn_hw.network import PackedNetwork
from tsn_hw.pipeline import accelerator, unit_names
from tsn_hw.units import Accelerator, MatrixUnit, PoolUnit


def folded(net: PackedNetwork, rng: np.random.Generator, most: int = 4) -> Accelerator:
    """An accelerator with a legal folding at random, at most ``most`` either way."""
    base = accelerator(net, HardwareSettings(dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))))

    def choice(whole: int) -> int:
        return int(rng.choice([divisor for divisor in divisors(whole) if divisor <= most]))

    units = {
        unit.name: UnitSettings(
            Folding(choice(unit.rows), choice(unit.sources[0].channels))
            if isinstance(unit, MatrixUnit)
            else Folding(choice(unit.output.channels))
        )
        for unit in base.units
    }
    return accelerator(net, HardwareSettings(units))


def predicted_steps(design: Accelerator, inferences: int) -> dict[tuple[str, str], int]:
    """Steps of every loop, as :mod:`tsn_hw.units` predicts them."""
    steps = {}
    for unit in design.units:
        window = unit.window if isinstance(unit, MatrixUnit | PoolUnit) else None
        if window is not None:
            steps[unit.name, "window"] = window.cycles * inferences
        cycles = unit.matrix_cycles if isinstance(unit, MatrixUnit) else unit.output.elements // unit.output_lanes
        if isinstance(unit, PoolUnit):
            cycles *= math.prod(unit.window.kernel)
        steps[unit.name, "unit"] = cycles * inferences
    return steps
