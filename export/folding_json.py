"""Folding files: how much hardware every unit gets, as JSON in FINN's words; read strictly, written to be read again.

::

    {
     "Defaults": {"PE": 1, "ram_style": "auto", "mask_mode": "deep"},
     "fc1": {"PE": 4, "SIMD": 8, "ram_style": "block", "mask_mode": "deep"},
     "max_tasks": 8,
     "max_banks": 2
    }

A unit takes from "Defaults" what it does not say; "SIMD" is for units with weights, the others have none. Where neither
gives a value, "ram_style" is auto, "mask_mode" deep, and the room for what is to come, such as "max_tasks", 0 (no more
than there is); parallelism has no such value: nothing becomes 1 x 1 unasked. Whether it divides a layer is the
pipeline's to say.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_args

from tsn_hw.dataflow import Dataflow
from tsn_hw.errors import ExportError, FoldingError
from tsn_hw.folding import Folding, HardwareSettings, MaskMode, RamStyle, UnitSettings
from tsn_hw.layers import Add, AvgPool, MaxPool
from tsn_hw.network import PackedNetwork
from tsn_hw.pipeline import unit_names
from tsn_hw.units import MatrixUnit, PoolUnit, Scales, Stream

DEFAULTS = "Defaults"
ROOM = tuple(field.name for field in dataclasses.fields(HardwareSettings) if field.name != "units")
COMPUTED = "computed"
"""Key of the figures in ``final_hw_config.json`` that follow from the others; whoever reads a folding skips it."""
_UNIT_KEYS = ("PE", "SIMD", "ram_style", "mask_mode")
_CHOICES: dict[str, tuple[str, ...]] = {"ram_style": get_args(RamStyle), "mask_mode": get_args(MaskMode)}


def folding_json(settings: HardwareSettings, net: PackedNetwork) -> str:
    """The settings of every unit as the text of a folding file; reading it gives the same settings."""
    return _text(_folding_of(settings, net))


def final_config_json(graph: Dataflow) -> str:
    """A folding file in which every unit also tells the figures that follow: sizes, widths, cycles.

    ``fifos`` are those that the unit reads, with their width in bits and their depth in words.
    """
    accelerator = graph.accelerator
    entries = _folding_of(accelerator.settings, accelerator.net)
    for number, unit in enumerate(accelerator.units):
        figures = _stream_figures("input", unit.sources[0]) | _stream_figures("output", unit.output)
        if isinstance(unit, MatrixUnit):
            figures |= _matrix_figures(unit)
        if isinstance(unit, MatrixUnit | PoolUnit) and unit.window is not None:
            figures |= {"window_buffer_words": unit.window.buffer_words}
        if unit.scales is not None:
            figures |= _scale_figures(unit.scales)
        figures |= {"cycles": unit.cycles, "fifos": _fifos_of(graph, number)}
        entries[unit.name] |= {COMPUTED: figures}
    return _text(entries)


def read_folding(text: str, where: str, net: PackedNetwork) -> HardwareSettings:
    """The settings that a folding file asks for; ``where`` names the file in errors.

    Raises FoldingError at an unknown key, a wrong type, or a unit that is left without folding.
    """
    try:
        entries = json.loads(text, object_pairs_hook=_without_repeats)
    except FoldingError as error:
        raise FoldingError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise FoldingError(f"{where}: not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise FoldingError(f"{where}: must be an object, found {_shown(entries)}")
    names = _names(net)
    for key in entries:
        if key not in (*names, DEFAULTS, *ROOM):
            raise FoldingError(f"{where}: {key!r}: no such layer; the layers are {', '.join(names)}")
    room = {key: _whole(entries.get(key, 0), f"{where}: {key!r}", least=0) for key in ROOM}
    defaults = _entry(entries.get(DEFAULTS, {}), f"{where}: {DEFAULTS!r}")
    units = {name: _unit(entries, name, defaults, where, names[name]) for name in names}
    return HardwareSettings(units, **room)


def _names(net: PackedNetwork) -> dict[str, bool]:
    """Name of every unit -> whether it has weights; a name that is a word of the format is refused."""
    without = {layer.name for layer in net.layers if isinstance(layer, MaxPool | AvgPool | Add)}
    names = {name: name not in without for name in unit_names(net)}
    for name in names:
        if name in (DEFAULTS, *ROOM):
            raise ExportError(f"layer {name!r}: has the name of a key of folding files; rename the layer")
    return names


def _folding_of(settings: HardwareSettings, net: PackedNetwork) -> dict[str, Any]:
    """Values of a folding file that names everything, without defaults."""
    entries: dict[str, Any] = {}
    for name, has_weights in _names(net).items():
        unit = settings.units[name]
        parallel = {"PE": unit.folding.pe} | ({"SIMD": unit.folding.simd} if has_weights else {})
        entries[name] = parallel | {"ram_style": unit.ram_style, "mask_mode": unit.mask}
    return entries | {key: getattr(settings, key) for key in ROOM}


def _unit(
    entries: Mapping[str, Any], name: str, defaults: Mapping[str, Any], where: str, has_weights: bool
) -> UnitSettings:
    own = _entry(entries.get(name, {}), f"{where}: layer {name!r}")
    if "SIMD" in own and not has_weights:
        raise FoldingError(f"{where}: layer {name!r}: SIMD is for layers with weights; this one has PE alone")
    values = {"ram_style": "auto", "mask_mode": "deep"} | dict(defaults) | own
    for key in ("PE", "SIMD") if has_weights else ("PE",):
        if key not in values:
            raise FoldingError(f"{where}: layer {name!r}: has no {key}, and {DEFAULTS!r} gives none")
    folding = Folding(values["PE"], values["SIMD"] if has_weights else 1)
    return UnitSettings(folding, values["mask_mode"], values["ram_style"])


def _entry(values: Any, where: str) -> dict[str, Any]:
    """The settings of a unit, or the defaults, each of its type and range."""
    if not isinstance(values, dict):
        raise FoldingError(f"{where}: must be an object, found {_shown(values)}")
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key == COMPUTED:
            continue
        if key not in _UNIT_KEYS:
            raise FoldingError(f"{where}: unknown key {key!r}; known are {', '.join(_UNIT_KEYS)}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise FoldingError(f"{where}: {key} = {_shown(value)}: must be one of {', '.join(_CHOICES[key])}")
        checked[key] = value if key in _CHOICES else _whole(value, f"{where}: {key}", least=1)
    return checked


def _whole(value: Any, where: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise FoldingError(f"{where} = {_shown(value)}: must be a whole number of at least {least}")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different; plain JSON would keep the last of two."""
    values = dict(pairs)
    for key in values:
        if sum(key == other for other, _ in pairs) > 1:
            raise FoldingError(f"{key!r} stands there twice")
    return values


def _shown(value: Any) -> str:
    """A value as JSON, short enough for a line."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _text(entries: Mapping[str, Any]) -> str:
    """JSON with one line a key, as a person would write it."""
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _fifos_of(graph: Dataflow, unit: int) -> list[dict[str, Any]]:
    """FIFOs in front of what belongs to a unit."""
    read = [channel for process in graph.processes if process.unit == unit for channel in process.inputs]
    channels = (graph.channels[index] for index in read)
    return [{"name": fifo.name, "width_bits": fifo.width_bits, "depth": fifo.depth} for fifo in channels]


def _stream_figures(side: str, stream: Stream) -> dict[str, Any]:
    return {f"{side}_shape": list(stream.shape), f"{side}_bits": stream.bits, f"{side}_signed": stream.signed}


def _matrix_figures(unit: MatrixUnit) -> dict[str, Any]:
    return {
        "rows": unit.rows,
        "columns": unit.columns,
        "positions": unit.positions,
        "lines": unit.lines,
        "regions": unit.regions,
        "prefix_bits": unit.prefix_bits,
        "code_bits": unit.code_bits,
        "centroid_bits": unit.centroid_bits,
    }


def _scale_figures(scales: Scales) -> dict[str, Any]:
    return {
        "accumulator_bits": scales.accumulator_bits,
        "multiplier_bits": scales.multiplier_bits,
        "offset_bits": scales.offset_bits,
        "value_bits": scales.value_bits,
    }
