"""Folding files: how much hardware every unit gets, as JSON in FINN's words; read strictly, written to be read again.

::

    {
     "Defaults": {"PE": 1, "ram_style": "auto", "mask_mode": "deep"},
     "fc1": {"PE": 4, "SIMD": 8, "ram_style": "block", "mask_mode": "deep"},
     "fc2": {"PE": 4, "SIMD": 4, "layout": "lists", "lines": 2000, "multiplier": "lut"},
     "max_tasks": 8,
     "max_banks": 2
    }

A unit takes from "Defaults" what it does not say; "SIMD", "layout", "lines" and "multiplier" are for units with
weights. Where neither gives a value, "ram_style" and "multiplier" are auto, "mask_mode" deep, "layout" dense, and the
room for what is to come, such as "max_tasks" or "lines", 0 (no more than there is); parallelism has no such value:
nothing becomes 1 x 1 unasked. Whether it divides a layer is the pipeline's to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from tsn_hw.core.errors import ExportError, FoldingError, brief, shown
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import Bounds, build, convert, parse_json
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import (
    ROOM,
    Folding,
    HardwareSettings,
    Layout,
    MaskMode,
    Multiplier,
    RamStyle,
    UnitSettings,
)
from tsn_hw.hardware.pipeline import unit_names
from tsn_hw.hardware.units import ActivationStream

DEFAULTS = "Defaults"
COMPUTED = "computed"
"""Key of the figures in ``final_hw_config.json`` that follow from the others; whoever reads a folding skips it."""
Lanes = Annotated[int, Bounds(1, 2**31 - 1)]


@dataclass(frozen=True)
class _Entry:
    """What a file says of a unit, or of all; None where it says nothing."""

    PE: Lanes | None = None
    SIMD: Lanes | None = None
    ram_style: RamStyle | None = None
    mask_mode: MaskMode | None = None
    layout: Layout | None = None
    lines: Annotated[int, Bounds(0, 2**31 - 1)] | None = None
    multiplier: Multiplier | None = None
    computed: Any = None


def folding_json(settings: HardwareSettings, net: PackedNetwork) -> str:
    """The settings of every unit as the text of a folding file; reading it gives the same settings."""
    return _text(_folding_of(settings, net))


def final_config_json(accelerator: Accelerator) -> str:
    """A folding file in which every unit also tells the figures that follow: sizes, widths, cycles.

    ``fifos`` are those that the unit reads, with their width in bits and their depth in words.
    """
    entries = _folding_of(accelerator.settings, accelerator.net)
    for unit in accelerator.units:
        figures = _stream_figures("input", unit.sources[0]) | _stream_figures("output", unit.output)
        figures |= unit.figures
        if unit.window is not None:
            figures |= {"window_buffer_words": unit.window.buffer_words}
        if unit.scales is not None:
            figures |= asdict(unit.scales)
        figures |= {"cycles": unit.cycles, "fifos": _fifos_of(accelerator, unit.number)}
        entries[unit.name] |= {COMPUTED: figures}
    return _text(entries)


def read_folding(text: str, where: str, net: PackedNetwork) -> HardwareSettings:
    """The settings that a folding file asks for; ``where`` names the file in errors.

    Raises FoldingError at an unknown key, a wrong type, or a unit that is left without folding.
    """
    entries = parse_json(text, where, FoldingError)
    if not isinstance(entries, dict):
        raise FoldingError(f"{where}: must be an object, found {shown(entries)}")
    names = _names(net)
    for key in entries:
        if key not in (*names, DEFAULTS, *ROOM):
            raise FoldingError(f"{where}: {shown(key)}: no such layer; the layers are {brief(', '.join(names))}")
    room = {
        key: convert(Annotated[int, Bounds(0, most)], entries.get(key, 0), f"{where}: {key}", FoldingError)
        for key, most in ROOM.items()
    }
    defaults = build(_Entry, entries.get(DEFAULTS, {}), f"{where}: {DEFAULTS!r}", FoldingError)
    units = {
        name: _unit(build(_Entry, entries.get(name, {}), at, FoldingError), defaults, at, has_weights)
        for name, has_weights in names.items()
        for at in (f"{where}: layer {name!r}",)
    }
    return HardwareSettings(units, **room)


def _names(net: PackedNetwork) -> dict[str, bool]:
    """Name of every unit -> whether it has weights; a name that is a word of the format is refused."""
    without = {layer.name for layer in net.layers if not isinstance(layer, Weighted)}
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
        if unit.layout != "dense":
            entries[name] |= {"layout": unit.layout, "lines": unit.lines}
        if unit.multiplier != "auto":
            entries[name] |= {"multiplier": unit.multiplier}
    return entries | {key: getattr(settings, key) for key in ROOM}


def _unit(own: _Entry, defaults: _Entry, where: str, has_weights: bool) -> UnitSettings:
    """What a unit says, and where it says nothing the defaults."""
    if own.SIMD is not None and not has_weights:
        raise FoldingError(f"{where}: SIMD is for layers with weights; this one has PE alone")
    pe, simd = own.PE or defaults.PE, (own.SIMD or defaults.SIMD) if has_weights else 1
    if pe is None or simd is None:
        raise FoldingError(f"{where}: has no {'PE' if pe is None else 'SIMD'}, and {DEFAULTS!r} gives none")
    mask, style = own.mask_mode or defaults.mask_mode, own.ram_style or defaults.ram_style
    layout = (own.layout or defaults.layout or "dense") if has_weights else "dense"
    lines = own.lines or defaults.lines or 0
    if lines and layout == "dense":
        raise FoldingError(f"{where}: lines={lines}: is for layout 'lists'")
    if own.multiplier is not None and not has_weights:
        raise FoldingError(f"{where}: multiplier is for layers with weights")
    multiplier = (own.multiplier or defaults.multiplier or "auto") if has_weights else "auto"
    return UnitSettings(Folding(pe, simd), mask or "deep", style or "auto", layout, lines, multiplier)


def _text(entries: Mapping[str, Any]) -> str:
    """JSON with one line a key, as a person would write it."""
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _fifos_of(accelerator: Accelerator, unit: int) -> list[dict[str, Any]]:
    """FIFOs in front of what belongs to a unit."""
    graph = accelerator.dataflow
    fifos = (fifo for process in graph.processes if process.unit == unit for fifo in graph.ends(process)[0])
    return [{"name": fifo.name, "width_bits": fifo.width_bits, "depth": fifo.depth} for fifo in fifos]


def _stream_figures(side: str, stream: ActivationStream) -> dict[str, Any]:
    return {f"{side}_shape": list(stream.shape), f"{side}_bits": stream.bits, f"{side}_signed": stream.signed}
