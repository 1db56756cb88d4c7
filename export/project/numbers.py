"""The numbers of an accelerator as C++ text: traits of every process, and memories as tables of 64-bit limbs."""

from __future__ import annotations

import math
import zlib

from tsn_hw.core.errors import FoldingError
from tsn_hw.core.memory import index_bits
from tsn_hw.hardware.dataflow import Dataflow, Process, bus_container_bits, identifier
from tsn_hw.hardware.images import LIMB_BITS, MemoryImage, is_loaded, memory_layouts
from tsn_hw.hardware.units import Accelerator, AddUnit, MatrixUnit, PoolUnit, Scales, Unit, Window

MAX_WORD_BITS = 4096
"""The widest ap_uint that Vitis HLS has."""
MAX_PACKET_LIMBS = 255
"""The limbs that a load packet can have: its header counts them in 8 bits."""


def check_widths(graph: Dataflow) -> None:
    """Refuse a folding whose words are wider than ap_uint, or whose lines are longer than a load packet."""
    design = graph.accelerator
    for process in graph.processes:
        widths = [graph.channels[i].width_bits for i in (*process.inputs, *process.outputs)]
        widest = sum(widths) if process.kind == "convert" else max(widths)
        if widest > MAX_WORD_BITS:
            what = "a converter of words in front of it holds" if process.kind == "convert" else "a word of it has"
            raise FoldingError(
                f"layer {design.units[process.unit].name!r}: {what} {widest} bits, "
                f"ap_uint has at most {MAX_WORD_BITS}; take a smaller pe or simd"
            )
    check_packets(design)


def check_packets(design: Accelerator) -> None:
    """Refuse a folding whose lines are longer than a load packet, where they are loaded."""
    for unit in design.units:
        for layout in memory_layouts(design, unit):
            if is_loaded(unit, layout.kind) and layout.limbs > MAX_PACKET_LIMBS:
                raise FoldingError(
                    f"layer {unit.name!r}: a line of its {layout.kind} has {layout.width_bits} bits, a load packet "
                    f"carries at most {MAX_PACKET_LIMBS * LIMB_BITS}; take a smaller pe or simd"
                )


def config_header(graph: Dataflow) -> str:
    """config.hpp: one struct of numbers for every process."""
    control = {
        "MAX_TASKS": graph.accelerator.max_tasks,
        "LOADS_ALL": loads_all(graph.accelerator),
        "LOADS_TASK": loads_task(graph.accelerator),
        "DESIGN": design_number(graph),
    }
    body = "\n".join([*_structs(graph), _struct("control", "the protocol", control)])
    return f"""// Rendered by tsn-hw: the numbers of every process.
#ifndef TSN_CONFIG_HPP
#define TSN_CONFIG_HPP

namespace config {{

{body}
}}  // namespace config

#endif
"""


def design_number(graph: Dataflow) -> int:
    """What tells an accelerator from others: the CRC-32 of the numbers of its processes. Its loads begin with it."""
    return zlib.crc32("\n".join(_structs(graph)).encode())


def memory_header(name: str, image: MemoryImage, loaded: bool) -> str:
    """A memory as a table of limbs, or as an array that load packets write."""
    depth, limbs = image.limbs.shape
    guard = f"TSN_{name.upper()}_HPP"
    head = f"""// Rendered by tsn-hw: {image.name}, {depth} lines of {image.width_bits} bits, the lowest limb first.
#ifndef {guard}
#define {guard}

#include "tsn/memory.hpp"

"""
    if loaded:
        return f"{head}static {limb_type(image)} {name}[{depth}][{limbs}];\n\n#endif\n"
    lines = ",\n".join("{" + ", ".join(map(hex, line)) + "}" for line in image.limbs.tolist())
    return f"{head}TSN_TABLE {name}[{depth}][{limbs}] = {{\n{lines}}};\n\n#endif\n"


def limb_type(image: MemoryImage) -> str:
    """The C++ type of the limbs of a memory that load packets write."""
    return f"ap_uint<{min(image.width_bits, LIMB_BITS)}>"


def loads_all(accelerator: Accelerator) -> bool:
    """Whether something lies in UltraRAM, which is to be loaded once."""
    return any(unit.settings.ram_style == "ultra" for unit in accelerator.units if isinstance(unit, MatrixUnit))


def loads_task(accelerator: Accelerator) -> bool:
    """Whether something is to be loaded when the task changes."""
    return any(unit.settings.mask == "runtime" for unit in accelerator.units)


def struct_name(graph: Dataflow, process: Process) -> str:
    """Name of the struct that holds the numbers of a process."""
    if process.kind == "unit":
        return identifier(process.unit, graph.accelerator.units[process.unit])
    return "output" if process.kind == "output" else graph.channels[process.outputs[0]].name


def _structs(graph: Dataflow) -> list[str]:
    return [_struct(*_traits(graph, process)) for process in graph.processes]


def _struct(name: str, comment: str, numbers: dict[str, int]) -> str:
    members = "".join(
        f"    static const {_type(value)} {key} = {str(value).lower()};\n" for key, value in numbers.items()
    )
    return f"// {comment}\nstruct {name} {{\n{members}}};\n"


def _type(value: int) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if value < 1 << 31 else "unsigned"


def _traits(graph: Dataflow, process: Process) -> tuple[str, str, dict[str, int]]:
    """Name, comment and numbers of the struct of a process."""
    design, name = graph.accelerator, struct_name(graph, process)
    inputs, outputs = ([graph.channels[i] for i in ends] for ends in (process.inputs, process.outputs))
    unit = design.units[process.unit]
    if process.kind == "input":
        numbers = {"BITS": design.input.bits, "CONTAINER_BITS": bus_container_bits(design), "WORDS": outputs[0].words}
        return name, f"input {design.input.shape}", numbers
    if process.kind == "copy":
        return name, f"copies of {inputs[0].name}", {"WIDTH": inputs[0].width_bits, "WORDS": inputs[0].words}
    if process.kind == "convert":
        source, target = inputs[0], outputs[0]
        numbers = {"FROM": source.lanes, "TO": target.lanes, "BITS": source.stream.bits}
        numbers |= {"ELEMENTS": source.stream.elements, "GRAIN": math.gcd(source.lanes, target.lanes)}
        return name, f"{source.name} in other words", numbers
    if process.kind == "output":
        return name, "logits", {"ROWS": inputs[0].words}
    if process.kind == "window":
        assert isinstance(unit, MatrixUnit | PoolUnit)
        assert unit.window is not None
        numbers = {"INDEX": process.unit, "WORD_WIDTH": outputs[0].width_bits, "BY_PART": isinstance(unit, PoolUnit)}
        return name, f"windows of {unit.name}", numbers | _window(unit.window)
    return name, f"{unit.name}: {type(unit).__name__}", {"INDEX": process.unit} | _unit(unit)


def _window(window: Window) -> dict[str, int]:
    pairs = {
        "KERNEL": window.kernel,
        "STRIDE": window.stride,
        "PADDING": window.padding,
        "OUTPUT": window.output,
    }
    sizes = {f"{key}_{axis}": pair[i] for key, pair in pairs.items() for i, axis in enumerate(("ROWS", "COLUMNS"))}
    return {"HEIGHT": window.source[1], "WIDTH": window.source[2], "PARTS": window.words_per_pixel} | sizes


def _unit(unit: Unit) -> dict[str, int]:
    folding, output = unit.settings.folding, unit.output
    numbers = {"PE": folding.pe}
    if isinstance(unit, AddUnit):
        for key, stream in zip(("FIRST", "SECOND"), unit.sources, strict=True):
            numbers |= {f"{key}_BITS": stream.bits, f"{key}_SIGNED": stream.signed}
    else:
        numbers |= {"INPUT_BITS": unit.sources[0].bits, "INPUT_SIGNED": unit.sources[0].signed}
    numbers |= {"OUTPUT_BITS": output.bits, "OUTPUT_SIGNED": output.signed}
    if isinstance(unit, MatrixUnit):
        numbers |= {
            "SIMD": folding.simd,
            "POSITIONS": unit.positions,
            "ROW_FOLDS": unit.row_folds,
            "COLUMN_FOLDS": unit.column_folds,
            "WORD_BITS": unit.word_bits,
            "REGION_BITS": index_bits(unit.regions),
            "CENTROID_BITS": unit.centroid_bits,
            "HAS_MASK": unit.settings.mask != "none",
        }
    else:
        numbers["WORDS"] = output.elements // folding.pe
    if isinstance(unit, PoolUnit):
        numbers["AREA"] = math.prod(unit.window.kernel)
    scales = scales_of(unit)
    if scales is not None:
        numbers |= {
            "ACCUMULATOR_BITS": scales.accumulator_bits,
            "MULTIPLIER_BITS": scales.multiplier_bits,
            "OFFSET_BITS": scales.offset_bits,
            "VALUE_BITS": scales.value_bits,
            "IS_LOADED": unit.settings.mask == "runtime",
        }
    return numbers


def scales_of(unit: Unit) -> Scales | None:
    """Widths of a unit's requantization, None where it has none (MaxPool)."""
    return unit.scales if isinstance(unit, MatrixUnit | AddUnit | PoolUnit) else None
