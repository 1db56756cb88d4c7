"""Estimated LUTs, flip-flops, block RAMs and DSPs beside the syntheses that the coefficients were fitted to.

Run: python benchmarks/bench_area.py
"""

from __future__ import annotations

from pathlib import Path

from sim.area import read_coefficients
from sim.resources import estimate_resources
from tsn_hw.app.hardware.calibrate import read_runs
from tsn_hw.app.hardware.trials import design
from tsn_hw.app.tables import table

RUNS = Path(__file__).parents[1] / "tests" / "cases" / "synthesis.jsonl"


def main() -> None:
    rows: list[list[object]] = []
    for run in read_runs(RUNS):
        trial, resources = run.trial, estimate_resources(design(run.trial), run.part).resources
        pairs = [f"{run.resources[name]} / {getattr(resources, name)}" for name in ("lut", "ff", "bram", "dsp")]
        off = 100 * (resources.lut / run.resources["lut"] - 1)
        rows.append([run.target, trial.kind, f"{trial.pe} x {trial.simd}", trial.code_bits, *pairs, off])
    print(table(["family", "layer", "PE x SIMD", "code bits", "LUT", "FF", "block RAM", "DSP", "LUT off by %"], rows))
    print("measured / estimated")
    for name, model in read_coefficients().families.items():
        print(
            f"{name}: {model.points} points; the error of a point that is left out is "
            f"{model.lut_leave_one_out_percent} % of its LUTs, {model.ff_leave_one_out_percent} % of its flip-flops"
        )


if __name__ == "__main__":
    main()
