"""Accelerators for tests of the RTL: foldings at random, their simulation, and what it must give."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from export.rtl.project import write_rtl
from export.rtl.simulation import RtlSimulation, compile_rtl
from export.rtl.simulators import simulator
from tsn_hw.core import reference
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings, divisors
from tsn_hw.hardware.kinds import MatrixUnit, PoolUnit
from tsn_hw.hardware.pipeline import accelerator, unit_names

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")


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


def loaded(design: Accelerator, mask: str, ram_style: str) -> Accelerator:
    """An accelerator with masks and words of units with weights of other kinds; its other units have what masks say."""
    units = {
        unit.name: replace(
            unit.settings, mask=mask, ram_style=ram_style if isinstance(unit, MatrixUnit) else unit.settings.ram_style
        )
        for unit in design.units
    }
    return accelerator(design.net, replace(design.settings, units=units))


def predicted_steps(design: Accelerator, inferences: int, task: int = 0) -> dict[tuple[str, str], int]:
    """Steps of every loop, as :mod:`tsn_hw.hardware.units` predicts them; those of lists depend on the task."""
    steps = {}
    for unit in design.units:
        window = unit.window if isinstance(unit, MatrixUnit | PoolUnit) else None
        if window is not None:
            steps[unit.name, "window"] = window.cycles * inferences
        cycles = unit.steps_of(task) if isinstance(unit, MatrixUnit) else unit.output.elements // unit.pe
        if isinstance(unit, PoolUnit):
            cycles *= math.prod(unit.window.kernel)
        steps[unit.name, "unit"] = cycles * inferences
    return steps


def icarus(folder, design: Accelerator) -> RtlSimulation:
    """An accelerator in the simulator that compiles in no time."""
    write_rtl(design, folder)
    return compile_rtl(design, folder, chosen=simulator("icarus"))


def different_integers(net: PackedNetwork, calls, results) -> int:
    """How many integers of all layers and calls differ from the reference."""
    wrong = 0
    for call, result in zip(calls, results, strict=True):
        truth = {name: v for name, v in reference.run(net, call.task, call.inputs).items() if name != "flatten"}
        assert result.status == 0
        assert list(result.layers) == list(truth)
        wrong += sum(int((truth[name] != values).sum()) for name, values in result.layers.items())
    return wrong
