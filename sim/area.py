"""LUTs, flip-flops and DSPs of the logic of a unit: features of the unit times coefficients of the family.

The coefficients stand in ``coefficients.json``, with where they were measured and how far a point is off that the fit
has not seen. A file of the same form, as a calibration writes it, takes its place. Memories are counted by
:mod:`sim.memories` and are no part of these sums; of codebooks, the coefficient says what share of the count is real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from sim.devices import Device, Family
from sim.memories import place
from tsn_hw.core.errors import FoldingError, SettingsError, brief, shown
from tsn_hw.core.files import StrPath
from tsn_hw.core.layers import INPUT
from tsn_hw.core.records import build, read_json
from tsn_hw.hardware.design import BUS_BITS, Design
from tsn_hw.hardware.memories import MIN_DEPTH
from tsn_hw.hardware.registers import Tags, distinct_bits
from tsn_hw.hardware.units import SHIFT_BITS, Products, Unit

OWN_FILE = Path(__file__).with_name("coefficients.json")
FORMAT = "tsn-hw coefficients 3"


@dataclass(frozen=True)
class Features:
    """What the logic of a unit is measured by; also the keys of a coefficient file, where 0 is left out.

    heads:            1 of the unit that gives the logits: registers, calls and ports of the accelerator count with it
    loops:            controlled loops: one a unit, two with lists; one more for a sliding window
    register_bits:    registers of streams, vectors, accumulators, requantization, and behind memories of LUTs
    output_bits:      registers behind block RAMs, which have such themselves; not every tool uses these
    delay_bits:       registers that only hold something until it is needed: tasks, shifts, offsets
    lane_bits:        registers beside multipliers: weights and the sums of a few products; of lists, their accumulators
    fabric_bits:      width of the factors of products that LUTs compute
    area:             a * b, over all products of factors of a and b bits that LUTs compute
    sum_bits:         width of the sums that are made in a cycle, over all of them
    row_bits:         registers of requantization
    shift_bits:       width of the value that is shifted, over all rows in parallel, times the bits of the shift that
                      differ from task to task: stages of the shifter
    compare_bits:     width of the activations that a max pooling compares, over all channels in parallel
    port_bits:        registers of the streams that the unit reads and writes: FIFOs of two words and converters
    list_bits:        width of the columns, words and activations that the lanes of lists find by themselves
    codebooks:        LUTs that hold random words, as many as there are in the codebooks: sorted centroids may take
                      fewer. They are told as memories, and are 0 in the features of a unit's logic
    """

    heads: float = 0
    loops: float = 0
    register_bits: float = 0
    output_bits: float = 0
    delay_bits: float = 0
    lane_bits: float = 0
    fabric_bits: float = 0
    area: float = 0
    sum_bits: float = 0
    row_bits: float = 0
    shift_bits: float = 0
    compare_bits: float = 0
    port_bits: float = 0
    list_bits: float = 0
    codebooks: float = 0


_FEATURES = tuple(field.name for field in fields(Features))


@dataclass(frozen=True)
class AreaModel:
    """Coefficients of a family for LUTs and flip-flops.

    source: tool, version and design that were measured. The errors are the mean of points left out of the fit.
    """

    source: str
    points: int
    lut: Features
    lut_leave_one_out_percent: float
    ff: Features
    ff_leave_one_out_percent: float


@dataclass(frozen=True)
class Coefficients:
    """The content of a coefficient file: a model for every family that was measured."""

    format: str
    families: dict[str, AreaModel]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise SettingsError(f"format = {shown(self.format)}: must be {FORMAT!r}")


@dataclass(frozen=True)
class Logic:
    """What the logic of a unit takes."""

    lut: int
    ff: int
    dsp: int


def read_coefficients(path: StrPath = OWN_FILE) -> Coefficients:
    """A coefficient file; FileError or SettingsError says what is wrong with it."""
    return build(Coefficients, read_json(path), OWN_FILE.name if path == OWN_FILE else str(path))


def model_of(device: Device, coefficients: Coefficients) -> AreaModel:
    """The model of a part's family; SettingsError if there is none."""
    if device.family_name not in coefficients.families:
        raise SettingsError(
            f"device {device.name!r}: no coefficients of family {device.family_name!r}; "
            f"known are {brief(', '.join(coefficients.families))}"
        )
    return coefficients.families[device.family_name]


def unit_logic(design: Design, unit: Unit, device: Device, model: AreaModel) -> Logic:
    """The logic of a unit of an accelerator on a part."""
    given = features(design, unit, device)
    dsp = sum(_dsps(unit, products, device) for products in unit.products)
    return Logic(_total(model.lut, given), _total(model.ff, given), dsp)


def features(design: Design, unit: Unit, device: Device) -> Features:
    """The features of a unit; those of products depend on whether the part has DSPs for them."""
    in_luts = [products[:3] for products in unit.products if not _uses_dsp(products, device)]
    stages = shifter_stages(design, unit)
    own = unit.registers(Tags(design.max_tasks, stages))
    port_bits, (row_bits, waiting) = _port_bits(design, unit), _row_bits(design, unit)
    output_bits, outputs = _output_bits(design, unit, device)
    return Features(
        heads=int(unit.is_head),
        loops=unit.loops,
        register_bits=port_bits + row_bits + outputs + own.vectors + own.accumulators + own.finding,
        output_bits=output_bits,
        delay_bits=own.delays + waiting,
        lane_bits=own.lanes,
        fabric_bits=sum(count * (a + b) for count, a, b in in_luts),
        area=sum(count * a * b for count, a, b in in_luts),
        sum_bits=own.sums,
        row_bits=row_bits,
        shift_bits=unit.pe * unit.scales.value_bits * stages if unit.scales else 0,
        compare_bits=0 if unit.scales else unit.pe * unit.output.bits,
        port_bits=port_bits,
        list_bits=own.finding,
    )


def _port_bits(design: Design, unit: Unit) -> int:
    """Registers of streams: FIFOs on either side of a converter, and what this holds of both words.

    A FIFO is two words, or one behind a memory. Between units there may be a converter; at the bus it is known.
    """

    def fifo(depth: int) -> int:
        return 2 if depth <= MIN_DEPTH else 1

    value_bits = unit.scales.value_bits if unit.scales else unit.output.bits
    found = 3 * unit.pe * min(unit.output.bits, value_bits)  # further bits are its sign again
    bus = BUS_BITS // design.container_bits
    for source, stream in zip(unit.inputs, unit.sources, strict=True):
        is_converted = source != INPUT or bus != unit.input_lanes
        words = fifo(unit.input_depth) + is_converted + (fifo(unit.window.input_depth) if unit.window else 0)
        found += words * unit.input_lanes * stream.bits
        if source == INPUT:
            found += 3 * is_converted * bus * stream.bits
    return found


def _row_bits(design: Design, unit: Unit) -> tuple[int, int]:
    """Registers of a requantization, over all rows, and those of them that only wait, where nothing is shifted.

    They are products, their sum, the value twice, rounded, shifted, and the result. What is always shifted out is no
    part of the last ones.
    """
    if unit.scales is None:
        return 0, 0
    widths, all_shifts, bits = unit.scales, shifts(design, unit), unit.scales.value_bits
    products = unit.pe * (bits if widths.multiplier_bits else 2 * widths.accumulator_bits)
    if not any(all_shifts):
        return products, unit.pe * 5 * bits
    return products + unit.pe * (4 * bits - 2 * min(all_shifts) + unit.output.bits) + bits, 0


def _output_bits(design: Design, unit: Unit, device: Device) -> tuple[int, int]:
    """Registers right behind block RAMs, and others behind memories: of LUTs, and of the choice among parts."""
    of_blocks, others = 0, 0
    for layout in unit.layouts(design.max_tasks):
        memory = layout.memory
        width = distinct_bits(memory.width_bits, memory.depth)
        if memory.kind != "codebook" and place(memory, device).storage == "block":
            of_blocks += width * -(-memory.depth // memory.part_words)
            others += width * sum(memory.choices)
        elif memory.kind != "codebook":
            others += 2 * width
    buffers = (memory for memory in unit.buffers if place(memory, device).storage == "lut")
    return of_blocks, others + sum(memory.copies * memory.width_bits for memory in buffers)


def shifts(design: Design, unit: Unit) -> tuple[int, ...]:
    """The shifts of a unit, task by task, and 0 where a later task may come; none without a requantization."""
    if unit.scales is None:
        return ()
    found = [design.net.requantization(task, layer).shift for task, layer in enumerate(unit.layers)]
    return *found, *[0] * (design.max_tasks > len(unit.layers))


def shifter_stages(design: Design, unit: Unit) -> int:
    """Bits of a unit's shift that are neither the same for all tasks nor the same as another bit."""
    columns = {tuple(shift >> bit & 1 for shift in shifts(design, unit)) for bit in range(SHIFT_BITS)}
    return sum(len(set(column)) > 1 for column in columns)


def in_dsp(a: int, b: int, device: Device) -> bool:
    """Whether a product of factors of these widths goes into DSPs."""
    return device.capacities.dsp > 0 and a + b >= device.family.dsp_product_bits


def _uses_dsp(products: Products, device: Device) -> bool:
    return products.multiplier != "lut" and in_dsp(products.first_bits, products.second_bits, device)


def fits_a_dsp(products: Products, device: Device) -> bool:
    """Whether each of these products takes one DSP and no more."""
    return _uses_dsp(products, device) and dsps_of(products.first_bits, products.second_bits, device.family) == 1


def _dsps(unit: Unit, products: Products, device: Device) -> int:
    """DSPs of some products; FoldingError where two of them do not fit one."""
    count, a, b, multiplier = products
    if multiplier == "packed" and not fits_a_dsp(products, device):
        there = " x ".join(map(str, device.family.dsp_bits)) if device.capacities.dsp else "none"
        raise FoldingError(
            f"layer {unit.name!r}: multiplier='packed' takes DSPs of {a} x {b} bits, {device.name} has {there}; "
            "choose 'auto' or 'lut'"
        )
    return count * dsps_of(a, b, device.family) if _uses_dsp(products, device) else 0


def dsps_of(a: int, b: int, family: Family) -> int:
    """DSPs of one product of factors of a and b bits, either way round; a wider one is split.

    The parts of a split factor have ``dsp_part_bits``, the highest up to as many as a DSP; one bit is no product.
    """

    def parts(bits: int, most: int) -> int:
        lower = max(0, math.ceil((bits - most) / family.dsp_part_bits))
        return lower + (bits - lower * family.dsp_part_bits > 1)

    first, second = family.dsp_bits
    return parts(max(a, b), first) * parts(min(a, b), second)


def _total(coefficients: Features, given: Features) -> int:
    total: float = sum(getattr(coefficients, name) * getattr(given, name) for name in _FEATURES)
    return math.ceil(total)
