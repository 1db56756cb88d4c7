"""tsn-hw calibrate: trials, what is kept of them, and the fit."""

import json
from dataclasses import asdict

import pytest

from sim.area import Features, features, read_coefficients
from sim.calibration import measured
from tsn_hw.app.cli.main import main
from tsn_hw.app.hardware import calibrate
from tsn_hw.app.hardware.calibrate import SynthesisRun
from tsn_hw.app.hardware.trials import FIRST_WIDE, KINDS, Trial, design, trial_of, trials
from tsn_hw.app.sweep.results import identity, line_of

GOOD = {"lut": 9, "ff": 9, "bram": 0, "dsp": 0}


@pytest.fixture
def synthesized(monkeypatch):
    """Trials that were asked for: each took 100 LUTs a loop, 3 a bit of a sum, and 2 flip-flops a bit of its lanes.

    Its codebooks took half of the LUTs that are counted for them, its other memories all.
    """
    asked: list[Trial] = []

    def count(trial: Trial, family: str) -> SynthesisRun:
        asked.append(trial)
        part = SynthesisRun(family, "a tool", trial, GOOD).part
        given = [features(design(trial), unit, part) for unit in design(trial).units]
        memories = measured(design(trial), part, 0, 0)
        lut = memories.memory_lut + sum(100 * one.loops + 3 * one.sum_bits for one in given)
        lut += memories.features.codebooks / 2
        ff = sum(2 * one.lane_bits for one in given)
        return SynthesisRun(family, "a tool", trial, {"lut": int(lut), "ff": int(ff), "bram": 0, "dsp": 0})

    monkeypatch.setattr(calibrate, "synthesize_trial", count)
    return asked


def test_trials_are_of_every_kind_and_every_width_of_codes_and_always_the_same():
    made = trials(36)
    assert made[:24] == trials(24)
    assert {trial.kind for trial in made} == set(KINDS)
    for is_linear in (True, False):
        assert {trial.code_bits for trial in made if (trial.kind == "linear") == is_linear} == set(range(2, 9))
    assert {trial.dsps for trial in made} == {True, False}
    assert len({(trial.kind, trial.pe, trial.simd) for trial in made}) >= 20


def test_trials_beyond_the_narrow_ones_have_layers_of_32_to_128_lanes():
    wide = trials(54)[FIRST_WIDE:]
    assert {trial.kind for trial in wide} == set(KINDS)
    assert all(32 <= trial.pe * trial.simd <= 128 for trial in wide)
    assert max(trial.pe * trial.simd for trial in wide) >= 96
    assert {trial.code_bits for trial in wide} == {2, 3, 4}


def test_calibrate_goes_on_where_it_was_and_writes_a_file_for_coefficients(tmp_path, capsys, synthesized):
    runs, out = tmp_path / "runs.jsonl", tmp_path / "coefficients.json"
    first = calibrate.synthesize_trial(trials(1)[0], "xc7")
    point, row = {"target": "xc7", "trial": asdict(first.trial)}, {"tool": first.tool, "resources": first.resources}
    runs.write_bytes(line_of(identity(point), row) + b'{"point": {"ta')  # killed in the second line
    synthesized.clear()
    arguments = ["calibrate", "--runs", str(runs), "-o", str(out), "--target", "xc7", "--trials", "12", "--quiet"]
    assert main([*arguments, "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["xc7"]
    assert synthesized == trials(12)[1:]
    assert len(runs.read_text().splitlines()) == 12
    assert (model["points"], model["lut_leave_one_out_percent"], model["ff_leave_one_out_percent"]) == (12, 0.0, 0.0)
    written = read_coefficients(out).families
    assert written["xc7"].lut == Features(loops=100, sum_bits=3, compare_bits=2, list_bits=0.76, codebooks=0.5)
    assert written["xc7"].ff == Features(lane_bits=2, list_bits=1.44)
    assert written["xcu"].lut == written["xc7"].lut
    assert written["ecp5"] == read_coefficients().families["ecp5"]
    synthesized.clear()
    assert main(arguments) == 0
    assert synthesized == []


def run_line(target="xc7", trial=None, resources=GOOD):
    """A line whose digest is right, whatever it says."""
    return line_of(
        identity({"target": target, "trial": trial or asdict(trial_of(0))}), {"tool": "x", "resources": resources}
    ).decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]\n", "{file}, line 1: damaged; delete the line, and its point is done again"),
        ('{"point": {}, "result": {}}\n', "{file}, line 1: damaged; delete the line, and its point is done again"),
        (run_line(target="xc9"), "{file}: target = 'xc9': must be one of xc7, ecp5, ice40"),
        (run_line(trial=asdict(trial_of(0)) | {"rows": 2**20}), "{file}: trial: is not the one of seed 0"),
        (run_line(resources={"lut": 1, "ff": 1}), "{file}: resources: has no 'bram'"),
        (run_line(resources=GOOD | {"ff": 0}), "{file}: resources: no design has no LUTs or no flip-flops"),
        (run_line(resources=GOOD | {"ff": -1}), "{file}: resources.ff = -1: must be 0..2147483648"),
        (
            run_line().replace('"lut": 9', '"lut": 8'),
            "{file}, line 1: damaged; delete the line, and its point is done again",
        ),
    ],
)
def test_a_wrong_file_of_runs_is_one_line(tmp_path, capsys, text, message):
    file = tmp_path / "runs.jsonl"
    file.write_text(text)
    assert main(["calibrate", "--runs", str(file), "-o", str(tmp_path / "out.json"), "--quiet"]) == 2
    assert capsys.readouterr().err == f"tsn-hw: {message.format(file=file)}\n"


def test_too_few_trials_make_no_fit(tmp_path, capsys, synthesized):
    arguments = ["--runs", str(tmp_path / "runs.jsonl"), "-o", str(tmp_path / "out.json"), "--quiet"]
    assert main(["calibrate", *arguments, "--target", "ecp5", "--trials", "3"]) == 2
    assert capsys.readouterr().err == "tsn-hw: 3 trials a family: a fit takes at least 12\n"
    assert synthesized == []  # refused before minutes of work
