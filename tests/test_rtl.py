"""The RTL back end: what is written, that it is lint-clean, and that it computes the reference's integers."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from handmade import U8, linear, requantization
from networks import Recipe, adversarial_inputs, random_network
from rtl_designs import different_integers, folded, icarus, predicted_steps

from export.rtl import rtl_files, write_rtl
from export.rtl_simulation import RtlCall
from sim.devices import device
from sim.resources import estimate_resources
from tsn_hw.errors import ExportError
from tsn_hw.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.pipeline import accelerator, unit_names

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="needs verilator")

MLP = Recipe(kind="mlp", tasks=4, banks=2, multipliers=True, seed=4)
CONV = Recipe(kind="conv", tasks=2, banks=1, seed=1)
RESIDUAL = Recipe(kind="residual", tasks=3, banks=2, signed_input=True, multipliers=True, seed=3)


@needs_iverilog
@pytest.mark.parametrize("recipe", [MLP, CONV, RESIDUAL], ids=["mlp", "conv", "residual"])
def test_every_unit_gives_the_integers_of_the_reference_whatever_stalls(tmp_path, recipe):
    net = random_network(recipe)
    design = folded(net, np.random.default_rng(0))
    compiled = icarus(tmp_path, design)
    tasks = [*range(len(net.tasks)), 0]  # the task changes with every vector
    calls = [RtlCall(task, adversarial_inputs(net, 1, seed=task)) for task in tasks]
    calls += [RtlCall(1, adversarial_inputs(net, count, seed=9)) for count in (2, 3)]
    for stall_percent in (0, 40):
        results = compiled.run(calls, stall_percent, seed=7)
        assert different_integers(net, calls, results) == 0
        for call, result in zip(calls, results, strict=True):
            assert result.steps == predicted_steps(design, len(call.inputs))
        if stall_percent == 0:
            interval = estimate_resources(design, device("xc7z020")).interval_cycles
            assert results[-1].cycles - results[-2].cycles == interval


@needs_iverilog
def test_calls_that_cannot_be_carried_out_are_refused_and_take_nothing(tmp_path):
    net = random_network(MLP)
    compiled = icarus(tmp_path, folded(net, np.random.default_rng(0)))
    one, load = adversarial_inputs(net, 1), 1
    calls = [RtlCall(4, one), RtlCall(0, one, load), RtlCall(0, one[:0]), RtlCall(3, one)]
    results = compiled.run(calls)
    assert [result.status for result in results] == [1, 3, 0, 0]
    assert different_integers(net, calls[3:], results[3:]) == 0


@needs_iverilog
def test_cycles_are_those_predicted_and_a_constant_in_24_foldings(tmp_path):
    rng = np.random.default_rng(0)
    weights = rng.integers(-7, 8, (8, 24))
    net = linear(weights, requantization(None, shift=0, channels=8), U8, head=False)
    foldings = [Folding(pe, simd) for pe in (1, 2, 4, 8) for simd in (1, 2, 3, 4, 6, 8)]
    x = adversarial_inputs(net, 3)
    fills = set()
    for number, folding in enumerate(foldings):
        design = accelerator(net, HardwareSettings({"head": UnitSettings(folding)}))
        one, three = icarus(tmp_path / str(number), design).run([RtlCall(0, x[:1]), RtlCall(0, x)])
        wanted = design.head.matrix_cycles
        assert three.steps == {("head", "unit"): 3 * wanted}
        assert different_integers(net, [RtlCall(0, x)], [three]) == 0
        assert (folding, (three.cycles - one.cycles) / 2) == (folding, max(wanted, 8))  # 8 logits leave one by one
        if design.head.column_folds >= folding.pe:  # else earlier logits still leave when the last come
            converters = (folding.simd != 8) + (folding.pe != 1)  # a FIFO of registers each: one cycle
            fills.add(one.cycles - wanted - folding.pe - converters)
    assert (len(foldings), fills) == (24, {24})


@needs_verilator
@pytest.mark.parametrize("recipe", [MLP, CONV, RESIDUAL, replace(CONV, act_bits=16, seed=2)])
def test_projects_are_lint_clean(tmp_path, recipe):
    design = folded(random_network(recipe), np.random.default_rng(1))
    write_rtl(design, tmp_path / "rtl")
    sources = sorted(str(path.relative_to(tmp_path / "rtl")) for path in (tmp_path / "rtl").glob("rtl/*.sv"))
    bench = ["-DTSN_WATCH", "--top-module", "tsn_bench", "testbench/tsn_bench.sv"]
    for options in (["--top-module", "tsn_accelerator"], bench):
        command = ["verilator", "--lint-only", "-Wall", *options, *sources]
        done = subprocess.run(command, cwd=tmp_path / "rtl", capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_project_has_sources_memories_test_bench_and_core_file():
    net = random_network(MLP)
    files = rtl_files(folded(net, np.random.default_rng(0)))
    assert files == rtl_files(folded(net, np.random.default_rng(0)))
    core = files["tsn_accelerator.core"].decode().splitlines()
    assert core[0] == "CAPI=2:"
    assert "      - rtl/tsn_accelerator.sv" in core
    assert "      - memories/fc0.words.mem: {copyto: memories/fc0.words.mem}" in core
    assert {name for name in files if name.startswith("testbench/")} == {
        "testbench/bench.cpp",
        "testbench/testbench.sv",
        "testbench/tsn_bench.sv",
    }
    assert {name.split("/")[0] for name in files} == {"rtl", "memories", "testbench", "tsn_accelerator.core"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            UnitSettings(Folding(1), mask="runtime"),
            "layer 'fc0': mask='runtime' is loaded over the bus, and the memories of RTL are not; "
            "choose 'deep', or write an HLS project",
        ),
        (
            UnitSettings(Folding(1), ram_style="ultra"),
            "layer 'fc0': ram_style='ultra' is loaded over the bus, and the memories of RTL are not; "
            "choose 'block', or write an HLS project",
        ),
    ],
)
def test_what_is_loaded_over_the_bus_is_refused(tmp_path, settings, message):
    net = random_network(MLP)
    units = dict.fromkeys(unit_names(net), UnitSettings(Folding(1))) | {"fc0": settings}
    with pytest.raises(ExportError) as caught:
        write_rtl(accelerator(net, HardwareSettings(units)), tmp_path / "rtl")
    assert str(caught.value) == message
    assert not (tmp_path / "rtl").exists()
