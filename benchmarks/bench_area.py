"""Estimated LUTs, flip-flops, block RAMs and DSPs beside the syntheses that the coefficients were fitted to.

Below them the errors of the fit, and those of points that are left out of it, each predicted by a fit of all others.

Run: python benchmarks/bench_area.py
"""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np

from sim.area import Features
from sim.calibration import fit, measured
from sim.resources import estimate_resources
from tsn_hw.app.hardware.calibrate import COUNTED_LUT, SynthesisRun, read_runs
from tsn_hw.app.hardware.trials import design
from tsn_hw.app.output import Table, table_text

RUNS = Path(__file__).parents[1] / "tests" / "cases" / "synthesis.jsonl"


def main() -> None:
    runs, rows, off = read_runs(RUNS), [], []
    for run in runs:
        trial, resources = run.trial, estimate_resources(design(run.trial), run.part).resources
        pairs = [f"{run.resources[name]} / {getattr(resources, name)}" for name in ("lut", "ff", "bram", "dsp")]
        off.append([100 * (getattr(resources, name) / run.resources[name] - 1) for name in ("lut", "ff")])
        folding = f"{trial.layout} {trial.pe} x {trial.simd}"
        rows.append([run.target, trial.kind, folding, trial.code_bits, *pairs, *off[-1]])
    print(
        table_text(
            Table.of_rows(
                ["family", "layer", "PE x SIMD", "code bits", "LUT", "FF", "block RAM", "DSP", "LUT off by %", "FF"],
                rows,
            )
        )
    )
    print("measured / estimated\n")
    told = []
    for family in dict.fromkeys(run.target for run in runs):
        own = [index for index, run in enumerate(runs) if run.target == family]
        of_fit = [off[index] for index in own]
        of_left_out = left_out([runs[index] for index in own])
        everyone = list(range(len(own)))
        wide = [place for place in everyone if runs[own[place]].trial.pe * runs[own[place]].trial.simd >= 32]
        lists = [place for place in everyone if runs[own[place]].trial.layout == "lists"]
        for name, chosen in (("all", everyone), ("32 lanes and more", wide), ("lists", lists)):
            if chosen:
                told.append([family, name, len(chosen), *errors(of_fit, chosen), *errors(of_left_out, chosen)])
    columns = ["LUT", "largest", "FF", "largest"]
    header = ["family", "points", "number", *(f"{name}, {of}" for of in ("fit", "left out") for name in columns)]
    print(table_text(Table.of_rows(header, told)))
    print("mean and largest error in %")


def left_out(runs: list[SynthesisRun]) -> list[list[float]]:
    """How far LUTs and flip-flops of every run are off in % by a fit of all others."""
    points = [measured(design(run.trial), run.part, run.resources["lut"], run.resources["ff"]) for run in runs]
    off = []
    for index, point in enumerate(points):
        model = fit(points[:index] + points[index + 1 :], runs[0].part.family.lut_inputs, COUNTED_LUT, "")
        lut = point.memory_lut + total(model.lut, point.features)
        ff = point.memory_ff + total(model.ff, point.features)
        off.append([100 * (lut / point.lut - 1), 100 * (ff / point.ff - 1)])
    return off


def total(coefficients: Features, given: Features) -> float:
    return float(np.dot(astuple(coefficients), astuple(given)))


def errors(off: list[list[float]], chosen: list[int]) -> list[float]:
    found = []
    for kind in (0, 1):
        sizes = [abs(off[index][kind]) for index in chosen]
        found += [sum(sizes) / len(sizes), max(sizes)]
    return found


if __name__ == "__main__":
    main()
