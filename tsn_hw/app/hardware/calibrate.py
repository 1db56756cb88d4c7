"""``tsn-hw calibrate``: trials through yosys, and the coefficients of the area model that fit what they took."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from export.rtl.project import write_rtl
from export.rtl.synthesis import synthesize
from sim.area import FORMAT, AreaModel, Coefficients, Features, read_coefficients
from sim.calibration import fit, measured
from sim.devices import Device, device
from sim.resources import estimate_resources
from tsn_hw.app.hardware.rtl import PARTS
from tsn_hw.app.hardware.trials import Trial, design, trial_of, trials
from tsn_hw.app.output import CommandResult, Note, Table, Value
from tsn_hw.app.sweep.results import Row, identity, open_results, rows_of
from tsn_hw.core.errors import SettingsError, shown
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.locks import lock_of, sole_writer
from tsn_hw.core.records import Bounds, build, parse_json
from tsn_hw.learn.progress import progress

COUNTED_LUT = Features(compare_bits=2)
"""What no trial tells apart from the rest, by counting: two LUTs a bit that a max pooling compares."""
FEWEST_POINTS = 4


@dataclass(frozen=True)
class SynthesisRun:
    """A trial that was synthesized for a family: a line of the file of runs."""

    target: str
    tool: str
    trial: Trial
    resources: dict[str, Annotated[int, Bounds(0, 2**31)]]

    def __post_init__(self) -> None:
        if self.target not in PARTS:
            raise SettingsError(f"target = {shown(self.target)}: must be one of {', '.join(PARTS)}")
        if self.trial != trial_of(self.trial.seed):
            raise SettingsError(f"trial: is not the one of seed {self.trial.seed}")
        for name in ("lut", "ff", "bram", "dsp"):
            if name not in self.resources:
                raise SettingsError(f"resources: has no {name!r}")
        if not (self.resources["lut"] and self.resources["ff"]):
            raise SettingsError("resources: no design has no LUTs or no flip-flops")

    @property
    def part(self) -> Device:
        """A part of the family, without DSPs where the trial makes its products of LUTs."""
        part = device(PARTS[self.target])
        return part if self.trial.dsps else replace(part, capacities=replace(part.capacities, dsp=0))


def calibrate(runs_file: Path, out: Path, families: Sequence[str], count: int) -> CommandResult:
    """Synthesize what is missing of the first ``count`` trials for some families, fit, and write the coefficients.

    The file of runs grows by a line a synthesis, as that of a sweep does: what was interrupted goes on where it was.
    """
    if count < FEWEST_POINTS:
        raise SettingsError(f"{count} trials a family: a fit takes at least {FEWEST_POINTS}")
    with sole_writer(lock_of(runs_file)), open_results(runs_file) as results:
        runs = _runs(runs_file, results.rows)
        done = {(run.target, run.trial) for run in runs}
        missing = [(trial, family) for trial in trials(count) for family in families if (family, trial) not in done]
        for trial, family in progress(missing, "syntheses"):
            runs.append(synthesize_trial(trial, family))
            results.append(*_line(runs[-1]))
    models = fitted([run for run in runs if run.target in families])
    write_atomically(out, coefficients_json(models).encode())
    header = ["family", "points", "LUTs off by %", "flip-flops off by %", "block RAMs equal", "DSPs equal"]
    table = Table.of_rows(header, [_row(family, models[family], runs) for family in families])
    told = Note(f"% of a point that is left out of the fit, on average\n{out}: for --coefficients")
    return CommandResult([table, told], {family: asdict(models[family]) for family in families})


def read_runs(path: Path) -> list[SynthesisRun]:
    """The lines of a file of runs; FileError or SettingsError tells one that is none."""
    return _runs(path, rows_of(path, read_bytes(path)))


def _runs(path: Path, rows: Mapping[str, Row]) -> list[SynthesisRun]:
    return [build(SynthesisRun, parse_json(point, str(path)) | row, str(path)) for point, row in rows.items()]


def _line(run: SynthesisRun) -> tuple[str, Row]:
    """A run as a point, what was asked, and its row, what came out."""
    return identity({"target": run.target, "trial": asdict(run.trial)}), {"tool": run.tool, "resources": run.resources}


def synthesize_trial(trial: Trial, family: str) -> SynthesisRun:
    """Write a trial as an RTL project and count what yosys makes of it."""
    with tempfile.TemporaryDirectory(prefix="tsn-hw-") as temporary:
        folder = Path(temporary) / "rtl"
        write_rtl(design(trial), folder)
        found = synthesize(folder, family, trial.dsps)
    return SynthesisRun(family, found.tool, trial, found.resources)


def fitted(runs: Sequence[SynthesisRun]) -> dict[str, AreaModel]:
    """A model of every family in the runs; UltraScale+ takes that of the 7 series. SettingsError if points are few."""
    models = {}
    for family in dict.fromkeys(run.target for run in runs):
        own = [run for run in runs if run.target == family]
        if len(own) < FEWEST_POINTS:
            raise SettingsError(f"family {family!r}: {len(own)} trials; a fit takes at least {FEWEST_POINTS}")
        points = [measured(design(run.trial), run.part, run.resources["lut"], run.resources["ff"]) for run in own]
        tools = ", ".join(sorted({run.tool for run in own}))
        models[family] = fit(
            points, own[0].part.family.lut_inputs, COUNTED_LUT, f"{tools}, tsn-hw calibrate; compare_bits is counted"
        )
    if "xc7" in models:
        like = "that of xc7, whose LUTs, carry chains and flip-flops are alike; nothing was measured"
        models["xcu"] = replace(models["xc7"], source=like)
    return models


def coefficients_json(models: dict[str, AreaModel]) -> str:
    """A coefficient file: these models, and ours of the families without one; features of no influence are left out."""
    everything = read_coefficients().families | models
    families = {}
    for name, model in everything.items():
        values = asdict(model)
        for key in ("lut", "ff"):
            values[key] = {feature: value for feature, value in values[key].items() if value}
        families[name] = values
    return json.dumps({"format": FORMAT, "families": families}, indent=1) + "\n"


def _row(family: str, model: AreaModel, runs: Sequence[SynthesisRun]) -> list[Value]:
    own = [run for run in runs if run.target == family]
    coefficients = Coefficients(FORMAT, {family: model})
    used = [estimate_resources(design(run.trial), run.part, coefficients=coefficients).resources for run in own]
    pairs = list(zip((run.resources for run in own), used, strict=True))
    equal = [sum(found[name] == getattr(counted, name) for found, counted in pairs) for name in ("bram", "dsp")]
    errors = [model.lut_leave_one_out_percent, model.ff_leave_one_out_percent]
    return [family, len(own), *errors, *(f"{count} of {len(own)}" for count in equal)]
