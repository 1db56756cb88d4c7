"""RTL projects in gates: what was measured beside what was estimated, and whether it fits a part."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from export.project.folding_json import read_folding
from export.rtl.place import Routed, place_and_route, require_router
from export.rtl.project import rtl_files
from export.rtl.synthesis import synthesize
from sim.devices import Device
from sim.resources import RESOURCE_NAMES, RESOURCES, capacities, share
from tsn_hw.app.hardware.rtl import ESTIMATES, PARTS, Estimates, FamilyEstimate
from tsn_hw.app.tables import table
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import build, read_json
from tsn_hw.hardware.pipeline import accelerator
from tsn_hw.learn.progress import stage

Told = tuple[str, Any]


@dataclass(frozen=True)
class Synthesis:
    """The content of ``report/synthesis_<target>.json``.

    resources: measured, of those that synthesis tells apart; estimated: before, for the part that it names; clock_mhz:
    assumed of ``device``; available: what it has; routed: what nextpnr made of it there.
    """

    target: str
    tool: str
    resources: dict[str, int]
    cells: dict[str, int]
    estimated: FamilyEstimate
    device: str
    clock_mhz: float
    available: dict[str, int]
    routed: Routed | None = None

    @property
    def percent(self) -> dict[str, float]:
        """Share of every resource of the part; infinite where the part has none of it."""
        return {name: 100 * share(used, self.available[name]) for name, used in self.resources.items()}

    @property
    def fits(self) -> bool:
        """Whether the part has enough of everything."""
        return max(self.percent.values()) <= 100

    @property
    def verdict(self) -> str:
        """Whether the part has enough, and of what it has least."""
        shares = self.percent
        binding = RESOURCE_NAMES[max(shares, key=lambda name: shares[name])]
        return f"{'fits' if self.fits else 'does not fit'} {self.device}: {binding} bind"


def synthesize_project(folder: Path, target: str, chosen: Device, seed: int | None = None) -> Told:
    """Synthesize the project in a folder for a family, hold it against a part, and tell it beside what was estimated.

    seed: where it is to be placed and routed, too. A design that is too large for the part is not.
    """
    if chosen.family_name != target:
        raise SettingsError(f"device {chosen.name!r}: is of family {chosen.family_name}, not of --target {target}")
    if seed is not None and target == "xc7":
        raise SettingsError("--place-and-route: nextpnr is used for ecp5 and ice40; xc7 takes the vendor's tools")
    if seed is not None:
        require_router(chosen.name)
    if not (folder / ESTIMATES).is_file():
        raise SettingsError(f"{folder}: holds no RTL project; tsn-hw rtl writes one")
    estimates = build(Estimates, read_json(folder / ESTIMATES), str(folder / ESTIMATES))
    with stage(f"yosys synthesizes {folder} for {target}"):
        measured = synthesize(folder, target)
    available = dict(zip(RESOURCES, capacities(chosen).counts, strict=True))
    found = Synthesis(
        target, measured.tool, measured.resources, measured.cells, getattr(estimates, target), chosen.name,
        chosen.capacities.clock_mhz, {name: available[name] for name in measured.resources},
    )  # fmt: skip
    _write(folder, found)
    if seed is not None:
        if not found.fits:
            raise SettingsError(f"--place-and-route: {found.verdict}; report/synthesis_{target}.json has the figures")
        with stage(f"nextpnr places and routes {folder} on {chosen.name}"):
            routed = place_and_route(folder, chosen.name, chosen.capacities.clock_mhz, seed)
        found = replace(found, routed=routed)
        _write(folder, found)
    return _text(folder, found), asdict(found)


def synthesized(net: PackedNetwork, folder: Path) -> tuple[Synthesis, ...]:
    """What was measured of the RTL project of a network; SettingsError if it is of another, or nothing was."""
    path = folder / "folding.json"
    design = accelerator(net, read_folding(read_bytes(path).decode(errors="replace"), str(path), net))
    index = "memories/memories.json"
    if read_bytes(folder / index) != rtl_files(design)[index]:
        raise SettingsError(f"--rtl {folder}: is the project of another network")
    files = [folder / f"report/synthesis_{target}.json" for target in PARTS]
    found = tuple(build(Synthesis, read_json(file), str(file)) for file in files if file.is_file())
    if not found:
        raise SettingsError(f"--rtl {folder}: was not synthesized; tsn-hw synth {folder} does it")
    return found


def _write(folder: Path, found: Synthesis) -> None:
    data = (json.dumps(asdict(found), indent=1) + "\n").encode()
    write_atomically(folder / f"report/synthesis_{found.target}.json", data)


def _text(folder: Path, found: Synthesis) -> str:
    shares = {name: None if math.isinf(percent) else percent for name, percent in found.percent.items()}
    rows = [
        [RESOURCE_NAMES[name], used, found.estimated.resources.get(name), found.available[name], shares[name]]
        for name, used in found.resources.items()
    ]
    header = ["resource", f"{found.tool}, {found.target}", f"estimated, {found.estimated.device}", found.device, "%"]
    told = [table(header, rows), found.verdict]
    if found.routed is not None:
        routed = found.routed
        told.append(
            f"{routed.tool}, {routed.device} in {routed.package}, seed {routed.seed}: {routed.fmax_mhz:.1f} MHz\n"
            f"bitstream: {folder}/{routed.bitstream}"
        )
    return "\n\n".join([*told, f"netlist: {folder}/synthesis/{found.target}.v"])
