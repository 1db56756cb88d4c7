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
from tsn_hw.core.errors import SettingsError, brief, shown
from tsn_hw.core.files import StrPath
from tsn_hw.core.records import build, read_json
from tsn_hw.hardware.design import Design
from tsn_hw.hardware.units import SHIFT_BITS, Unit

OWN_FILE = Path(__file__).with_name("coefficients.json")
FORMAT = "tsn-hw coefficients 2"


@dataclass(frozen=True)
class Features:
    """What the logic of a unit is measured by; also the keys of a coefficient file, where 0 is left out.

    heads:            1 of the unit that gives the logits: registers, calls and ports of the accelerator count with it
    loops:            controlled loops: one a unit, one more for a sliding window
    row_bits:         width of the value that is requantized, over all rows (channels) in parallel
    shift_bits:       the same, times the bits of the shift that differ from task to task: stages of the shifter
    accumulator_bits: width of the accumulators, over all rows in parallel
    sum_bits:         the same, over all lanes: adders, as far as they are not in DSPs
    lane_bits:        width of the factors of products, over all lanes
    fabric_bits:      width of the factors of products that LUTs compute, over all lanes
    area:             a * b, over all products of factors of a and b bits that LUTs compute
    compare_bits:     width of the activations that a max pooling compares, over all channels in parallel
    port_bits:        width of the streams that the unit reads and writes: FIFOs of two words and converters
    list_bits:        width of the columns, sums and activations that the lanes of lists find and hold by themselves
    codebooks:        LUTs that hold random words, as many as there are in the codebooks: sorted centroids may take
                      fewer. They are told as memories, and are 0 in the features of a unit's logic
    """

    heads: float = 0
    loops: float = 0
    row_bits: float = 0
    shift_bits: float = 0
    accumulator_bits: float = 0
    sum_bits: float = 0
    lane_bits: float = 0
    fabric_bits: float = 0
    area: float = 0
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
    dsp = sum(count * dsps_of(a, b, device.family) for count, a, b in unit.products if in_dsp(a, b, device))
    return Logic(_total(model.lut, given), _total(model.ff, given), dsp)


def features(design: Design, unit: Unit, device: Device) -> Features:
    """The features of a unit; those of products depend on whether the part has DSPs for them."""
    pe, in_luts = unit.pe, [p for p in unit.products if not in_dsp(p[1], p[2], device)]
    row_bits = pe * unit.scales.value_bits if unit.scales else 0
    accumulator_bits = unit.scales.accumulator_bits if unit.scales else 0
    ports = [(unit.pe, unit.output), *((unit.input_lanes, stream) for stream in unit.sources)]
    return Features(
        heads=int(unit.is_head),
        loops=1 if unit.window is None else 2,
        row_bits=row_bits,
        shift_bits=row_bits * shifter_stages(design, unit),
        accumulator_bits=pe * accumulator_bits,
        sum_bits=unit.lanes * accumulator_bits,
        lane_bits=unit.lanes * (unit.sources[0].bits + unit.products[0][2]) if unit.has_words else 0,
        fabric_bits=sum(count * (a + b) for count, a, b in in_luts),
        area=sum(count * a * b for count, a, b in in_luts),
        compare_bits=0 if unit.scales else pe * unit.output.bits,
        port_bits=sum(count * stream.bits for count, stream in ports),
        list_bits=unit.list_bits,
    )


def shifter_stages(design: Design, unit: Unit) -> int:
    """Bits of a unit's shift that are neither the same for all tasks nor the same as another bit."""
    if unit.scales is None:
        return 0
    shifts = [design.net.requantization(task, layer).shift for task, layer in enumerate(unit.layers)]
    shifts += [0] * (design.max_tasks > len(unit.layers))
    columns = {tuple(shift >> bit & 1 for shift in shifts) for bit in range(SHIFT_BITS)}
    return sum(len(set(column)) > 1 for column in columns)


def in_dsp(a: int, b: int, device: Device) -> bool:
    """Whether a product of factors of these widths goes into DSPs."""
    return device.capacities.dsp > 0 and a + b >= device.family.dsp_product_bits


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
