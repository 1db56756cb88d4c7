"""The numbers of an accelerator as C++ text: parameters of every process, and memories as tables of 64-bit limbs."""

from __future__ import annotations

from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.dataflow import declaration
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.memories import LIMB_BITS, MemoryLayout

MAX_WORD_BITS = 4096
"""The widest ap_uint that Vitis HLS has."""
CONTROL = ("MAX_TASKS", "LOADS_ALL", "LOADS_TASK", "NETWORK", "DESIGN", "LISTS_TASKS", "PARAMETER_BITS", "CLASS_BITS")
"""What the protocol in C++ takes of the parameters of control."""


def check_widths(design: Accelerator) -> None:
    """Refuse a folding whose words are wider than ap_uint."""
    for process in design.dataflow.processes:
        inputs, outputs = design.dataflow.ends(process)
        widths = [channel.width_bits for channel in (*inputs, *outputs)]
        widest = sum(widths) if process.kind == "convert" else max(widths)
        if widest > MAX_WORD_BITS:
            what = "a converter of words in front of it holds" if process.kind == "convert" else "a word of it has"
            raise FoldingError(
                f"layer {design.units[process.unit].name!r}: {what} {widest} bits, "
                f"ap_uint has at most {MAX_WORD_BITS}; take a smaller pe or simd"
            )


def config_header(design: Accelerator) -> str:
    """config.hpp: one struct of numbers for every process."""
    structs = [process.declaration for process in design.dataflow.processes]
    structs.append(declaration("control", "the protocol", {name: design.control[name] for name in CONTROL}))
    body = "\n".join(structs)
    return f"""// Rendered by tsn-hw: the numbers of every process.
#ifndef TSN_CONFIG_HPP
#define TSN_CONFIG_HPP

namespace config {{

{body}
}}  // namespace config

#endif
"""


def memory_header(name: str, image: MemoryImage) -> str:
    """A memory as a table of limbs, or as an array that load packets write."""
    layout, depth = image.layout, image.depth
    guard = f"TSN_{name.upper()}_HPP"
    array = f"{name}[{depth}][{layout.limbs}]"
    head = f"""// Rendered by tsn-hw: {image.name}, {depth} lines of {layout.width_bits} bits, the lowest limb first.
#ifndef {guard}
#define {guard}

#include "tsn/memory.hpp"

"""
    if layout.is_loaded:
        return f"{head}static {limb_type(layout)} {array};\n\n#endif\n"
    lines = ",\n".join("{" + ", ".join(map(hex, line)) + "}" for line in image.limbs.tolist())
    return f"{head}TSN_TABLE {array} = {{\n{lines}}};\n\n#endif\n"


def limb_type(layout: MemoryLayout) -> str:
    """The C++ type of the limbs of a memory: of one that load packets write, no wider than a word of it."""
    return f"ap_uint<{min(layout.width_bits, LIMB_BITS)}>" if layout.is_loaded else "limb_t"
