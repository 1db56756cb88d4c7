"""tsn-hw calibrate: trials, what is kept of them, and the fit."""

import json
from dataclasses import asdict, astuple, replace

import numpy as np
import pytest

from sim.area import Features, read_coefficients
from sim.calibration import EXPECTED_FF, EXPECTED_LUT_OF_SIX, measured
from tsn_hw.app.cli.main import main
from tsn_hw.app.hardware import calibrate
from tsn_hw.app.hardware.calibrate import SynthesisRun
from tsn_hw.app.hardware.trials import FORMS, KINDS, Trial, design, trial_of, trials
from tsn_hw.app.sweep.results import identity, line_of

GOOD = {"lut": 9, "ff": 9, "bram": 0, "dsp": 0}


def total(coefficients: Features, given: Features) -> float:
    return float(np.dot(astuple(coefficients), astuple(given)))


@pytest.fixture
def synthesized(monkeypatch):
    """Trials that were asked for: each took what the fit expects, 100 LUTs a loop, and 50 flip-flops."""
    asked: list[Trial] = []

    def count(trial: Trial, family: str) -> SynthesisRun:
        asked.append(trial)
        part = SynthesisRun(family, "a tool", trial, GOOD).part
        of_all = measured(design(trial), part, 0, 0)
        lut = of_all.memory_lut + total(EXPECTED_LUT_OF_SIX, of_all.features) + 100 * of_all.features.loops
        ff = of_all.memory_ff + total(EXPECTED_FF, of_all.features) + 50 * of_all.features.loops
        return SynthesisRun(family, "a tool", trial, {"lut": int(lut), "ff": int(ff), "bram": 0, "dsp": 0})

    monkeypatch.setattr(calibrate, "synthesize_trial", count)
    return asked


def test_trials_are_of_every_kind_and_every_width_of_codes_and_always_the_same():
    made = trials(72)
    assert made[:24] == trials(24)
    assert {trial.kind for trial in made} == set(KINDS)
    for layout, widths in (("dense", range(2, 9)), ("lists", range(2, 6))):
        for is_linear in (True, False):
            some = [one for one in made if (one.kind == "linear", one.layout) == (is_linear, layout)]
            assert {one.code_bits for one in some} == set(widths)
    assert {trial.dsps for trial in made} == {True, False}
    assert len({(trial.kind, trial.pe, trial.simd) for trial in made}) >= 40


def test_every_form_of_trials_has_the_lanes_that_it_says_and_some_have_256():
    made = trials(48)
    for number, trial in enumerate(made):
        least, most = FORMS[number % len(FORMS)].lanes
        assert least <= trial.pe * trial.simd <= most
    assert {trial.pe * trial.simd for trial in made} >= {32, 128, 192, 256}
    deep = [layout for trial in made for layout in design(trial).layouts if layout.memory.choices]
    assert {layout.kind for layout in deep} == {"words", "mask"}
    assert max(len(layout.memory.choices) for layout in deep) == 3


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
    for found, expected in (
        (written["xc7"].lut, replace(EXPECTED_LUT_OF_SIX, loops=100, compare_bits=2)),
        (written["xc7"].ff, replace(EXPECTED_FF, loops=50)),
    ):
        assert asdict(found) == pytest.approx(asdict(expected), rel=0.01, abs=0.5)
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
    assert capsys.readouterr().err == "tsn-hw: 3 trials a family: a fit takes at least 4\n"
    assert synthesized == []  # refused before minutes of work
