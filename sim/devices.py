"""Parts and what they hold, from ``devices.toml`` and from the user's own file of the same form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tsn_hw.core.errors import SettingsError, brief, shown
from tsn_hw.core.files import StrPath
from tsn_hw.core.records import Bounds, build, merged, read_toml

Size = Annotated[int, Bounds(1, 2**24)]
Count = Annotated[int, Bounds(0, 2**40)]
OWN_FILE = Path(__file__).with_name("devices.toml")


@dataclass(frozen=True)
class Family:
    """What the cells of a family can do; the keys of a table ``[family.NAME]``."""

    source: str
    """Where the figures are from."""
    lut_inputs: Annotated[int, Bounds(2, 16)]
    """Inputs of one LUT."""
    block_shapes: tuple[tuple[Size, ...], ...]
    """[depth, bits] of one block RAM, or [depth, bits, blocks] of some that are joined; initialised with the
    configuration."""
    block_byte_bits: Size = 1
    """A written word takes whole bytes of so many bits."""
    block_worth_luts: Size = 128
    """LUTs that are spent to save a block RAM."""
    muxed_luts: Size = 1
    """LUTs of one output bit that hard multiplexers join without a further LUT."""
    ram_shapes: tuple[tuple[Size, ...], ...] = ()
    """[depth, bits, LUTs]: a simple dual-port memory made of LUTs; none: LUTs are no memory."""
    ultra_shapes: tuple[tuple[Size, ...], ...] = ()
    """[depth, bits] of one UltraRAM; starts empty, so it can only hold what is loaded."""
    dsp_bits: tuple[Annotated[int, Bounds(2, 1024)], ...] = ()
    """Factors, both signed, that one DSP multiplies; [] where there are no DSPs."""
    dsp_part_bits: Size = 1
    """Of a wider factor that is split: bits of all parts but the highest."""
    dsp_product_bits: Annotated[int, Bounds(0, 1024)] = 0
    """Products narrower than this are made of LUTs although there are DSPs."""

    def __post_init__(self) -> None:
        if not self.block_shapes:
            raise SettingsError("block_shapes = []: needs at least one")
        for key, lengths in (("block_shapes", (2, 3)), ("ultra_shapes", (2,)), ("ram_shapes", (3,))):
            if any(len(shape) not in lengths for shape in getattr(self, key)):
                raise SettingsError(f"{key}: every shape has {' or '.join(map(str, lengths))} numbers")
        if len(self.dsp_bits) not in (0, 2):
            raise SettingsError(f"dsp_bits = {shown(self.dsp_bits)}: must be two widths, or none")


@dataclass(frozen=True)
class Capacities:
    """A part as the file writes it, its family by name; the keys of a table ``[device.NAME]``."""

    family: str
    """Name of its family."""
    source: str
    """Where the figures are from."""
    lut: Count
    """LUTs."""
    ff: Count
    """Flip-flops."""
    bram: Count
    """Block RAMs, as ``block_shapes`` of the family has them."""
    clock_mhz: Annotated[float, Bounds(0, 10**6)]
    """An assumption to turn cycles into time, no figure of a data sheet; ``--clock-mhz`` gives another."""
    lut_ram: Count = 0
    """LUTs that can be memory."""
    uram: Count = 0
    """UltraRAMs."""
    dsp: Count = 0
    """DSPs."""
    part: str = ""
    """In full, as the vendor's tools name it; without it ``tsn-hw hls`` needs ``--part``."""

    def __post_init__(self) -> None:
        if self.clock_mhz <= 0:
            raise SettingsError(f"clock_mhz = {self.clock_mhz}: must be above 0")


@dataclass(frozen=True)
class Device:
    """A part: how many LUTs, LUTs that can be memory, flip-flops, block RAMs, UltraRAMs and DSPs it has.

    family_name: of its family, whose coefficients an estimate takes. clock_mhz: an assumption.
    """

    name: str
    family_name: str
    family: Family
    capacities: Capacities

    @property
    def die(self) -> str:
        """Of the part in full, what stands before package and speed grade; empty where AMD does not make it."""
        return die_of(self.capacities.part)


def die_of(part: str) -> str:
    """What an AMD part is without package and speed grade, which say nothing of what it holds.

    >>> die_of("xc7z020clg400-1"), die_of("xc7a35ticpg236-1L"), die_of("xczu3eg-sbva484-2-e"), die_of("")
    ('xc7z020', 'xc7a35t', 'xczu3eg', '')
    """
    series7 = re.match(r"xc7[a-z]{1,2}\d+[ts]?(?=i?(cp|cs|cl|ft|fg|sb|ff|fb|fh|fl|rb|rf|hc)[a-z]*\d)", part)
    return series7[0] if series7 else part.partition("-")[0]


def devices(user_file: StrPath | None = None) -> dict[str, Device]:
    """All parts by name; those of a user's file, and its changes to ours, included.

    >>> devices()["xc7z020"].capacities.dsp
    220
    """
    tables = read_toml(OWN_FILE)
    where = str(OWN_FILE.name)
    if user_file is not None:
        tables, where = merged(tables, read_toml(user_file)), str(user_file)
    unknown = sorted(set(tables) - {"family", "device"})
    if unknown:
        raise SettingsError(f"{where}: unknown key {shown(unknown[0])}; known are family, device")
    families = {
        name: build(Family, values, f"{where}: family.{brief(name, 40)}")
        for name, values in _table(tables, "family", where).items()
    }
    found = {}
    for name, values in _table(tables, "device", where).items():
        capacities = build(Capacities, values, f"{where}: device.{brief(name, 40)}")
        if capacities.family not in families:
            raise SettingsError(
                f"{where}: device.{brief(name, 40)}: unknown family {shown(capacities.family)}; "
                f"known are {brief(', '.join(families))}"
            )
        found[name] = Device(name, capacities.family, families[capacities.family], capacities)
    return found


def device(name: str, user_file: StrPath | None = None) -> Device:
    """A part by its name; SettingsError with the nearest names if there is none."""
    return named(name, devices(user_file))


def named(name: str, known: Mapping[str, Device]) -> Device:
    """The part of a name among some; SettingsError with the nearest names if there is none."""
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {brief(', '.join(known))}"
    raise SettingsError(f"device {shown(name)}: unknown; {hint}")


def of_part(part: str, known: Mapping[str, Device]) -> Device:
    """The first part of the die that one in full, such as xc7z020clg484-2, is of; SettingsError if there is none."""
    for found in known.values():
        if found.die and found.die == die_of(part):
            return found
    dies = ", ".join(dict.fromkeys(found.die for found in known.values() if found.die))
    raise SettingsError(
        f"part {part!r}: what it holds is not known; known are {dies} with package and speed grade, such as "
        "xc7z020clg400-1, and what a file of --device-file adds"
    )


def _table(tables: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = tables[key]
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where}: {key}: must be a table, found {type(table).__name__}")
    return table
