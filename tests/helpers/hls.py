"""Accelerators of random networks, compiled and compared with the int64 loop."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from export import GoldenRun
from export.hls.csim import compiled
from export.project.golden import golden_data
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tsn_hw.core import reference
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.pipeline import accelerator

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


network_of = cache(random_network)


def design(
    recipe: Recipe, pe: int = 2, simd: int = 3, mask: str = "deep", ram_style: str = "auto", **room: int
) -> Accelerator:
    """The accelerator of a random network, every unit as parallel as it can be up to pe x simd."""
    net = network_of(recipe)
    found = settings(net, pe, simd, mask, **room)
    units = {name: replace(unit, ram_style=ram_style) for name, unit in found.units.items()}
    return accelerator(net, replace(found, units=units))


@cache
def golden_runs(net: PackedNetwork, count: int) -> list[GoldenRun]:
    """Inputs of every task and what the int64 loop gives for them."""
    runs = []
    for task in range(len(net.tasks)):
        x = adversarial_inputs(net, count, seed=task)
        runs.append(GoldenRun(task, x, reference.run(net, task, x)))
    return runs


def assert_equal_integers(made: Accelerator, count: int, ap_types: Path | None = None) -> None:
    """Every input of every task alone, the task changing every time, and all at once: no integer differs."""
    done = compiled(made, ap_types).check(golden_data(made, golden_runs(made.net, count)))
    integers = 2 * count * len(made.net.tasks) * sum(unit.output.elements for unit in made.units)
    expected = rf"PASS: {integers} integers, .*, cycles of {len(made.units)} units; 0 differ\n$"
    assert re.match(expected, done.stdout), done.stdout
    assert done.returncode == 0


def ap_types() -> Path:
    """The folder of the vendor's ap_int.h that hls4ml brings along; the test is skipped where it is not there."""
    named, python = os.environ.get("TSN_HW_AP_TYPES"), os.environ.get("TSN_HW_PEERS_PYTHON")
    if named:
        return Path(named)
    if not python:
        pytest.skip("neither TSN_HW_AP_TYPES nor TSN_HW_PEERS_PYTHON says where hls4ml is (make test installs it)")
    code = "import importlib.util; print(importlib.util.find_spec('hls4ml').submodule_search_locations[0])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()) / "templates" / "vivado" / "ap_types"
