"""A sweep's points are real networks with exact accuracies, and no kill or repetition changes its table."""

import csv
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from sim import Simulator
from sim.cost import estimate_cost
from sim.devices import device
from sim.search import search_folding
from tests.helpers.sweeping import (
    DEEP,
    GRID,
    HERE,
    RUN,
    assert_same_sweep,
    lines,
    sweep_file,
    sweep_into,
    sweep_process,
    wait_for_lines,
    whole_sweep,
)
from tests.helpers.tiny_run import TINY, TINY_TOML, copied_run, finished_run
from tsn_hw.app.cli.main import main
from tsn_hw.app.learning.config import read_settings
from tsn_hw.app.learning.metrics import accuracy
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.app.sweep.engines import processes
from tsn_hw.app.sweep.evaluate import Base, base_of, bench, evaluate
from tsn_hw.app.sweep.pareto import SIZE, betters, choose, front, nearest
from tsn_hw.app.sweep.plots import pictures
from tsn_hw.app.sweep.points import space_of
from tsn_hw.app.sweep.results import check_row, line_of, open_results
from tsn_hw.app.sweep.run import run_sweep
from tsn_hw.app.sweep.settings import Budget, Part, Search, SweepSettings, Values, read_sweep
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import EngineError, FileError, SettingsError, TrainingError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names
from tsn_hw.learn.variants import Variant, load_trained, pack

ROOT = Path(__file__).parents[2]
KNOBS = """
[values]
layers.fc1 = [1]
layers.fc2 = [2, 4]
layers.head = [2]
centroid_bits = [6]
activation_bits = [16]
prune_iterations = [0, 3]
prune_drop = [2.0, 20.0]
qat_epochs = [0, 1]
"""


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "out" / "table.csv").read_text())))


# ------------------------------------------------------------------------------------------------------------ points


def test_every_accuracy_is_that_of_a_fresh_evaluation_of_a_fresh_network(tmp_path: Path) -> None:
    folder = finished_run(DEEP)
    sweep = sweep_into(tmp_path, KNOBS, folder)
    assert len(sweep.rows) == 2 * (1 + 2) * 2  # no pruning has no drop to choose
    opened = RunFolder(folder)
    data = [opened.stream.task(task) for task in range(3)]
    for row in sweep.rows:
        trained = load_trained(opened.settings, opened.stream, folder)
        bits = row["bits.fc1"], row["bits.fc2"], row["bits.head"]
        prune = row["prune_iterations"], row["prune_drop"]
        variant = Variant(bits, row["centroid_bits"], row["activation_bits"], *prune, row["qat_epochs"])
        net = pack(trained, variant)
        fresh = [accuracy(Simulator(net, task), data[task].x_test, data[task].y_test) for task in range(3)]
        assert [row[f"accuracy_percent.{task.name}"] for task in net.tasks] == fresh
        assert row["accuracy_percent"] == sum(fresh) / 3
        sizes = capacity(net)
        assert (row["file_bits"], row["total_percent"]) == (sizes.file_bits, sizes.total_percent)
        assert (row["masks_bits"], row["codes_bits"]) == (sizes.masks_bits, sizes.codes_bits)
        units = dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))
        costs = estimate_cost(accelerator(net, HardwareSettings(units)))
        assert (row["bops"], row["images_bits"]) == (costs.integer.bops / 3, costs.images_bits)
    assert len({row["sha256"] for row in sweep.rows}) == 12


def test_the_networks_of_the_front_are_written_and_no_others(tmp_path: Path) -> None:
    sweep = sweep_into(tmp_path)
    written = {path.name for path in (tmp_path / "out" / "networks").iterdir()}
    assert written == {f"{sweep.rows[i]['sha256'][:16]}.tsn" for i in sweep.front}
    data = RunFolder(finished_run(RUN)).stream.task(1)
    for number in sweep.front:
        row = sweep.rows[number]
        net = artifact.load(tmp_path / "out" / "networks" / f"{row['sha256'][:16]}.tsn")
        assert accuracy(Simulator(net, 1), data.x_test, data.y_test) == row[f"accuracy_percent.{net.tasks[1].name}"]
        assert net.input.bits == row["activation_bits"]


def test_a_knob_that_is_left_out_stays_as_the_run_has_it() -> None:
    settings = replace(RUN, formats=replace(RUN.formats, centroid_bits=7))
    (point,) = space_of(Values(code_bits=(2,)), settings, ("fc1", "head")).points()
    assert point.keep_ratio == 0.4
    assert point.variant == Variant((2, 5), 7, None, 0, 0.0, 0)


def test_a_layer_with_widths_of_its_own_leaves_the_others_to_code_bits() -> None:
    values = Values(code_bits=(1, 2), layers={"fc2": (7, 8)}, activation_bits=(4,))
    points = space_of(values, DEEP, ("fc1", "fc2", "head")).points()
    assert [point.variant.code_bits for point in points] == [(1, 7, 5), (1, 8, 5), (2, 7, 5), (2, 8, 5)]


def test_results_that_points_have_in_common_are_computed_once(tmp_path: Path) -> None:
    opened = RunFolder(finished_run(DEEP))
    base = base_of(opened.settings, opened.stream, opened.folder)
    bench.cache_clear()
    evaluate(base, [Variant((3, 2, 5), 8), Variant((3, 2, 4), 8)], None)
    found = bench(base)
    assert len(found.codebooks.books) == 3 * (2 + 2)  # of three tasks: fc1, fc2, and two heads
    assert (found.results.found, found.results.computed) == (3, 3 * (4 + 1))  # flatten, fc1, fc2, head; another head


def test_a_run_that_changes_under_a_sweep_is_noticed(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run", RUN)
    with pytest.raises(TrainingError) as error:
        evaluate(Base(folder, "0123456789abcdef"), [Variant((3, 5), 8)], None)
    assert str(error.value) == f"run {folder}: is not the one that the sweep began with"


# ----------------------------------------------------------------------------------------------------------- resuming


def test_a_finished_sweep_evaluates_nothing_again_and_a_larger_one_only_what_is_new(tmp_path: Path) -> None:
    sweep_into(tmp_path)
    first, before = table(tmp_path), lines(tmp_path)
    sweep_into(tmp_path)
    assert table(tmp_path) == first
    assert lines(tmp_path) == before
    sweep_into(tmp_path, GRID.replace("[1, 2, 3]", "[4, 2]"))
    assert len(lines(tmp_path)) == len(before) + 4
    assert [row["bits.fc1"] for row in table(tmp_path)] == ["4"] * 4 + ["2"] * 4
    again = [row for row in table(tmp_path) if row["bits.fc1"] == "2"]
    drop = ("point",)
    assert [{k: v for k, v in row.items() if k not in drop} for row in again] == [
        {k: v for k, v in row.items() if k not in drop} for row in first if row["bits.fc1"] == "2"
    ]


@pytest.mark.parametrize("left", ["{", '{"point": {"a": 1}, "result": {"accuracy_percent": 9', "x" * 99])
def test_a_torn_last_line_is_cut_off_and_its_point_done_again(left: str, tmp_path: Path) -> None:
    sweep_into(tmp_path)
    path = tmp_path / "out" / "results.jsonl"
    whole, first = path.read_bytes(), table(tmp_path)
    cut = whole[: whole.rstrip(b"\n").rfind(b"\n") + 1]
    path.write_bytes(cut + left.encode())
    sweep_into(tmp_path)
    assert path.read_bytes() == whole
    assert table(tmp_path) == first


def test_a_damaged_line_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(line_of('{"a": 1}', {"b": 2}) + b"nonsense\n" + line_of("{}", {}))
    with pytest.raises(FileError) as error, open_results(path):
        pass
    assert str(error.value) == f"{path}, line 2: damaged; delete the line, and its point is done again"


@pytest.mark.parametrize(("old", "new"), [("31.4", "91.4"), ('"a": 1', '"a": 2'), ("sha256", "sha512"), (": ", ":")])
def test_a_changed_digit_is_told(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(line_of('{"a": 1}', {"accuracy_percent": 31.4}).decode().replace(old, new, 1))
    with pytest.raises(FileError) as error, open_results(path):
        pass
    assert str(error.value) == f"{path}, line 1: damaged; delete the line, and its point is done again"


ROW = {"accuracy_percent": 50.0, "total_percent": 5, "bops": 1.0, "used_weights": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "has no 'accuracy_percent'"),
        (ROW | {"accuracy_percent": 101}, "accuracy_percent = 101: must be 0..100"),
        (ROW | {"bops": "1"}, "bops = '1': must be a number"),
        (ROW | {"sha256": "../" * 20}, f"sha256 = '{'../' * 20}': must be 64 hexadecimal digits"),
        (ROW | {"device_percent": -1}, "device_percent = -1: must be 0..1000000000000"),
    ],
)
def test_a_row_that_no_sweep_writes_is_told(row: dict[str, object], message: str) -> None:
    check_row(ROW, "file")
    with pytest.raises(SettingsError) as error:
        check_row(row, "file")
    assert str(error.value) == f"file: {message}"


class KilledError(BaseException):
    """Stands for SIGKILL within a process: nothing catches it."""


def test_a_sweep_killed_after_every_result_gives_the_table_of_one_that_was_not(tmp_path: Path) -> None:
    file = sweep_file(tmp_path / "killed")

    def one_result(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        for result in HERE(function, calls):
            yield result
            raise KilledError

    for _ in range(1 + 6):  # float weights, and the chunks that are left, of two points and then of one
        with pytest.raises(KilledError):
            run_sweep(file, tmp_path / "killed" / "out", one_result)
    assert len(lines(tmp_path / "killed")) < 12
    run_sweep(file, tmp_path / "killed" / "out", HERE)
    assert_same_sweep(tmp_path / "killed", whole_sweep())


def test_a_sweep_whose_process_is_killed_gives_the_table_of_one_that_was_not(tmp_path: Path) -> None:
    sweep_file(tmp_path / "killed")
    process = sweep_process(tmp_path / "killed", "--jobs", "2")
    wait_for_lines(process, tmp_path / "killed", 3)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert 3 <= len(lines(tmp_path / "killed")) < 12
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=120)[1] == []  # they end as well, though nobody told them
    assert process.wait() == -signal.SIGKILL
    sweep_into(tmp_path / "killed")
    assert_same_sweep(tmp_path / "killed", whole_sweep())


# ------------------------------------------------------------------------------------------------------------ engines


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    run_sweep(sweep_file(tmp_path), tmp_path / "out", processes(2))
    assert_same_sweep(tmp_path, whole_sweep())


def test_a_worker_process_that_is_killed_is_told_and_the_command_goes_on(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        list(processes(2)(os._exit, [(9,)]))
    assert str(error.value) == (
        "a worker process was killed, perhaps for memory (try fewer --jobs); "
        "what is finished is kept, the same command goes on from there"
    )


def test_workers_of_a_killed_process_end_also_those_that_never_had_work() -> None:
    code = "import time; from tsn_hw.app.sweep.engines import processes; list(processes(3)(time.sleep, [(600.0,)]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL) as process:
        parent, end = psutil.Process(process.pid), time.monotonic() + 100
        while sum("loky_posix" in "".join(child.cmdline()) for child in parent.children()) < 3:
            assert time.monotonic() < end, "no workers"
            time.sleep(0.01)
        children = parent.children(recursive=True)
        process.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_an_error_of_ours_in_a_worker_process_is_ours_here(tmp_path: Path) -> None:
    base = Base(tmp_path / "nowhere", "0")
    for jobs in (1, 2):
        with pytest.raises(FileError) as error:
            list(processes(jobs)(evaluate, [(base, [Variant((3, 5), 8)], None)]))
        assert str(error.value) == f"{tmp_path / 'nowhere'} is no training run: it has no settings.json"


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
        (Budget(part=Part("xc7z010")), 0),
        (Budget(part=Part("xc7z010"), accuracy_drop=2.0), 1),
        (Budget(part=Part("xc7z010", limit_percent=45.0), accuracy_drop=2.0), 4),
        (Budget(part=Part("xc7z010"), accuracy_drop=1.0), None),
    ],
)
def test_the_smallest_network_within_the_budget_is_chosen(budget: Budget, chosen: int | None) -> None:
    assert choose(ROWS, budget, float_percent=97.0) == chosen


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(accuracy_drop=1.0, total_percent=9.0), "point 1, exceeds accuracy_drop by 1.00"),
        (Budget(accuracy_drop=1.5, part=Part("xc7z010")), "point 1, exceeds accuracy_drop by 0.50"),
        (Budget(total_percent=4.0, part=Part("xc7z010")), "point 0, exceeds total_percent by 1.00"),
    ],
)
def test_the_point_nearest_to_a_budget_that_nothing_meets_is_named(budget: Budget, expected: str) -> None:
    assert choose(ROWS, budget, 97.0) is None
    assert nearest(ROWS, budget, 97.0) == f"budget: none of the 6 points keeps it; the nearest, {expected}"


def test_a_network_that_does_not_fit_the_part_says_so() -> None:
    assert nearest(ROWS[5:], Budget(part=Part("xc7z010"), total_percent=12.0), 97.0) == (
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
    budget = Budget(accuracy_drop=2.0, part=Part("xc7z010"))
    files = pictures(rows, 1, 97.0, budget)
    assert files == pictures(rows, 1, 97.0, budget)
    names = [f"pareto_{cost}.{form}" for cost in ("size", "operations", "device") for form in ("png", "svg")]
    assert list(files) == names
    assert files["pareto_device.svg"] != pictures(rows, 0, 97.0, budget)["pareto_device.svg"]
    for name, content in files.items():
        if name.endswith(".png"):
            with Image.open(io.BytesIO(content)) as picture:
                assert picture.format == "PNG"
        else:
            assert b"<svg" in content
            assert b"<dc:date>" not in content
    without = [{name: value for name, value in row.items() if name != "device_percent"} for row in rows]
    assert list(pictures(without, 1, 97.0, Budget())) == names[:4]


# ------------------------------------------------------------------------------------------------------- learning runs


def test_a_keep_ratio_is_a_run_of_its_own_which_is_learned_once(tmp_path: Path) -> None:
    values = "[values]\ncode_bits = [2]\nkeep_ratio = [0.4, 0.2]\n"
    sweep = sweep_into(tmp_path, values)
    assert [row["keep_ratio"] for row in sweep.rows] == [0.4, 0.2]
    (learned,) = (tmp_path / "out" / "runs").iterdir()  # the other is the run that was given
    assert RunFolder(learned).settings.train == replace(RUN.train, keep_ratio=0.2, transfer=False)
    used = [row["used_weights"] for row in sweep.rows]
    assert used[1] < 0.7 * used[0]
    before = (learned / "training.json").stat().st_mtime_ns
    sweep_into(tmp_path, values)
    assert (learned / "training.json").stat().st_mtime_ns == before


def test_a_settings_file_is_learned_first(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    (tmp_path / "sweep.toml").write_text("train = 'tiny.toml'\n[values]\ncode_bits = [3]\n")
    sweep = run_sweep(tmp_path / "sweep.toml", tmp_path / "out", HERE)
    (learned,) = (tmp_path / "out" / "runs").iterdir()
    assert RunFolder(learned).settings.train == replace(TINY.train, transfer=False)
    assert len(sweep.rows) == 1


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
    assert f"* smallest within the budget: point {data['chosen']}" in printed
    smallest = min(data["rows"], key=lambda row: (row[SIZE.column], -row["accuracy_percent"]))
    assert data["chosen"] == smallest["point"]
    assert [float(row["total_percent"]) for row in table(tmp_path)] == [row["total_percent"] for row in data["rows"]]


def test_a_parquet_file_holds_the_same_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    sweep = sweep_into(tmp_path, parquet=True)
    assert parquet.read_table(tmp_path / "out" / "table.parquet").to_pylist() == list(sweep.rows)


@pytest.mark.parametrize(
    ("package", "options", "values", "expected"),
    [
        ("pyarrow", ["--parquet"], GRID, "--parquet needs pyarrow: pip install 'tsn-hw[sweep]'"),
        ("optuna", [], GRID + "[search]\npoints = 3\n", "a [search] needs Optuna: pip install 'tsn-hw[sweep]'"),
        (
            "distributed",
            ["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"],
            GRID,
            "--engine dask needs distributed: pip install 'tsn-hw[sweep]'",
        ),
    ],
)
def test_a_package_that_is_not_there_is_named_before_anything_is_done(
    package: str,
    options: list[str],
    values: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    path = sweep_file(tmp_path, values)
    assert main(["sweep", str(path), "-o", str(tmp_path / "out"), "--quiet", *options]) == 2
    assert capsys.readouterr().err == f"tsn-hw: {expected}\n"
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_an_example_says_how_it_is_run_and_fits_its_run(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert (
        f"#   tsn-hw sweep examples/sweeps/{path.name} -o build/{'search' if 'search' in path.stem else 'sweep'}"
        in lines
    )
    settings = read_sweep(path)
    assert Path(settings.run) == ROOT / "build" / "digits"
    trained = read_settings(ROOT / "examples" / "digits.toml")
    points = space_of(settings.values, trained, ("fc1", "fc2", "head")).points()
    told = re.search(r"([\d,]+) points", lines[0])
    assert told is not None
    assert len(points) == int(told[1].replace(",", ""))


def test_the_documentation_names_every_key() -> None:
    text = (ROOT / "docs" / "sweep.md").read_text()
    for kind in (SweepSettings, Values, Search, Budget, Part):
        for field in fields(kind):
            assert f"`{field.name}" in text or f"[{field.name}]`" in text or f".{field.name}]`" in text, field.name
