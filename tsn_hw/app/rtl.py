"""RTL projects: written with their estimates, simulated as an engine, synthesized beside what was estimated."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.folding_json import final_config_json, folding_json, read_folding
from export.rtl import write_rtl
from export.rtl_simulation import RtlCall, compile_rtl, loading_calls
from export.rtl_simulators import simulator
from export.rtl_synthesis import synthesize
from sim.devices import device
from sim.resources import RESOURCE_NAMES, RESOURCES, estimate_resources
from tsn_hw import artifact
from tsn_hw.app.tables import table
from tsn_hw.app.verify import SimulatedRtl
from tsn_hw.arithmetic import Ints
from tsn_hw.dataflow import dataflow
from tsn_hw.errors import EngineError, FoldingError
from tsn_hw.files import read_bytes, write_atomically
from tsn_hw.network import PackedNetwork
from tsn_hw.pipeline import accelerator
from tsn_hw.records import build, read_json
from tsn_hw.units import Accelerator

Told = tuple[str, Any]

PARTS = {"xc7": "xc7z020", "ecp5": "ecp5-85", "ice40": "ice40-hx8k"}
"""The part that stands for a family in the estimate."""
ESTIMATES = "report/estimate_resources.json"


@dataclass(frozen=True)
class FamilyEstimate:
    """What a family is estimated to take, or, where a memory cannot be of the type that it asks for, why none."""

    resources: dict[str, int]
    absent: str | None = None


@dataclass(frozen=True)
class Estimates:
    """The content of the file of estimates: one a family of PARTS."""

    xc7: FamilyEstimate
    ecp5: FamilyEstimate
    ice40: FamilyEstimate


def write_rtl_project(path: Path, folding: Path, folder: Path) -> Told:
    """Write the RTL project of a network with a folding, and what every family is estimated to take for it."""
    design = _design(artifact.load(path), folding)
    estimates = _estimates(design)
    texts = {
        "folding.json": folding_json(design.settings, design.net),
        "final_hw_config.json": final_config_json(dataflow(design)),
        ESTIMATES: json.dumps(asdict(estimates), indent=1) + "\n",
    }
    write_rtl(design, folder, {name: text.encode() for name, text in texts.items()})
    rows = [[unit.name, unit.settings.folding.pe, unit.settings.folding.simd, unit.cycles] for unit in design.units]
    text = (
        f"{table(['unit', 'PE', 'SIMD', 'cycles'], rows)}\n\n{folder}: tsn-hw synth {folder} --target xc7 measures it"
    )
    return text, {
        "folder": str(folder),
        "cycles": {unit.name: unit.cycles for unit in design.units},
        **asdict(estimates),
    }


@contextmanager
def simulated_rtl(net: PackedNetwork, folding: Path, name: str | None) -> Iterator[SimulatedRtl | str]:
    """The RTL of a network with a folding in a simulator: that of a name, or the fastest; or why there is none."""
    design = _design(net, folding)
    try:
        chosen = simulator(name)
    except EngineError as error:
        yield str(error)
        return
    with tempfile.TemporaryDirectory(prefix="tsn-hw-") as temporary:
        folder = Path(temporary) / "rtl"
        write_rtl(design, folder)
        compiled = compile_rtl(design, folder, chosen=chosen)

        def run(task: int, x: Ints, stall_percent: int) -> tuple[dict[str, Ints], int]:
            result = compiled.run([*loading_calls(design, task), RtlCall(task, x)], stall_percent)[-1]
            return result.layers, result.cycles

        yield SimulatedRtl(chosen.tool, run)


def synthesize_project(folder: Path, target: str) -> Told:
    """Synthesize the project in a folder for a family, and tell what it takes beside what was estimated."""
    measured = synthesize(folder, target)
    estimates = build(Estimates, read_json(folder / ESTIMATES), ESTIMATES)
    estimate: FamilyEstimate = getattr(estimates, target)
    data = asdict(measured) | {"estimated": asdict(estimate)}
    write_atomically(folder / f"report/synthesis_{target}.json", (json.dumps(data, indent=1) + "\n").encode())
    rows = [[RESOURCE_NAMES[name], value, estimate.resources.get(name)] for name, value in measured.resources.items()]
    header = ["resource", f"{measured.tool}, {target}", f"estimated, {PARTS[target]}"]
    return f"{table(header, rows)}\n\nnetlist: {folder}/synthesis/{target}.v", data


def _design(net: PackedNetwork, folding: Path) -> Accelerator:
    return accelerator(net, read_folding(read_bytes(folding).decode(errors="replace"), str(folding), net))


def _estimates(design: Accelerator) -> Estimates:
    return Estimates(**{family: _estimate(design, part) for family, part in PARTS.items()})


def _estimate(design: Accelerator, part: str) -> FamilyEstimate:
    try:
        resources = estimate_resources(design, device(part)).resources
    except FoldingError as error:
        return FamilyEstimate({}, str(error))
    return FamilyEstimate(dict(zip(RESOURCES, resources.counts, strict=True)))
