"""A run ends in the same bytes however often it is killed; what is there is never destroyed by mistake."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.tiny_run import EVERYTHING, TINY, copied_run, finished_run, learn, networks_of
from tests.helpers.tsn_files import forgotten_tasks
from tsn_hw.app.deploy.verify import verify
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact
from tsn_hw.core.errors import SettingsError, TrainingError
from tsn_hw.learn import checkpoint, run
from tsn_hw.learn.checkpoint import FILE as CHECKPOINT
from tsn_hw.learn.config import stream_of
from tsn_hw.learn.settings import DataSettings, Formats, ModelSettings, Settings, StreamSettings

SHORT = replace(TINY, train=replace(TINY.train, transfer=False))
RESTLESS = replace(
    SHORT, train=replace(SHORT.train, epochs=20, lr=0.3, schedule="plateau", patience=2, decay=0.5, lr_floor=0.1)
)
"""Learns too fast: losses rise, the best epoch is not the last one, and training stops early."""
KILLER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from tests.helpers.tiny_run import EVERYTHING, learn
from tsn_hw.learn import run

run.CHECKPOINT_SECONDS, run.CHECKPOINT_SHARE = 0.0, 1e9
folder, rng = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))
for delay in [*rng.uniform(0.0, 0.3, 12), 60.0]:
    pid = os.fork()
    if pid == 0:
        learn(EVERYTHING, folder, resume=True)
        os._exit(0)
    end = time.monotonic() + delay
    while time.monotonic() < end and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print("killed", flush=True)
    except ProcessLookupError:  # it has finished, and was waited for
        print("finished", flush=True)
"""
"""Learns in child processes that are killed at random moments, each going on where the last one was."""


class KilledError(BaseException):
    """Stands for SIGKILL within a process: nothing catches it."""


@pytest.fixture
def _every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after every epoch."""
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(run, "CHECKPOINT_SHARE", 1e9)


def attempts(settings: Settings, folder: Path, kill: Callable[[int], None]) -> int:
    """Learn, killed and resumed as ``kill`` arranges before each attempt, until it is done; returns the attempts."""
    for attempt in range(200):
        kill(attempt)
        try:
            learn(settings, folder, resume=True)
        except KilledError:
            continue
        return attempt + 1
    raise AssertionError("never finished")


# ------------------------------------------------------------------------------------------------------------ seeds


@pytest.mark.parametrize("settings", [TINY, EVERYTHING], ids=["tiny", "everything"])
def test_two_runs_with_one_seed_give_the_same_bytes_whatever_the_global_random_state(
    settings: Settings, tmp_path: Path
) -> None:
    torch.manual_seed(12345)
    np.random.seed(54321)
    learn(settings, tmp_path)
    assert networks_of(tmp_path) == networks_of(finished_run(settings))


def test_training_leaves_the_number_of_threads_as_it_was(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    learn(replace(SHORT, train=replace(SHORT.train, threads=before + 1)), tmp_path)
    assert torch.get_num_threads() == before


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    learn(replace(TINY, seed=1), tmp_path)
    ours, others = networks_of(tmp_path), networks_of(finished_run())
    assert ours.keys() == others.keys()
    assert all(ours[name] != others[name] for name in ours)


# ------------------------------------------------------------------------------------------------------------ kills


@pytest.mark.usefixtures("_every_epoch")
@pytest.mark.parametrize("settings", [TINY, EVERYTHING, RESTLESS], ids=["tiny", "everything", "restless"])
def test_a_run_killed_after_every_single_epoch_ends_in_the_same_bytes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = networks_of(finished_run(settings))
    save = run.save_checkpoint

    def kill(attempt: int) -> None:
        def save_and_die(*args: object) -> None:
            save(*args)  # type: ignore[arg-type]
            raise KilledError

        monkeypatch.setattr(run, "save_checkpoint", save_and_die)

    count, most = attempts(settings, tmp_path, kill), settings.stream.tasks * (settings.train.epochs + 1) + 1
    assert most / 3 < count < most if settings is RESTLESS else count == most  # the end of a task is saved as well
    assert networks_of(tmp_path) == expected


@pytest.mark.usefixtures("_every_epoch")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_killed_between_every_two_files_ends_in_the_same_bytes(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = networks_of(finished_run())
    write = run.write_atomically
    written: list[str] = []

    def kill(attempt: int) -> None:
        """Let one file more than in the last attempt be written; attempts at first get nowhere."""
        left = [attempt % 7]

        def write_or_die(path: Path, data: bytes) -> None:
            if moment == "before" and left[0] == 0:
                raise KilledError
            write(path, data)
            written.append(path.name)
            if moment == "after" and left[0] == 0:
                raise KilledError
            left[0] -= 1

        for module in (run, checkpoint):
            monkeypatch.setattr(module, "write_atomically", write_or_die)

    assert attempts(TINY, tmp_path, kill) > 3
    assert networks_of(tmp_path) == expected
    expected_files = {"after_00.tsn", "after_01.tsn", "net.tsn", "task_01.tsn", "task_01.safetensors", "training.json"}
    assert expected_files | {CHECKPOINT} <= set(written)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_process_killed_at_random_moments_ends_in_the_same_bytes(seed: int, tmp_path: Path) -> None:
    driver = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), str(seed)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert driver.returncode == 0, driver.stderr
    said = driver.stdout.split()
    assert said.count("killed") >= 3
    assert said[-1] == "finished"
    assert networks_of(tmp_path) == networks_of(finished_run(EVERYTHING))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run", EVERYTHING)
    before = (folder / CHECKPOINT).stat().st_mtime_ns
    net = learn(EVERYTHING, folder, resume=True)
    assert (folder / CHECKPOINT).stat().st_mtime_ns == before
    assert networks_of(folder) == networks_of(finished_run(EVERYTHING))
    assert artifact.to_bytes(net) == (folder / "net.tsn").read_bytes()


def test_the_data_may_move_between_two_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_of(SHORT)

    def kill_after_the_first_task(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        raise KilledError

    save = run.save_checkpoint
    monkeypatch.setattr(run, "save_checkpoint", kill_after_the_first_task)
    with pytest.raises(KilledError):
        run.train(SHORT, stream, tmp_path, quiet=True)
    monkeypatch.setattr(run, "save_checkpoint", save)
    moved = replace(SHORT, data=(replace(SHORT.data[0], path="/elsewhere"),))
    run.train(moved, stream, tmp_path, resume=True, quiet=True)
    assert networks_of(tmp_path) == networks_of(finished_run(SHORT))


# --------------------------------------------------------------------------------------------- what must not be lost


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(settings: Settings, folder: Path, resume: bool, expected: str) -> None:
    """Training is refused with exactly one message, and the folder stays as it is."""
    before = content(folder)
    with pytest.raises(TrainingError) as error:
        run.train(settings, stream_of(settings), folder, resume=resume, quiet=True)
    assert str(error.value) == expected
    assert content(folder) == before


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run")
    expected = f"{folder} holds a run already: go on with --resume, or choose another folder"
    assert_refused(TINY, folder, False, expected)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("lost", [[CHECKPOINT], [CHECKPOINT, "net.tsn"], [CHECKPOINT, "tasks"]])
def test_networks_without_their_checkpoint_are_never_learned_over(
    lost: list[str], resume: bool, tmp_path: Path
) -> None:
    folder = copied_run(tmp_path / "run")
    for name in lost:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    expected = f"{folder} holds networks, but no {CHECKPOINT} to go on from: choose another folder, or delete it"
    assert_refused(TINY, folder, resume, expected)


def test_a_run_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run")
    expected = f"checkpoint {folder / CHECKPOINT}: belongs to a run with other settings; use another folder"
    assert_refused(replace(TINY, seed=1), folder, True, expected)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_a_truncated_checkpoint_is_refused(share: float, tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run")
    data = (folder / CHECKPOINT).read_bytes()
    (folder / CHECKPOINT).write_bytes(data[: int(share * (len(data) - 1))])
    before = content(folder)
    with pytest.raises(TrainingError) as error:
        learn(TINY, folder, resume=True)
    assert str(error.value).startswith(f"checkpoint {folder / CHECKPOINT}: damaged (")
    assert str(error.value).endswith("); start again in another folder")
    assert content(folder) == before


def test_a_checkpoint_with_one_flipped_bit_is_refused_wherever_it_is(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run")
    data = (folder / CHECKPOINT).read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(0)
    places = [0, 3, 8, header - 1, header, len(data) - 1, *rng.integers(0, len(data), 60).tolist()]
    places += rng.integers(8, header, 60).tolist()
    for place in places:
        (folder / CHECKPOINT).write_bytes(flipped(data, place))
        with pytest.raises(TrainingError, match=f"^checkpoint {folder / CHECKPOINT}: "):
            checkpoint.read_checkpoint(folder, [run.settings_digest(TINY)])


def test_a_checkpoint_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).mkdir()
    with pytest.raises(OSError, match=r"cannot read .*: Is a directory"):
        learn(TINY, tmp_path, resume=True)


def test_a_start_without_a_network_keeps_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run")
    for name in (CHECKPOINT, "net.tsn", "tasks/after_00.tsn", "tasks/after_01.tsn"):
        (folder / name).unlink()
    (folder / "notes.txt").write_text("mine")
    (folder / ".net.tsn.new").write_text("half a network that a kill left")
    other = replace(TINY, seed=1)
    learn(other, folder, resume=True)
    assert networks_of(folder) == networks_of(finished_run(other))
    assert (folder / "notes.txt").read_text() == "mine"
    assert not list(folder.rglob(".*"))


@pytest.mark.parametrize("name", ["net.tsn", "tasks/after_00.tsn", "tasks/after_01.tsn"])
def test_a_network_that_was_deleted_is_written_again_and_another_one_is_told(name: str, tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run")
    (folder / name).unlink()
    learn(TINY, folder, resume=True)
    assert networks_of(folder) == networks_of(finished_run())
    for spoiled in (b"", (folder / name).read_bytes()[:-1], (finished_run() / "alone" / "task_01.tsn").read_bytes()):
        (folder / name).write_bytes(spoiled)
        expected = f"{folder / name}: is not the network of the checkpoint; delete it, and --resume writes it"
        assert_refused(TINY, folder, True, expected)


def test_an_older_network_beside_a_newer_checkpoint_is_brought_up_to_date(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run")  # killed between the two files, it stands there
    shutil.copy(folder / "tasks" / "after_00.tsn", folder / "net.tsn")
    learn(TINY, folder, resume=True)
    assert networks_of(folder) == networks_of(finished_run())


@pytest.mark.parametrize(
    "device", ["nonsense", "", "cpu:1", "CPU", "meta", "mps", "cuda:", "cuda:-1", "cuda:x", "cuda:1000"]
)
def test_a_device_that_cannot_be_is_refused(device: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        run.train(TINY, stream_of(TINY), tmp_path / "run", device=device)
    assert str(error.value) == f"device {device!r}: must be cpu, cuda or cuda:N"
    assert not (tmp_path / "run").exists()


def test_a_cuda_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert run.device_of("cuda:1") == torch.device("cuda:1")
    with pytest.raises(SettingsError, match="device 'cuda:2': torch finds 2 CUDA devices here"):
        run.device_of("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SettingsError, match="device 'cuda': torch finds 0 CUDA devices here"):
        run.device_of("cuda")


# ------------------------------------------------------------------------------------------------------- whole chains


def test_nothing_that_an_earlier_task_reads_is_touched_by_a_later_one() -> None:
    folder = finished_run(EVERYTHING)
    net = artifact.load(folder / "net.tsn")
    assert [task.bank for task in net.tasks] == [0, 1, 0]
    seals = []
    for count in (1, 2, 3):
        written = (folder / "tasks" / f"after_{count - 1:02d}.tsn").read_bytes()
        assert artifact.to_bytes(net.first_tasks(count)) == written
        then = artifact.from_bytes(written)
        seals.append([artifact.seal(then, task) for task in range(count)])
    assert seals[0] == seals[2][:1]
    assert seals[1] == seals[2][:2]
    assert len(set(seals[2])) == 3
    assert forgotten_tasks(net.first_tasks(2), net) == ()


def test_the_run_with_everything_did_use_everything() -> None:
    folder = finished_run(EVERYTHING)
    records = json.loads((folder / "training.json").read_text())
    assert [record["task"] for record in records] == list(RunFolder(folder).stream.names)
    assert all(record["qat"] for record in records)
    assert all(record["pruned"]["after"] < record["pruned"]["before"] for record in records)
    assert [record["route"]["bank"] for record in records] == [0, 1, 0]
    net = artifact.load(folder / "net.tsn")
    fc1 = next(i for i, layer in enumerate(net.layers) if layer.name == "fc1")
    requantization = net.step(0, fc1).requantization
    assert requantization is not None
    assert len(set(requantization.multiplier.tolist())) > 1  # a batch norm of its own
    assert all(task.routing for task in net.tasks)


SPLIT = replace(TINY, stream=StreamSettings(kind="split", classes_per_task=5, validation_share=0.25))
MIXED = replace(
    TINY,
    data=(DataSettings(limit=6, name="first"), DataSettings(limit=7, name="second")),
    stream=StreamSettings(kind="mixed", side=16, channels=3, validation_share=0.25),
)
ALEXNET = ModelSettings(kind="alexnet", channels=(4, 6, 8), hidden=(12,), batch_norm=True, dropout=0.1)


@pytest.mark.parametrize("act_bits", [4, 8, 16])
@pytest.mark.parametrize(
    ("stream", "model"),
    [(SPLIT, TINY.model), (MIXED, TINY.model), (MIXED, ALEXNET)],
    ids=["split", "mixed", "mixed-alexnet"],
)
def test_every_stream_and_model_verifies_without_a_difference(
    stream: Settings, model: ModelSettings, act_bits: int, tmp_path: Path
) -> None:
    formats = Formats(act_bits=act_bits)  # type: ignore[arg-type]
    settings = replace(stream, model=model, formats=formats, train=replace(stream.train, transfer=False))
    learn(settings, tmp_path)
    opened = RunFolder(tmp_path)
    net = opened.network
    found = verify(net, lambda task: opened.images(task, 8), opened.brevitas(), opened.snapshots(), 8)
    assert found.mismatches == 0
    assert found.passed
    assert all(engine.absent is None for engine in found.engines.values())
    assert net.input.bits == min(8, act_bits)
    assert [len(task.classes) for task in net.tasks] == ([5, 5] if stream is SPLIT else [10, 10])
