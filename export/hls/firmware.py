"""accelerator.cpp: the units of an accelerator as processes, the channels between them, and the top function."""

from __future__ import annotations

from pathlib import Path
from string import Template

from export.hls.headers import limb_type
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.dataflow import Channel, Process
from tsn_hw.hardware.memories import KINDS, MemoryKind, MemoryLayout
from tsn_hw.hardware.units import Unit

TEMPLATES = Path(__file__).parents[2] / "hls_templates"
STORAGE = {"auto": "", "block": " impl=bram", "distributed": " impl=lutram", "ultra": " impl=uram"}
LOAD_PARAMETERS = ", tsn::limb_t load_head,\n                    bool &is_refused"
EXECUTION = "        execute(s_axis, m_axis, call, call.inferences, has_refused);"
LOADING_EXECUTION = """\
        bool is_refused = false;
        execute(s_axis, m_axis, call, call.inferences, has_refused, is_load ? tsn::load_head(task, number) : 0,
                is_refused);
        if (is_load) {
            tsn::note(now, task, !is_refused);
            if (is_refused) verdict = tsn::BAD_PACKET;
        }"""

UNIT = Template("""\
// $comment
static void $name($parameters) {
$pragmas$load    tsn::$function<config::$name>($arguments);
}
""")


def firmware_source(design: Accelerator) -> str:
    """accelerator.cpp of an accelerator."""
    graph, chain = design.dataflow, load_chain(design)
    held = [process for process in graph.processes if process.layouts]
    memories = [(process, layout) for process in held for layout in process.layouts]
    load_count = len(chain) + 1 if chain else 0
    return Template((TEMPLATES / "firmware" / "accelerator.cpp.in").read_text()).substitute(
        summary=f"{len(design.units)} units, {len(design.net.tasks)} tasks, {len(design.net.banks)} banks",
        memory_includes="\n".join(f'#include "memories/{memory_name(p, layout.kind)}.hpp"' for p, layout in memories),
        units="\n".join(unit_function(process, design.units[process.unit]) for process in held),
        channel_count=len(graph.channels),
        load_parameters=LOAD_PARAMETERS if chain else "",
        channels="\n".join(
            [*map(_declaration, graph.channels), _said_declaration(design), *map(_load_declaration, range(load_count))]
        ),
        calls="\n".join(_calls(design, chain)),
        is_known=_is_known(design),
        head_task=f"{design.head.identifier}_task",
        execution=LOADING_EXECUTION if chain else EXECUTION,
        memory_table=",\n".join(_table_entry(process, layout) for process, layout in memories),
        probes="\n".join(_probe(process) for process in held if design.units[process.unit].has_words),
    )


def memory_name(process: Process, kind: MemoryKind) -> str:
    """Name of a memory in C++."""
    return f"{process.name}_{kind}"


def load_chain(design: Accelerator) -> list[int]:
    """The units that load packets pass through."""
    return [process.unit for process in design.dataflow.processes if process.is_on_load_chain]


def _is_known(design: Accelerator) -> str:
    """Whether there is a task: its word says so, unless that is loaded with it."""
    if not design.control["LISTS_TASKS"]:
        return "true"
    return f"task < config::control::MAX_TASKS && (tsn::limb({design.head.identifier}_task[task][0]) & 1) != 0"


def unit_function(process: Process, unit: Unit) -> str:
    """A unit with its memories bound to what they are stored in."""
    name, held = process.name, {layout.kind for layout in process.layouts}
    inputs = ["in"] if len(unit.inputs) == 1 else ["first", "second"]
    lanes = [stream.bits * unit.input_lanes for stream in unit.sources]
    parameters = [f"hls::stream<ap_uint<{width}> > &{port}" for port, width in zip(inputs, lanes, strict=True)]
    load = ""
    arrays = [memory_name(process, kind) if kind in held else "tsn::no_memory" for kind in KINDS]
    if process.is_on_load_chain:
        parameters += [f"hls::stream<tsn::load_beat> &{port}" for port in ("load_in", "load_out")]
        load = f"    tsn::load<config::{name}::INDEX>(load_in, load_out, {', '.join(arrays)});\n"
    parameters.append(f"hls::stream<ap_uint<{unit.output.bits * unit.pe}> > &out")
    parameters += ["hls::stream<tsn::said_t> &said", "unsigned inferences"]
    used = arrays if unit.has_words else arrays[-2:]
    return UNIT.substitute(
        comment=unit.title,
        name=name,
        parameters=(",\n" + " " * len(f"static void {name}(")).join(parameters),
        pragmas="".join(_pragmas(process, layout) for layout in process.layouts if layout.kind != "task"),
        load=load,
        function=process.module,
        arguments=", ".join([*inputs, "out", "said", "inferences", *used]),
    )


def _pragmas(process: Process, layout: MemoryLayout) -> str:
    """What a memory is stored in; a codebook is read by every lane."""
    name = memory_name(process, layout.kind)
    types = ("rom_np", "ram_1wnr") if layout.kind == "codebook" else ("rom_1p", "ram_s2p")
    text = f"#pragma HLS BIND_STORAGE variable={name} type={types[layout.is_loaded]}{STORAGE[layout.style]}\n"
    if layout.limbs > 1:
        text += f"#pragma HLS ARRAY_PARTITION variable={name} type=complete dim=2\n"
    return text


def _declaration(channel: Channel) -> str:
    return (
        f'    hls::stream<ap_uint<{channel.width_bits}> > {channel.name}("{channel.name}");\n'
        f"#pragma HLS STREAM variable={channel.name} depth={channel.depth}"
    )


def said_readers(design: Accelerator) -> list[Process]:
    """The processes to which the input says the task of every inference."""
    return [process for process in design.dataflow.processes if process.layouts or process.kind == "output"]


def _said_declaration(design: Accelerator) -> str:
    """Where it is said: so deep that nobody waits. With a depth of one already nobody waits for good (docs/hls.md)."""
    return (
        f"    hls::stream<tsn::said_t> said[{len(said_readers(design))}];\n"
        f"#pragma HLS STREAM variable=said depth={design.slots}"
    )


def _load_declaration(number: int) -> str:
    return (
        f'    hls::stream<tsn::load_beat> load{number}("load{number}");\n'
        f"#pragma HLS STREAM variable=load{number} depth=2"
    )


def _calls(design: Accelerator, chain: list[int]) -> list[str]:
    lines, readers = [], [process.name for process in said_readers(design)]
    for process in design.dataflow.processes:
        inputs, outputs = design.dataflow.ends(process)
        names = [channel.name for channel in inputs], [channel.name for channel in outputs]
        said = f"said[{readers.index(process.name)}]" if process.name in readers else "said"
        lines.append(f"    {_call(process, *names, chain, said)};")
        if process.kind == "unit":
            (channel,) = outputs
            form = f"{channel.stream.bits}, {str(channel.stream.signed).lower()}"
            lines.append(f"    TSN_TAP({process.unit}, {form}, {channel.name}, {channel.words}ULL * inferences)")
    return lines + ([f"    tsn::refuse(load{len(chain)}, is_refused);"] if chain else [])


def _call(process: Process, inputs: list[str], outputs: list[str], chain: list[int], said: str) -> str:
    name = process.name
    if process.kind == "input":
        ends = f"{outputs[0]}, said, call, has_refused"
        if chain:
            return f"tsn::read_input<config::{name}, tasks, config::control>(s_axis, load0, {ends}, load_head)"
        return f"tsn::read_activations<config::{name}, tasks>(s_axis, {ends})"
    if process.layouts:
        place = chain.index(process.unit) if process.is_on_load_chain else None
        loads = [] if place is None else [f"load{place}", f"load{place + 1}"]
        return f"{name}({', '.join([*inputs, *loads, *outputs, said, 'inferences'])})"
    if process.kind == "output":
        return f"tsn::write_logits<config::{name}>({inputs[0]}, {said}, m_axis, call, inferences)"
    return f"tsn::{process.module}<config::{name}>({', '.join([*inputs, *outputs, 'inferences'])})"


def _table_entry(process: Process, layout: MemoryLayout) -> str:
    array = f"access<{limb_type(layout)}, {layout.limbs}, {memory_name(process, layout.kind)}>"
    is_loaded = str(layout.is_loaded).lower()
    numbers = f"{process.unit}, {KINDS.index(layout.kind)}, {is_loaded}, {layout.depth}, {layout.limbs}"
    return f"        {{{numbers}, {array}::read, {array}::write}}"


def _probe(process: Process) -> str:
    name = process.name
    if not process.is_on_load_chain:
        call = f"[&](auto &in, auto &out, auto &said, unsigned inferences) {{ {name}(in, out, said, inferences); }}"
    else:
        call = f"""[&](auto &in, auto &out, auto &said, unsigned inferences) {{
                hls::stream<load_beat> load_in("load_in"), load_out("load_out");
                load_in.write(load_end(true));
                {name}(in, load_in, load_out, out, said, inferences);
                load_out.read();
            }}"""
    return f"    case {process.unit}:\n        return probe_unit<config::{name}>(task, columns, {call});"
