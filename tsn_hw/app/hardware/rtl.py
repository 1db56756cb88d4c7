"""RTL projects: written with their estimates, and simulated as an engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from export.project.folding_json import final_config_json, folding_json
from export.rtl.project import write_rtl
from export.rtl.simulation import RtlCall, compile_rtl, loading_calls
from export.rtl.simulators import simulator
from sim.resources import RESOURCES, estimate_resources
from tsn_hw.app.deploy.verify import SimulatedRtl
from tsn_hw.app.hardware.datasheet import SHEET, data_sheet
from tsn_hw.app.hardware.platform import Platform, folding_of
from tsn_hw.app.output import CommandResult, Note, Table
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import EngineError, FoldingError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.pipeline import accelerator, layer_values

PARTS = {"xc7": "xc7z020", "ecp5": "ecp5-85", "ice40": "ice40-hx8k"}
"""The part that stands for a family in the estimate, unless another is asked for."""
ESTIMATES = "report/estimate_resources.json"


@dataclass(frozen=True)
class FamilyEstimate:
    """What a part of a family is estimated to give, or, where a memory cannot be of the type asked for, why nothing."""

    device: str
    resources: dict[str, int]
    absent: str | None = None


@dataclass(frozen=True)
class Estimates:
    """The content of the file of estimates: of one part a family."""

    xc7: FamilyEstimate
    ecp5: FamilyEstimate
    ice40: FamilyEstimate


def write_rtl_project(path: Path, folding: Path, folder: Path, platforms: Mapping[str, Platform]) -> CommandResult:
    """Write the RTL project of a network with a folding, and what it is estimated to take of a part of every family."""
    net = artifact.load(path)
    design = accelerator(net, folding_of(folding, net))
    estimates = Estimates(**{family: _estimate(design, platform) for family, platform in platforms.items()})
    texts = {
        "folding.json": folding_json(design.settings, design.net),
        "final_hw_config.json": final_config_json(design),
        ESTIMATES: json.dumps(asdict(estimates), indent=1) + "\n",
        SHEET: data_sheet(design),
    }
    write_rtl(design, folder, {name: text.encode() for name, text in texts.items()})
    rows = [[unit.name, unit.pe, unit.simd, unit.cycles] for unit in design.units]
    told = Note(f"{folder}: tsn-hw synth {folder} --target xc7 measures it")
    values = {"folder": str(folder), "cycles": {unit.name: unit.cycles for unit in design.units}}
    return CommandResult([Table.of_rows(["unit", "PE", "SIMD", "cycles"], rows), told], values | asdict(estimates))


@contextmanager
def simulated_rtl(net: PackedNetwork, folding: Path, name: str | None) -> Iterator[SimulatedRtl | str]:
    """The RTL of a network with a folding in a simulator: that of a name, or the fastest; or why there is none."""
    design = accelerator(net, folding_of(folding, net))
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
            return layer_values(net, task, x, result.layers), result.cycles

        yield SimulatedRtl(chosen.tool, run)


def _estimate(design: Accelerator, platform: Platform) -> FamilyEstimate:
    part = platform.device
    try:
        resources = estimate_resources(design, part, coefficients=platform.coefficients).resources
    except FoldingError as error:
        return FamilyEstimate(part.name, {}, str(error))
    return FamilyEstimate(part.name, dict(zip(RESOURCES, resources.counts, strict=True)))
