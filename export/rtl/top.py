"""tsn_accelerator.sv: the processes of an accelerator as instances of modules, joined by FIFOs.

Everything that computes is in the modules of hls_templates/rtl; here are their numbers and what is connected to what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

from export.hls.firmware import TEMPLATES
from export.project.numbers import design_number, loads_all, loads_task
from tsn_hw.core.memory import index_bits
from tsn_hw.hardware.dataflow import Channel, Dataflow, Process, bus_container_bits, identifier
from tsn_hw.hardware.images import KINDS, Kind, is_loaded, memory_layouts
from tsn_hw.hardware.units import SMALL_MEMORY_BITS, AddUnit, MatrixUnit, PoolUnit, Unit, Window

Numbers = Mapping[str, int | str]

LINE_MEMORIES: tuple[Kind, ...] = ("words", "mask")
"""What lies in the memory that the settings of a unit ask for."""


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
    for process in _loops(graph):
        width = graph.channels[process.outputs[0]].width_bits if process.kind == "unit" else 1
        found.append(Watch(process.unit, process.kind, width, found[-1].end_digit if found else 0))
    return found


def bench_module(graph: Dataflow) -> str:
    """The text of tsn_bench.sv."""
    return Template((TEMPLATES / "rtl" / "tsn_bench.sv.in").read_text()).substitute(_watch_sizes(watches(graph)))


def top_module(graph: Dataflow) -> str:
    """The text of tsn_accelerator.sv."""
    design = graph.accelerator
    idle = ["loader_idle", *(f"{channel.name}_idle" for channel in graph.channels)]
    idle += [f"{_name(graph, process)}_idle" for process in graph.processes if process.kind != "copy"]
    head = len(design.units) - 1
    control: dict[str, int | str] = {"TASKS": design.max_tasks, "TASK_BITS": index_bits(design.max_tasks)}
    control |= {"PARAMETER_BITS": _width(graph, head, "task")}
    control |= {"LOADS_ALL": int(loads_all(design)), "LOADS_TASK": int(loads_task(design))}
    control |= {"LISTS_TASKS": int(not is_loaded(design.head, "task"))}
    return Template((TEMPLATES / "rtl" / "tsn_accelerator.sv.in").read_text()).substitute(
        summary=f"{len(design.units)} units, {len(design.net.tasks)} tasks, {len(design.net.banks)} banks",
        task_bits=index_bits(design.max_tasks),
        control=_numbers(control | _memories(graph, head, ("task",))),
        idle=" &&\n        ".join(idle),
        loading=_loading(graph),
        channels="\n".join(map(_channel, graph.channels)),
        processes="\n".join(_process(graph, process) for process in graph.processes),
        watches="\n".join(
            _watch(graph, i, process, watch)
            for i, (process, watch) in enumerate(zip(_loops(graph), watches(graph), strict=True))
        ),
        steps=", ".join(f"{_name(graph, process)}_step" for process in _loops(graph)),
        **_watch_sizes(watches(graph)),
    )


def storage(bits: int, style: str = "auto", writable: bool = False) -> str:
    """What the tools are told of a memory of some bits: as the cost model places it.

    A small memory that is written has no fixed form: LUTs are no memory in every family.
    """
    if style == "ultra":
        return style
    if style == "block" or (style == "auto" and bits > SMALL_MEMORY_BITS):
        return "block"
    return "auto" if writable else "logic"


def _loading(graph: Dataflow) -> str:
    """The module that takes loads; where nothing is loaded, its wires alone."""
    shapes = []
    for number, unit in enumerate(graph.accelerator.units):
        for layout in memory_layouts(graph.accelerator, unit):
            if is_loaded(unit, layout.kind):
                header = number | KINDS.index(layout.kind) << 16 | layout.limbs << 24
                shapes.append(f"64'h{layout.depth << 32 | header:016x}")
    if not shapes:
        return """\
    wire [128:0] load = 0;
    wire loader_tready = 0, loader_idle = 1;
    wire unused_load = &{1'b0, begin_load, called_task, load};
    assign is_refused = 0;
"""
    return f"""\
    wire [128:0] load;
    wire loader_tready, loader_idle;
    tsn_loader #(
        .DESIGN(32'h{design_number(graph):08x}), .MEMORIES({len(shapes)}), .SHAPES({{
{_columns(shapes[::-1])}
        }})
    ) i_loader (
        .clk(aclk), .reset(reset), .begin_load(begin_load), .task_id(called_task), .count(called_count),
        .s_valid(s_axis_tvalid), .s_ready(loader_tready), .s_data(s_axis_tdata), .load(load), .idle(loader_idle),
        .is_refused(is_refused)
    );
"""


def _channel(channel: Channel) -> str:
    name, width = channel.name, channel.width_bits
    numbers: Numbers = {"WIDTH": width, "DEPTH": channel.depth, "STYLE": storage(channel.depth * width, writable=True)}
    ports = {"clk": "aclk", "reset": "reset"}
    ports |= {f"s_{end}": f"{name}_in_{end}" for end in ("valid", "ready", "data")}
    ports |= {f"m_{end}": f"{name}_out_{end}" for end in ("valid", "ready", "data")}
    wires = f"""\
    wire {name}_in_valid, {name}_in_ready, {name}_out_valid, {name}_out_ready, {name}_idle;
    wire [{width - 1}:0] {name}_in_data, {name}_out_data;
"""
    return wires + _instance("tsn_fifo", name, numbers, ports | {"idle": f"{name}_idle"})


def _process(graph: Dataflow, process: Process) -> str:
    """The instance of a process."""
    name = _name(graph, process)
    inputs, outputs = ([graph.channels[i] for i in ends] for ends in (process.inputs, process.outputs))
    module, numbers = _module(graph, process)
    if process.kind == "copy":
        ports = _stream("s", f"{inputs[0].name}_out") | {"m_data": f"{outputs[0].name}_in_data"}
        for port, channel in zip(("first", "second"), outputs, strict=True):
            ports |= {f"{port}_{end}": f"{channel.name}_in_{end}" for end in ("valid", "ready")}
        second = f"    assign {outputs[1].name}_in_data = {outputs[0].name}_in_data;\n"
        return _instance(module, name, numbers, ports) + second
    ports = {"clk": "aclk", "reset": "reset", "idle": f"{name}_idle"}
    wires = f"    wire {name}_idle;\n"
    if process.kind in ("window", "unit"):
        ports["step"] = f"{name}_step"
        wires = f"    wire {name}_step, {name}_idle;\n"
    if process.kind in ("input", "output"):
        ports |= {"begin_call": "begin_call", "count": "called_count"}
    if process.kind == "unit" and not _is_max_pool(graph, process):
        runtime = graph.accelerator.units[process.unit].settings.mask == "runtime"
        ports |= {"task_index": "1'b0" if runtime else "task_index", "load": "load"}
    if module == "tsn_matrix":
        ports["begin_call"] = "begin_call"
    if process.kind == "input":
        ports |= {"s_valid": "s_axis_tvalid", "s_ready": "input_tready", "s_data": "s_axis_tdata"}
    for port, channel in zip(["s"] if len(inputs) == 1 else ["first", "second"], inputs, strict=False):
        ports |= _stream(port, f"{channel.name}_out_")
    if process.kind == "output":
        ports |= {f"m_axis_t{end}": f"m_axis_t{end}" for end in ("valid", "ready", "data", "keep", "last")}
    for channel in outputs:
        ports |= _stream("m", f"{channel.name}_in_")
    return wires + _instance(module, name, numbers, ports)


def _module(graph: Dataflow, process: Process) -> tuple[str, Numbers]:
    """Module and parameters of a process."""
    design, unit = graph.accelerator, graph.accelerator.units[process.unit]
    inputs, outputs = ([graph.channels[i] for i in ends] for ends in (process.inputs, process.outputs))
    match process.kind:
        case "input":
            numbers = {"BITS": design.input.bits, "CONTAINER_BITS": bus_container_bits(design)}
            return "tsn_input", numbers | {"WORDS": outputs[0].words}
        case "copy":
            return "tsn_copy", {"WIDTH": inputs[0].width_bits}
        case "convert":
            source, target = inputs[0], outputs[0]
            numbers = {"FROM": source.lanes, "TO": target.lanes, "BITS": source.stream.bits}
            numbers |= {"ELEMENTS": source.stream.elements, "GRAIN": math.gcd(source.lanes, target.lanes)}
            return "tsn_convert", numbers
        case "output":
            return "tsn_output", {"ROWS": inputs[0].words}
        case "window":
            assert isinstance(unit, MatrixUnit | PoolUnit)
            assert unit.window is not None
            width = outputs[0].width_bits
            style = storage(unit.window.buffer_words * width, writable=True)
            numbers = {"WORD_WIDTH": width, "BY_PART": int(isinstance(unit, PoolUnit))} | _window(unit.window)
            return "tsn_window", numbers | {"RING_STYLE": style}
        case "unit":
            return _unit(graph, process.unit)


def _window(window: Window) -> dict[str, int]:
    pairs = {"KERNEL": window.kernel, "STRIDE": window.stride, "PADDING": window.padding, "OUTPUT": window.output}
    sizes = {f"{key}_{axis}": pair[i] for key, pair in pairs.items() for i, axis in enumerate(("ROWS", "COLUMNS"))}
    return {"HEIGHT": window.source[1], "WIDTH": window.source[2], "PARTS": window.words_per_pixel} | sizes


def _unit(graph: Dataflow, index: int) -> tuple[str, Numbers]:
    """Module and parameters of a unit."""
    design, unit = graph.accelerator, graph.accelerator.units[index]
    pe, output = unit.settings.folding.pe, unit.output
    numbers: dict[str, int | str] = {"PE": pe}
    names = ("FIRST", "SECOND") if isinstance(unit, AddUnit) else ("INPUT",)
    for name, stream in zip(names, unit.sources, strict=True):
        numbers |= {f"{name}_BITS": stream.bits, f"{name}_SIGNED": int(stream.signed)}
    if isinstance(unit, PoolUnit):
        numbers["AREA"] = math.prod(unit.window.kernel)
    if unit.scales is None:
        return "tsn_max_pool", numbers
    numbers |= {"OUTPUT_BITS": output.bits, "OUTPUT_SIGNED": int(output.signed)}
    is_runtime = unit.settings.mask == "runtime"
    tasks = 1 if is_runtime else design.max_tasks
    loaded = sum(is_loaded(unit, kind) << bit for bit, kind in enumerate(KINDS))
    numbers |= {"TASKS": tasks, "TASK_BITS": index_bits(tasks), "UNIT": index, "LOADED": loaded}
    numbers |= {f"{key.upper()}": getattr(unit.scales, key) for key in _SCALES}
    if not isinstance(unit, MatrixUnit):
        module = "tsn_add" if isinstance(unit, AddUnit) else "tsn_average_pool"
        return module, numbers | _memories(graph, index, ("scales", "task"))
    vector_bits = unit.column_folds * unit.input_lanes * unit.sources[0].bits
    numbers |= {
        "SIMD": unit.settings.folding.simd,
        "ROW_FOLDS": unit.row_folds,
        "COLUMN_FOLDS": unit.column_folds,
        "REGIONS": unit.regions,
        "REGION_BITS": index_bits(unit.regions),
        "CODEBOOKS": 1 if is_runtime else unit.regions,
        "WORD_BITS": unit.word_bits,
        "CENTROID_BITS": unit.centroid_bits,
        "HAS_MASK": int(unit.settings.mask != "none"),
        "VECTOR_STYLE": storage(vector_bits, writable=True),
    }
    return "tsn_matrix", numbers | _memories(graph, index, ("words", "codebook", "mask", "scales", "task"))


_SCALES = ("accumulator_bits", "multiplier_bits", "offset_bits", "value_bits")


def _memories(graph: Dataflow, index: int, kinds: Sequence[Kind]) -> dict[str, str]:
    """File and storage of those of some memories that a unit has."""
    unit = graph.accelerator.units[index]
    found: dict[str, str] = {}
    for layout in memory_layouts(graph.accelerator, unit):
        if layout.kind in kinds:
            loaded = is_loaded(unit, layout.kind)
            if not loaded:
                found[f"{layout.kind.upper()}_FILE"] = f"{layout.name}.mem"
            if layout.kind != "codebook":
                style = unit.settings.ram_style if layout.kind in LINE_MEMORIES else "auto"
                found[f"{layout.kind.upper()}_STYLE"] = storage(layout.bits, style, writable=loaded)
    return found


def _width(graph: Dataflow, index: int, kind: Kind) -> int:
    layouts = memory_layouts(graph.accelerator, graph.accelerator.units[index])
    return next(layout.width_bits for layout in layouts if layout.kind == kind)


def _loops(graph: Dataflow) -> list[Process]:
    return [process for process in graph.processes if process.kind in ("window", "unit")]


def _watch_sizes(found: Sequence[Watch]) -> dict[str, int]:
    return {"loops": len(found), "word_bits": 4 * found[-1].end_digit}


def _watch(graph: Dataflow, index: int, process: Process, watch: Watch) -> str:
    """What simulation reports of a loop; of a window the steps alone."""
    name, channel = _name(graph, process), graph.channels[process.outputs[0]].name
    sends, data = "1'b0", "1'b0"
    if process.kind == "unit":
        sends, data = f"{channel}_in_valid && {channel}_in_ready", f"{channel}_in_data"
    ports = {"clk": "aclk", "begin_call": "begin_call", "step": f"{name}_step", "sends": sends, "data": data}
    ports |= {"steps": f"watch_steps[{32 * index}+:32]", "sent": f"watch_sent[{index}]"}
    ports |= {"word": f"watch_words[{4 * watch.first_digit}+:{4 * (watch.end_digit - watch.first_digit)}]"}
    return _instance("tsn_watch", f"watch_{name}", {"WIDTH": watch.width_bits}, ports)


def _name(graph: Dataflow, process: Process) -> str:
    """Name of a process: that of its unit, or of what it writes."""
    if process.kind == "unit":
        return identifier(process.unit, graph.accelerator.units[process.unit])
    kind = "copier" if process.kind == "copy" else process.kind
    return "writer" if process.kind == "output" else f"{kind}_{graph.channels[process.outputs[0]].name}"


def _is_max_pool(graph: Dataflow, process: Process) -> bool:
    unit: Unit = graph.accelerator.units[process.unit]
    return isinstance(unit, PoolUnit) and unit.scales is None


def _stream(port: str, wires: str) -> dict[str, str]:
    separator = "" if wires.endswith(("_", "_t")) else "_"
    return {f"{port}_{end}": f"{wires}{separator}{end}" for end in ("valid", "ready", "data")}


def _numbers(numbers: Numbers) -> str:
    values = {key: f'"{value}"' if isinstance(value, str) else value for key, value in numbers.items()}
    return _columns([f".{key}({value})" for key, value in values.items()])


def _instance(module: str, name: str, numbers: Numbers, ports: Mapping[str, str]) -> str:
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
