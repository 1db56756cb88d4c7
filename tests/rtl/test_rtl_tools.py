"""An RTL project as it stands, read by programs that know nothing of ours."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.rtl.ipxact import BUSES
from export.rtl.project import write_rtl
from tests.helpers.networks import Recipe, random_network
from tests.helpers.rtl_designs import folded, needs_iverilog
from tests.helpers.tcl import needs_tclsh, run_script

RECIPE = Recipe(kind="residual", tasks=3, banks=2, signed_input=True, multipliers=True, seed=3)
MEMORIES = '-DTSN_MEMORIES="memories/"'
VIVADO_COMMANDS = """create_project set_property set_msg_config add_files synth_design report_utilization
write_checkpoint"""
IPX_COMMANDS = """ipx::package_project ipx::associate_bus_interfaces ipx::create_xgui_files ipx::update_checksums
ipx::check_integrity ipx::save_core"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project of a small network, for reading only, in a folder whose name has a blank."""
    folder = tmp_path_factory.mktemp("tools") / "my rtl"
    write_rtl(folded(random_network(RECIPE), np.random.default_rng(0)), folder)
    return folder


def sources(project: Path) -> list[str]:
    return sorted(path.relative_to(project).as_posix() for path in project.glob("rtl/*.sv"))


def told(project: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("yosys") is None, reason="needs yosys")
def test_yosys_reads_every_module_by_itself_and_the_memories_where_it_is_told_they_are(project):
    script = "read_verilog -sv rtl/*.sv"
    assert told(project, "yosys", "-q", "-p", script) == (0, "")
    top = "hierarchy -check -top tsn_accelerator"
    assert told(project, "yosys", "-q", "-p", f"read_verilog -sv {MEMORIES} rtl/*.sv; {top}") == (0, "")
    code, text = told(project, "yosys", "-q", "-p", f"{script}; {top}")
    assert (code, ".mem` for \\$readmemh" in text) == (1, True)  # an error, not zeros


@pytest.mark.skipif(shutil.which("verilator") is None, reason="needs verilator")
def test_verilator_finds_nothing_to_complain_of(project):
    command = ["verilator", "--lint-only", "-Wall", "--top-module", "tsn_accelerator", *sources(project)]
    assert told(project, *command) == (0, "")


@needs_iverilog
def test_icarus_elaborates_the_test_bench(project, tmp_path):
    command = ["iverilog", "-g2012", "-s", "testbench", "-o", str(tmp_path / "bench.vvp"), MEMORIES, *sources(project)]
    assert told(project, *command, "testbench/tsn_bench.sv", "testbench/testbench.sv") == (0, "")
    (tmp_path / "memories").symlink_to(project / "memories")
    for name, text in (("calls.txt", "0 1\n"), ("beats.txt", "")):
        (tmp_path / name).write_text(text)
    assert told(tmp_path, "vvp", "-n", "bench.vvp") == (0, "")  # it warns of memories that it does not find


@pytest.mark.skipif(importlib.util.find_spec("pyslang") is None, reason="needs pyslang")
def test_slang_finds_no_error(project):
    script = (
        "import sys; from pyslang.driver import Driver; driver = Driver(); driver.addStandardArgs(); "
        "assert driver.parseCommandLine('slang --top tsn_accelerator ' + sys.argv[1]); "
        "assert driver.processOptions() and driver.parseAllSources(); "
        "driver.reportCompilation(driver.createCompilation(), True); sys.exit(not driver.reportDiagnostics(True))"
    )
    code, text = told(project, sys.executable, "-c", script, " ".join(sources(project)))
    assert (code, "error:" in text) == (0, False), text


@needs_tclsh
def test_vivado_is_given_every_source_and_memory_and_told_that_none_may_be_missing(project, tmp_path):
    calls, error = run_script(project / "scripts/vivado.tcl", VIVADO_COMMANDS, tmp_path, TSN_PART="xc7a35tcpg236-1")
    build = f"{project}/build/vivado_rtl"
    files = [f"{project}/{name}" for name in sources(project)]
    memories = sorted(str(path) for path in project.glob("memories/*.mem"))
    assert error == ""
    assert calls[:2] == [
        ["set_msg_config", "-id", "Synth 8-4445", "-new_severity", "ERROR"],
        ["create_project", "-force", "-part", "xc7a35tcpg236-1", "tsn_accelerator", build],
    ]
    added = [call for call in calls if call[0] == "add_files"]
    *designs, constraints = added
    assert sorted(call[2] for call in designs) == sorted(f"{{{name}}}" for name in files + memories)
    assert constraints[1:] == ["-fileset", "constrs_1", "-norecurse", f"{{{project}/constraints/tsn_accelerator.xdc}}"]
    assert calls[2 + len(added) :] == [
        ["set_property", "top", "tsn_accelerator", "sources_1"],
        ["synth_design", "-top", "tsn_accelerator", "-part", "xc7a35tcpg236-1", "-mode", "out_of_context"],
        ["report_utilization", "-file", f"{build}/utilization.txt"],
        ["write_checkpoint", "-force", f"{build}/tsn_accelerator.dcp"],
        ["exit"],
    ]


@needs_tclsh
def test_vivado_packages_the_accelerator_with_its_three_buses_on_its_clock(project, tmp_path):
    commands = f"{VIVADO_COMMANDS} {IPX_COMMANDS}"
    calls, error = run_script(project / "scripts/vivado.tcl", commands, tmp_path, TSN_STOP="ip")
    assert error == ""
    first = next(place for place, call in enumerate(calls) if call[0] == "ipx::package_project")
    assert calls[first][1:3] == ["-root_dir", f"{project}/build/vivado_rtl/ip"]
    assert calls[first + 1 :] == [
        ["set_property", "name", "tsn_accelerator", "core"],
        *(["ipx::associate_bus_interfaces", "-busif", bus, "-clock", "aclk", "core"] for bus in BUSES),
        *(
            [f"ipx::{what}", "core"]
            for what in ("create_xgui_files", "update_checksums", "check_integrity", "save_core")
        ),
        ["exit"],
    ]


def test_a_memory_is_named_by_its_file_alone(project):
    top = (project / "rtl/tsn_accelerator.sv").read_text()
    files = {path.name for path in project.glob("memories/*.mem")}
    assert len(files) > 15
    assert [name for name in files if f'_FILE("{name}")' not in top] == []


@pytest.mark.skipif(
    importlib.util.find_spec("fusesoc") is None or shutil.which("verilator") is None, reason="needs fusesoc, verilator"
)
def test_fusesoc_lints_the_core_and_lays_the_memories_where_the_design_looks(project, tmp_path):
    fusesoc = [sys.executable, "-m", "fusesoc.main", "--cores-root", str(project), "run", "--build-root"]
    code, text = told(
        tmp_path, *fusesoc, str(tmp_path / "build"), "--target", "lint", "tsn:accelerator:tsn_accelerator"
    )
    assert (code, "WARNING" in text, "rror" in text) == (0, False, False), text
    for target in ("sim", "sim_verilator", "synth"):
        build = tmp_path / target
        code, text = told(
            tmp_path, *fusesoc, str(build), "--setup", "--target", target, "tsn:accelerator:tsn_accelerator"
        )
        assert (target, code, "WARNING" in text) == (target, 0, False), text
        laid = {path.name for path in build.rglob("*.mem")}
        assert laid == {path.name for path in project.glob("memories/*.mem")}
