"""Estimated LUTs, flip-flops, block RAMs and DSPs beside syntheses that were measured, and the fit of the coefficients.

Run: python benchmarks/bench_area.py [coefficients.json]      with a file: write the coefficients of the fit there
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks.nets import random_mlp
from sim.area import FORMAT, AreaModel, Features, features, unit_logic
from sim.calibration import Measured, fit
from sim.devices import Device, devices
from sim.memories import Placed, place, unit_memories
from tsn_hw.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.layers import INPUT
from tsn_hw.records import build, read_json
from tsn_hw.units import Accelerator, MatrixUnit, Scales, Stream

POINTS = Path(__file__).parents[1] / "tests" / "cases" / "synthesis.json"
PARTS = {"xc7": "xc7z020", "ecp5": "ecp5-85", "ice40": "ice40-hx8k"}
COLUMNS, ROWS, OFFSET_BITS = 64, 32, 20


@dataclass(frozen=True)
class Synthesis:
    """A matrix unit that was synthesized, and what it took."""

    family: str
    dsps: int
    uses_dsps: bool
    pe: int
    simd: int
    tasks: int
    prefix_bits: int
    code_bits: int
    act_bits: int
    centroid_bits: int
    accumulator_bits: int
    lut: int
    ff: int
    bram: int

    @property
    def device(self) -> Device:
        return _part(self.family, self.uses_dsps)

    @property
    def unit(self) -> MatrixUnit:
        scales = Scales(self.accumulator_bits, 0, OFFSET_BITS, self.accumulator_bits + 1)
        source, output = (Stream((count,), self.act_bits, True) for count in (COLUMNS, ROWS))
        return MatrixUnit(
            "unit", (0,), (INPUT,), (source,), output, UnitSettings(Folding(self.pe, self.simd), ram_style="block"),
            ROWS, COLUMNS, None, 1, 1, self.prefix_bits, self.code_bits, self.centroid_bits, scales, is_head=False,
        )  # fmt: skip

    @property
    def memories(self) -> list[Placed]:
        """Its memories as they were synthesized: scales and task words in LUTs, no FIFOs."""
        memories = [m for m in unit_memories(_design_for(self.tasks), self.unit) if m.kind != "fifo"]
        in_luts = ("scales", "task")
        return [place(replace(m, style="distributed") if m.kind in in_luts else m, self.device) for m in memories]

    @property
    def features(self) -> Features:
        """Those of its logic; it has no FIFOs at its ports."""
        return replace(features(self.unit, self.device), port_bits=0)

    def estimated(self, model: AreaModel) -> tuple[int, int, int, int]:
        """LUTs, flip-flops, block RAMs, DSPs."""
        without_ports = replace(model, lut=replace(model.lut, port_bits=0), ff=replace(model.ff, port_bits=0))
        logic, memories = unit_logic(self.unit, self.device, without_ports), self.memories
        return logic.lut + sum(m.lut for m in memories), logic.ff, sum(m.bram for m in memories), logic.dsp


@cache
def _part(family: str, uses_dsps: bool) -> Device:
    part = devices()[PARTS[family]]
    return part if uses_dsps else replace(part, capacities=replace(part.capacities, dsp=0))


@cache
def _design_for(tasks: int) -> Accelerator:
    """An accelerator that says how many tasks there are."""
    return Accelerator(random_mlp((2, 2)), HardwareSettings(max_tasks=tasks), ())


def syntheses() -> list[Synthesis]:
    """All units that were measured."""
    return [build(Synthesis, values, POINTS.name) for values in read_json(POINTS)["units"]]


def fitted_models() -> dict[str, AreaModel]:
    """The model of every family that was measured, and of UltraScale+, which takes that of the 7 series."""
    models = {}
    for family in PARTS:
        points = [
            Measured(point.features, sum(memory.lut for memory in point.memories), point.lut, point.ff)
            for point in syntheses()
            if point.family == family
        ]
        for product in read_json(POINTS)["products"]:
            if product["family"] == family:
                a, b = product["factors_bits"]
                points.append(Measured(Features(area=a * b, deep_area=a * b * min(a, b)), 0, product["lut"], 0))
        registers = 1 if family == "xc7" else 2
        source = "yosys 0.23 on the points of tests/cases/synthesis.json; compare_bits and port_bits are counted"
        models[family] = fit(points, Features(compare_bits=2, port_bits=1), Features(port_bits=registers), source)
    like = "that of xc7, whose LUTs, carry chains and flip-flops are alike; nothing was measured"
    return models | {"xcu": replace(models["xc7"], source=like)}


def coefficients_json(models: dict[str, AreaModel]) -> str:
    """A coefficient file; features of no influence are left out."""
    families = {}
    for name, model in models.items():
        values = asdict(model)
        for key in ("lut", "ff"):
            values[key] = {feature: value for feature, value in values[key].items() if value}
        families[name] = values
    return json.dumps({"format": FORMAT, "families": families}, indent=1) + "\n"


def main(path: str | None = None) -> None:
    models = fitted_models()
    if path is not None:
        Path(path).write_text(coefficients_json(models))
    print()
    print("LUTs, flip-flops, block RAMs, DSPs: measured, then estimated")
    print(f"{'family':8}{'PE x SIMD':>10}{'prefix+code':>12}{'act':>4}{'centroid':>9}")
    for point in syntheses():
        estimated = point.estimated(models[point.family])
        measured = point.lut, point.ff, point.bram, point.dsps
        folding, words = f"{point.pe} x {point.simd}", f"{point.prefix_bits}+{point.code_bits}"
        name = point.family + ("" if point.uses_dsps else "*")
        print(f"{name:8}{folding:>10}{words:>12}{point.act_bits:4}{point.centroid_bits:9}   {measured}  {estimated}")
    print("* products in LUTs")
    for name, model in models.items():
        print(
            f"{name}: {model.points} points; the error of a point that is left out is "
            f"{model.lut_leave_one_out_percent} % of its LUTs, {model.ff_leave_one_out_percent} % of its flip-flops"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
