"""accelerator.cpp: the units of an accelerator as processes, the channels between them, and the top function."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from export.project.numbers import limb_type, struct_name
from tsn_hw.hardware.dataflow import Channel, Dataflow, Process, identifier
from tsn_hw.hardware.images import KINDS, Kind, MemoryImage, is_loaded
from tsn_hw.hardware.units import MatrixUnit, Unit

TEMPLATES = Path(__file__).parents[2] / "hls_templates"
STORAGE = {"auto": "", "block": " impl=bram", "distributed": " impl=lutram", "ultra": " impl=uram"}
FUNCTIONS = {"MatrixUnit": "matrix", "PoolUnit": "average_pool", "AddUnit": "add"}
LOAD_PARAMETERS = ", tsn::limb_t load_head,\n                    bool &is_refused"
EXECUTION = "        execute(s_axis, m_axis, task, number);"
LOADING_EXECUTION = """\
        const bool is_load = command.to_uint() == tsn::LOAD;
        bool is_refused = false;
        execute(s_axis, m_axis, is_load ? 0 : task, is_load ? 0 : number, is_load ? tsn::load_head(task, number) : 0,
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

Memories = Mapping[Kind, MemoryImage]
"""The memories of one unit."""


def firmware_source(graph: Dataflow, memories: Mapping[str, Memories]) -> str:
    """accelerator.cpp of an accelerator; ``memories``: those of every unit that has some, by its name."""
    design = graph.accelerator
    held = {index: memories.get(unit.name, {}) for index, unit in enumerate(design.units)}
    names = [memory_name(index, unit, kind) for index, unit in enumerate(design.units) for kind in held[index]]
    loading = [index for index, unit in enumerate(design.units) if is_on_chain(unit, held[index])]
    head = len(design.units) - 1
    is_known = (
        f"task < config::control::MAX_TASKS && (tsn::limb({memory_name(head, design.head, 'task')}[task][0]) & 1) != 0"
    )
    return Template((TEMPLATES / "firmware" / "accelerator.cpp.in").read_text()).substitute(
        summary=f"{len(design.units)} units, {len(design.net.tasks)} tasks, {len(design.net.banks)} banks",
        memory_includes="\n".join(f'#include "memories/{name}.hpp"' for name in names),
        units="\n".join(unit_function(i, unit, held[i]) for i, unit in enumerate(design.units) if held[i]),
        channel_count=len(graph.channels),
        load_parameters=LOAD_PARAMETERS if loading else "",
        channels="\n".join(
            [
                *map(_declaration, graph.channels),
                *(_load_declaration(i) for i in range(len(loading) + 1 if loading else 0)),
            ]
        ),
        calls="\n".join(_calls(graph, held, loading)),
        is_known="true" if is_loaded(design.head, "task") else is_known,
        execution=LOADING_EXECUTION if loading else EXECUTION,
        memory_table=",\n".join(
            _table_entry(i, unit, k, m) for i, unit in enumerate(design.units) for k, m in held[i].items()
        ),
        probes="\n".join(
            _probe(i, unit, held[i]) for i, unit in enumerate(design.units) if isinstance(unit, MatrixUnit)
        ),
    )


def memory_name(index: int, unit: Unit, kind: Kind) -> str:
    """Name of a memory in C++."""
    return f"{identifier(index, unit)}_{kind}"


def is_on_chain(unit: Unit, held: Memories) -> bool:
    """Whether load packets pass through a unit."""
    return any(is_loaded(unit, kind) for kind in held)


def unit_function(index: int, unit: Unit, held: Memories) -> str:
    """A unit with its memories bound to what they are stored in."""
    name, chained = identifier(index, unit), is_on_chain(unit, held)
    inputs = ["in"] if len(unit.inputs) == 1 else ["first", "second"]
    lanes = [stream.bits * unit.input_lanes for stream in unit.sources]
    parameters = [f"hls::stream<ap_uint<{width}> > &{port}" for port, width in zip(inputs, lanes, strict=True)]
    load = ""
    arrays = [memory_name(index, unit, kind) if kind in held else "tsn::no_memory" for kind in KINDS]
    if chained:
        parameters += [f"hls::stream<tsn::load_beat> &{port}" for port in ("load_in", "load_out")]
        load = f"    tsn::load<config::{name}::INDEX>(load_in, load_out, {', '.join(arrays)});\n"
    parameters.append(f"hls::stream<ap_uint<{unit.output.bits * unit.output_lanes}> > &out")
    parameters += ["unsigned task", "unsigned inferences"]
    used = arrays if isinstance(unit, MatrixUnit) else arrays[-2:]
    return UNIT.substitute(
        comment=_comment(unit),
        name=name,
        parameters=(",\n" + " " * len(f"static void {name}(")).join(parameters),
        pragmas="".join(_pragmas(index, unit, kind, image) for kind, image in held.items()),
        load=load,
        function=FUNCTIONS[type(unit).__name__],
        arguments=", ".join([*inputs, "out", "task", "inferences", *used]),
    )


def _comment(unit: Unit) -> str:
    if isinstance(unit, MatrixUnit):
        folding = unit.settings.folding
        return f"{unit.name}: {unit.rows} rows x {unit.columns} columns, {folding.pe} x {folding.simd} in a cycle"
    return f"{unit.name}: {unit.output.elements} values, {unit.settings.folding.pe} in a cycle"


def _pragmas(index: int, unit: Unit, kind: Kind, image: MemoryImage) -> str:
    """What a memory is stored in: lines in the memory of the settings, codebooks once a lane."""
    name, loaded = memory_name(index, unit, kind), is_loaded(unit, kind)
    if kind == "task":
        return ""
    type_, impl = "ram_s2p" if loaded else "rom_1p", ""
    if kind == "codebook":
        type_, impl = "ram_1wnr" if loaded else "rom_np", " impl=lutram"
    elif kind in ("words", "mask"):
        impl = STORAGE[unit.settings.ram_style]
    text = f"#pragma HLS BIND_STORAGE variable={name} type={type_}{impl}\n"
    if image.limbs.shape[1] > 1:
        text += f"#pragma HLS ARRAY_PARTITION variable={name} type=complete dim=2\n"
    return text


def _declaration(channel: Channel) -> str:
    return (
        f'    hls::stream<ap_uint<{channel.width_bits}> > {channel.name}("{channel.name}");\n'
        f"#pragma HLS STREAM variable={channel.name} depth={channel.depth}"
    )


def _load_declaration(number: int) -> str:
    return (
        f'    hls::stream<tsn::load_beat> load{number}("load{number}");\n'
        f"#pragma HLS STREAM variable=load{number} depth=2"
    )


def _calls(graph: Dataflow, held: Mapping[int, Memories], loading: list[int]) -> list[str]:
    lines = []
    for process in graph.processes:
        lines.append(f"    {_call(graph, process, held, loading)};")
        if process.kind == "unit":
            channel = graph.channels[process.outputs[0]]
            form = f"{channel.stream.bits}, {str(channel.stream.signed).lower()}"
            lines.append(f"    TSN_TAP({process.unit}, {form}, {channel.name}, {channel.words}ULL * inferences)")
    return lines + ([f"    tsn::refuse(load{len(loading)}, is_refused);"] if loading else [])


def _call(graph: Dataflow, process: Process, held: Mapping[int, Memories], loading: list[int]) -> str:
    name = struct_name(graph, process)
    inputs, outputs = ([graph.channels[i].name for i in ends] for ends in (process.inputs, process.outputs))
    if process.kind == "input" and loading:
        return f"tsn::read_input<config::{name}, config::control>(s_axis, load0, {outputs[0]}, inferences, load_head)"
    if process.kind == "input":
        return f"tsn::read_activations<config::{name}>(s_axis, {outputs[0]}, inferences)"
    if process.kind == "output":
        return f"tsn::write_logits<config::{name}>({inputs[0]}, m_axis, inferences)"
    if process.kind == "unit" and held[process.unit]:
        place = loading.index(process.unit) if process.unit in loading else None
        chain = [] if place is None else [f"load{place}", f"load{place + 1}"]
        return f"{name}({', '.join([*inputs, *chain, *outputs, 'task', 'inferences'])})"
    function = "max_pool" if process.kind == "unit" else process.kind
    return f"tsn::{function}<config::{name}>({', '.join([*inputs, *outputs, 'inferences'])})"


def _table_entry(index: int, unit: Unit, kind: Kind, image: MemoryImage) -> str:
    name, loaded = memory_name(index, unit, kind), is_loaded(unit, kind)
    depth, limbs = image.limbs.shape
    array = f"access<{limb_type(image) if loaded else 'limb_t'}, {limbs}, {name}>"
    numbers = f"{index}, {KINDS.index(kind)}, {str(loaded).lower()}, {depth}, {limbs}"
    return f"        {{{numbers}, {array}::read, {array}::write}}"


def _probe(index: int, unit: Unit, held: Memories) -> str:
    name = identifier(index, unit)
    if not is_on_chain(unit, held):
        call = f"[&](auto &in, auto &out, unsigned inferences) {{ {name}(in, out, task, inferences); }}"
    else:
        call = f"""[&](auto &in, auto &out, unsigned inferences) {{
                hls::stream<load_beat> load_in("load_in"), load_out("load_out");
                load_in.write(load_end(true));
                {name}(in, load_in, load_out, out, task, inferences);
                load_out.read();
            }}"""
    return f"    case {index}:\n        return probe_unit<config::{name}>(columns, {call});"
