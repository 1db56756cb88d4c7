"""Units that skip zeros in RTL: the reference's integers, whatever stalls, in as many steps as lists have lines."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from export.rtl.project import write_rtl
from export.rtl.simulation import RtlCall, compile_rtl, loading_calls
from export.rtl.simulators import simulator
from sim.devices import device
from sim.resources import estimate_resources
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.rtl_designs import different_integers, icarus, needs_iverilog, predicted_steps
from tests.rtl.test_rtl import CONV, MLP, RESIDUAL, needs_verilator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator

LAYOUTS = {"all": ("lists",), "dense": ("dense",), "mixed": ("lists", "dense"), "mixed otherwise": ("dense", "lists")}


def design(recipe: Recipe, pe: int, simd: int, mask="deep", layout="all", **room: int):
    net, layouts = random_network(recipe), LAYOUTS[layout]
    chosen = settings(net, pe=pe, simd=simd, mask=mask, layout=lambda number: layouts[number % len(layouts)], **room)
    return accelerator(net, chosen)


@needs_iverilog
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: design(MLP, 1, 1), id="MLP, one lane"),
        pytest.param(lambda: design(MLP, 3, 4), id="MLP, 12 lanes"),
        pytest.param(lambda: design(MLP, 2, 2, layout="mixed", max_tasks=6), id="MLP, mixed, room for tasks"),
        pytest.param(lambda: design(CONV, 2, 2), id="conv"),
        pytest.param(lambda: design(RESIDUAL, 2, 2, layout="mixed otherwise"), id="residual, mixed"),
        pytest.param(
            lambda: design(replace(MLP, mask_kinds=("empty", "full", "one weight", "random")), 2, 4),
            id="MLP, tasks that use nothing, everything, one weight",
        ),
    ],
)
def test_every_unit_gives_the_integers_of_the_reference_whatever_stalls(tmp_path, made):
    design = made()
    net, compiled = design.net, icarus(tmp_path, design)
    tasks = [*range(len(net.tasks)), 0]
    changing = [RtlCall(task, adversarial_inputs(net, 1 + task % 2, seed=task)) for task in tasks]
    several = [RtlCall(1, adversarial_inputs(net, count, seed=9)) for count in (4, 5, 6)]
    for stall_percent, calls in ((0, several), (0, changing), (40, changing)):
        results = compiled.run(calls, stall_percent, seed=7)
        assert different_integers(net, calls, results) == 0
        for call, result in zip(calls, results, strict=True):
            assert result.steps == predicted_steps(design, len(call.inputs), call.task)


@needs_iverilog
def test_a_wide_layer_takes_an_interval_of_its_lines(tmp_path):
    """Where a list is longer than a vector and what its results take, vectors follow one another without a gap."""
    net = random_network(replace(MLP, widths=(64, 40), classes=4, tasks=2, banks=1, density=0.3))
    made = accelerator(net, settings(net, pe=2, simd=2, layout=lambda number: "lists"))
    calls = [RtlCall(1, adversarial_inputs(net, count, seed=9)) for count in (6, 7)]
    results = icarus(tmp_path, made).run(calls)
    interval = estimate_resources(made, device("xc7z020")).interval_cycles
    slowest = max(unit.steps_of(1) for unit in made.matrices)
    assert results[1].cycles - results[0].cycles == slowest <= interval


@needs_iverilog
@pytest.mark.parametrize(
    ("columns", "lines", "vectors", "results"),
    [(20, 17, 2, 2), (20, 16, 2, 4), (34, 17, 3, 2), (40, 17, 2, 2), (26, 16, 2, 4), (28, 16, 3, 4), (4, 2, 4, 16)],
)
def test_banks_are_as_many_as_a_list_never_waits_for_and_no_more(tmp_path, columns, lines, vectors, results):
    """Two of results are enough where a list is as long as their way: 2 cycles of its memory, 14 stages, a word.

    Two of vectors are where a list and a vector, two columns a cycle, differ by the 3 cycles that look a line up.
    """
    weights = np.arange(columns)[None] < lines
    net = linear(weights, requantization(None, channels=1), U8, head=False)
    made = accelerator(net, HardwareSettings({"head": UnitSettings(Folding(1, 2), layout="lists")}))
    (unit,) = made.matrices
    assert (unit.steps_of(0), unit.vector_banks, unit.result_banks) == (lines, vectors, results)
    few, many = icarus(tmp_path, made).run([RtlCall(0, adversarial_inputs(net, count)) for count in (30, 40)])
    assert many.cycles - few.cycles == 10 * unit.cycles_of(0)


@needs_iverilog
def test_lists_that_are_loaded(tmp_path):
    made = design(RESIDUAL, 2, 2, "runtime")
    net, calls = made.net, []
    for task in (0, 2, 1):
        calls += [*loading_calls(made, task), RtlCall(task, adversarial_inputs(net, 2, seed=task))]
    results = icarus(tmp_path, made).run(calls, 20)
    assert {result.status for result in results} == {0}
    ran = [pair for pair in zip(calls, results, strict=True) if pair[0].command == 0]
    assert different_integers(net, *zip(*ran, strict=True)) == 0


@needs_verilator
def test_many_integers_in_the_fast_simulator(tmp_path):
    made = design(replace(MLP, widths=(48, 32), classes=5, tasks=3), 2, 4)
    net = made.net
    write_rtl(made, tmp_path)
    compiled = compile_rtl(made, tmp_path, chosen=simulator("verilator"))
    calls = [RtlCall(task, adversarial_inputs(net, 300, seed=task)) for task in range(3)]
    for stall_percent in (0, 30):
        assert different_integers(net, calls, compiled.run(calls, stall_percent, seed=1)) == 0


@needs_verilator
@pytest.mark.parametrize(
    "made",
    [
        lambda: design(MLP, 1, 1),
        lambda: design(MLP, 3, 4, layout="mixed", max_tasks=6),
        lambda: design(replace(CONV, tasks=1), 2, 2),
        lambda: design(RESIDUAL, 2, 2, "runtime"),
        lambda: design(replace(MLP, signed_input=True, multipliers=False, act_bits=16), 2, 1),
    ],
)
def test_projects_are_lint_clean(tmp_path, made):
    write_rtl(made(), tmp_path)
    sources = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("rtl/*.sv"))
    command = ["verilator", "--lint-only", "-Wall", "--top-module", "tsn_accelerator", *sources]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
