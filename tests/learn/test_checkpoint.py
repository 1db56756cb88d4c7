"""A checkpoint that another hand made is refused in one line, or goes on; nothing else happens."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_run import EVERYTHING, TINY, finished_run, learn, networks_of
from tsn_hw.core.errors import TrainingError, TsnError
from tsn_hw.learn import checkpoint, run
from tsn_hw.learn.callbacks import Callbacks, RunOptions
from tsn_hw.learn.checkpoint import COMMITTED, FILE, read_checkpoint, read_tensors, write_tensors
from tsn_hw.learn.config import stream_of
from tsn_hw.learn.folder import settings_digest
from tsn_hw.learn.settings import Settings

SHORT = replace(TINY, train=replace(TINY.train, transfer=False))
ALL = replace(EVERYTHING, train=replace(EVERYTHING.train, transfer=False))


class KilledError(BaseException):
    """Stands for SIGKILL within a process: nothing catches it."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything that was killed within its second task."""
    folder, saved = tmp_path_factory.mktemp("stopped"), 0

    def save_and_die(*args: Any) -> None:
        nonlocal saved
        checkpoint.save_checkpoint(*args)
        saved += args[3] is not None and args[1].task == 1
        if saved == 2:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(run, "CHECKPOINT_SHARE", 1e9)
        patch.setattr(run, "save_checkpoint", save_and_die)
        with pytest.raises(KilledError):
            learn(ALL, folder)
    return folder


def forged(source: Path, folder: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> Path:
    """A copy of a run whose checkpoint was changed, all of it in one file as in older runs, with a digest that fits."""
    shutil.copytree(source, folder)
    told, tensors = read_checkpoint(folder, [settings_digest(SHORT)])
    position = json.loads(json.dumps(replace(told, committed=()), default=vars))
    change(tensors, position)
    write_tensors(folder / FILE, tensors, {"position": json.dumps(position)})
    return folder


def test_a_checkpoint_in_one_file_is_read_as_one_in_many(tmp_path: Path) -> None:
    folder = forged(finished_run(SHORT), tmp_path / "run", lambda *_: None)
    shutil.rmtree(folder / "committed")
    learn(SHORT, folder, resume=True)
    expected = networks_of(finished_run(SHORT))
    assert networks_of(folder) == {name: data for name, data in expected.items() if not name.startswith("committed")}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("missing", "cannot read {}: No such file or directory"),
        ("another", "checkpoint {}: is not the one of this run; start again in another folder"),
        (
            "cut",
            "checkpoint {}: damaged (Error while deserializing: incomplete metadata, file not fully covered); "
            "start again in another folder",
        ),
    ],
)
def test_a_file_of_a_finished_task_that_is_not_the_one_is_refused(wrong: str, told: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run(SHORT), tmp_path / "run"))
    first, second = (folder / COMMITTED.replace("*", number) for number in ("00", "01"))
    if wrong == "missing":
        second.unlink()
    else:
        second.write_bytes(first.read_bytes() if wrong == "another" else second.read_bytes()[:-1])
    with pytest.raises(TsnError) as error:
        learn(SHORT, folder, resume=True)
    assert str(error.value) == told.format(second)


def test_a_network_that_grew_otherwise_than_its_model_is_told_at_the_end(tmp_path: Path) -> None:
    def spoil(record: dict[str, Any]) -> None:
        learned.append(record)
        if len(learned) == 2:
            affine = running.model.modules_of(0).affine
            affine.offset += 1

    learned: list[dict[str, Any]] = []
    running = run.Run(SHORT, stream_of(SHORT), tmp_path, RunOptions(quiet=True), Callbacks(on_task=spoil))
    with pytest.raises(
        TrainingError, match=r"net\.tsn: is not the network of the model; start again in another folder"
    ):
        running.execute()


def refusal(settings: Settings, folder: Path) -> str:
    with pytest.raises(TrainingError) as error:
        learn(settings, folder, resume=True)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("task", 7, "position: its numbers of tasks cannot be"),
        ("task", -1, "position: its numbers of tasks cannot be"),
        ("task", "2", "position: task = '2': must be a whole number"),
        ("routes", [], "position: its numbers of tasks cannot be"),
        ("labels", None, "position: labels = None: must be a list"),
        ("fit", {"lr": 1.0}, "position: its training cannot be"),
        (
            "more",
            1,
            "position: unknown key 'more'; known are settings, task, labels, ",
        ),
    ],
)
def test_a_position_that_cannot_be_is_refused(key: str, value: object, what: str, tmp_path: Path) -> None:
    folder = forged(finished_run(SHORT), tmp_path / "run", lambda _, position: position.update({key: value}))
    told = refusal(SHORT, folder)
    assert told.startswith(f"checkpoint {folder / FILE}: damaged ({what}")
    assert told.endswith("); start again in another folder")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("masks", lambda masks: masks[:1]),
        ("owner", lambda owner: owner + 5),
        ("owner", lambda owner: owner.float()),
        ("code", lambda code: code[:, :3]),
        ("entries", lambda entries: entries + 300),
        ("scaling_impl.exponent", lambda exponent: exponent + 10**9),
        ("scores", lambda scores: scores.double()),
    ],
)
def test_tensors_that_are_not_those_of_the_model_are_refused(
    name: str, change: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    def changed(tensors: dict[str, Tensor], _: object) -> None:
        (first, *_others) = [key for key in tensors if key.startswith("model/banks.0") and key.endswith(name)]
        tensors[first] = change(tensors[first])

    told = refusal(SHORT, forged(finished_run(SHORT), tmp_path / "run", changed))
    assert told.startswith(f"checkpoint {tmp_path / 'run' / FILE}: damaged (its banks.0.1.weight_quant.")
    assert told.endswith(" cannot be); start again in another folder")


def mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with one thing in it replaced, removed or added."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        kept = {name: entry for name, entry in value.items() if name != key}
        return kept if rng.random() < 0.1 else kept | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return value[:place] + [mutated(value[place], rng)] * rng.choice([0, 1, 1, 1, 2]) + value[place + 1 :]
    return rng.choice([None, -1, 0, 1, 2, 10**30, 0.5, float("inf"), float("nan"), "", "ff", "zz", True, [], {}, [[]]])


def spoiled(tensor: Tensor, rng: random.Random) -> Tensor:
    """A tensor of another type, shape or content."""
    kind = rng.randrange(5)
    if kind == 0:
        return tensor.to(rng.choice([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]))
    if kind == 1:
        return tensor.reshape(-1)[: rng.randrange(tensor.numel() + 1)]
    if kind == 2:
        return tensor[None]
    if tensor.dtype == torch.bool:
        return ~tensor
    return torch.full_like(tensor, rng.choice([-1, 0, 1, 100])) if kind == 3 else tensor + 1


def test_random_forgeries_are_refused_in_one_line_or_go_on(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained: what is read is held against the model, the optimiser and the networks."""
    monkeypatch.setattr(run, "fit", lambda *_: (_ for _ in ()).throw(KilledError))
    refused, rng = 0, random.Random(0)
    tensors, metadata = read_tensors(stopped / FILE, "checkpoint", "")
    position = json.loads(metadata["position"])
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    count = 25 * hypothesis.settings().max_examples // 60
    for _ in range(count):
        forged, told = dict(tensors), position
        if rng.random() < 0.5:
            told = mutated(position, rng)
        else:
            name = rng.choice(sorted(forged))
            forged[name] = spoiled(forged[name], rng)
        write_tensors(folder / FILE, forged, {"position": json.dumps(told)})
        with pytest.raises((KilledError, TsnError)) as outcome:  # it would have gone on, or is refused
            learn(ALL, folder, resume=True)
        assert "\n" not in str(outcome.value)
        refused += outcome.type is not KilledError
    assert count / 3 < refused < count
