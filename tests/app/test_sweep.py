"""A sweep's points are real networks with exact accuracies, and no kill or repetition changes its table."""

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

from sim import Simulator
from sim.cost import estimate_cost
from tests.helpers.growing import grow
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
    table,
    wait_for_lines,
    whole_sweep,
)
from tests.helpers.tiny_run import TINY, TINY_TOML, copied_run, finished_run
from tsn_hw.app.learning.metrics import accuracy
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.app.sweep.engines import processes
from tsn_hw.app.sweep.evaluate import Base, base_of, bench, evaluate
from tsn_hw.app.sweep.points import space_of
from tsn_hw.app.sweep.results import check_row, line_of, open_results
from tsn_hw.app.sweep.run import run_sweep
from tsn_hw.app.sweep.settings import Budget, DeviceBudget, Search, SweepSettings, Values, read_sweep
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import EngineError, FileError, SettingsError, TrainingError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names
from tsn_hw.learn.config import read_settings
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


def test_a_worker_process_that_has_grown_is_replaced_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    results = dict(processes(2)(grow, [(number,) for number in range(8)]))
    assert sorted(results) == list(range(8))
    assert len(set(results.values())) > 2, "no worker was replaced"
    assert [str(warning.message) for warning in recwarn] == []


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
    for kind in (SweepSettings, Values, Search, Budget, DeviceBudget):
        for field in fields(kind):
            assert f"`{field.name}" in text or f"[{field.name}]`" in text or f".{field.name}]`" in text, field.name
