"""The RTL back end: what is written, that it is lint-clean, and that it computes the reference's integers."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from export.rtl.project import rtl_files, write_rtl
from export.rtl.simulation import LOAD, RtlCall, loading_calls
from sim.devices import device
from sim.resources import estimate_resources
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, with_equal_codebooks
from tests.helpers.rtl_designs import different_integers, folded, icarus, loaded, predicted_steps
from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.loads import ALL_TASKS
from tsn_hw.hardware.pipeline import accelerator

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="needs verilator")

MLP = Recipe(kind="mlp", tasks=4, banks=2, multipliers=True, seed=4)
CONV = Recipe(kind="conv", tasks=2, banks=1, seed=1)
RESIDUAL = Recipe(kind="residual", tasks=3, banks=2, signed_input=True, multipliers=True, seed=3)


@needs_iverilog
@pytest.mark.parametrize(
    "net",
    [
        random_network(MLP),
        with_equal_codebooks(random_network(CONV)),
        random_network(RESIDUAL),
        random_network(Recipe(kind="depthwise", tasks=2, multipliers=True, seed=3)),
    ],
    ids=["mlp", "conv, words without a prefix", "residual", "depthwise"],
)
def test_every_unit_gives_the_integers_of_the_reference_whatever_stalls(tmp_path, net):
    design = folded(net, np.random.default_rng(0))
    compiled = icarus(tmp_path, design)
    tasks = [*range(len(net.tasks)), 0]  # the task changes with every vector
    changing = [RtlCall(task, adversarial_inputs(net, 1, seed=task)) for task in tasks]
    several = [RtlCall(1, adversarial_inputs(net, count, seed=9)) for count in (2, 3)]
    for stall_percent, calls in ((0, several), (40, changing)):
        results = compiled.run(calls, stall_percent, seed=7)
        assert different_integers(net, calls, results) == 0
        for call, result in zip(calls, results, strict=True):
            assert result.steps == predicted_steps(design, len(call.inputs))
        if stall_percent == 0:
            interval = estimate_resources(design, device("xc7z020")).interval_cycles
            assert results[1].cycles - results[0].cycles == interval


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
@pytest.mark.parametrize(("mask", "ram_style"), [("deep", "ultra"), ("runtime", "ultra")])
def test_what_load_packets_bring_is_there_and_nothing_else_runs(tmp_path, mask, ram_style):
    net = random_network(RESIDUAL)
    design = loaded(folded(net, np.random.default_rng(0)), mask, ram_style)
    calls = [RtlCall(0, adversarial_inputs(net, 1))]
    for task in (0, 2):
        calls += [*loading_calls(design, task), RtlCall(task, adversarial_inputs(net, 1, seed=task))]
    calls.append(RtlCall(1, adversarial_inputs(net, 1)))  # not loaded where masks are of one task
    compiled = icarus(tmp_path, design)
    for stall_percent in (0, 40):
        results = compiled.run(calls, stall_percent)
        assert [result.status for result in results[:-1]] == [2, *[0] * (len(calls) - 2)]
        assert results[-1].status == (2 if mask == "runtime" else 0)
        ran = [pair for pair in zip(calls, results, strict=True) if pair[0].command == 0 and pair[1].status == 0]
        assert len(ran) == (2 if mask == "runtime" else 3)
        assert different_integers(net, *zip(*ran, strict=True)) == 0
        if stall_percent == 0:  # a beat a cycle
            loads = [(len(c.inputs), r.cycles) for c, r in zip(calls, results, strict=True) if c.command == LOAD]
            assert {cycles - beats for beats, cycles in loads} == {11}


@needs_iverilog
def test_load_packets_that_are_wrong_are_taken_and_count_as_not_loaded(tmp_path):
    net = random_network(replace(MLP, widths=(8, 4), classes=2))
    design = loaded(folded(net, np.random.default_rng(0)), "runtime", "auto")
    (good,) = loading_calls(design, 1)
    x = adversarial_inputs(net, 1)
    compiled = icarus(tmp_path, design)
    wrong = {"cut short": good.inputs[:-1]}
    for what, bit in {"unit": 3, "kind": 16, "limbs": 25, "address": 62}.items():
        wrong[what] = good.inputs.copy()
        wrong[what][0] ^= 1 << bit
    for what, beats in wrong.items():
        calls = [good, RtlCall(1, x), RtlCall(1, beats, LOAD), RtlCall(1, x), good, RtlCall(1, x)]
        results = compiled.run(calls)
        assert (what, [result.status for result in results]) == (what, [0, 0, 4, 2, 0, 0])
    calls = [RtlCall(ALL_TASKS, good.inputs, LOAD), RtlCall(4, good.inputs, LOAD), RtlCall(0, x, 3)]
    assert [result.status for result in compiled.run(calls)] == [1, 1, 3]


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
        wanted = design.head.steps
        assert three.steps == {("head", "unit"): 3 * wanted}
        assert different_integers(net, [RtlCall(0, x)], [three]) == 0
        assert (folding, (three.cycles - one.cycles) / 2) == (folding, max(wanted, 8))  # 8 logits leave one by one
        if design.head.column_folds >= folding.pe:  # else earlier logits still leave when the last come
            converters = int(folding.pe != 1)  # a FIFO of registers: one cycle; that of the input hides behind the task
            fills.add(one.cycles - wanted - folding.pe - converters)
    assert (len(foldings), fills) == (24, {32})


@needs_verilator
@pytest.mark.parametrize("recipe", [MLP, CONV, RESIDUAL, replace(CONV, act_bits=16, seed=2)])
def test_projects_are_lint_clean(tmp_path, recipe):
    design = folded(random_network(recipe), np.random.default_rng(1))
    if recipe is RESIDUAL:
        design = loaded(design, "runtime", "ultra")
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
    assert "      - memories/fc0.words.mem: {copyto: fc0.words.mem}" in core
    assert {name for name in files if name.startswith("testbench/")} == {
        "testbench/bench.cpp",
        "testbench/testbench.sv",
        "testbench/tsn_bench.sv",
    }
    of_one_task = rtl_files(loaded(folded(net, np.random.default_rng(0)), "runtime", "auto"))
    assert of_one_task.keys() - files.keys() == {f"tasks/task_0{task}.load" for task in range(4)}
    assert {name.split("/")[0] for name in files} == {
        "README.md",
        "constraints",
        "driver",
        "integration",
        "rtl",
        "memories",
        "testbench",
        "scripts",
        "tsn_accelerator.core",
        "tsn_accelerator.xml",
    }


def test_a_line_that_no_load_packet_carries_is_refused(tmp_path):
    net = linear(np.ones((128, 128), np.int64), requantization(None, channels=128), U8, head=False)
    design = accelerator(net, HardwareSettings({"head": UnitSettings(Folding(128, 128), mask="runtime")}))
    with pytest.raises(FoldingError) as caught:
        write_rtl(design, tmp_path / "rtl")
    assert str(caught.value) == (
        "layer 'head': a line of its mask has 16384 bits, "
        "a load packet carries at most 16320; take a smaller pe or simd"
    )
    assert not (tmp_path / "rtl").exists()
