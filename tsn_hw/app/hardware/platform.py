"""What hardware is sized for: the part that the options of a command name, and the folding of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.project.folding_json import read_folding
from sim.area import OWN_FILE, Coefficients, read_coefficients
from sim.devices import Device, devices, named, of_part
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import StrPath, read_bytes
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import HardwareSettings

DEFAULT_DEVICE = "xc7z020"


@dataclass(frozen=True)
class Platform:
    """A part, and the coefficients that its LUTs and flip-flops are estimated with.

    part: its full name for the vendor's tools, with package and speed grade; empty where these do not build for it.
    """

    device: Device
    coefficients: Coefficients
    part: str = ""


def platform(
    name: str | None, part: str | None = None, device_file: StrPath | None = None, coefficients: StrPath | None = None
) -> Platform:
    """The part of a name, else that of a part in full, else the default; files of the user's in place of ours.

    SettingsError if there is none, or ``part`` is of another one.
    """
    known = devices(device_file)
    meant = None if part is None else of_part(part, known)
    if name is not None:
        found = named(name, known)
        if meant is not None and meant.die != found.die:
            raise SettingsError(
                f"--part {part}: is a {meant.die}, --device {name} "
                f"{f'a {found.die}' if found.die else 'is none that Vitis HLS builds for'}; give one of them"
            )
    else:
        found = meant or named(DEFAULT_DEVICE, known)
    return Platform(found, read_coefficients(coefficients or OWN_FILE), part or found.capacities.part)


def folding_of(path: Path, net: PackedNetwork) -> HardwareSettings:
    """What a folding file says of the units of a network."""
    return read_folding(read_bytes(path).decode(errors="replace"), str(path), net)
