"""``tsn-hw gate`` and ``simulate --task auto``: gates of a finished run, told and verified."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sim import Gate, Simulator
from tests.app.conftest import Say
from tests.helpers.tiny_run import TINY, copied_run
from tsn_hw.app.learning.gate import measure_gate
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact


@pytest.fixture
def run(tmp_path: Path, say: Say) -> Path:
    """A run with a gated network beside its own."""
    folder = copied_run(tmp_path / "run", TINY)
    assert say("gate", folder / "net.tsn", "-o", folder / "gated.tsn")[0] == 0
    return folder


def test_gates_are_told_beside_the_accuracies_of_tasks(run: Path, say: Say) -> None:
    net, stream = artifact.load(run / "gated.tsn"), RunFolder(run).stream
    found = json.loads(say("simulate", run / "gated.tsn", "--task", "auto", "--json")[1])
    for number, entry in enumerate(found["tasks"]):
        data = stream.task(number)
        named = Gate(net).predict(data.x_test) == number
        right = Simulator(net, number).predict(data.x_test) == data.y_test
        twenty = Gate(net)(data.x_test)[:120].reshape(6, 20, -1).sum(axis=1).argmax(axis=1) == number
        shares = [float(100 * part.mean()) for part in (right, named, twenty, named & right)]
        assert list(entry.values()) == [net.tasks[number].name, 120, *shares]
    assert found["mean"]["named_percent"] > 90
    text = say("simulate", run / "gated.tsn", "--task", "auto")[1]
    assert "by 20 %" in text
    assert "gates: " in text
    assert "\ngates " in say("show", run / "gated.tsn")[1]
    assert "\ngates " not in say("show", run / "net.tsn")[1]


def test_fewer_than_twenty_inputs_are_not_named_together(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsn_hw.app.learning.gate.TOGETHER", 121)
    data = measure_gate(artifact.load(run / "gated.tsn"), RunFolder(run).stream).data
    assert {entry["named_together_percent"] for entry in data["tasks"]} == {None}
    assert data["mean"]["named_together_percent"] is None


def test_the_task_and_the_class_of_every_input_of_a_file_are_named(run: Path, say: Say) -> None:
    net = artifact.load(run / "gated.tsn")
    x = np.concatenate([RunFolder(run).stream.task(number).x_test[:2] for number in (1, 0)])
    np.save(run / "x.npy", x)
    lines = say("simulate", run / "gated.tsn", "--task", "auto", "--input", run / "x.npy")[1].splitlines()
    tasks = Gate(net).predict(x)
    classes = [net.tasks[task].classes[Simulator(net, task).predict(x[i : i + 1])[0]] for i, task in enumerate(tasks)]
    assert lines == [f"{net.tasks[task].name}: {name}" for task, name in zip(tasks, classes, strict=True)]


def test_a_gated_network_is_verified_beside_the_run_it_was_made_of(run: Path, say: Say) -> None:
    code, text, _ = say("verify", run / "gated.tsn", "--samples", 4, "--images", 4, "--json")
    found = json.loads(text)
    assert (code, found["passed"]) == (0, True)
    for engine in ("simulator", "onnxruntime", "onnx reference"):
        layers = found["engines"][engine]["tasks"]["digits-permuted-1"]["layers"]
        assert layers[":gate"] == {"first": None, "mismatches": 0, "outputs": 16}
    assert say("gate", run / "gated.tsn", "-o", run / "again.tsn")[0] == 0
    assert (run / "again.tsn").read_bytes() == (run / "gated.tsn").read_bytes()


def test_what_has_no_gates_or_must_not_get_them_is_refused(run: Path, refused: Callable[..., str]) -> None:
    told = "the network has no gates to tell its tasks apart; tsn-hw gate makes them"
    assert refused("simulate", run / "net.tsn", "--task", "auto") == told
    line = refused("gate", run / "net.tsn", "-o", run / "net.tsn")
    assert line == f"--out {run / 'net.tsn'}: is the network itself; the run beside it would not know it any more"
    line = refused("gate", run / "net.tsn", "-o", run / "g.tsn", "--kind", "images", "--bits", 2)
    assert line == "gate bits = 2: must be 4..8 for images"
