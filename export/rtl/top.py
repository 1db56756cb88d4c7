"""tsn_accelerator.sv: the processes of an accelerator as instances of modules, joined by FIFOs.

Everything that computes is in the modules of hls_templates/rtl; here are their numbers and what is connected to what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from string import Template

from export.hls.firmware import TEMPLATES
from tsn_hw.core.errors import ExportError
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.dataflow import Channel, Dataflow, Process
from tsn_hw.hardware.loads import packet_header
from tsn_hw.hardware.memories import Memory
from tsn_hw.hardware.units import Parameters

RTL_TEMPLATES = TEMPLATES / "rtl"


@dataclass(frozen=True)
class Watch:
    """A loop that simulation reports: number of its unit, "unit" or "window", and the word that it sends.

    The words of all loops stand side by side, each in hexadecimal digits of its own; a window sends nothing in one.
    """

    unit: int
    kind: str
    width_bits: int
    first_digit: int

    @property
    def end_digit(self) -> int:
        """Where the digits of the next loop begin."""
        return self.first_digit + -(-self.width_bits // 4)


def watches(graph: Dataflow) -> list[Watch]:
    """The loops that simulation reports, in order."""
    found: list[Watch] = []
    for process in graph.loops:
        width = graph.channels[process.outputs[0]].width_bits if process.kind == "unit" else 1
        found.append(Watch(process.unit, process.kind, width, found[-1].end_digit if found else 0))
    return found


def bench_module(design: Accelerator) -> str:
    """The text of tsn_bench.sv."""
    return Template((RTL_TEMPLATES / "tsn_bench.sv.in").read_text()).substitute(_watch_sizes(watches(design.dataflow)))


def top_module(design: Accelerator) -> str:
    """The text of tsn_accelerator.sv."""
    graph = design.dataflow
    idle = ["loader_idle", *(f"{channel.name}_idle" for channel in graph.channels)]
    idle += [f"{process.instance}_idle" for process in graph.processes if process.kind != "copy"]
    watched = watches(graph)
    pairs = enumerate(zip(graph.loops, watched, strict=True))
    return Template((RTL_TEMPLATES / "tsn_accelerator.sv.in").read_text()).substitute(
        summary=summary(design),
        task_bits=design.control["TASK_BITS"],
        class_bits=design.control["CLASS_BITS"],
        control=_numbers(declared("tsn_control", design.control)),
        idle=" &&\n        ".join(idle),
        loading=_loading(design),
        channels="\n".join(map(_channel, graph.channels)),
        processes="\n".join(_process(design, process) for process in graph.processes),
        watches="\n".join(_watch(graph, i, process, watch) for i, (process, watch) in pairs),
        steps=", ".join(f"{process.instance}_step" for process in graph.loops),
        **_watch_sizes(watched),
    )


@cache
def _parameters_of(module: str) -> list[tuple[str, bool]]:
    """The parameters that a module declares, and whether they are numbers, which must be given."""
    source = (RTL_TEMPLATES / f"{module}.sv").read_text()
    found = re.findall(r"^    parameter (integer|\[.*?\])? *(\w+) =", source, re.MULTILINE)
    return [(name, bool(kind)) for kind, name in found]


def summary(design: Accelerator) -> str:
    """Its size in a few words."""
    counts = (len(design.units), "unit"), (len(design.net.tasks), "task"), (len(design.net.banks), "bank")
    return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts)


def declared(module: str, given: Parameters) -> Parameters:
    """Of what is given, the parameters that a module declares; ExportError where a number of it is missing."""
    known = _parameters_of(module)
    missing = [name for name, is_number in known if is_number and name not in given]
    if missing:
        raise ExportError(f"module {module}: nothing says what its {missing[0]} is")
    return {name: given[name] for name, _ in known if name in given}


def _loading(design: Accelerator) -> str:
    """The module that takes loads; where nothing is loaded, its wires alone."""
    shapes = [
        f"64'h{layout.depth << 32 | packet_header(unit.number, layout):016x}"
        for unit in design.units
        for layout in design.layouts_of(unit)
        if layout.is_loaded
    ]
    if not shapes:
        return """\
    assign load = 0;
    wire loader_tready = 0, loader_idle = 1;
    wire unused_load = &{1'b0, begin_load, called_task, load};
    assign is_refused = 0;
"""
    return f"""\
    wire loader_tready, loader_idle;
    tsn_loader #(
        .DESIGN(32'h{design.design_number:08x}), .MEMORIES({len(shapes)}), .SHAPES({{
{_columns(shapes[::-1])}
        }})
    ) i_loader (
        .clk(aclk), .reset(units_reset), .begin_load(begin_load), .task_id(called_task), .count(called_count),
        .s_valid(s_axis_tvalid), .s_ready(loader_tready), .s_data(s_axis_tdata), .load(load), .idle(loader_idle),
        .is_refused(is_refused)
    );
"""


def _channel(channel: Channel) -> str:
    name, width = channel.name, channel.width_bits
    style = Memory(name, "fifo", channel.depth, width, writable=True).storage
    numbers: Parameters = {"WIDTH": width, "DEPTH": channel.depth, "STYLE": style}
    ports = {"clk": "aclk", "reset": "units_reset"}
    ports |= {f"s_{end}": f"{name}_in_{end}" for end in ("valid", "ready", "data")}
    ports |= {f"m_{end}": f"{name}_out_{end}" for end in ("valid", "ready", "data")}
    wires = f"""\
    wire {name}_in_valid, {name}_in_ready, {name}_out_valid, {name}_out_ready, {name}_idle;
    wire [{width - 1}:0] {name}_in_data, {name}_out_data;
"""
    return wires + _instance("tsn_fifo", name, numbers, ports | {"idle": f"{name}_idle"})


def _process(design: Accelerator, process: Process) -> str:
    """The instance of a process."""
    graph, name, module = design.dataflow, process.instance, f"tsn_{process.module}"
    numbers = declared(module, {**process.parameters, **process.storage, "SLOTS": design.slots})
    inputs, outputs = graph.ends(process)
    if process.kind == "copy":
        ports = _stream("s", f"{inputs[0].name}_out") | {"m_data": f"{outputs[0].name}_in_data"}
        for port, channel in zip(("first", "second"), outputs, strict=True):
            ports |= {f"{port}_{end}": f"{channel.name}_in_{end}" for end in ("valid", "ready")}
        second = f"    assign {outputs[1].name}_in_data = {outputs[0].name}_in_data;\n"
        return _instance(module, name, numbers, ports) + second
    ports = {"clk": "aclk", "reset": "units_reset", "idle": f"{name}_idle"}
    wires = f"    wire {name}_idle;\n"
    if process.is_loop:
        ports["step"] = f"{name}_step"
        wires = f"    wire {name}_step, {name}_idle;\n"
    if process.kind in ("input", "output"):
        ports |= {"begin_call": "begin_call", "count": "called_count"}
    if process.layouts:
        bits = design.control["TASK_BITS"]
        one_task = design.units[process.unit].holds_one_task
        ports |= {"named": f"{{named[{bits}], 1'b0}}" if one_task else "named", "load": "load"}
    if process.kind == "input":
        ports |= {"has_headers": "has_headers", "task_id": "called_task", "asks": "asks", "header": "header"}
        ports |= {"leaves": "leaves", "s_valid": "s_axis_tvalid", "s_ready": "input_tready", "s_data": "s_axis_tdata"}
    for port, channel in zip(["s"] if len(inputs) == 1 else ["first", "second"], inputs, strict=False):
        ports |= _stream(port, f"{channel.name}_out_")
    if process.kind == "output":
        bits = design.control["TASK_BITS"]
        ports |= {"said": f"{{named[{bits}], named_is_refused, named_classes}}", "leaves": "leaves"}
        ports["wants_classes"] = "wants_classes"
        ports |= {f"m_axis_t{end}": f"m_axis_t{end}" for end in ("valid", "ready", "data", "keep", "last")}
    for channel in outputs:
        ports |= _stream("m", f"{channel.name}_in_")
    return wires + _instance(module, name, numbers, ports)


def _watch_sizes(found: Sequence[Watch]) -> dict[str, int]:
    return {"loops": len(found), "word_bits": 4 * found[-1].end_digit}


def _watch(graph: Dataflow, index: int, process: Process, watch: Watch) -> str:
    """What simulation reports of a loop; of a window the steps alone."""
    name, channel = process.instance, graph.channels[process.outputs[0]].name
    sends, data = "1'b0", "1'b0"
    if process.kind == "unit":
        sends, data = f"{channel}_in_valid && {channel}_in_ready", f"{channel}_in_data"
    ports = {"clk": "aclk", "begin_call": "begin_call", "step": f"{name}_step", "sends": sends, "data": data}
    ports |= {"steps": f"watch_steps[{32 * index}+:32]", "sent": f"watch_sent[{index}]"}
    ports |= {"word": f"watch_words[{4 * watch.first_digit}+:{4 * (watch.end_digit - watch.first_digit)}]"}
    return _instance("tsn_watch", f"watch_{name}", {"WIDTH": watch.width_bits}, ports)


def _stream(port: str, wires: str) -> dict[str, str]:
    separator = "" if wires.endswith(("_", "_t")) else "_"
    return {f"{port}_{end}": f"{wires}{separator}{end}" for end in ("valid", "ready", "data")}


def _numbers(numbers: Parameters) -> str:
    return _columns([f".{key}({_literal(value)})" for key, value in numbers.items()])


def _literal(value: int | str) -> int | str:
    """A parameter as text; a plain number has the 31 bits of an integer."""
    if isinstance(value, str):
        return f'"{value}"'
    return int(value) if value < 1 << 31 else f"32'h{value:08x}"


def _instance(module: str, name: str, numbers: Parameters, ports: Mapping[str, str]) -> str:
    connections = _columns([f".{port}({wire})" for port, wire in ports.items()])
    return f"    {module} #(\n{_numbers(numbers)}\n    ) i_{name} (\n{connections}\n    );\n"


def _columns(items: Sequence[str]) -> str:
    """Items joined by commas, in lines of up to 120 characters."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > 108:
            lines.append("")
        lines[-1] += f"{item}, "
    return "\n".join(f"        {line.rstrip()}" for line in lines).rstrip(",")
