"""RTL projects in gates: what was measured beside what was estimated, and whether it fits a part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from export.rtl.place import Routed, place_and_route, require_router
from export.rtl.project import rtl_files
from export.rtl.synthesis import synthesize
from sim.devices import Device
from sim.resources import RESOURCE_NAMES, RESOURCES, capacities, share
from tsn_hw.app.hardware.datasheet import MEASURED, SHEET, write_measured
from tsn_hw.app.hardware.platform import folding_of
from tsn_hw.app.hardware.rtl import ESTIMATES, PARTS, Estimates, FamilyEstimate
from tsn_hw.app.output import Block, Cell, CommandResult, Note, Table, Value, share_cell
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import build, read_json
from tsn_hw.hardware.pipeline import accelerator
from tsn_hw.learn.progress import stage


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


def synthesize_project(folder: Path, target: str, chosen: Device, seed: int | None = None) -> CommandResult:
    """Synthesize the project in a folder for a family, hold it against a part, and tell it beside what was estimated.

    seed: where it is to be placed and routed, too. A design that is too large for the part is not.
    """
    if chosen.family_name != target:
        raise SettingsError(f"device {chosen.name!r}: is of family {chosen.family_name}, not of --target {target}")
    if seed is not None and target == "xc7":
        raise SettingsError("--place-and-route: nextpnr is used for ecp5 and ice40; xc7 takes the vendor's tools")
    if seed is not None:
        require_router(chosen.name)
    if not all((folder / name).is_file() for name in (ESTIMATES, SHEET)):
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
    write_measured(folder, synthesis_blocks(_measured(folder)))
    told = [f"netlist: {folder}/synthesis/{target}.v", f"data sheet: {folder}/{MEASURED}"]
    if found.routed is not None:
        told.append(f"bitstream: {folder}/{found.routed.bitstream}")
    return CommandResult([*synthesis_blocks([found]), Note("\n".join(told))], asdict(found))


def synthesized(net: PackedNetwork, folder: Path) -> tuple[Synthesis, ...]:
    """What was measured of the RTL project of a network; SettingsError if it is of another, or nothing was."""
    design = accelerator(net, folding_of(folder / "folding.json", net))
    index = "memories/memories.json"
    if read_bytes(folder / index) != rtl_files(design)[index]:
        raise SettingsError(f"--rtl {folder}: is the project of another network")
    found = _measured(folder)
    if not found:
        raise SettingsError(f"--rtl {folder}: was not synthesized; tsn-hw synth {folder} does it")
    return found


def _measured(folder: Path) -> tuple[Synthesis, ...]:
    """What was measured of the project in a folder, by family."""
    files = [folder / f"report/synthesis_{target}.json" for target in PARTS]
    return tuple(build(Synthesis, read_json(file), str(file)) for file in files if file.is_file())


def _write(folder: Path, found: Synthesis) -> None:
    data = (json.dumps(asdict(found), indent=1) + "\n").encode()
    write_atomically(folder / f"report/synthesis_{found.target}.json", data)


def synthesis_blocks(projects: Sequence[Synthesis]) -> list[Block]:
    """Whether parts have enough of what projects take, and every resource that was measured beside its estimate."""
    parts, resources = list[list[Value | Cell]](), list[list[Value | Cell]]()
    for found in projects:
        for name, used in found.resources.items():
            estimated, percent = found.estimated.resources.get(name), share_cell(found.percent[name])
            resources.append([found.device, RESOURCE_NAMES[name], used, estimated, found.available[name], percent])
        fits, routed = Cell(found.verdict, state="good" if found.fits else "bad"), found.routed
        made = "not placed" if routed is None else f"{routed.tool}, {routed.package}, seed {routed.seed}"
        clock = None if routed is None else routed.fmax_mhz
        parts.append([found.device, fits, clock, found.clock_mhz, f"{found.tool}; {made}"])
    header = ["part", "resource", "measured", "estimated", "available", "%"]
    return [
        Table.of_rows(["part", "", "MHz reached", "MHz assumed", "tools"], parts, "Parts"),
        Table.of_rows(header, resources, "Measured and estimated"),
    ]
