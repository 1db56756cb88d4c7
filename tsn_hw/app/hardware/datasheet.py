"""The data sheet of an RTL project: what it has to be connected to, how fast it is, and, once measured, how large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from export.rtl.ipxact import BUSES, NAMESPACE, ports_of, registers_xml
from export.rtl.top import summary, top_module
from tsn_hw.app.output import Block, Note, Section, Table
from tsn_hw.app.output.markdown import markdown
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.hardware.accelerator import Accelerator

SHEET = "DATASHEET.md"
MEASURED = f"report/{SHEET}"
"""The same with what synthesis measured; a file of the report, since the project itself stays as it was written."""
CONTROL = (
    "One clock, aclk; aresetn is active low and synchronous. Registers and their fields: driver/tsn_registers.rdl, as "
    "C header tsn_registers.h, as IP-XACT in tsn_accelerator.xml. Beats, headers and calls: README.md."
)


def data_sheet(design: Accelerator) -> str:
    """The sheet of an accelerator, without what only a synthesis tells."""
    ports = [[port.name, port.direction, port.bits] for port in ports_of(top_module(design))]
    buses = [[name, *rest] for name, rest in BUSES.items()]
    units = [[unit.name, unit.module, unit.pe, unit.simd, unit.cycles] for unit in design.units]
    tasks = [[task.name, design.interval_of(number)] for number, task in enumerate(design.net.tasks)]
    memories = [
        [f"{each.unit} {each.kind}", each.depth, each.width_bits, each.style, each.loaded] for each in design.layouts
    ]
    parts = [
        Section("control", "Clock, reset and registers", [Note(CONTROL), registers()]),
        Section("buses", "Buses", [Table.of_rows(["bus", "protocol", "version", "mode"], buses)]),
        Section("ports", "Ports", [Table.of_rows(["port", "direction", "bits"], ports)]),
        Section("tasks", "Cycles between two inferences", [Table.of_rows(["task", "cycles"], tasks)]),
        Section("units", "Units", [Table.of_rows(["unit", "module", "PE", "SIMD", "cycles, slowest task"], units)]),
        Section("memories", "Memories", [Table.of_rows(["memory", "words", "bits", "in", "loaded"], memories)]),
    ]
    return f"# tsn_accelerator\n\n{summary(design)}\n\n{markdown(parts)}"


def registers() -> Table:
    """The fields of all registers, as the IP-XACT file has them that PeakRDL made of their source."""
    root = ElementTree.fromstring(registers_xml())
    rows = []
    for register in root.iter(f"{{{NAMESPACE}}}register"):
        for field in register.iter(f"{{{NAMESPACE}}}field"):
            first, bits = int(_of(field, "bitOffset")), int(_of(field, "bitWidth"))
            place = str(first) if bits == 1 else f"{first + bits - 1}:{first}"
            offset = f"0x{_number(_of(register, 'addressOffset')):02X}"
            rows.append([offset, _of(register, "name"), place, _of(field, "name"), _of(field, "access"),
                         " ".join(_of(field, "description").split())])  # fmt: skip
    return Table.of_rows(["offset", "register", "bits", "field", "access", "meaning"], rows)


def _of(element: Element, name: str) -> str:
    """The text of a part of an element; empty if it has none."""
    return element.findtext(f"{{{NAMESPACE}}}{name}", "")


def _number(text: str) -> int:
    """A number of SystemVerilog's form, such as 'h10."""
    return int(text.removeprefix("'h"), 16) if text.startswith("'h") else int(text)


def write_measured(folder: Path, blocks: Sequence[Block]) -> None:
    """Write the sheet of the project in a folder with a section of what was measured."""
    sheet = read_bytes(folder / SHEET).decode()
    measured = markdown([Section("measured", "Area and clock, measured", blocks)])
    write_atomically(folder / MEASURED, f"{sheet}\n{measured}".encode())
