"""The folder of a run, opened again."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_run import TINY, copied_run, finished_run, learn
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact
from tsn_hw.core.errors import ArtifactError, FileError, SettingsError, TrainingError
from tsn_hw.learn.run import load_run
from tsn_hw.learn.settings import RouteSettings


def test_a_folder_without_settings_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileError) as error:
        RunFolder(tmp_path)
    assert str(error.value) == f"{tmp_path} is no training run: it has no settings.json"


def test_a_run_knows_its_settings_stream_and_network() -> None:
    run = RunFolder(finished_run())
    assert run.settings == TINY
    assert run.stream.names == tuple(task.name for task in run.network.tasks)
    assert artifact.to_bytes(run.network) == (finished_run() / "net.tsn").read_bytes()


def test_snapshots_are_the_files_as_written() -> None:
    tasks = finished_run() / "tasks"
    assert RunFolder(finished_run()).snapshots() == {
        1: (tasks / "after_00.tsn").read_bytes(),
        2: (tasks / "after_01.tsn").read_bytes(),
    }


def test_images_are_the_first_of_the_test_part() -> None:
    run = RunFolder(finished_run())
    np.testing.assert_array_equal(run.images(1, 5), run.stream.task(1).x_test[:5])
    assert run.images(1, 10**6).shape == (120, 1, 8, 8)


def test_a_missing_snapshot_is_named(tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    (run / "tasks" / "after_00.tsn").unlink()
    with pytest.raises(TrainingError) as error:
        RunFolder(run).snapshots()
    assert str(error.value) == f"run {run}: after_00.tsn missing; finish the run with --resume"


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    path = run / "tasks" / "after_01.tsn"
    path.write_bytes(b"")
    with pytest.raises(ArtifactError, match=f"^{path}: "):
        RunFolder(run).metrics()


def test_damaged_settings_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"seed": 0.5}')
    with pytest.raises(SettingsError) as error:
        _ = RunFolder(tmp_path).settings
    assert str(error.value) == f"{tmp_path}/settings.json: seed = 0.5: must be a whole number"


def test_a_run_may_be_moved(tmp_path: Path) -> None:
    run = RunFolder(copied_run(tmp_path / "elsewhere" / "run"))
    engine = run.brevitas()
    assert not isinstance(engine, str)
    x = run.images(0, 3).astype(np.int64)
    assert list(engine(0, x)) == ["flatten", "fc1", "head_digits-permuted-0"]


def test_without_a_checkpoint_brevitas_is_absent_and_the_model_cannot_be_loaded(tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    (run / "checkpoint.safetensors").unlink()
    opened = RunFolder(run)
    assert opened.brevitas() == f"no checkpoint.safetensors in {run}"
    with pytest.raises(TrainingError, match="has no checkpoint"):
        load_run(opened.settings, opened.stream, run)


def test_the_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    settings = (run / "settings.json").read_text().replace('"seed": 0', '"seed": 1')
    (run / "settings.json").write_text(settings)
    with pytest.raises(TrainingError, match="belongs to a run with other settings"):
        RunFolder(run).brevitas()


def test_networks_that_were_not_learned_alone_leave_forward_transfer_open(tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    assert RunFolder(run).metrics().fwt is not None
    shutil.rmtree(run / "alone")
    assert RunFolder(run).metrics().fwt is None


@pytest.mark.parametrize(("limit", "banks", "warnings"), [(1, 1, 1), (2, 2, 0)])
def test_a_task_that_must_share_because_no_bank_is_left_is_told(
    limit: int, banks: int, warnings: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = RouteSettings(enabled=True, threshold=1e-9, max_banks=limit)
    net = learn(replace(TINY, route=apart, train=replace(TINY.train, transfer=False)), tmp_path)
    assert len(net.banks) == banks
    line = "warning: task 'digits-permuted-1' shares bank 0, which is unlike it: route.max_banks = 1 is reached\n"
    assert capsys.readouterr().err.splitlines(keepends=True)[1:] == [line] * warnings  # the first is of few images
