"""Output registers of an ECP5's block RAMs, which yosys leaves unused: flip-flops right behind a block move into it.

A register of a block takes the place of flip-flops where each bit that leaves it goes to one of them alone, and all
have the same clock and enable, and no reset. The netlist computes the same as before, in the same cycles.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

Bit = int | str
"""A wire's number, or a constant."""
Cell = dict[str, Any]

FLIP_FLOP, BLOCK_RAM = "TRELLIS_FF", "DP16KD"
BOTH_PORTS = f"{36:032b}"
"""DATA_WIDTH_B of a block that answers at the outputs of both ports, with the register of port B."""


@dataclass(frozen=True)
class _Registers:
    """Flip-flops by the bit that each takes, their clock and their enable."""

    names: dict[Bit, str]
    clock: Bit
    enable: Bit


def absorb_registers(module: dict[str, Any]) -> int:
    """Move flip-flops of a flat module, as yosys' ``write_json`` gives it, into its block RAMs; how many there were."""
    cells: dict[str, Cell] = module["cells"]
    readers = _readers(module)
    absorbed = 0
    for cell in [cell for cell in cells.values() if cell["type"] == BLOCK_RAM]:
        for ports in _registered_ports(cell):
            outputs = [pin for pin in cell["connections"] if pin[:3] in {f"DO{port}" for port in ports}]
            found = _registers_behind(cell, outputs, readers, cells)
            if found is None or [found.clock] != cell["connections"][f"CLK{ports[-1]}"]:
                continue
            for port in ports:  # nextpnr times an output by the clock of its own port
                cell["parameters"][f"REGMODE_{port}"] = "OUTREG"
                cell["connections"] |= {f"CLK{port}": [found.clock], f"OCE{port}": [found.enable]}
            for pin in outputs:
                (bit,) = cell["connections"][pin]
                if bit in found.names:
                    cell["connections"][pin] = cells.pop(found.names[bit])["connections"]["Q"]
            absorbed += len(found.names)
    return absorbed


def _readers(module: dict[str, Any]) -> dict[Bit, list[tuple[str, str]]]:
    """Who reads a bit: cell and pin, nobody's names where it leaves the design."""
    found: dict[Bit, list[tuple[str, str]]] = defaultdict(list)
    for name, cell in module["cells"].items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                for bit in bits:
                    found[bit].append((name, pin))
    for port in module["ports"].values():
        for bit in port["bits"] if port["direction"] == "output" else ():
            found[bit].append(("", ""))
    return found


def _registered_ports(cell: Cell) -> list[str]:
    """The ports of a block RAM whose outputs share a register, the last with its clock; rising edges, and no reset."""
    groups = ["AB"] if cell["parameters"]["DATA_WIDTH_B"] == BOTH_PORTS else ["A", "B"]
    return [
        ports
        for ports in groups
        if all(cell["connections"][f"RST{port}"] == ["0"] for port in ports)
        and cell["parameters"][f"CLK{ports[-1]}MUX"] == f"CLK{ports[-1]}"
    ]


def _registers_behind(
    cell: Cell, outputs: list[str], readers: dict[Bit, list[tuple[str, str]]], cells: dict[str, Cell]
) -> _Registers | None:
    """The flip-flops behind some outputs, if there are any and nothing else reads them."""
    names: dict[Bit, str] = {}
    ways: set[tuple[Bit, Bit]] = set()
    for output in outputs:
        (bit,) = cell["connections"][output]
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
