"""Cycles and area of an accelerator on a part, unit by unit, without a synthesis.

Cycles are exact: they are the schedules of :mod:`tsn_hw.hardware.units`. Block RAMs follow from the shapes of memories
(:mod:`sim.memories`), DSPs from the widths of products, LUTs and flip-flops from fitted coefficients (:mod:`sim.area`).
What is left out, and how far the coefficients were off where they were measured, stands in docs/cost.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from sim.area import AreaModel, Coefficients, model_of, read_coefficients, unit_logic
from sim.devices import Device
from sim.memories import Placed, place
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.layers import INPUT
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.memories import Memory
from tsn_hw.hardware.units import Unit

INPUT_PORT, OUTPUT_PORT = "s_axis", "m_axis"


@dataclass(frozen=True)
class Resources:
    """LUTs, those of them that are writable memory, flip-flops, block RAMs, UltraRAMs and DSPs."""

    lut: int = 0
    lut_ram: int = 0
    ff: int = 0
    bram: int = 0
    uram: int = 0
    dsp: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*map(int.__add__, self.counts, other.counts))

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers in the order of RESOURCES."""
        return self.lut, self.lut_ram, self.ff, self.bram, self.uram, self.dsp


RESOURCES = tuple(field.name for field in fields(Resources))
RESOURCE_NAMES = dict(
    zip(RESOURCES, ("LUTs", "LUTs as memory", "flip-flops", "block RAMs", "UltraRAMs", "DSPs"), strict=True)
)


def capacities(device: Device) -> Resources:
    """What a part has."""
    return Resources(*(getattr(device.capacities, name) for name in RESOURCES))


@dataclass(frozen=True)
class UnitEstimate:
    """A unit on a part.

    cycles: between two inferences, as far as this unit allows. memories: its images and buffers, and the FIFOs in front
    of it that hold more than the two words of every other. logic: everything else.
    """

    unit: str
    cycles: int
    memories: tuple[Placed, ...]
    logic: Resources

    @property
    def resources(self) -> Resources:
        """All that the unit takes."""
        return sum((Resources(m.lut, m.lut_ram, m.ff, m.bram, m.uram) for m in self.memories), self.logic)


@dataclass(frozen=True)
class Estimate:
    """An accelerator on a part at a clock.

    port_cycles: of an inference at the input and at the output. latency_cycles: from the first word in to the last
    logit out, at most: over the longest path, as if no unit began before its source has ended.
    """

    device: Device
    clock_mhz: float
    units: tuple[UnitEstimate, ...]
    port_cycles: tuple[int, int]
    latency_cycles: int

    @property
    def resources(self) -> Resources:
        """All units together."""
        return sum((unit.resources for unit in self.units), Resources())

    @property
    def bottleneck(self) -> str:
        """The unit or port that takes the most cycles for an inference."""
        cycles = self.cycles
        return max(cycles, key=lambda name: cycles[name])

    @property
    def cycles(self) -> dict[str, int]:
        """Cycles between two inferences of both ports and every unit."""
        ports = {INPUT_PORT: self.port_cycles[0], OUTPUT_PORT: self.port_cycles[1]}
        return ports | {unit.unit: unit.cycles for unit in self.units}

    @property
    def interval_cycles(self) -> int:
        """Initiation interval: cycles between two inferences."""
        return max(self.cycles.values())

    @property
    def inferences_per_second(self) -> float:
        """Throughput at the clock."""
        return 1e6 * self.clock_mhz / self.interval_cycles

    @property
    def latency_us(self) -> float:
        """Latency, at most, at the clock."""
        return self.latency_cycles / self.clock_mhz

    @property
    def utilization_percent(self) -> dict[str, float]:
        """Share of every resource of the part; infinite where the part has none of it."""
        pairs = zip(RESOURCES, self.resources.counts, capacities(self.device).counts, strict=True)
        return {name: 100 * share(used, whole) for name, used, whole in pairs}

    @property
    def binding(self) -> str:
        """The resource with the largest share."""
        shares = self.utilization_percent
        return max(shares, key=lambda name: shares[name])

    @property
    def fits(self) -> bool:
        """Whether the part has enough of everything, with nothing to spare."""
        return self.utilization_percent[self.binding] <= 100


def share(used: int, whole: int) -> float:
    """used / whole; 0 where nothing is used, infinite where there is nothing.

    >>> share(1, 4), share(0, 0), share(1, 0)
    (0.25, 0.0, inf)
    """
    if used == 0:
        return 0.0
    return used / whole if whole else math.inf


def estimate_resources(
    accelerator: Accelerator,
    device: Device,
    *,
    clock_mhz: float | None = None,
    coefficients: Coefficients | None = None,
) -> Estimate:
    """Cycles and area of an accelerator on a part.

    clock_mhz: the assumption of the part unless given. coefficients: ours unless given.
    Raises FoldingError where a memory cannot be of the type that its unit asks for.
    """
    model, fifos = model_of(device, coefficients or read_coefficients()), accelerator.join_fifos
    units = tuple(
        estimate_unit(accelerator, unit, device, model, fifos.get(unit.number, ())) for unit in accelerator.units
    )
    ports = accelerator.input_beats, accelerator.head.rows
    ends = {INPUT: ports[0]}
    for unit in accelerator.units:
        ends[unit.number] = unit.cycles + max(ends[source] for source in unit.inputs)
    path = ends[accelerator.head.number] + ports[1]
    return Estimate(device, clock_of(device, clock_mhz), units, ports, path)


def clock_of(device: Device, clock_mhz: float | None) -> float:
    """A clock that is asked for, or the one that is assumed of a part; SettingsError if it is none."""
    if clock_mhz is None:
        return device.capacities.clock_mhz
    if not 0 < clock_mhz < math.inf:
        raise SettingsError(f"clock {clock_mhz:g} MHz: must be above 0")
    return clock_mhz


def estimate_unit(
    accelerator: Accelerator,
    unit: Unit,
    device: Device,
    model: AreaModel,
    fifos: tuple[Memory, ...] = (),
) -> UnitEstimate:
    """One unit on a part; ``fifos``: those in front of it that are no registers."""
    memories = (*unit.memories(accelerator.max_tasks), *fifos)
    logic = unit_logic(accelerator, unit, device, model)
    placed = tuple(_placed(memory, device, model) for memory in memories)
    return UnitEstimate(unit.name, unit.cycles, placed, Resources(lut=logic.lut, ff=logic.ff, dsp=logic.dsp))


def _placed(memory: Memory, device: Device, model: AreaModel) -> Placed:
    """Where a memory goes; of the LUTs of a codebook those that the model leaves it."""
    placed = place(memory, device)
    return replace(placed, lut=math.ceil(placed.lut * model.lut.codebooks)) if memory.kind == "codebook" else placed
