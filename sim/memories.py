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
from tsn_hw.hardware.dataflow import MIN_DEPTH, flowing_depth
from tsn_hw.hardware.folding import RamStyle
from tsn_hw.hardware.images import is_loaded, memory_layouts
from tsn_hw.hardware.units import SMALL_MEMORY_BITS, Accelerator, MatrixUnit, PoolUnit, Unit

Storage = Literal["block", "lut", "register", "ultra"]


@dataclass(frozen=True)
class Memory:
    """One memory as hardware reads it.

    copies: independent read ports, each a copy of the content: every lane has a codebook of its own.
    """

    unit: str
    kind: str
    depth: int
    width_bits: int
    copies: int = 1
    writable: bool = False
    style: RamStyle = "auto"

    @property
    def bits(self) -> int:
        """Bits of one copy."""
        return self.depth * self.width_bits


@dataclass(frozen=True)
class Placed:
    """A memory on a part: what it is made of, and how many of them; lut_ram are those of the LUTs that are writable."""

    memory: Memory
    storage: Storage
    lut: int = 0
    lut_ram: int = 0
    ff: int = 0
    bram: int = 0
    uram: int = 0


def unit_memories(accelerator: Accelerator, unit: Unit) -> tuple[Memory, ...]:
    """The images of a unit (:func:`tsn_hw.hardware.images.memory_layouts`), and the buffers of its inputs.

    "window" is the ring of rows in front of a convolution or a pooling, "vector" the input that a matrix unit reads
    again for every row fold.
    """
    lanes = unit.lanes if isinstance(unit, MatrixUnit) else 1
    styles: dict[str, RamStyle] = dict.fromkeys(("words", "mask"), unit.settings.ram_style)
    styles["codebook"] = "distributed"
    memories = [
        Memory(
            unit.name,
            shape.kind,
            shape.depth,
            shape.width_bits,
            copies=lanes if shape.kind == "codebook" else 1,
            writable=is_loaded(unit, shape.kind),
            style=styles.get(shape.kind, "auto"),
        )
        for shape in memory_layouts(accelerator, unit)
    ]
    width = unit.input_lanes * unit.sources[0].bits
    buffers = [("fifo", flowing_depth(unit, "unit"))]
    if isinstance(unit, MatrixUnit | PoolUnit) and unit.window is not None:
        buffers += [("window", unit.window.buffer_words), ("fifo", flowing_depth(unit, "window"))]
    if isinstance(unit, MatrixUnit) and unit.row_folds > 1:
        buffers.append(("vector", unit.column_folds))
    for kind, depth in buffers:
        if kind != "fifo" or depth > MIN_DEPTH:
            memories.append(Memory(unit.name, kind, depth, width, writable=True))
    return tuple(memories)


def place(memory: Memory, device: Device) -> Placed:
    """Where a memory goes on a part, by its style, and what it takes; FoldingError if it cannot go there."""
    family, style = device.family, memory.style
    if style == "ultra":
        if not device.capacities.uram:
            raise FoldingError(f"layer {memory.unit!r}: ram_style='ultra', but {device.name} has no UltraRAM")
        count = min(-(-memory.depth // depth) * -(-memory.width_bits // width) for depth, width in family.ultra_shapes)
        return Placed(memory, "ultra", uram=memory.copies * count)
    has_lut_form = bool(family.ram_shapes) or not memory.writable
    if style == "distributed" and not has_lut_form and memory.kind != "codebook":
        raise FoldingError(f"layer {memory.unit!r}: ram_style='distributed', but LUTs of {device.name} are no memory")
    if has_lut_form and (style == "distributed" or (style == "auto" and memory.bits <= SMALL_MEMORY_BITS)):
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
