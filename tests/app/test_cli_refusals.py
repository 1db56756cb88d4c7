"""The command line refuses what is wrong in one line, and says how to go on after an interrupt."""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny_run import TINY_TOML, copied_run, finished_run

Say = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    "options",
    [["show"], ["onnx", "-o", "{tmp}/out"], ["simulate", "--task", "0"], ["verify", "-o", "{tmp}/out"]],
    ids=lambda options: options[0],
)
def test_a_network_that_cannot_be_read_is_one_line(
    options: list[str], refused: Callable[..., str], net: Path, tmp_path: Path
) -> None:
    command, *rest = [option.format(tmp=tmp_path) for option in options]
    missing, damaged = tmp_path / "missing.tsn", tmp_path / "damaged.tsn"
    assert refused(command, missing, *rest) == f"cannot read {missing}: No such file or directory"
    assert refused(command, tmp_path, *rest) == f"cannot read {tmp_path}: Is a directory"
    data = net.read_bytes()
    for wrong in (b"", b"tsn", data[:-1], data[: len(data) // 2], data + b"\0", pickle.dumps({"a": 1})):
        damaged.write_bytes(wrong)
        assert refused(command, damaged, *rest).startswith(f"{damaged}: ")
    for place in np.random.default_rng(0).integers(0, len(data), 25).tolist():
        damaged.write_bytes(data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :])
        assert refused(command, damaged, *rest).startswith(f"{damaged}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", [-1, 2, 10**30, "digits"])
def test_a_task_that_is_not_there_is_one_line(
    task: int | str, refused: Callable[..., str], net: Path, tmp_path: Path
) -> None:
    told = f"task {task!r}: must be 0..1 or a name, such as 'digits-permuted-0'"
    assert refused("simulate", net, "--task", task) == told
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.uint8))
    assert refused("simulate", net, "--task", task, "--input", tmp_path / "x.npy") == told


@pytest.mark.parametrize("command", [["simulate", "--task", "0"], ["verify"]], ids=lambda command: command[0])
def test_a_folder_that_is_no_run_or_another_run_is_one_line(
    command: list[str], refused: Callable[..., str], net: Path, tmp_path: Path
) -> None:
    name, *rest = command
    assert refused(name, net, *rest, "--run", tmp_path) == f"{tmp_path} is no training run: it has no settings.json"
    assert "is no training run" in refused(name, net, *rest, "--run", net)
    assert "File name too long" in refused(name, net, *rest, "--run", "x" * 300)


def test_the_network_of_another_run_is_not_verified_with_this_one(
    refused: Callable[..., str], net: Path, tmp_path: Path
) -> None:
    first = finished_run() / "tasks" / "after_00.tsn"
    line = refused("verify", first, "--run", finished_run())
    assert line == f"{first}: is not the network of the run {finished_run()}"


def test_a_network_alone_has_no_test_images_to_simulate(refused: Callable[..., str], net: Path, tmp_path: Path) -> None:
    shutil.copy(net, tmp_path / "net.tsn")
    line = refused("simulate", tmp_path / "net.tsn", "--task", 0)
    assert line == f"{tmp_path} is no training run: it has no settings.json"


def test_classes_of_another_run_are_one_line(refused: Callable[..., str], net: Path, tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    settings = json.loads((run / "settings.json").read_text())
    settings["stream"] |= {"kind": "split", "classes_per_task": 5}
    (run / "settings.json").write_text(json.dumps(settings))
    line = refused("simulate", net, "--task", 0, "--run", run)
    assert line.startswith("task 0: the run's classes ('0', '1', '2', '3', '4') are not the network's ('0', '1', ")


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


GOOD = npy(np.zeros((2, 1, 8, 8), np.int64))
NO_ARRAY = "as an .npy file"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", NO_ARRAY),
        (b"no numpy at all", NO_ARRAY),
        (b"PK\3\4 no zip either", NO_ARRAY),
        (pickle.dumps([1, 2]), NO_ARRAY),
        (npy(np.array([print], object)), NO_ARRAY),
        (GOOD[:4], NO_ARRAY),
        (GOOD[:-8], NO_ARRAY),
        (GOOD.replace(b"(2, 1, 8, 8)", b"(9999999999,9)"), NO_ARRAY),  # 671 GiB
        (GOOD.replace(b"(2, 1, 8, 8), }", b"(99999999999999999999999,)}"), NO_ARRAY),
        (GOOD.replace(b"(2, 1, 8, 8)", b"(-2,1, 8, 8)"), NO_ARRAY),
        (GOOD.replace(b"'descr'", b"'de((('"), NO_ARRAY),
        (npy(np.full((2, 1, 8, 8), 2.0)), "holds 2..2, the network reads 0..1; give pixels of 0..255 as uint8"),
        (npy(np.zeros((2, 1, 8, 8), bool)), "it is of type bool, must be numbers"),
        (npy(np.zeros((2, 1, 8, 8), complex)), "it is of type complex128, must be numbers"),
        (npy(np.zeros((2, 1, 8, 8), "M8[s]")), "it is of type datetime64[s], must be numbers"),
        (npy(np.zeros((2, 64), np.uint8)), "the input has shape (2, 64), must be (batch, 1, 8, 8)"),
        (npy(np.zeros((), np.uint8)), "the input has shape (), must be (batch, 1, 8, 8)"),
        (npy(np.full((2, 1, 8, 8), 256)), "the input holds 256..256, must be within 0..255"),
        (npy(np.full((2, 1, 8, 8), -1)), "the input holds -1..-1, must be within 0..255"),
        (npy(np.full((2, 1, 8, 8), 2**64 - 1, np.uint64)), "must be within 0..255"),
    ],
)  # fmt: skip
def test_an_input_that_does_not_fit_is_one_line(
    data: bytes, expected: str, refused: Callable[..., str], net: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    assert expected in refused("simulate", net, "--task", 0, "--input", tmp_path / "x.npy")


def test_an_input_that_is_not_there_is_one_line(refused: Callable[..., str], net: Path, tmp_path: Path) -> None:
    assert NO_ARRAY in refused("simulate", net, "--task", 0, "--input", tmp_path / "x.npy")
    assert NO_ARRAY in refused("simulate", net, "--task", 0, "--input", tmp_path)


@pytest.mark.parametrize(
    ("option", "most"), [("--samples=0", 10**5), ("--samples=-3", 10**5), ("--samples=x", 10**5), ("--images=0", 10**7)]
)
def test_no_samples_are_one_line(option: str, most: int, refused: Callable[..., str], net: Path) -> None:
    name, value = option.split("=")
    told = f"must be a whole number within 1..{most}, found {value}"
    assert refused("verify", net, option) == f"{name}: {told} ('tsn-hw verify --help' tells more)"


@pytest.mark.parametrize("below", ["", "/below", "/far/below"])
def test_an_output_that_cannot_be_written_is_one_line(
    below: str, refused: Callable[..., str], net: Path, toml: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    out = f"{file}{below}"
    assert out in refused("onnx", net, "-o", out)
    assert refused("train", toml, "-o", out).startswith(f"cannot write {out}/.lock: ")
    assert refused("demo", "--out", out).startswith(f"cannot write {out}/.lock: ")
    if below:
        assert refused("verify", net, "--samples=4", "--images=4", "--quiet", "-o", out).startswith(
            f"cannot write {out}: "
        )
    assert file.read_text() == "mine"
    assert "File name too long" in refused("train", toml, "-o", "x" * 300)
    assert "File name too long" in refused("demo", "--out", "x" * 300)


@pytest.mark.parametrize("device", ["nonsense", "", "cuda:x", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line_and_touches_nothing(
    device: str, refused: Callable[..., str], toml: Path, tmp_path: Path
) -> None:
    run = copied_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command in (
        ["demo", "--out", run],
        ["train", toml, "-o", run, "--resume"],
        ["train", toml, "-o", tmp_path / "new"],
    ):
        assert refused(*command, "--device", device).startswith(f"device {device!r}: ")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(
    refused: Callable[..., str], toml: Path, tmp_path: Path
) -> None:
    run = copied_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = tmp_path / "other.toml"
    other.write_text(f"seed = 1\n{TINY_TOML}")
    for file in (toml, other):
        line = refused("train", file, "-o", run)
        assert line == f"{run} holds a run already: go on with --resume, or choose another folder"
    line = refused("train", other, "-o", run, "--resume")
    assert line.endswith(": belongs to a run with other settings; use another folder")
    for command in (["demo", "--out", run], ["demo", "--out", run, "--resume"]):
        assert refused(*command) == f"{run} holds another run: choose another --out, or delete it"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_settings_that_make_no_sense_are_one_line(refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    mistakes = [
        "a = [[",
        "[trian]",
        "seed = -1",
        "stream.kind = 'split'\nstream.classes_per_task = 3",
        "data = []",
        "data.limit = 1",
        "data.name = '../x'",
        "data.source = 'idx'\ndata.path = 'nowhere'",
        'data.source = "npz"\ndata.path = "a\\u0000b"',
        "model.hidden = []",
        "model.hidden = [-1]",
        "formats.headroom = inf",
    ]
    for text in mistakes:
        file.write_text(text)
        refused("train", file, "-o", tmp_path / "run")
    assert not (tmp_path / "run" / "net.tsn").exists()


def test_an_interrupt_says_how_to_go_on(say: Say, toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tsn_hw.learn.run.train", interrupt)
    monkeypatch.setattr("tsn_hw.app.learning.commands.show", interrupt)
    monkeypatch.setattr("tsn_hw.app.hardware.calibrate.calibrate", interrupt)
    command = ("train", toml, "-o", tmp_path / "run")
    assert say(*command) == (130, "", "tsn-hw: interrupted; it goes on with --resume\n")
    command = ("calibrate", "--runs", tmp_path / "runs", "-o", tmp_path / "out")
    assert say(*command) == (130, "", "tsn-hw: interrupted; the same command goes on where it was\n")
    assert say("show", tmp_path) == (130, "", "tsn-hw: interrupted\n")
