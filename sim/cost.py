"""What a network costs, per layer, per task and for the whole stream, beside the same network in float32.

Operations are of one inference of one task. Memory is of the whole stream: the sections of the .tsn file (stored form),
the images of an accelerator (random-access form), and a dense float32 network with a head a task. Every formula, its
source, and what it leaves out, stands in docs/cost.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from tsn_hw.core.capacity import FLOAT_BITS, Capacity, capacity, dense_parameters
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import build, merged, read_toml
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.pipeline import least_accelerator
from tsn_hw.hardware.units import Unit

OWN_ENERGY = Path(__file__).with_name("energy.toml")


@dataclass(frozen=True)
class Figure:
    """An energy per operation on so many bits, what it is used for, and who measured it."""

    pj: float
    """Energy of one operation or access, in picojoules."""
    bits: int
    """Bits that it works on."""
    source: str
    """Where the figure is from."""
    meaning: str
    """How it is scaled, and what it is used for."""

    def __post_init__(self) -> None:
        if self.pj < 0 or self.bits < 1:
            raise SettingsError(f"pj = {self.pj}, bits = {self.bits}: must be at least 0 and at least 1")

    @property
    def pj_per_bit(self) -> float:
        return self.pj / self.bits


@dataclass(frozen=True)
class EnergyTable:
    """The figures of ``energy.toml``."""

    integer_multiply: Figure
    """Of a product of two integers."""
    integer_add: Figure
    """Of a sum of integers."""
    float_multiply: Figure
    """Of a product of the float32 baseline."""
    float_add: Figure
    """Of a sum of the float32 baseline."""
    on_chip: Figure
    """Of reading a memory on the chip."""
    off_chip: Figure
    """Of reading a memory beside the chip."""


def read_energy(user_file: Path | None = None) -> EnergyTable:
    """Our figures, or those with a user's file merged over them; SettingsError names what is wrong with it."""
    tables = read_toml(OWN_ENERGY)
    if user_file is None:
        return build(EnergyTable, tables, OWN_ENERGY.name)
    return build(EnergyTable, merged(tables, read_toml(user_file)), str(user_file))


@dataclass(frozen=True)
class Rules:
    """How operations are counted.

    float_factor: what a float32 operation counts against one on 8 bits, 9 in the paper. skips_zeros: whether the
    hardware skips weights that a mask leaves out; ours does not, it multiplies by zero.
    """

    float_factor: float = 9.0
    skips_zeros: bool = False

    def __post_init__(self) -> None:
        if not self.float_factor > 0:
            raise SettingsError(f"float factor {self.float_factor:g}: must be above 0")


@dataclass(frozen=True)
class Operations:
    """One inference, of a layer or of a task, in integers or in float32.

    macs:            multiply-accumulates of the dense layer, products with padding included
    used_macs:       those whose weight the task uses
    flops:           2 * macs; of integers that over the float factor, times weight bits / 8 * activation bits / 8
    bops:            bit operations
    parameter_bits:  everything that the task reads besides activations, once
    activation_bits: every input of a layer read and every output written, once
    on_chip_bits:    what an accelerator of this folding reads from its memories, cycle by cycle
    arithmetic_pj, on_chip_pj: energy of the macs, and of the reads on chip
    off_chip_pj:     energy of fetching every parameter from DRAM once, where they are not on chip
    """

    macs: int = 0
    used_macs: int = 0
    flops: float = 0
    bops: float = 0
    parameter_bits: int = 0
    activation_bits: int = 0
    on_chip_bits: int = 0
    arithmetic_pj: float = 0
    on_chip_pj: float = 0
    off_chip_pj: float = 0

    def __add__(self, other: Operations) -> Operations:
        return Operations(*(getattr(self, name) + getattr(other, name) for name in _OPERATIONS))


_OPERATIONS = tuple(field.name for field in fields(Operations))


@dataclass(frozen=True)
class LayerCost:
    """A layer as a task runs it: its widths, and one inference in integers and in float32.

    weight_bits: of a centroid, the factor that is multiplied. Without weights it is 0, and there are no macs.
    """

    layer: str
    unit: str
    weights: int
    used: int
    weight_bits: int
    act_bits: int
    accumulator_bits: int
    integer: Operations
    float32: Operations


@dataclass(frozen=True)
class TaskCost:
    """All layers that a task runs, and their sum."""

    task: str
    layers: tuple[LayerCost, ...]

    @property
    def integer(self) -> Operations:
        return sum((layer.integer for layer in self.layers), Operations())

    @property
    def float32(self) -> Operations:
        return sum((layer.float32 for layer in self.layers), Operations())


@dataclass(frozen=True)
class UnitMemory:
    """Bits of a unit for all tasks.

    stored_*: sections of the .tsn file; the prefix is not stored, it follows from the masks. Then the images of the
    accelerator, where words are split into codes and prefixes, and those of lists into gaps too (with what ends a
    fold). buffers_bits: rings of rows, vectors and FIFOs of activations. accumulators_bits: registers. float32_bits:
    parameters of the dense network, all heads included.
    """

    unit: str
    stored_codes_bits: int
    stored_codebooks_bits: int
    stored_masks_bits: int
    codes_bits: int
    prefixes_bits: int
    gaps_bits: int
    codebooks_bits: int
    masks_bits: int
    scales_bits: int
    task_words_bits: int
    buffers_bits: int
    accumulators_bits: int
    float32_bits: int

    @property
    def stored_bits(self) -> int:
        """What the file holds of the unit; requantization and header are no part of a unit there."""
        return self.stored_codes_bits + self.stored_codebooks_bits + self.stored_masks_bits

    @property
    def images_bits(self) -> int:
        """All images of the unit."""
        words = self.codes_bits + self.prefixes_bits + self.gaps_bits
        return words + self.codebooks_bits + self.masks_bits + self.scales_bits + self.task_words_bits


@dataclass(frozen=True)
class NetworkCost:
    """A whole network: one inference of every task, and the memory of all."""

    tasks: tuple[TaskCost, ...]
    units: tuple[UnitMemory, ...]
    stored: Capacity

    @property
    def integer(self) -> Operations:
        """One inference of every task."""
        return sum((task.integer for task in self.tasks), Operations())

    @property
    def float32(self) -> Operations:
        """The same in float32."""
        return sum((task.float32 for task in self.tasks), Operations())

    @property
    def images_bits(self) -> int:
        """All images of the accelerator."""
        return sum(unit.images_bits for unit in self.units)

    @property
    def float32_bits(self) -> int:
        """One dense float32 network with a head a task."""
        return sum(unit.float32_bits for unit in self.units)

    @property
    def separate_float32_bits(self) -> int:
        """A dense float32 network of its own for every task."""
        return sum(task.float32.parameter_bits for task in self.tasks)


def estimate_cost(
    design: Accelerator | PackedNetwork,
    *,
    stored: Capacity | None = None,
    rules: Rules | None = None,
    energy: EnergyTable | None = None,
) -> NetworkCost:
    """What the network of an accelerator costs, of a network alone on the least one.

    stored: its capacity, if that is known already.
    """
    accelerator = least_accelerator(design) if isinstance(design, PackedNetwork) else design
    net = accelerator.net
    rules, energy, stored = rules or Rules(), energy or read_energy(), stored or capacity(net)
    tasks = tuple(
        TaskCost(task.name, tuple(_layer_cost(accelerator, unit, number, rules, energy) for unit in accelerator.units))
        for number, task in enumerate(net.tasks)
    )
    return NetworkCost(tasks, tuple(_unit_memory(accelerator, unit, stored) for unit in accelerator.units), stored)


def low_bit_flops(flops: float, weight_bits: int, act_bits: int, float_factor: float = 9.0) -> float:
    """Float32 operations that cost as much as ``flops`` operations on integers (TinySubNets, Table 6).

    >>> low_bit_flops(8770e6, 8, 8) / 1e6, low_bit_flops(8770e6, 4, 4) / 1e6
    (974.4444444444445, 243.61111111111111)
    """
    return flops / float_factor * (weight_bits / 8) * (act_bits / 8)


def bit_operations(macs: int, weight_bits: int, act_bits: int, fan_in: int, density: float = 1.0) -> float:
    """BOPs of a layer: macs * (density * weight bits * activation bits + both + log2(fan-in)).

    Products as in UNIQ (Baskin et al., arXiv:1804.10969), the share of them that is not pruned as in Hawks et al.,
    "Ps and Qs" (Frontiers in AI, 2021).

    >>> bit_operations(100, 4, 8, 16)
    4800.0
    """
    return macs * (density * weight_bits * act_bits + weight_bits + act_bits + math.log2(fan_in))


def _layer_cost(accelerator: Accelerator, unit: Unit, task: int, rules: Rules, energy: EnergyTable) -> LayerCost:
    """A layer as a task runs it; without weights it has activations and scales alone."""
    net, index = accelerator.net, unit.layers[task]
    name, outputs = net.layers[index].name, math.prod(net.shapes[index])
    act_bits, accumulator_bits = unit.sources[0].bits, unit.scales.accumulator_bits if unit.scales else 0
    weights = used = weight_bits = 0
    integer, float32 = Operations(), Operations()
    if isinstance(unit, MatrixUnit):
        mask = net.mask(task, index)
        weights, used, weight_bits = mask.size, int(np.count_nonzero(mask)), unit.centroid_bits
        layer, fan_in = net.layers[index], mask.size // net.shapes[index][0]
        macs = layer.macs(net.shape(layer.inputs[0]))
        dense = Operations(macs=macs, used_macs=used * macs // mask.size)
        executed = used / mask.size if rules.skips_zeros or unit.skips_zeros else 1.0
        integer = dense + _integer_operations(unit, task, (macs, executed, fan_in), rules, energy)
        float32 = dense + _float_operations(unit, macs, fan_in, FLOAT_BITS * dense_parameters(net, index), energy)
    fixed = [layout.width_bits for layout in accelerator.layouts_of(unit) if layout.kind == "task"]
    elements = sum(stream.elements for stream in unit.sources)
    read = sum(stream.elements * stream.bits for stream in unit.sources)
    scales = unit.scales.bits if unit.scales and not unit.has_words else 0
    integer += Operations(parameter_bits=scales + sum(fixed), activation_bits=read + outputs * unit.output.bits)
    float32 += Operations(activation_bits=FLOAT_BITS * (elements + outputs))
    both = (_with_memory_energy(operations, energy) for operations in (integer, float32))
    return LayerCost(name, unit.name, weights, used, weight_bits, act_bits, accumulator_bits, *both)


def _integer_operations(
    unit: MatrixUnit, task: int, work: tuple[int, float, int], rules: Rules, energy: EnergyTable
) -> Operations:
    """What the macs of a layer cost, and the parameters that they read; work: macs, executed share, fan-in."""
    macs, executed, fan_in = work
    weight_bits, act_bits = unit.centroid_bits, unit.sources[0].bits
    words = unit.words_bits_read(task)
    scales = unit.rows * unit.scales.bits
    mac_pj = energy.integer_multiply.pj * weight_bits * act_bits / energy.integer_multiply.bits**2
    mac_pj += energy.integer_add.pj_per_bit * unit.scales.accumulator_bits
    return Operations(
        flops=low_bit_flops(2 * macs, weight_bits, act_bits, rules.float_factor) * executed,
        bops=bit_operations(macs, weight_bits, act_bits, fan_in, executed),
        parameter_bits=words + (unit.centroid_bits << unit.word_bits) + scales,
        on_chip_bits=unit.positions * (words + scales) + unit.vector_bits_read(task),
        arithmetic_pj=macs * executed * mac_pj,
    )


def _float_operations(unit: MatrixUnit, macs: int, fan_in: int, parameters: int, energy: EnergyTable) -> Operations:
    """The same layer, dense and in float32, on the same folding; parameters in bits."""
    return Operations(
        flops=2 * macs,
        bops=bit_operations(macs, FLOAT_BITS, FLOAT_BITS, fan_in),
        parameter_bits=parameters,
        on_chip_bits=FLOAT_BITS * (macs + macs // unit.pe),
        arithmetic_pj=macs * (energy.float_multiply.pj + energy.float_add.pj),
    )


def _with_memory_energy(operations: Operations, energy: EnergyTable) -> Operations:
    return replace(
        operations,
        on_chip_pj=operations.on_chip_bits * energy.on_chip.pj_per_bit,
        off_chip_pj=operations.parameter_bits * energy.off_chip.pj_per_bit,
    )


def _unit_memory(accelerator: Accelerator, unit: Unit, stored: Capacity) -> UnitMemory:
    net, sizes = accelerator.net, {layout.kind: layout.bits for layout in accelerator.layouts_of(unit)}
    layers = dict.fromkeys(unit.layers)
    names = {net.layers[index].name for index in layers}
    sections = [entry for entry in stored.layers if entry.layer in names]
    fields = {field.name: field.bits for layout in accelerator.layouts_of(unit) for field in layout.fields}
    word_bits = fields.get("code", 0) + fields.get("prefix", 0) + fields.get("gap", 0)
    words = sizes.get("words", 0) // word_bits if word_bits else 0  # a line of lists has a bit more
    codes, prefixes = words * fields.get("code", 0), words * fields.get("prefix", 0)
    return UnitMemory(
        unit=unit.name,
        stored_codes_bits=sum(entry.codes_bits for entry in sections),
        stored_codebooks_bits=sum(entry.codebooks_bits for entry in sections),
        stored_masks_bits=sum(entry.masks_bits for entry in sections),
        codes_bits=codes,
        prefixes_bits=prefixes,
        gaps_bits=sizes.get("words", 0) - codes - prefixes,
        codebooks_bits=sizes.get("codebook", 0),
        masks_bits=sizes.get("mask", 0),
        scales_bits=sizes.get("scales", 0),
        task_words_bits=sizes.get("task", 0),
        buffers_bits=sum(
            memory.copies * memory.bits for memory in (*unit.buffers, *accelerator.join_fifos.get(unit.number, ()))
        ),
        accumulators_bits=unit.pe * unit.scales.accumulator_bits if unit.scales else 0,
        float32_bits=FLOAT_BITS * sum(dense_parameters(net, index) for index in layers),
    )
