"""Registers behind multipliers and block RAMs of an ECP5, moved into them: yosys writes neither with its own register.

A block's register takes the place of flip-flops where each bit that leaves it goes to one of them alone, and all have
the same clock and enable, and no reset. The netlist computes the same as before, in the same cycles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Bit = int | str
"""A wire's number, or a constant."""
Cell = dict[str, Any]

FLIP_FLOP, MULTIPLIER, BLOCK_RAM = "TRELLIS_FF", "MULT18X18D", "DP16KD"
WIDEST_READ = f"{36:032b}"
"""DATA_WIDTH of a port that answers at the outputs of both ports."""


@dataclass(frozen=True)
class _Registers:
    """Flip-flops by the bit that each takes, their clock and their enable."""

    names: dict[Bit, str]
    clock: Bit
    enable: Bit


def absorb_registers(netlist: dict[str, Any], top: str) -> int:
    """Move flip-flops of a netlist, as yosys' ``write_json`` gives it, into blocks; how many there were."""
    module = netlist["modules"][top]
    cells: dict[str, Cell] = module["cells"]
    readers = _readers(cells, (port["bits"] for port in module["ports"].values() if port["direction"] == "output"))
    absorbed = 0
    for cell in [cell for cell in cells.values() if cell["type"] in (MULTIPLIER, BLOCK_RAM)]:
        for outputs in _outputs(cell):
            found = _registers_behind(cell, outputs, readers, cells)
            if found is None:
                continue
            _configure(cell, outputs, found)
            for port in outputs:
                (bit,) = cell["connections"][port]
                if bit in found.names:
                    cell["connections"][port] = cells.pop(found.names[bit])["connections"]["Q"]
            absorbed += len(found.names)
    return absorbed


def _readers(cells: dict[str, Cell], outputs: Iterable[list[Bit]]) -> dict[Bit, list[tuple[str, str]]]:
    """Who reads a bit: cell and port, nobody's names where it leaves the design."""
    found: dict[Bit, list[tuple[str, str]]] = defaultdict(list)
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    found[bit].append((name, port))
    for bits in outputs:
        for bit in bits:
            found[bit].append(("", ""))
    return found


def _outputs(cell: Cell) -> list[list[str]]:
    """The outputs of a block that have a register each: of a block RAM those of either port, or of both at once."""
    ports = [port for port, direction in cell["port_directions"].items() if direction == "output"]
    if cell["type"] == MULTIPLIER:
        return [[port for port in ports if port[0] == "P"]]
    if cell["parameters"]["DATA_WIDTH_B"] == WIDEST_READ:
        return [[port for port in ports if port[:3] in ("DOA", "DOB")]]
    return [[port for port in ports if port[:3] == side] for side in ("DOA", "DOB")]


def _registers_behind(
    cell: Cell, outputs: list[str], readers: dict[Bit, list[tuple[str, str]]], cells: dict[str, Cell]
) -> _Registers | None:
    """The flip-flops behind some outputs, if there are any and nothing else reads them."""
    names: dict[Bit, str] = {}
    ways: set[tuple[Bit, Bit]] = set()
    for port in outputs:
        (bit,) = cell["connections"][port]
        if not readers[bit]:
            continue
        name, pin = readers[bit][0]
        if len(readers[bit]) > 1 or pin != "DI" or cells[name]["type"] != FLIP_FLOP or not _is_plain(cells[name]):
            return None
        names[bit] = name
        pins = cells[name]["connections"]
        ways.add((pins["CLK"][0], pins["CE"][0] if cells[name]["parameters"]["CEMUX"] == "CE" else "1"))
    return _Registers(names, *ways.pop()) if len(ways) == 1 else None


def _is_plain(flip_flop: Cell) -> bool:
    """Whether it takes its input at a rising edge of its clock, and is never reset."""
    found, resets = flip_flop["parameters"], flip_flop["connections"].get("LSR", ["0"])
    return found["CLKMUX"] == "CLK" and found["CEMUX"] in ("CE", "1") and resets == ["0"]


def _configure(cell: Cell, outputs: list[str], registers: _Registers) -> None:
    """Switch on the register of some outputs of a block."""
    parameters: dict[str, str] = {}
    pins: dict[str, Bit] = {}
    if cell["type"] == MULTIPLIER:
        parameters = {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0", "GSR": "DISABLED"}
        pins = {"CLK0": registers.clock, "CE0": registers.enable, "RST0": "0"}
    else:
        for side in sorted({port[2] for port in outputs}):
            parameters[f"REGMODE_{side}"] = "OUTREG"
            pins |= {f"CLK{side}": registers.clock, f"OCE{side}": registers.enable}
    cell["parameters"] |= parameters
    for pin, bit in pins.items():
        cell["connections"][pin] = [bit]
        cell["port_directions"][pin] = "input"
