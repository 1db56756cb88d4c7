"""Scripts for tools that are not here: run with stubs of their commands, and held against the exported folder."""

import configparser
import re
from pathlib import Path

import pytest

from export.hls.scripts import SCRIPTS, Target, render, scripts
from tests.helpers.tcl import HLS_COMMANDS, VIVADO_COMMANDS, needs_tclsh, run_script
from tsn_hw.core.errors import ExportError

ZYNQ, MPSOC = Target("xc7z020clg400-1", 100), Target("xczu3eg-sbva484-1-e", 187.5)
SOURCES = {"firmware/accelerator.cpp", "testbench/testbench.cpp", "testbench/golden.dat"}

# Pins of the cells that a design must connect, by the product guides PG082, PG201, PG021, PG247, PG164 and UG1399.
INTERFACES = {
    "processing_system7": {"M_AXI_GP0": "master", "S_AXI_HP0": "slave"},
    "zynq_ultra_ps_e": {"M_AXI_HPM0_FPD": "master", "S_AXI_HP0_FPD": "slave"},
    "axi_dma": {
        "S_AXI_LITE": "slave",
        "M_AXI_MM2S": "master",
        "M_AXI_S2MM": "master",
        "M_AXIS_MM2S": "stream master",
        "S_AXIS_S2MM": "stream slave",
    },
    "proc_sys_reset": {},
    "tsn_accelerator": {"s_axi_control": "slave", "s_axis": "stream slave", "m_axis": "stream master"},
}
CLOCKS = {
    "processing_system7": {"M_AXI_GP0_ACLK", "S_AXI_HP0_ACLK"},
    "zynq_ultra_ps_e": {"maxihpm0_fpd_aclk", "saxihp0_fpd_aclk"},
    "axi_dma": {"s_axi_lite_aclk", "m_axi_mm2s_aclk", "m_axi_s2mm_aclk"},
    "smartconnect": {"aclk"},
    "proc_sys_reset": {"slowest_sync_clk"},
    "tsn_accelerator": {"ap_clk"},
}
RESETS = {
    "processing_system7": set(),
    "zynq_ultra_ps_e": set(),
    "axi_dma": {"axi_resetn"},
    "smartconnect": {"aresetn"},
    "proc_sys_reset": set(),
    "tsn_accelerator": {"ap_rst_n"},
}


def written(target: Target, folder: Path) -> Path:
    """A folder with the scripts in it."""
    (folder / "scripts").mkdir()
    for name, text in scripts(target).items():
        (folder / "scripts" / name).write_text(text)
    return folder


# -------------------------------------------------------------------------------------------------------- rendering


def test_the_numbers_of_the_target_stand_in_every_script() -> None:
    texts = scripts(Target("xczu7ev-ffvc1156-2-e", 300))
    assert list(texts) == list(SCRIPTS)
    assert "set part xczu7ev-ffvc1156-2-e\nset period_ns 3.333\n" in texts["build_hls.tcl"]
    assert "part=xczu7ev-ffvc1156-2-e\n\n[hls]\nclock=3.333ns\n" in texts["hls_config.cfg"]
    assert "set part xczu7ev-ffvc1156-2-e\nset clock_mhz 300\n" in texts["block_design.tcl"]
    assert not any("@{" in text for text in texts.values())


@pytest.mark.parametrize(
    ("part", "clock_mhz", "message"),
    [
        ("z7020; exec ls", 100, "part 'z7020; exec ls': must be a part of AMD in full, such as xc7z020clg400-1"),
        ("", 100, "part '': must be a part of AMD in full, such as xc7z020clg400-1"),
        ("xc7z020clg400-1", 0, "clock of 0 MHz: must be 1..1000"),
        ("xc7z020clg400-1", float("nan"), "clock of nan MHz: must be 1..1000"),
        ("xc7z020clg400-1", 1001, "clock of 1001 MHz: must be 1..1000"),
    ],
)
def test_a_target_that_no_script_could_hold_is_refused(part: str, clock_mhz: float, message: str) -> None:
    with pytest.raises(ExportError) as caught:
        Target(part, clock_mhz)
    assert str(caught.value) == message


def test_a_template_takes_exactly_the_values_that_it_has_places_for() -> None:
    with pytest.raises(KeyError, match="period_ns"):
        render("scripts/build_hls.tcl.in", part="xc7z020clg400-1")
    with pytest.raises(ExportError) as caught:
        render("scripts/block_design.tcl.in", part="x", clock_mhz=1, period_ns=2)
    assert str(caught.value) == "template scripts/block_design.tcl.in: has no place for period_ns"


# -------------------------------------------------------------------------------------------------------- Vitis HLS


@needs_tclsh
def test_the_classic_flow_makes_a_project_simulates_synthesizes_and_exports(tmp_path: Path) -> None:
    root = written(ZYNQ, tmp_path)
    calls, error = run_script(root / "scripts/build_hls.tcl", HLS_COMMANDS, tmp_path)
    flags = f"-std=c++14 -I{root}/firmware"
    assert error == ""
    assert calls == [
        ["open_project", "-reset", "hls"],
        ["set_top", "tsn_accelerator"],
        ["add_files", "-cflags", flags, f"{root}/firmware/accelerator.cpp"],
        ["add_files", "-tb", "-cflags", flags, f"{root}/testbench/testbench.cpp"],
        ["add_files", "-tb", f"{root}/testbench/golden.dat"],
        ["open_solution", "-reset", "-flow_target", "vivado", "solution1"],
        ["set_part", "xc7z020clg400-1"],
        ["create_clock", "-period", "10.000", "-name", "default"],
        ["csim_design", "-O", "-argv", "golden.dat"],
        ["csynth_design"],
        [
            "export_design",
            "-format",
            "ip_catalog",
            "-rtl",
            "verilog",
            "-vendor",
            "tsn_hw",
            "-library",
            "hls",
            "-ipname",
            "tsn_accelerator",
            "-version",
            "1.0",
        ],
        ["close_project"],
        ["exit"],
    ]
    assert (root / "build").is_dir()


@needs_tclsh
def test_steps_are_switched_by_the_environment(tmp_path: Path) -> None:
    root = written(ZYNQ, tmp_path)
    script = root / "scripts/build_hls.tcl"

    def tools(steps: str) -> list[str]:
        calls, error = run_script(script, HLS_COMMANDS, tmp_path, TSN_STEPS=steps)
        assert error == ""
        return [call[0] for call in calls if call[0].endswith("_design")]

    assert tools("csim") == ["csim_design"]
    calls, _ = run_script(script, HLS_COMMANDS, tmp_path, TSN_STEPS="csynth cosim")
    assert ["cosim_design", "-rtl", "verilog", "-argv", "golden.dat --rtl"] in calls
    assert tools("csynth cosim") == ["csynth_design", "cosim_design"]
    assert tools("export csynth csim cosim") == ["csim_design", "csynth_design", "cosim_design", "export_design"]
    (root / "build/hls/solution1").mkdir(parents=True)
    calls, _ = run_script(script, HLS_COMMANDS, tmp_path, TSN_STEPS="export")
    assert calls[:2] == [["open_project", "hls"], ["open_solution", "solution1"]]
    assert tools("export") == ["export_design"]


@needs_tclsh
@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("csim sinth", "build_hls.tcl: TSN_STEPS names 'sinth'; the steps are csim csynth cosim export"),
        ("export", "build_hls.tcl: nothing is synthesized yet; add csynth to TSN_STEPS"),
        ("cosim", "build_hls.tcl: nothing is synthesized yet; add csynth to TSN_STEPS"),
    ],
)
def test_steps_that_cannot_be_taken_are_an_error(steps: str, message: str, tmp_path: Path) -> None:
    root = written(ZYNQ, tmp_path)
    calls, error = run_script(root / "scripts/build_hls.tcl", HLS_COMMANDS, tmp_path, TSN_STEPS=steps)
    assert (calls, error) == ([], message)


@needs_tclsh
@pytest.mark.parametrize("character", [" ", '"', "'", "$", ";", "`", "[", "\\", "#"])
def test_a_path_that_flags_cannot_hold_is_an_error(character: str, tmp_path: Path) -> None:
    (tmp_path / f"my{character}project").mkdir()
    root = written(ZYNQ, tmp_path / f"my{character}project")
    calls, error = run_script(root / "scripts/build_hls.tcl", HLS_COMMANDS, tmp_path)
    wanted = f"the path {root} holds '{character}', which compiler flags cannot; move the folder"
    assert (calls, error) == ([], f"build_hls.tcl: {wanted}")


def test_the_config_file_names_the_same_files_part_and_clock_as_the_script() -> None:
    text = scripts(ZYNQ)["hls_config.cfg"]
    assert all(line.startswith("#") for line in text.splitlines()[:8])
    general, hls = text.split("[hls]")
    assert "part=xc7z020clg400-1" in general  # an option of v++ itself, so not below [hls]
    assert "clock=10.000ns" in hls
    files = {line.partition("=")[2] for line in hls.splitlines() if line.startswith(("syn.file", "tb.file"))}
    assert files == {f"../{name}" for name in SOURCES}
    parser = configparser.ConfigParser(strict=False)
    parser.read_string(f"[hls]{hls}")
    vendor, library, name, version = (
        parser["hls"][f"package.ip.{key}"] for key in ("vendor", "library", "name", "version")
    )
    assert f"-vlnv {vendor}:{library}:{name}:{version} " in scripts(ZYNQ)["block_design.tcl"]
    assert parser["hls"]["syn.top"] == "tsn_accelerator"


# ----------------------------------------------------------------------------------------------------- block design


def designed(target: Target, folder: Path, **environment: str) -> tuple[list[list[str]], str]:
    """What the block-design script does in a folder that holds an exported IP."""
    root = written(target, folder)
    (root / "build/hls/solution1/impl/ip").mkdir(parents=True)
    runs = root / "build/vivado/tsn_accelerator.runs/impl_1"
    handoff = root / "build/vivado/tsn_accelerator.gen/sources_1/bd/design_1/hw_handoff"
    for path in (runs / "design_1_wrapper.bit", handoff / "design_1.hwh"):
        path.parent.mkdir(parents=True)
        path.write_text(path.suffix)
    stubs = {"STUB_DIRECTORY": str(runs), "STUB_PROGRESS": "100%", "STUB_STATS.WNS": "0.1", "STUB_STATUS": "done"}
    return run_script(root / "scripts/block_design.tcl", VIVADO_COMMANDS, folder, **stubs | environment)


def cells_of(calls: list[list[str]]) -> dict[str, str]:
    """Name of every cell -> its kind of IP."""
    return {call[-1]: call[4].split(":")[2] for call in calls if call[0] == "create_bd_cell"}


def interfaces_of(cells: dict[str, str], calls: list[list[str]]) -> dict[str, str]:
    """Every interface of every cell -> master or slave; a SmartConnect has as many as it was given."""
    found = {f"{name}/{pin}": role for name, kind in cells.items() for pin, role in INTERFACES.get(kind, {}).items()}
    for call in calls:
        if call[0] == "set_property" and cells.get(call[-1]) == "smartconnect":
            numbers = dict(zip(*[iter(call[2].split())] * 2, strict=True))
            found |= {f"{call[-1]}/S0{i}_AXI": "slave" for i in range(int(numbers["CONFIG.NUM_SI"]))}
            found |= {f"{call[-1]}/M0{i}_AXI": "master" for i in range(int(numbers["CONFIG.NUM_MI"]))}
    return found


@needs_tclsh
@pytest.mark.parametrize("target", [ZYNQ, MPSOC], ids=["zynq", "mpsoc"])
def test_every_interface_clock_and_reset_of_the_design_is_connected_once(target: Target, tmp_path: Path) -> None:
    calls, error = designed(target, tmp_path)
    assert error == ""
    cells = cells_of(calls)
    processor = "processing_system7" if target is ZYNQ else "zynq_ultra_ps_e"
    assert sorted(cells.values()) == sorted(
        [processor, "axi_dma", "proc_sys_reset", "smartconnect", "smartconnect", "tsn_accelerator"]
    )
    interfaces = interfaces_of(cells, calls)
    links = [(call[1], call[2]) for call in calls if call[0] == "connect_bd_intf_net"]
    assert sorted(pin for link in links for pin in link) == sorted(interfaces)
    for from_, to in links:
        assert (interfaces[from_], interfaces[to]) in {("master", "slave"), ("stream master", "stream slave")}
    nets = [(call[1], call[2]) for call in calls if call[0] == "connect_bd_net"]
    clock, reset = ("FCLK_CLK0", "FCLK_RESET0_N") if target is ZYNQ else ("pl_clk0", "pl_resetn0")
    clocked = [to for from_, to in nets if from_.endswith(f"/{clock}")]
    assert sorted(clocked) == sorted(f"{name}/{pin}" for name, kind in cells.items() for pin in CLOCKS[kind])
    released = [to for from_, to in nets if from_ == "proc_sys_reset_0/peripheral_aresetn"]
    assert sorted(released) == sorted(f"{name}/{pin}" for name, kind in cells.items() for pin in RESETS[kind])
    assert [to for from_, to in nets if from_.endswith(f"/{reset}")] == ["proc_sys_reset_0/ext_reset_in"]
    assert len(nets) == len(clocked) + len(released) + 1


@needs_tclsh
@pytest.mark.parametrize("target", [ZYNQ, MPSOC], ids=["zynq", "mpsoc"])
def test_the_processor_gives_the_clock_and_the_ports_that_the_design_uses(target: Target, tmp_path: Path) -> None:
    calls, _ = designed(target, tmp_path)
    (settings,) = (call[2] for call in calls if call[0] == "set_property" and call[-1].endswith(("7_0", "e_0")))
    chosen = dict(zip(*[iter(settings.replace("CONFIG.", "").split())] * 2, strict=True))
    if target is ZYNQ:
        assert chosen == {"PCW_USE_M_AXI_GP0": "1", "PCW_USE_S_AXI_HP0": "1", "PCW_FPGA0_PERIPHERAL_FREQMHZ": "100"}
    else:
        assert chosen == {
            "PSU__USE__M_AXI_GP0": "1",  # M_AXI_HPM0_FPD
            "PSU__USE__M_AXI_GP1": "0",
            "PSU__USE__M_AXI_GP2": "0",
            "PSU__USE__S_AXI_GP2": "1",  # S_AXI_HP0_FPD
            "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": "187.5",
        }


@needs_tclsh
def test_the_design_is_checked_before_it_is_implemented_and_the_results_lie_where_the_driver_looks(
    tmp_path: Path,
) -> None:
    calls, error = designed(ZYNQ, tmp_path, TSN_JOBS="8")
    assert error == ""
    order = [call[0] for call in calls]
    steps = ["assign_bd_address", "validate_bd_design", "save_bd_design", "make_wrapper", "launch_runs", "wait_on_run"]
    assert [name for name in order if name in steps] == steps
    assert ["launch_runs", "impl_1", "-to_step", "write_bitstream", "-jobs", "8"] in calls
    overlay = tmp_path / "build/overlay"
    assert sorted(path.name for path in overlay.iterdir()) == ["tsn_accelerator.bit", "tsn_accelerator.hwh"]
    assert (overlay / "tsn_accelerator.hwh").read_text() == ".hwh"


@needs_tclsh
@pytest.mark.parametrize("target", [ZYNQ, MPSOC], ids=["zynq", "mpsoc"])
def test_a_board_sets_memory_and_pins_of_the_processor(target: Target, tmp_path: Path) -> None:
    calls, error = designed(target, tmp_path, TSN_BOARD="vendor:board:part0:1.0", TSN_STOP="design")
    assert error == ""
    assert ["set_property", "board_part", "vendor:board:part0:1.0", "project"] in calls
    (automation,) = (call for call in calls if call[0] == "apply_bd_automation")
    assert automation[4].endswith("apply_board_preset 1")
    assert not any(call[0] == "launch_runs" for call in calls)


@needs_tclsh
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"STUB_PROGRESS": "50%", "STUB_STATUS": "route_design ERROR"},
            "block_design.tcl: implementation ended as 'route_design ERROR'; see build/vivado",
        ),
        (
            {"STUB_STATS.WNS": "-0.2"},
            "block_design.tcl: timing is not met at 100 MHz; export the project with a slower --clock-mhz",
        ),
    ],
)
def test_an_implementation_that_failed_is_an_error(environment: dict[str, str], message: str, tmp_path: Path) -> None:
    _, error = designed(ZYNQ, tmp_path, **environment)
    assert error == message
    assert not (tmp_path / "build/overlay").exists()


@needs_tclsh
def test_a_design_needs_a_part_with_a_processor_and_one_exported_ip(tmp_path: Path) -> None:
    root = written(Target("xc7a100tcsg324-1", 100), tmp_path)
    calls, error = run_script(root / "scripts/block_design.tcl", VIVADO_COMMANDS, tmp_path)
    assert calls == []
    assert error == (
        "block_design.tcl: xc7a100tcsg324-1 has no processor of the kinds that are known here, Zynq-7000 and "
        "Zynq UltraScale+"
    )
    (root / "scripts/block_design.tcl").write_text(scripts(ZYNQ)["block_design.tcl"])
    _, error = run_script(root / "scripts/block_design.tcl", VIVADO_COMMANDS, tmp_path)
    assert error == f"block_design.tcl: found 0 exported IPs below {root}/build, needs exactly one"


@needs_tclsh
@pytest.mark.parametrize(("old", "new"), [("$period_ns -name", "$period -name"), ("csynth_design\n}", "csynth_design")])
def test_a_script_with_a_misspelt_variable_or_a_lost_brace_would_be_noticed(old: str, new: str, tmp_path: Path) -> None:
    root = written(ZYNQ, tmp_path)
    script = root / "scripts/build_hls.tcl"
    assert script.read_text().count(old) == 1
    script.write_text(script.read_text().replace(old, new))
    _, error = run_script(script, HLS_COMMANDS, tmp_path)
    assert re.search(r"can't read \"period\"|missing close-brace", error)
