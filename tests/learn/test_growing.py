"""A finished run whose stream has grown goes on with the new tasks, and leaves the old ones as they are."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny_run import EVERYTHING, TINY, TINY_TOML, finished_run, learn, networks_of
from tsn_hw.app.cli.main import main
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact
from tsn_hw.core.errors import TrainingError
from tsn_hw.learn import checkpoint, run
from tsn_hw.learn.checkpoint import FILE as CHECKPOINT
from tsn_hw.learn.config import settings_from_json
from tsn_hw.learn.run import load_run
from tsn_hw.learn.settings import DataSettings, Settings, StreamSettings
from tsn_hw.learn.variants import load_trained

SHORT = replace(TINY, train=replace(TINY.train, transfer=False, epochs=1))
ALL = replace(EVERYTHING, train=replace(EVERYTHING.train, transfer=False))
MIXED = replace(
    SHORT,
    data=tuple(DataSettings(limit=limit, name=name) for limit, name in ((6, "first"), (7, "second"), (6, "third"))),
    stream=StreamSettings(kind="mixed", side=8, channels=1, validation_share=0.25),
)


def of(settings: Settings, tasks: int) -> Settings:
    """The settings with a stream of so many tasks."""
    if settings.stream.kind == "mixed":
        return replace(settings, data=settings.data[:tasks])
    return replace(settings, stream=replace(settings.stream, tasks=tasks))


def integers_of(folder: Path) -> dict[str, bytes]:
    """Every network of a run."""
    return {name: data for name, data in networks_of(folder).items() if name.endswith(".tsn")}


class KilledError(BaseException):
    """Stands for SIGKILL within a process: nothing catches it."""


@pytest.mark.parametrize(
    ("settings", "lengths"), [(SHORT, (1, 2, 3)), (ALL, (2, 3)), (MIXED, (1, 3))], ids=["tiny", "all", "mixed"]
)
def test_a_stream_that_grew_ends_in_the_bytes_of_one_that_was_learned_at_once(
    settings: Settings, lengths: tuple[int, ...], tmp_path: Path
) -> None:
    before: dict[str, bytes] = {}
    for tasks in lengths:
        net = learn(of(settings, tasks), tmp_path, resume=True)
        found = integers_of(tmp_path)
        assert before.items() - found.items() <= {("net.tsn", before.get("net.tsn"))}  # all else is as it was
        before = found
        assert artifact.to_bytes(net) == found["net.tsn"] == found[f"tasks/after_{tasks - 1:02d}.tsn"]
        assert all(artifact.to_bytes(net.first_tasks(t + 1)) == found[f"tasks/after_{t:02d}.tsn"] for t in range(tasks))
    whole = of(settings, lengths[-1])
    assert before == integers_of(finished_run(whole))
    opened = RunFolder(tmp_path)
    assert opened.settings == whole
    assert opened.metrics().to_json() == RunFolder(finished_run(whole)).metrics().to_json()
    assert [record["task"] for record in json.loads((tmp_path / "training.json").read_text())] == list(
        opened.stream.names
    )
    assert len(load_trained(whole, opened.stream, tmp_path).tasks) == lengths[-1]  # what sweeps begin with
    assert len(load_run(whole, opened.stream, tmp_path).tasks) == lengths[-1]


def test_growing_that_is_killed_after_every_file_keeps_a_whole_network_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = of(SHORT, 3)
    learn(SHORT, tmp_path)
    old, write = (tmp_path / "net.tsn").read_bytes(), run.write_atomically
    for count in range(20):
        left = [count]

        def write_or_die(path: Path, data: bytes, left: list[int] = left) -> None:
            write(path, data)
            if left[0] == 0:
                raise KilledError
            left[0] -= 1

        for module in (run, checkpoint):
            monkeypatch.setattr(module, "write_atomically", write_or_die)
        try:
            learn(longer, tmp_path, resume=True)
            break
        except KilledError:
            net = artifact.load(tmp_path / "net.tsn")
            assert artifact.to_bytes(net.first_tasks(2)) == old
    assert count > 3
    assert integers_of(tmp_path) == integers_of(finished_run(longer))
    assert run.grown_from(longer, tmp_path) == 2


def other_limit(settings: Settings) -> Settings:
    return replace(settings, data=(replace(settings.data[0], limit=11),))


@pytest.mark.parametrize(
    "other",
    [
        lambda longer: of(longer, 1),
        lambda longer: replace(longer, seed=1),
        lambda longer: replace(longer, train=replace(longer.train, lr=1e-2)),
        other_limit,
        lambda longer: replace(longer, stream=replace(longer.stream, kind="split", classes_per_task=5)),
    ],
    ids=["shorter", "seed", "rate", "limit", "kind"],
)
def test_a_stream_that_did_not_only_grow_is_refused(other: Callable[[Settings], Settings], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run(), tmp_path / "run"))
    with pytest.raises(TrainingError) as error:
        learn(other(of(TINY, 3)), folder, resume=True)
    assert str(error.value) == (
        f"checkpoint {folder / CHECKPOINT}: belongs to a run with other settings; use another folder"
    )
    assert settings_from_json(folder / "settings.json") == TINY


def npz(path: Path, classes: int, value: int = 0) -> None:
    """Twelve images a class, of classes a, b, c ...; ``value`` changes one pixel of the first."""
    rng, parts = np.random.default_rng(0), {}
    x = rng.integers(0, 256, (classes, 16, 4, 4), dtype=np.uint8)
    x[0, 0, 0, 0] ^= value
    for part, images in (("train", x[:, :12]), ("test", x[:, 12:])):
        parts[f"x_{part}"] = images.reshape(-1, 4, 4)
        parts[f"y_{part}"] = np.repeat(np.arange(classes), images.shape[1])
    np.savez(path, **parts, classes=np.array(list("abcdefgh")[:classes]))


def split_settings(path: Path) -> Settings:
    stream = StreamSettings(kind="split", classes_per_task=2, validation_share=0.25)
    return replace(SHORT, data=(DataSettings(source="npz", path=str(path)),), stream=stream)


def test_a_split_stream_grows_with_the_classes_of_its_data(tmp_path: Path) -> None:
    settings = split_settings(tmp_path / "data.npz")
    npz(tmp_path / "data.npz", 4)
    learn(settings, tmp_path / "run")
    npz(tmp_path / "data.npz", 6)
    learn(settings, tmp_path / "run", resume=True)
    learn(settings, tmp_path / "whole")
    assert integers_of(tmp_path / "run") == integers_of(tmp_path / "whole")
    assert (run.grown_from(settings, tmp_path / "run"), run.grown_from(settings, tmp_path / "whole")) == (2, 0)


@pytest.mark.parametrize(
    ("classes", "value", "expected"),
    [
        (6, 1, "task 'npz-split-0': its data are not what {run} has learned them from"),
        (2, 0, "{run}: task 'npz-split-1' with its classes left the stream"),
    ],
)
def test_earlier_tasks_whose_data_changed_are_refused(classes: int, value: int, expected: str, tmp_path: Path) -> None:
    settings = split_settings(tmp_path / "data.npz")
    npz(tmp_path / "data.npz", 4)
    learn(settings, tmp_path / "run")
    npz(tmp_path / "data.npz", classes, value)
    with pytest.raises(TrainingError) as error:
        learn(settings, tmp_path / "run", resume=True)
    assert str(error.value) == expected.format(run=tmp_path / "run")


def test_the_command_names_the_patch_that_brings_an_accelerator_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml, folder = tmp_path / "run.toml", Path(shutil.copytree(finished_run(), tmp_path / "run"))
    toml.write_text(TINY_TOML.replace("tasks = 2", "tasks = 3"))
    command = ["train", str(toml), "-o", str(folder), "--resume", "--quiet"]
    assert main(command) == 0
    text, old = capsys.readouterr().out, folder / "tasks" / "after_01.tsn"
    assert text.splitlines()[-2:] == [
        f"the first 2 tasks are byte for byte those of {old}; an accelerator of it that has room for later tasks is "
        "brought up to date by",
        f"tsn-hw hls {folder / 'net.tsn'} --patch {old} --folding build/hls/folding.json -o build/patch",
    ]
    assert main([*command, "--json"]) == 0  # nothing is left to learn, and the same is told
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["grown_from"], told["network_before"]) == (2, str(old))
