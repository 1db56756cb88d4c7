"""`tsn-hw hls`: the folder that it writes, what it chooses, and what it refuses."""

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export import GoldenRun, write_hls
from export.project.folder import MANIFEST, manifest_of
from export.project.folding_json import read_folding
from sim.devices import device
from sim.resources import estimate_resources
from tests.helpers.compiled_top import needs_compiler
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network
from tests.helpers.tiny_run import finished_run
from tsn_hw.app.cli.main import main
from tsn_hw.app.deploy.verify import adversarial_integers
from tsn_hw.core import artifact, reference
from tsn_hw.hardware.pipeline import accelerator, unit_names

NET = random_network(Recipe(kind="residual", tasks=2, seed=3, multipliers=True))
FULL = random_network(Recipe(kind="mlp", tasks=2, mask_kinds=("full",), seed=1))
Export = Callable[..., Path]


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    """Write the project of a network with some options; returns its folder."""

    def run(net=NET, *options: object, name: str = "hls") -> Path:
        artifact.save(net, tmp_path / "net.tsn")
        folder = tmp_path / name
        arguments = ["hls", tmp_path / "net.tsn", "-o", folder, "--samples", 3, *options]
        assert main([str(argument) for argument in arguments]) == 0
        return folder

    return run


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Ask for a project that must be refused in one line; returns that line."""

    def run(net, *options: object) -> str:
        artifact.save(net, tmp_path / "net.tsn")
        arguments = ["hls", tmp_path / "net.tsn", "-o", tmp_path / "hls", *options]
        assert main([str(argument) for argument in arguments]) == 2
        text, error = capsys.readouterr()
        assert text == ""
        assert error.count("\n") == 1
        return error.removeprefix("tsn-hw: ").rstrip("\n")

    return run


def content(folder: Path) -> dict[str, bytes]:
    """Path in the folder -> content of every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bench(folder: Path, *options: str, data: Path | None = None) -> tuple[int, str]:
    """Run the compiled test bench of a folder; returns exit code and output."""
    command = [str(folder / "build/csim/testbench"), str(data or folder / "testbench/golden.dat"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


# -------------------------------------------------------------------------------------------------------------- folder


@needs_compiler
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_trained_network_becomes_a_project_whose_simulation_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hls"
    assert main(["hls", str(finished_run() / "net.tsn"), "-o", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == (
        "folding chosen by search: the fastest within 80 % of xc7z020 (xc7z020clg400-1, 100 MHz)"
    )
    done = subprocess.run(
        ["make", "--no-print-directory", "csim"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # no warning either
    assert "\nPASS: " in done.stdout
    assert "; 0 differ\n" in done.stdout
    assert [code for code, _ in (bench(folder), bench(folder, "--rtl"))] == [0, 0]


@needs_compiler
def test_co_simulation_compares_the_logits_alone_and_does_compare_them(tmp_path: Path) -> None:
    design = accelerator(NET, settings(NET, mask="runtime"))
    x = adversarial_integers(NET, 3, seed=0)
    layers = reference.run(NET, 1, x)
    head = list(layers)[-1]
    wrong = layers | {head: layers[head] + (np.arange(3) == 2)[:, None]}
    for name, integers in (("right", layers), ("wrong", wrong)):
        write_hls(design, tmp_path / name, golden=[GoldenRun(1, x, integers)])
    shutil.copytree(tmp_path / "right", tmp_path / "built")
    subprocess.run(
        ["make", "build/csim/testbench", "CXXFLAGS=-O0"], cwd=tmp_path / "built", check=True, capture_output=True
    )
    data = tmp_path / "wrong/testbench/golden.dat"
    assert bench(tmp_path / "built", "--rtl") == (
        0,
        "PASS: 24 integers, 0 memories, 0 probes, cycles of 0 units; 0 differ\n",
    )
    code, said = bench(tmp_path / "built", "--rtl", data=data)
    assert code == 1
    assert said.startswith("FAIL m_axis: another logit than the head gives\n")
    assert bench(tmp_path / "built", data=data)[0] == 1


def test_the_folder_holds_what_a_user_of_vitis_expects(export: Export) -> None:
    folder = export(NET, "--masks", "runtime")
    files = content(folder)
    assert set(files) >= {
        "README.md",
        "Makefile",
        "folding.json",
        "final_hw_config.json",
        "firmware/accelerator.cpp",
        "firmware/accelerator.hpp",
        "firmware/config.hpp",
        "firmware/tsn/matrix.hpp",
        "csim/ap_int.h",
        "testbench/testbench.cpp",
        "testbench/golden.dat",
        "memories/memories.json",
        "memories/conv0.words.mem",
        "tasks/task_00.load",
        "tasks/task_01.load",
        "scripts/build_hls.tcl",
        "scripts/hls_config.cfg",
        "scripts/block_design.tcl",
        "driver/driver.py",
        "driver/accelerator.json",
        "driver/golden.npz",
        "report/estimate_layer_cycles.json",
        "report/estimate_layer_resources.json",
        "report/estimate_network_performance.json",
    }
    assert {name for name in files if name != MANIFEST} == set(manifest_of(folder))
    assert not [name for name in files if name.startswith("rtl/")]  # the templates of the other back end
    first_column = re.findall(r"^\| (.*?) \|", files["README.md"].decode().partition("## Files")[2], re.MULTILINE)
    listed = re.findall(r"`([\w./]+)`", " ".join(first_column))
    assert len(listed) == 11
    assert [name for name in listed if not (folder / name).exists()] == []


def test_the_same_network_gives_the_same_bytes_and_replaces_an_earlier_export(export: Export) -> None:
    folder = export(NET)
    first = content(folder)
    (folder / "notes.txt").write_text("mine")
    assert content(export(NET)) == first | {"notes.txt": b"mine"}


def test_every_file_that_a_script_names_is_in_the_folder_and_every_port_in_the_firmware(export: Export) -> None:
    folder = export(NET)
    scripts = {path.name: path.read_text() for path in (folder / "scripts").iterdir()}
    named = set(re.findall(r"\$root/([\w./]+)", scripts["build_hls.tcl"]))
    named |= {Path(name).as_posix() for name in re.findall(r"\.\./([\w./]+)", scripts["hls_config.cfg"])}
    sources = {name for name in named if not name.startswith("build")}
    assert sources >= {"firmware/accelerator.cpp", "testbench/testbench.cpp", "testbench/golden.dat"}
    assert [name for name in sources if not (folder / name).exists()] == []
    firmware = (folder / "firmware/accelerator.cpp").read_text()
    pins = set(re.findall(r"tsn_accelerator_0/(\w+)", scripts["block_design.tcl"])) - {"ap_clk", "ap_rst_n"}
    ports = set(re.findall(r"mode=axis port=(\w+)", firmware))
    assert pins == ports | {f"s_axi_{bundle}" for bundle in re.findall(r"bundle=(\w+)", firmware)}
    offsets = dict(re.findall(r"port=(\w+) bundle=control offset=(0x\w+)", firmware))
    registers = json.loads((folder / "driver/accelerator.json").read_text())["registers"]
    assert {name: int(offset, 16) for name, offset in offsets.items()} == registers
    assert "void tsn_accelerator(" in firmware
    assert "set top tsn_accelerator\n" in scripts["build_hls.tcl"]


def test_golden_data_of_the_driver_is_what_the_int64_loop_computes(export: Export) -> None:
    with np.load(io.BytesIO((export(NET) / "driver/golden.npz").read_bytes())) as golden:
        inputs, logits = golden["inputs"], golden["logits"]
    assert inputs.shape == (2, 3, *NET.input_shape)
    for task, described in enumerate(NET.tasks):
        expected = list(reference.run(NET, task, inputs[task]).values())[-1]
        np.testing.assert_array_equal(logits[task, :, : len(described.classes)], expected)
        assert not logits[task, :, len(described.classes) :].any()


def test_reports_have_the_keys_of_finn_and_the_figures_of_the_estimate(export: Export) -> None:
    folder = export(NET)
    cycles, resources, network = (
        json.loads((folder / f"report/estimate_{name}.json").read_text())
        for name in ("layer_cycles", "layer_resources", "network_performance")
    )
    settings = read_folding((folder / "folding.json").read_text(), "folding.json", NET)
    design = accelerator(NET, settings)
    estimate = estimate_resources(design, device("xc7z020"))
    assert list(cycles) == ["s_axis", "m_axis", *unit_names(NET)]
    assert {unit.name: unit.cycles for unit in design.units}.items() <= cycles.items()
    assert list(resources) == [*unit_names(NET), "total"]
    assert list(resources["conv0"]) == ["LUT", "FF", "BRAM_18K", "BRAM_efficiency", "URAM", "URAM_efficiency", "DSP"]
    for key in ("LUT", "FF", "BRAM_18K", "URAM", "DSP"):
        assert resources["total"][key] == sum(resources[name][key] for name in unit_names(NET))
    assert resources["total"]["LUT"] == estimate.resources.lut
    assert all(0 < resources[name]["BRAM_efficiency"] <= 1 for name in unit_names(NET))
    assert network == {
        "critical_path_cycles": estimate.latency_cycles,
        "max_cycles": max(cycles.values()),
        "max_cycles_node_name": max(cycles, key=lambda name: cycles[name]),
        "estimated_throughput_fps": 100e6 / max(cycles.values()),
        "estimated_latency_ns": 10 * estimate.latency_cycles,
    }


# ------------------------------------------------------------------------------------------------------------- folding


def test_the_folding_file_gives_the_same_project_again(export: Export, tmp_path: Path) -> None:
    searched = export(NET, "--max-tasks", 4, "--masks", "runtime")
    shutil.copy(searched / "folding.json", tmp_path / "mine.json")
    again = content(export(NET, "--folding", tmp_path / "mine.json", name="again"))
    first = content(searched)
    different = {name for name in first if first[name] != again.get(name)}
    assert different == {"README.md", MANIFEST}  # where the folding came from
    assert f"Folding as {tmp_path / 'mine.json'} says".lower() in again["README.md"].decode().lower()


def test_a_target_rate_takes_the_smallest_design_and_the_clock_counts(
    export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = json.loads((export(NET) / "report/estimate_network_performance.json").read_text())
    folder = export(NET, "--target-fps", 1000, "--clock-mhz", 50, "--part", "xc7z020clg484-2")
    slow = json.loads((folder / "report/estimate_network_performance.json").read_text())
    assert slow["estimated_throughput_fps"] >= 1000
    assert slow["max_cycles"] > fast["max_cycles"]
    assert slow["estimated_throughput_fps"] == 50e6 / slow["max_cycles"]
    assert "set part xc7z020clg484-2\nset period_ns 20.000\n" in (folder / "scripts/build_hls.tcl").read_text()
    assert "the smallest of 1000 inferences a second within 80 % of xc7z020" in capsys.readouterr().out


def test_masks_can_be_left_out_where_every_word_is_used(export: Export) -> None:
    units = json.loads((export(FULL, "--masks", "none") / "folding.json").read_text())
    assert {units[name]["mask_mode"] for name in unit_names(FULL)} == {"none"}


def test_json_tells_the_same_as_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact.save(NET, tmp_path / "net.tsn")
    assert main(["hls", str(tmp_path / "net.tsn"), "-o", str(tmp_path / "hls"), "--samples", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["folder"] == str(tmp_path / "hls")
    assert (said["device"], said["part"]) == ("xc7z020", "xc7z020clg400-1")
    assert said["chosen"] == "folding chosen by search: the fastest within 80 % of xc7z020"
    assert said["folding"] == json.loads((tmp_path / "hls/folding.json").read_text())
    for name in ("layer_cycles", "layer_resources", "network_performance"):
        assert said[f"estimate_{name}"] == json.loads((tmp_path / f"hls/report/estimate_{name}.json").read_text())


def test_a_folding_that_the_part_cannot_hold_is_refused_with_what_is_short(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    net = random_network(Recipe(kind="mlp", tasks=2, seed=1))  # fc0: 21 to 31, fc1: 31 to 39
    folding = {"Defaults": {"PE": 1, "SIMD": 1}, "fc0": {"PE": 31, "SIMD": 21}, "fc1": {"PE": 39, "SIMD": 31}}
    (tmp_path / "all.json").write_text(json.dumps(folding))
    line = refused(net, "--folding", tmp_path / "all.json")
    assert re.fullmatch(
        rf"folding as {tmp_path}/all.json says: does not fit xc7z020: takes \d+ DSPs of 220; "
        "fold more, or choose a larger --device",
        line,
    )
    assert not (tmp_path / "hls").exists()


def test_the_part_decides_the_device_whose_figures_are_told(
    export: Export, refused: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many DSPs as the default device has room for are not said to fit a part with fewer."""
    net = random_network(Recipe(kind="mlp", tasks=2, seed=1))  # fc0: 21 to 31, fc1: 31 to 39
    folding = {"Defaults": {"PE": 1, "SIMD": 1}, "fc0": {"PE": 31, "SIMD": 3}}
    (tmp_path / "folding.json").write_text(json.dumps(folding))
    capsys.readouterr()
    folder = export(net, "--folding", tmp_path / "folding.json", "--part", "xc7z020clg484-2", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["device"], told["part"]) == ("xc7z020", "xc7z020clg484-2")
    assert 80 < told["estimate_layer_resources"]["total"]["DSP"] < 220
    assert "It fits\nxc7z020, of which it takes LUTs " in (folder / "README.md").read_text()
    line = refused(net, "--folding", tmp_path / "folding.json", "--part", "xc7z010clg225-1")
    assert line == (
        f"folding as {tmp_path}/folding.json says: does not fit xc7z010: takes "
        f"{told['estimate_layer_resources']['total']['DSP']} DSPs of 80; fold more, or choose a larger --device"
    )


def test_the_search_is_within_the_part_that_is_named_in_full(
    export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(NET, "--part", "xczu3eg-sbva484-2-e")
    assert "the fastest within 80 % of zu3eg (xczu3eg-sbva484-2-e, 200 MHz)" in capsys.readouterr().out
    assert "set part xczu3eg-sbva484-2-e\n" in (folder / "scripts/build_hls.tcl").read_text()


def test_a_part_that_is_not_of_the_device_or_not_known_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused(NET, "--device", "xc7z020", "--part", "xczu3eg-sbva484-2-e") == (
        "--part xczu3eg-sbva484-2-e: is a xczu3eg, --device xc7z020 a xc7z020; give one of them"
    )
    assert refused(NET, "--part", "xc7k325tffg900-2") == (
        "part 'xc7k325tffg900-2': what it holds is not known; known are xc7z010, xc7z020, xc7a35t, xc7a100t, xczu3eg, "
        "xczu7ev with package and speed grade, such as xc7z020clg400-1, and what a file of --device-file adds"
    )
    mine = tmp_path / "mine.toml"
    mine.write_text(
        "[device.kintex]\nfamily = 'xc7'\nsource = 'DS180'\npart = 'xc7k325tffg900-1'\nlut = 203800\nff = 407600\n"
        "bram = 890\ndsp = 840\nclock_mhz = 50\n"
    )
    assert refused(NET, "--part", "xc7k325tffg900-2", "--device-file", mine, "--target-fps", 1e9).startswith(
        "device 'kintex': nothing runs at 1000000000 inferences a second with 50 MHz; "
    )


# -------------------------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_built_is_refused_in_one_line(refused: Callable[..., str], tmp_path: Path) -> None:
    folding = tmp_path / "folding.json"
    folding.write_text('{"Defaults": {"PE": 1, "SIMD": 1}, "fc": {"PE": 3}}')
    rows = NET.layers[5].out_features  # type: ignore[union-attr]
    assert refused(NET, "--folding", folding).startswith(f"layer 'fc': pe=3 does not divide its {rows} rows; nearest: ")
    assert refused(NET, "--folding", folding, "--max-tasks", 4) == (
        "--max-tasks: is for the search; the file of --folding says everything about the units"
    )
    folding.write_text("{}")
    assert refused(NET, "--folding", folding) == f"{folding}: layer 'conv0': has no PE, and 'Defaults' gives none"
    assert refused(NET, "--device", "xc7z02").startswith("device 'xc7z02': unknown; did you mean xc7z020 or ")
    assert refused(NET, "--device", "ecp5-45") == (
        "device 'ecp5-45': is none that Vitis HLS builds for; tsn-hw rtl writes SystemVerilog for every part"
    )
    assert refused(NET, "--part", "z7020").startswith("part 'z7020': what it holds is not known; known are xc7z010, ")
    assert refused(NET, "--part", "xc7z020clg400-1; exec") == (
        "part 'xc7z020clg400-1; exec': must be a part of AMD in full, such as xc7z020clg400-1"
    )
    for option, value, allowed in [
        ("--clock-mhz", 2000, "a number within 1..1000"),
        ("--samples", 0, "a whole number within 1..10000"),
        ("--limit-percent", 101, "a number within 0.1..100"),
        ("--max-tasks", -1, "a whole number within 1..1024"),
    ]:
        line = refused(NET, option, value)
        assert line == f"{option}: must be {allowed}, found {value} ('tsn-hw hls --help' tells more)"
    assert refused(NET, "--masks", "none").startswith("layer 'conv0': mask='none', but task 'task0' does not use every")
    assert refused(NET, "--target-fps", 1e9).startswith(
        "device 'xc7z020': nothing runs at 1000000000 inferences a second"
    )
    assert refused(NET, "--folding", tmp_path / "gone.json").startswith(f"cannot read {tmp_path / 'gone.json'}")
    assert not (tmp_path / "hls").exists()


def test_a_folder_of_somebody_else_is_left_alone(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "hls").mkdir()
    (tmp_path / "hls/thesis.tex").write_text("mine")
    assert refused(NET) == f"{tmp_path / 'hls'}: is not empty and no earlier export; choose another folder"
    assert content(tmp_path / "hls") == {"thesis.tex": b"mine"}
