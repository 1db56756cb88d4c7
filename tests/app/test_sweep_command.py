"""What a sweep chooses and shows, and what its command refuses in one line."""

import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sim.devices import device
from sim.search import search_folding
from tests.helpers.sweeping import (
    GRID,
    RUN,
    sweep_file,
    sweep_into,
    table,
)
from tests.helpers.tiny_run import finished_run
from tsn_hw.app.cli.main import main
from tsn_hw.app.sweep.pareto import SIZE, betters, choose, front, nearest
from tsn_hw.app.sweep.plots import pictures
from tsn_hw.app.sweep.points import space_of
from tsn_hw.app.sweep.results import Sweep
from tsn_hw.app.sweep.settings import Budget, DeviceBudget, Values, read_sweep
from tsn_hw.core import artifact
from tsn_hw.core.errors import SettingsError

# ------------------------------------------------------------------------------------------------------------ choosing

ROWS = [
    {"accuracy_percent": accuracy, "total_percent": size, "bops": 1.0, "device_percent": share}
    for accuracy, size, share in (
        (90.0, 5.0, 30.0),
        (95.0, 9.0, 50.0),
        (94.0, 9.0, 40.0),
        (96.0, 12.0, 85.0),
        (95.0, 9.0, 20.0),
        (96.0, 13.0, None),
    )
]


def test_the_front_holds_what_nothing_betters_once() -> None:
    assert front(ROWS) == [0, 1, 3]
    assert front(ROWS[::-1]) == [1, 2, 5]
    assert front([ROWS[0], ROWS[0] | {"bops": 0.5}, ROWS[1] | {"bops": 2.0}]) == [1, 2]
    assert betters(ROWS[1], ROWS[2])
    assert not betters(ROWS[1], ROWS[4])
    assert not betters(ROWS[0], ROWS[1])


@pytest.mark.parametrize(
    ("budget", "chosen"),
    [
        (Budget(), None),
        (Budget(accuracy_drop=1.0), 3),
        (Budget(accuracy_drop=2.0), 1),
        (Budget(accuracy_drop=2.0, total_percent=9.0), 1),
        (Budget(total_percent=5.0), 0),
        (Budget(total_percent=4.9), None),
        (Budget(accuracy_drop=0.9), None),
        (Budget(part=DeviceBudget("xc7z010")), 0),
        (Budget(part=DeviceBudget("xc7z010"), accuracy_drop=2.0), 1),
        (Budget(part=DeviceBudget("xc7z010", limit_percent=45.0), accuracy_drop=2.0), 4),
        (Budget(part=DeviceBudget("xc7z010"), accuracy_drop=1.0), None),
    ],
)
def test_the_smallest_network_within_the_budget_is_chosen(budget: Budget, chosen: int | None) -> None:
    assert choose(ROWS, budget, float_percent=97.0) == chosen


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(accuracy_drop=1.0, total_percent=9.0), "point 1, exceeds accuracy_drop by 1.00"),
        (Budget(accuracy_drop=1.5, part=DeviceBudget("xc7z010")), "point 1, exceeds accuracy_drop by 0.50"),
        (Budget(total_percent=4.0, part=DeviceBudget("xc7z010")), "point 0, exceeds total_percent by 1.00"),
    ],
)
def test_the_point_nearest_to_a_budget_that_nothing_meets_is_named(budget: Budget, expected: str) -> None:
    assert choose(ROWS, budget, 97.0) is None
    assert nearest(ROWS, budget, 97.0) == f"budget: none of the 6 points keeps it; the nearest, {expected}"


def test_a_network_that_does_not_fit_the_part_says_so() -> None:
    assert nearest(ROWS[5:], Budget(part=DeviceBudget("xc7z010"), total_percent=12.0), 97.0) == (
        "budget: none of the 1 points keeps it; the nearest, point 0, "
        "exceeds total_percent by 1.00 and does not fit the part"
    )


def test_the_part_of_a_sweep_may_be_the_user_s_and_counts_by_what_its_file_holds(tmp_path: Path) -> None:
    mine, text = tmp_path / "mine.toml", "[values]\ncode_bits = [2]\n[budget.part]\ndevice = 'xc7z010'\n"
    mine.write_text("[device.xc7z010]\nclock_mhz = 50\n")
    own = read_sweep(sweep_file(tmp_path, text, run=tmp_path)).budget.part
    theirs = read_sweep(sweep_file(tmp_path, text + "device_file = 'mine.toml'\n", run=tmp_path)).budget.part
    assert own is not None
    assert theirs is not None
    assert [part.platform.device.capacities.clock_mhz for part in (own, theirs)] == [100, 50]
    assert own.to_json() == {"device": "xc7z010", "target_fps": 1.0, "limit_percent": 80.0}
    first = theirs.to_json()
    mine.write_text("[device.xc7z010]\nclock_mhz = 25\n")
    assert first != theirs.to_json() != own.to_json()


def test_every_point_is_put_on_the_part(tmp_path: Path) -> None:
    part = "[budget.part]\ndevice = 'xc7z010'\ntarget_fps = {}\n"
    with pytest.raises(SettingsError, match="does not fit the part"):
        sweep_into(tmp_path / "fast", "[values]\ncode_bits = [2]\n" + part.format(10**8))
    assert [row["device_percent"] for row in table(tmp_path / "fast")] == [""]
    sweep = sweep_into(tmp_path / "slow", "[values]\ncode_bits = [2]\n" + part.format(20000))
    (row,) = sweep.rows
    net = artifact.load(tmp_path / "slow" / "out" / "networks" / f"{row['sha256'][:16]}.tsn")
    estimate = search_folding(net, device("xc7z010"), target_fps=20000).estimate
    assert row["device_percent"] == max(estimate.utilization_percent.values())
    assert row["inferences_per_second"] == estimate.inferences_per_second >= 20000


def test_pictures_are_the_same_bytes_every_time_and_show_every_point(tmp_path: Path) -> None:
    rows = [row | {"activation_bits": 8, "bits.fc1": 2, "bits.head": 5} for row in ROWS]
    budget = Budget(accuracy_drop=2.0, part=DeviceBudget("xc7z010"))
    sweep = Sweep(tuple(rows), (), 97.0, (), budget, 1)
    files = pictures(sweep)
    assert files == pictures(sweep)
    names = [f"pareto_{cost}.{form}" for cost in ("size", "operations", "device") for form in ("png", "svg")]
    assert list(files) == names
    assert files["pareto_device.svg"] != pictures(replace(sweep, chosen=0))["pareto_device.svg"]
    for name, content in files.items():
        if name.endswith(".png"):
            with Image.open(io.BytesIO(content)) as picture:
                assert picture.format == "PNG"
        else:
            assert b"<svg" in content
            assert b"<dc:date>" not in content
    without = [{name: value for name, value in row.items() if name != "device_percent"} for row in rows]
    assert list(pictures(replace(sweep, rows=tuple(without), budget=Budget()))) == names[:4]


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[values]\ncode_bits = [2]\n", "needs one of run (the folder of a finished run) and train (a settings file)"),
        ("run = 'RUN'\ntrain = 'x.toml'\n[values]\n", "needs one of run (the folder of a finished run) and train"),
        ("run = 'RUN'\n", "has no 'values'"),
        ("run = 'RUN'\n[values]\ncodebits = [2]\n", "values: unknown key 'codebits'; known are code_bits, layers, "),
        ("run = 'RUN'\n[values]\n", "values: layer 'fc1' has no widths; give code_bits, or layers.fc1"),
        ("run = 'RUN'\n[values]\ncode_bits = [2, 9]\n", "values: code_bits = [2, 9]: 9 is outside 1..8"),
        ("run = 'RUN'\n[values]\ncode_bits = [2, 2]\n", "values: code_bits = [2, 2]: holds a value twice"),
        ("run = 'RUN'\n[values]\ncode_bits = 2\n", "values: code_bits = 2: must be a list"),
        ("run = 'RUN'\n[values]\nactivation_bits = [5]\n", "values: activation_bits[0] = 5: must be one of 4, 8, 16"),
        ("run = 'RUN'\n[values]\nlayers.fc9 = [2]\n", "values.layers.fc9: no such layer; there are fc1, head"),
        ("run = 'nowhere'\n[values]\ncode_bits = [2]\n", "nowhere is no training run: it has no settings.json"),
        ("train = 'nowhere.toml'\n[values]\ncode_bits = [2]\n", "nowhere.toml: No such file or directory"),
        ("run = 'RUN'\n[values]\ncode_bits = [2]\n[search]\npoints = 0\n", "search: points = 0: must be at least 1"),
        ("run = 'RUN'\n[values]\ncode_bits = [2]\n[budget]\nspeed = 9\n", "budget: unknown key 'speed'; known are "),
        ("run = 'RUN'\n[values]\ncode_bits = [2]\n[budget.part]\n", "budget: part: has no 'device'"),
        (
            "run = 'RUN'\n[values]\ncode_bits = [2]\n[budget.part]\ndevice = 'xc7z02'\n",
            "budget: part: device 'xc7z02': unknown; did you mean xc7z020",
        ),
        (
            "run = 'RUN'\n[values]\ncode_bits = [2]\n[budget.part]\ndevice = 'xc7z020'\nlimit_percent = 0\n",
            "budget: part: limit_percent = 0: must be above 0 and at most 100",
        ),
        ("run = 'RUN\n", "not a TOML file ("),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(text.replace("RUN", str(finished_run(RUN))))
    assert main(["sweep", str(path), "-o", str(tmp_path / "out"), "--jobs", "1", "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tsn-hw: ")
    assert expected in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out" / "table.csv").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--jobs", "0"],
            "--jobs: must be a whole number within 1..1024, found 0 ('tsn-hw sweep --help' tells more)",
        ),
        (["--engine", "dask"], "--engine dask and --scheduler go together"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--engine dask and --scheduler go together"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(sweep_file(tmp_path)), "-o", str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err == f"tsn-hw: {expected}\n"


def test_a_budget_that_nothing_meets_is_told_when_all_else_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file(tmp_path, GRID + "[budget]\ntotal_percent = 0.5\n")
    assert main(["sweep", str(path), "-o", str(tmp_path / "out"), "--jobs", "1", "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tsn-hw: budget: none of the 12 points keeps it; the nearest, point ")
    assert told.count("\n") == 1
    assert len(table(tmp_path)) == 12


def test_too_many_points_are_refused() -> None:
    values = Values(code_bits=(1, 2), prune_iterations=tuple(range(1, 2001)), qat_epochs=tuple(range(1000)))
    with pytest.raises(SettingsError) as error:
        space_of(values, RUN, ("fc1", "head")).points()
    assert str(error.value) == "values: 4000000 combinations, at most 1000000 are evaluated; use [search]"


def test_a_keep_ratio_needs_a_run_that_goes_by_one() -> None:
    settings = replace(RUN, train=replace(RUN.train, keep_policy="equal_remaining"))
    with pytest.raises(SettingsError) as error:
        space_of(Values(code_bits=(1,), keep_ratio=(0.5,)), settings, ("fc1", "head"))
    assert str(error.value) == (
        "values.keep_ratio: a run with keep_policy = 'equal_remaining' does not go by one ratio"
    )


# --------------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_the_front_or_everything_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep_file(tmp_path, GRID + "[budget]\naccuracy_drop = 90\n")
    command = ["sweep", str(path), "-o", str(tmp_path / "out"), "--jobs", "1", "--quiet"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert len(data["rows"]) == 12
    assert printed[0].split()[:4] == ["point", "code", "bits", "head"]
    assert [int(line.split()[0]) for line in printed[1 : 1 + len(data["front"])]] == data["front"]
    assert f"smallest within the budget: point {data['chosen']}" in printed
    smallest = min(data["rows"], key=lambda row: (row[SIZE.column], -row["accuracy_percent"]))
    assert data["chosen"] == smallest["point"]
    assert [float(row["total_percent"]) for row in table(tmp_path)] == [row["total_percent"] for row in data["rows"]]


def test_a_parquet_file_holds_the_same_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    sweep = sweep_into(tmp_path, parquet=True)
    assert parquet.read_table(tmp_path / "out" / "table.parquet").to_pylist() == list(sweep.rows)


@pytest.mark.parametrize(
    ("package", "asked", "needs"),
    [
        ("pyarrow", (GRID, "--parquet"), "--parquet needs pyarrow"),
        ("optuna", (GRID + "[search]\npoints = 3\n",), "a [search] needs Optuna"),
        (
            "distributed",
            (GRID, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"),
            "--engine dask needs distributed",
        ),
    ],
)
def test_a_package_that_is_not_there_is_named_before_anything_is_done(
    package: str,
    asked: tuple[str, ...],
    needs: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    values, *options = asked
    path = sweep_file(tmp_path, values)
    assert main(["sweep", str(path), "-o", str(tmp_path / "out"), "--quiet", *options]) == 2
    assert capsys.readouterr().err == f"tsn-hw: {needs}: pip install 'tsn-hw[sweep]'\n"
    assert not (tmp_path / "out").exists()
