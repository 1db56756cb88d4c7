"""The IP-XACT component (IEEE 1685-2014) of an RTL project: buses and ports of its top module, registers, files.

Registers are ``hls_templates/ip/tsn_registers.xml``, which PeakRDL makes of the same source as the C header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from export.hls.scripts import TEMPLATES

NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
IDENTITY = {"vendor": "tsn-hw", "library": "accelerator", "name": "tsn_accelerator", "version": "0.1.0"}
"""As the name of the core file has it."""
BUSES = {
    "s_axi_control": ("AXI4-Lite", "r0p0_0", "slave"),
    "s_axis": ("AXI4Stream", "r0p0_1", "slave"),
    "m_axis": ("AXI4Stream", "r0p0_1", "master"),
}
"""Name of a bus interface, which the names of its ports begin with -> type, version and mode, as ARM publishes them."""
KINDS = {".sv": "systemVerilogSource", ".mem": "user", ".xdc": "user", ".h": "cSource", ".c": "cSource"}
PORT = re.compile(r"^    (input|output) wire (?:\[(\d+):(\d+)\] )?(\w+),?$", re.MULTILINE)


@dataclass(frozen=True)
class Port:
    """A port of a module; bits: its width."""

    name: str
    direction: str
    bits: int


def ports_of(module: str) -> list[Port]:
    """The ports that a module has in synthesis, from its text.

    >>> ports_of("module m (\\n    input wire aclk,\\n    output wire [3:0] m_axis_tkeep\\n);")
    [Port(name='aclk', direction='in', bits=1), Port(name='m_axis_tkeep', direction='out', bits=4)]
    """
    header = re.sub(r"`ifdef.*?`endif", "", module, flags=re.DOTALL).partition(");")[0]
    return [
        Port(name, direction.removesuffix("put"), int(high or 0) - int(low or 0) + 1)
        for direction, high, low, name in PORT.findall(header)
    ]


def registers_xml() -> bytes:
    """The registers in IP-XACT, as PeakRDL makes them of ``tsn_registers.rdl``."""
    return (TEMPLATES / "ip" / "tsn_registers.xml").read_bytes()


def component(top: str, filesets: Mapping[str, Sequence[str]]) -> bytes:
    """The component of a top module, given as text; filesets: name → files, relative to the component."""
    ElementTree.register_namespace("ipxact", NAMESPACE)
    registers = ElementTree.fromstring(registers_xml())
    ports = ports_of(top)
    root = Element(_tag("component"))
    for name, value in IDENTITY.items():
        _add(root, name, value)
    _bus_interfaces(root, ports)
    maps = registers.find(_tag("memoryMaps"))
    if maps is not None:
        root.append(maps)
    _model(root, ports, list(filesets))
    sets = _add(root, "fileSets")
    for name, files in filesets.items():
        fileset = _add(sets, "fileSet")
        _add(fileset, "name", name)
        for path in files:
            file = _add(fileset, "file")
            _add(file, "name", path)
            _add(file, "fileType", KINDS[path[path.rindex(".") :]])
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root) + b"\n"


def _bus_interfaces(root: Element, ports: Iterable[Port]) -> None:
    buses = _add(root, "busInterfaces")
    for name, (kind, version, mode) in BUSES.items():
        bus = _add(buses, "busInterface")
        _add(bus, "name", name)
        identity = {"vendor": "amba.com", "library": "AMBA4", "version": version}
        _add(bus, "busType").attrib.update(identity | {"name": kind})
        abstraction = _add(_add(bus, "abstractionTypes"), "abstractionType")
        _add(abstraction, "abstractionRef").attrib.update(identity | {"name": f"{kind}_rtl"})
        maps = _add(abstraction, "portMaps")
        for port in ports:
            if port.name.startswith(f"{name}_"):
                pair = _add(maps, "portMap")
                _add(_add(pair, "logicalPort"), "name", port.name.removeprefix(f"{name}_").upper())
                _add(_add(pair, "physicalPort"), "name", port.name)
        end = _add(bus, mode)
        if name == "s_axi_control":
            _add(end, "memoryMapRef").set("memoryMapRef", "tsn_registers_mmap")


def _model(root: Element, ports: Iterable[Port], filesets: Iterable[str]) -> None:
    model = _add(root, "model")
    view = _add(_add(model, "views"), "view")
    _add(view, "name", "rtl")
    _add(view, "componentInstantiationRef", "rtl")
    instantiation = _add(_add(model, "instantiations"), "componentInstantiation")
    _add(instantiation, "name", "rtl")
    _add(instantiation, "language", "SystemVerilog")
    _add(instantiation, "moduleName", IDENTITY["name"])
    for name in filesets:
        _add(_add(instantiation, "fileSetRef"), "localName", name)
    listed = _add(model, "ports")
    for port in ports:
        entry = _add(listed, "port")
        _add(entry, "name", port.name)
        wire = _add(entry, "wire")
        _add(wire, "direction", port.direction)
        if port.bits > 1:
            vector = _add(_add(wire, "vectors"), "vector")
            _add(vector, "left", str(port.bits - 1))
            _add(vector, "right", "0")


def _add(parent: Element, name: str, text: str | None = None) -> Element:
    child = SubElement(parent, _tag(name))
    child.text = text
    return child


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
