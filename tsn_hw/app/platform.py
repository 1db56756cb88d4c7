"""The part that hardware is sized for: what the options of a command name."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from sim.area import OWN_FILE, Coefficients, read_coefficients
from sim.devices import Device, devices, named, of_part
from tsn_hw.app.command import DEFAULT_DEVICE
from tsn_hw.errors import SettingsError


@dataclass(frozen=True)
class Platform:
    """A part, and the coefficients that its LUTs and flip-flops are estimated with.

    part: its full name for the vendor's tools, with package and speed grade; empty where these do not build for it.
    """

    device: Device
    coefficients: Coefficients
    part: str = ""


def platform_of(options: argparse.Namespace, name: str | None = None) -> Platform:
    """The part of a name, else that of --device, else that of --part, else the default.

    SettingsError if there is none, or --part is of another one.
    """
    known = devices(options.device_file)
    part: str | None = getattr(options, "part", None)
    name = name or options.device
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
    file = getattr(options, "coefficients", None) or OWN_FILE
    return Platform(found, read_coefficients(file), part or found.capacities.part)
