"""The memories of an accelerator on a part: every image, every buffer and every FIFO as block RAMs or LUTs.

Of block RAMs of shape d x w, a memory of depth D and width W takes ``ceil(ceil(D / d) * W / w)``: the parts of one that
is deeper than a block lie side by side, and LUTs choose among them. The shape is taken that costs least, a block being
worth ``block_worth_luts`` LUTs of the family; yosys does it so. In LUTs, a read-only memory takes
``ceil(D / 2**inputs)`` LUTs a bit, and a writable one the least over the ``ram_shapes`` of the family; where LUTs are
no memory, registers if a block is worth more. More LUTs than hard multiplexers join are joined by further LUTs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sim.devices import Device, Family
from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.memories import Memory


@dataclass(frozen=True)
class Placed:
    """A memory on a part: what it is made of, and how many of them; lut_ram are those of the LUTs that are writable."""

    memory: Memory
    storage: Literal["block", "lut", "register", "ultra"]
    lut: int = 0
    lut_ram: int = 0
    ff: int = 0
    bram: int = 0
    uram: int = 0


def place(memory: Memory, device: Device) -> Placed:
    """Where a memory goes on a part, by its style, and what it takes; FoldingError if it cannot go there."""
    family, style = device.family, memory.style
    if memory.storage == "ultra":
        if not device.capacities.uram:
            raise FoldingError(f"layer {memory.unit!r}: ram_style='ultra', but {device.name} has no UltraRAM")
        count = min(-(-memory.depth // depth) * -(-memory.width_bits // width) for depth, width in family.ultra_shapes)
        return Placed(memory, "ultra", uram=memory.copies * count)
    has_lut_form = bool(family.ram_shapes) or not memory.writable
    if style == "distributed" and not has_lut_form and memory.kind != "codebook":
        raise FoldingError(f"layer {memory.unit!r}: ram_style='distributed', but LUTs of {device.name} are no memory")
    if has_lut_form and memory.storage != "block":
        luts = memory.copies * lut_count(memory, family)
        return Placed(memory, "lut", lut=luts, lut_ram=luts if memory.writable else 0)
    bram, luts = blocks(memory, family)
    if style == "auto" and not has_lut_form and memory.bits <= bram * family.block_worth_luts:
        return Placed(memory, "register", lut=memory.copies * memory.bits, ff=memory.copies * memory.bits)
    return Placed(memory, "block", lut=memory.copies * luts, bram=memory.copies * bram)


def blocks(memory: Memory, family: Family) -> tuple[int, int]:
    """Block RAMs of one copy of a memory, and the LUTs that choose among its parts."""

    def with_shape(depth: int, width: int, joined: int = 1) -> tuple[float, int, int]:
        byte = min(width, family.block_byte_bits) if memory.writable else 1
        parts = -(-memory.depth // depth)
        count = joined * -(-parts * -(-memory.width_bits // byte) * byte // width)
        written = parts if memory.writable and parts > 1 else 0
        # A multiplexer of two is reckoned half a LUT, and so is what selects a part to write.
        cost = family.block_worth_luts * count + ((parts - 1) * memory.width_bits + written) / 2
        return cost, count, memory.width_bits * choosing_luts(parts, family)

    _, count, luts = min(with_shape(*shape) for shape in family.block_shapes)
    return count, luts


def lut_count(memory: Memory, family: Family) -> int:
    """LUTs of one copy of a memory."""
    if not memory.writable:
        leaves = -(-memory.depth // (1 << family.lut_inputs))
        return memory.width_bits * (leaves + joining_luts(leaves, family))
    return min(
        -(-memory.width_bits // width) * -(-memory.depth // depth) * luts
        + memory.width_bits * joining_luts(-(-memory.depth // depth), family)
        for depth, width, luts in family.ram_shapes
    )


def is_shallow(memory: Memory, family: Family) -> bool:
    """Whether a memory can be of LUTs that hard multiplexers join."""
    depths = [shape[0] for shape in family.ram_shapes] if memory.writable else [1 << family.lut_inputs]
    return memory.depth <= family.muxed_luts * max(depths, default=0)


def joining_luts(leaves: int, family: Family) -> int:
    """LUTs that choose among the outputs of ``leaves`` LUTs, for one bit, behind the hard multiplexers."""
    return choosing_luts(-(-leaves // family.muxed_luts), family)


def choosing_luts(choices: int, family: Family) -> int:
    """LUTs that choose one bit of several: a 4:1 multiplexer is one LUT of six inputs or two of four."""
    return -(-(choices - 1) // 3) if family.lut_inputs >= 6 else -(-2 * (choices - 1) // 3)
