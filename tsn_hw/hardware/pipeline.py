"""From a packed network and hardware settings to the units of :mod:`tsn_hw.hardware.units`, or why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeVar, get_args, overload

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import ExportError, FoldingError
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, MaxPool, Pair, Shape, Weighted, refused
from tsn_hw.core.memory import index_bits
from tsn_hw.core.network import BankLayer, PackedNetwork, Requantization, code_bits
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.depthwise import matrix_kind
from tsn_hw.hardware.folding import Folding, HardwareSettings, MaskMode, UnitSettings, check_divides
from tsn_hw.hardware.kinds import AddUnit, MatrixUnit, PoolUnit
from tsn_hw.hardware.lists import RowLengths
from tsn_hw.hardware.units import (
    LOGIT_BITS,
    MULTIPLIER_BITS,
    SPARE_ALIGNMENT,
    ActivationStream,
    RequantizationWidths,
    Unit,
)
from tsn_hw.hardware.window import Window

AnyUnit = TypeVar("AnyUnit", bound=Unit)
ENGINE = "hardware"
BUILT = (*get_args(Weighted), MaxPool, AvgPool, Add, Flatten)
"""The kinds of layers that there are units for; a Flatten takes none."""


def obstacles(net: PackedNetwork) -> list[str]:
    """Why a network is no pipeline of units: every reason, with layer, rule and value. Empty: it is one."""
    if not net.tasks:
        return ["the network has no tasks"]
    found = [str(refused(layer, ENGINE)) for layer in net.layers if not isinstance(layer, BUILT)]
    found += [
        f"layer {layer.name!r}: dilation {layer.dilation} is not supported by {ENGINE}"
        for layer in net.layers
        if isinstance(layer, Conv2d) and layer.dilation != (1, 1)
    ]
    if found:
        return found
    heads = [net.layers[net.head(task)] for task in range(len(net.tasks))]
    for index, layer in enumerate(net.layers):
        if index in net.heads:
            continue
        missing = [task.name for task in net.tasks if task.steps[index] is None]
        if missing:
            found.append(f"layer {layer.name!r}: task {missing[0]!r} does not run it; all tasks run the same body")
            continue
        formats = {(f.bits, f.signed) for f in (net.format(task, index) for task in range(len(net.tasks)))}
        if len(formats) > 1:
            texts = ", ".join(f"{bits} bits {'signed' if signed else 'unsigned'}" for bits, signed in sorted(formats))
            found.append(f"layer {layer.name!r}: its output has {texts} by task; a stream has one width and sign")
    for index, layer in enumerate(net.layers):
        orders = {_order(net, source) for source in layer.inputs}
        if len(orders) > 1:
            texts = " and ".join(map(str, sorted(orders)))
            found.append(f"layer {layer.name!r}: adds streams of {texts}, which come in different orders")
        if index not in net.heads and not any(index in reader.inputs for reader in net.layers):
            found.append(f"layer {layer.name!r}: no layer reads it")
    sources = {layer.inputs for layer in heads}
    if len(sources) > 1:
        names = ", ".join(repr(layer.name) for layer in heads)
        found.append(f"heads {names}: read {len(sources)} different layers; all heads read one stream")
    return found


def _order(net: PackedNetwork, index: int) -> Shape:
    """The shape whose pixels a layer's stream follows: a Flatten changes nothing about it."""
    while index != INPUT and isinstance(net.layers[index], Flatten | Add):
        index = net.layers[index].inputs[0]
    return net.shape(index)


def unit_names(net: PackedNetwork) -> tuple[str, ...]:
    """Names of the units in execution order. The heads of all tasks are one unit: "head", however many there are."""
    body = [layer.name for i, layer in enumerate(net.layers) if i not in net.heads and not isinstance(layer, Flatten)]
    head = "head"
    while head in body:
        head += "_"
    return (*body, head)


def layer_values(net: PackedNetwork, task: int, inputs: Ints, of_units: Mapping[str, Ints]) -> dict[str, Ints]:
    """The integers (batch, ...) of every layer of a task, from those of the layers that are units, by name.

    A Flatten is no unit: it reshapes what it reads.
    """
    values = {INPUT: inputs}
    for index, layer, _ in net.run_order(task):
        of_layer = values[layer.inputs[0]] if isinstance(layer, Flatten) else of_units[layer.name]
        values[index] = of_layer.reshape(len(inputs), *net.shapes[index])
    return {net.layers[index].name: of_layer for index, of_layer in values.items() if index != INPUT}


def least_accelerator(net: PackedNetwork, mask: MaskMode = "deep") -> Accelerator:
    """The accelerator that takes one weight a cycle in every layer."""
    return accelerator(net, HardwareSettings(dict.fromkeys(unit_names(net), UnitSettings(Folding(1), mask))))


def accelerator(net: PackedNetwork, settings: HardwareSettings) -> Accelerator:
    """The units of a network with these settings.

    Raises ExportError where the network is no pipeline, FoldingError where settings do not fit a unit.
    """
    problems = obstacles(net)
    if problems:
        raise ExportError("; ".join(problems))
    names = unit_names(net)
    unknown, missing = sorted(set(settings.units) - set(names)), [name for name in names if name not in settings.units]
    if unknown or missing:
        what = f"{unknown[0]!r}: no such layer" if unknown else f"{missing[0]!r}: has no folding"
        raise FoldingError(f"layer {what}; the layers are {', '.join(names)}")
    for what, room, used in (
        ("max_tasks", settings.max_tasks, len(net.tasks)),
        ("max_banks", settings.max_banks, len(net.banks)),
        ("max_classes", settings.max_classes, max(len(task.classes) for task in net.tasks)),
    ):
        if 0 < room < used:
            raise FoldingError(f"{what}={room}: the network has {used} already")
    return _Builder(net, settings).build(names)


def refold(design: Accelerator, settings: HardwareSettings) -> Accelerator:
    """The accelerator of the same network with another folding, mask memory or memory type of its units.

    It is what :func:`accelerator` gives, but no width is proven again, so it takes microseconds. For settings that are
    legal, with the same room for tasks and banks.
    """
    body = tuple(refold_unit(unit, settings.units[unit.name]) for unit in design.body)
    return Accelerator(design.net, settings, body, refold_unit(design.head, settings.units[design.head.name]))


@overload
def refold_unit(unit: MatrixUnit, settings: UnitSettings) -> MatrixUnit: ...
@overload
def refold_unit(unit: Unit, settings: UnitSettings) -> Unit: ...
def refold_unit(unit: Unit, settings: UnitSettings) -> Unit:
    """A unit with other settings that are legal for it."""
    values = {one.name: getattr(unit, one.name) for one in fields(unit)} | {"settings": settings}
    kind = type(unit)
    if isinstance(unit, MatrixUnit):
        kind = matrix_kind(settings.layout, unit.groups, unit.sources[0].channels, unit.rows)
    return _with_lanes(kind(**values))


def _with_lanes(unit: AnyUnit) -> AnyUnit:
    """The unit with windows of as many lanes as it reads in a cycle."""
    return unit if unit.window is None else replace(unit, window=replace(unit.window, lanes=unit.input_lanes))


class _Common(NamedTuple):
    """What all units have, in the order of :class:`tsn_hw.hardware.units.Unit`."""

    number: int
    name: str
    layers: tuple[int, ...]
    inputs: tuple[int, ...]
    sources: tuple[ActivationStream, ...]
    output: ActivationStream
    settings: UnitSettings


def _window(layer: Conv2d | MaxPool | AvgPool, common: _Common, padding: Pair) -> Window:
    """The window in front of a unit, a channel a word."""
    height, width = common.output.shape[1:]
    return Window(common.sources[0].shape, layer.kernel, layer.stride, padding, (height, width), 1)


@dataclass(frozen=True)
class _Builder:
    net: PackedNetwork
    settings: HardwareSettings

    @property
    def has_room(self) -> bool:
        """Whether widths are those that later tasks may need. They must not change when the last of them has come."""
        return self.settings.max_tasks > 0

    def build(self, names: tuple[str, ...]) -> Accelerator:
        net, body = self.net, list[Unit]()
        producer, streams = {INPUT: INPUT}, {INPUT: ActivationStream(net.input_shape, net.input.bits, net.input.signed)}
        tasks = range(len(net.tasks))

        def common(layer: Layer, layers: tuple[int, ...], output: ActivationStream) -> _Common:
            inputs = tuple(producer[source] for source in layer.inputs)
            sources, name = tuple(streams[source] for source in layer.inputs), names[len(body)]
            return _Common(len(body), name, layers, inputs, sources, output, self.settings.units[name])

        for index, layer in enumerate(net.layers):
            if index in net.heads:
                continue
            if isinstance(layer, Flatten):
                producer[index], streams[index] = producer[layer.inputs[0]], streams[layer.inputs[0]]
                continue
            form = net.format(0, index)
            streams[index] = ActivationStream(_order(net, index), form.bits, form.signed)
            producer[index] = len(body)
            body.append(self.unit(layer, common(layer, (index,) * len(tasks), streams[index])))
        heads = tuple(net.head(task) for task in tasks)
        rows = max(self.settings.max_classes, *(len(task.classes) for task in net.tasks))
        head = self.matrix(
            net.layers[heads[0]], common(net.layers[heads[0]], heads, ActivationStream((rows,), LOGIT_BITS, True))
        )
        return Accelerator(net, self.settings, tuple(body), head)

    def unit(self, layer: Layer, common: _Common) -> Unit:
        if isinstance(layer, Weighted):
            return self.matrix(layer, common)
        pe, simd = common.settings.folding.pe, common.settings.folding.simd
        if simd != 1:
            raise FoldingError(f"layer {common.name!r}: simd={simd}, a {layer.kind} has pe alone")
        check_divides(common.name, "pe", pe, common.output.channels, "channels")
        if isinstance(layer, Add):
            return AddUnit(*common, None, self.scales(common.layers), False)
        if isinstance(layer, MaxPool | AvgPool):
            window = _window(layer, common, (0, 0))
            return _with_lanes(PoolUnit(*common, window, self.scales(common.layers) if layer.computes else None, False))
        raise refused(layer, ENGINE)

    def matrix(self, layer: Layer, common: _Common) -> MatrixUnit:
        """The unit of a layer with weights."""
        net, is_head = self.net, common.layers[0] in self.net.heads
        window = _window(layer, common, layer.padding) if isinstance(layer, Conv2d) else None
        groups = layer.groups if isinstance(layer, Conv2d) else 1
        words = [net.words(task, index) for task, index in enumerate(common.layers)]
        tasks = max(self.settings.max_tasks, len(net.tasks))
        most = tasks if self.has_room else max(_rows_of_codebooks(memory) for memory in words)
        widest = max(1, *(code_bits(book) for memory in words for book in memory.codebooks))
        kind = matrix_kind(common.settings.layout, groups, common.sources[0].channels, common.output.channels)
        made = kind(
            *common,
            window,
            self.scales(common.layers),
            is_head,
            groups,
            regions=tasks if is_head else max(self.settings.max_banks, len(net.banks)),
            prefix_bits=0 if is_head or most == 1 else index_bits(most),
            code_bits=max(widest, self.settings.code_bits),
            centroid_bits=max(memory.centroid_bits for memory in words),
            row_lengths=RowLengths(net, common.layers),
            has_room=self.has_room,
        )
        self.check(made, widest)
        return _with_lanes(made)

    def check(self, unit: MatrixUnit, widest: int) -> None:
        """Refuse settings that a unit with weights cannot have; ``widest``: bits of its widest code."""
        what = "columns" if unit.window is None else "input channels"
        what += " a row" if unit.by_part else ""
        check_divides(unit.name, "pe", unit.pe, unit.rows, "rows")
        check_divides(unit.name, "simd", unit.simd, unit.most_simd, what)
        if unit.settings.mask == "none":
            self.require_full_masks(unit)
        if 0 < self.settings.code_bits < widest:
            raise FoldingError(
                f"layer {unit.name!r}: code_bits={self.settings.code_bits}, but it has codes of {widest} bits"
            )
        unit.check_layout()

    def require_full_masks(self, unit: MatrixUnit) -> None:
        """Without masks every word counts, those outside of groups and of smaller heads too."""
        for task, index in enumerate(unit.layers):
            mask = self.net.mask(task, index)
            if not mask.all() or mask.size < unit.rows * unit.columns:
                raise FoldingError(
                    f"layer {unit.name!r}: mask='none', but task {self.net.tasks[task].name!r} does not use every "
                    "word; choose 'deep' or 'runtime'"
                )
        if self.has_room:
            raise FoldingError(
                f"layer {unit.name!r}: mask='none' leaves later tasks nothing; drop max_tasks, or choose 'deep'"
            )

    def scales(self, layers: tuple[int, ...]) -> RequantizationWidths:
        """Widths that hold what every task, and any that may come, computes in these layers."""
        steps: list[Requantization] = []
        bounds: list[Ints] = []
        largest = 0
        for task, index in enumerate(layers):
            step = self.net.requantization(task, index)
            low, high = self.net.accumulator(task, index)
            largest = max(
                largest,
                arithmetic.requantization_magnitude(low, high, step.multiplier, step.offset) + (1 << step.shift >> 1),
            )
            steps.append(step)
            bounds += [low, high]
        has_multiplier = any((step.multiplier != 1).any() for step in steps)
        multiplier_bits = arithmetic.signed_bits(*(step.multiplier for step in steps)) if has_multiplier else 0
        offset_bits = arithmetic.signed_bits(*(step.offset for step in steps))
        accumulator_bits, value_bits = arithmetic.signed_bits(*bounds), arithmetic.signed_bits(-largest, largest)
        if self.has_room:
            accumulator_bits = max(accumulator_bits, self.accumulator_reserve(layers))
            multiplier_bits = MULTIPLIER_BITS * has_multiplier
            offset_bits = max(offset_bits, min(64, accumulator_bits + multiplier_bits))
            value_bits = max(value_bits, offset_bits + 2)  # product, offset and the half that rounding adds
        return RequantizationWidths(accumulator_bits, multiplier_bits, offset_bits, min(64, value_bits))

    def accumulator_reserve(self, layers: tuple[int, ...]) -> int:
        """Width of an accumulator whose weights and activations are all at the extremes of their formats."""
        layer = self.net.layers[layers[0]]
        largest = [arithmetic.magnitude(*self.net.format(0, source).range) for source in layer.inputs]
        if isinstance(layer, Add):
            reach = (max(largest) << SPARE_ALIGNMENT) + max(largest)
        elif isinstance(layer, AvgPool):
            reach = largest[0] * math.prod(layer.kernel)
        elif isinstance(layer, Weighted):
            centroid_bits = max(self.net.words(task, index).centroid_bits for task, index in enumerate(layers))
            reach = (largest[0] << centroid_bits - 1) * layer.fan_in
        else:
            raise refused(layer, ENGINE)
        return arithmetic.signed_bits(-reach, reach)


def _rows_of_codebooks(memory: BankLayer) -> int:
    """How many codebooks the words of a layer choose from: one a task, or one where those that are there are equal."""
    different = {book.tobytes() for book in memory.codebooks if len(book)}
    return len(memory.codebooks) if len(different) > 1 else 1
