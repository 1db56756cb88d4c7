"""The loop in Python: a run of one's own body, data and functions is a run as any other, resumed in the same bytes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sim import Simulator
from tests.helpers.learning import commit_randomly, labels_of, model_of, residual
from tests.helpers.tiny_run import TINY, networks_of
from tsn_hw.app.cli.main import main
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core.errors import DataError, SettingsError, TrainingError
from tsn_hw.learn import Callbacks, Learner, RunOptions, integers, mlp, own_data, own_stream, train
from tsn_hw.learn import run as run_module
from tsn_hw.learn.data.own import Preparation
from tsn_hw.learn.freezing import freeze
from tsn_hw.learn.settings import Formats, ModelSettings

SETTINGS = replace(TINY, model=ModelSettings(), train=replace(TINY.train, epochs=3, transfer=False))
BODY = mlp((2, 1, 6), (12,))
QUIET = RunOptions(quiet=True)


def sensor(name, shift=0.0, steps=6):
    """Sixty readings of two channels, whose mean tells the class."""
    rng = np.random.default_rng(len(name))
    labels = np.arange(60) % 2
    readings = rng.normal(size=(60, 2, steps)) + np.where(labels, 1.0, -1.0)[:, None, None] * 0.7 + shift
    return own_data(name, (readings, labels), preparation=Preparation(normalize=True, test_share=0.3))


SENSORS = [sensor("a"), sensor("bb", 9.0), sensor("ccc", -3.0)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    return folder, train(BODY, SENSORS, SETTINGS, folder, options=QUIET)


def test_train_returns_the_network_and_what_training_json_holds(finished):
    folder, run = finished
    assert [task.name for task in run.network.tasks] == ["a", "bb", "ccc"]
    assert run.network.input.signed
    assert list(run.records) == json.loads((folder / "training.json").read_text())
    assert run.network.layers[:2] == BODY.layers


def test_the_folder_is_a_run_for_every_command(finished, capsys, tmp_path):
    folder, _ = finished
    net = str(folder / "net.tsn")
    (tmp_path / "sweep.toml").write_text(f'run = "{folder}"\n[values]\ncode_bits = [2, 3]\nkeep_ratio = [0.3]\n')
    for arguments in (
        ["simulate", net, "--task", "bb"],
        ["report", str(folder), "-o", str(tmp_path / "page.html")],
        ["sweep", str(tmp_path / "sweep.toml"), "-o", str(tmp_path / "sweep"), "--jobs", "1"],
    ):
        assert main(["--quiet", *arguments]) == 0, capsys.readouterr().err
    (learned,) = (tmp_path / "sweep/runs").iterdir()
    assert RunFolder(learned).stream.names == ("a", "bb", "ccc")


def test_float_arrays_are_quantized_as_training_did(finished, capsys, tmp_path):
    folder, run = finished
    stream, net = own_stream(SENSORS, SETTINGS.seed), str(folder / "net.tsn")
    x = stream.task(1).x_test
    expected = [("0", "1")[i] for i in Simulator(run.network, 1).predict(integers(x, run.network.input))]
    assert main(["onnx", net, "-o", str(tmp_path / "onnx")]) == 0
    for array in (x, x[:, :, 0], x[0]):  # signals with and without their height of 1, and one by itself
        np.save(tmp_path / "x.npy", array)
        capsys.readouterr()
        assert main(["simulate", net, "--task", "bb", "--input", str(tmp_path / "x.npy")]) == 0
        classes = expected[:1] if array.shape == (2, 1, 6) else expected
        assert capsys.readouterr().out.split() == classes
        assert main(["run", str(tmp_path / "onnx/task_01.onnx"), str(tmp_path / "x.npy")]) == 0
        assert [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()] == classes


def test_engines_agree_on_the_runs_own_data_and_no_task_is_forgotten(finished, monkeypatch):
    from tsn_hw.app.deploy import verify as module

    folder, run = finished
    monkeypatch.setattr(module, "_hls", lambda net: "not compiled here")
    opened = RunFolder(folder)
    found = module.verify(run.network, lambda t: opened.images(t, 9), opened.brevitas(), opened.snapshots(), samples=16)
    assert (found.passed, found.mismatches) == (True, 0)
    metrics = opened.metrics()
    assert metrics.bwt == 0.0
    assert metrics.acc > 80


def test_signed_inputs_of_16_bits_go_through_the_engines_of_python(monkeypatch):
    from tsn_hw.app.deploy import verify as module

    for compiled in ("_hls", "_c"):
        monkeypatch.setattr(module, compiled, lambda *_: "not compiled here")
    model = model_of(
        residual(batch_norm=True), Formats(input_bits=16, input_signed=True, input_exponent=-12), banks=(0, 0)
    )
    for task in range(2):
        commit_randomly(model, task, seed=task)
    net = freeze(model, labels_of(model))
    assert net.input.range == (-32768, 32767)
    found = module.verify(net, samples=16)
    compared = {name for name, engine in found.engines.items() if engine.absent is None}
    assert compared == {"int64 loop", "simulator", "onnxruntime", "onnx reference"}
    assert found.mismatches == 0


def test_readings_become_values_by_what_stream_json_tells(finished):
    folder, _ = finished
    told = json.loads((folder / "stream.json").read_text())["tasks"][1]
    assert told["offset"] == list(SENSORS[1].offset)
    assert told["offset"][0] == pytest.approx(9.0, abs=0.5)
    kept = RunFolder(folder).stream.task(1)
    np.testing.assert_array_equal(kept.x_train, own_stream(SENSORS, valid_share=0.25).task(1).x_train)
    assert kept.scale == SENSORS[1].scale


# --- one task at a time ------------------------------------------------------------------------------------------


def test_tasks_that_come_one_at_a_time_end_in_the_bytes_of_all_at_once(finished, tmp_path):
    folder, _ = finished
    for number, data in enumerate(SENSORS):
        learner = Learner(BODY, SETTINGS, tmp_path, options=QUIET)  # a new process each month
        assert len(learner.add_task(data).records) == number + 1
        (tmp_path / f"data/task_{number:02d}.safetensors").unlink()  # and no room for old data
    assert networks_of(tmp_path) == {n: d for n, d in networks_of(folder).items() if not n.startswith("data/")}
    with pytest.raises(TrainingError, match=r"^task 'bb': is learned already; a new task needs a name of its own$"):
        Learner(BODY, SETTINGS, tmp_path, options=QUIET).add_task(SENSORS[1])
    with pytest.raises(
        DataError, match=r"^task 'd': inputs are values \(2, 1, 5\), those of earlier tasks values \(2, "
    ):
        Learner(BODY, SETTINGS, tmp_path, options=QUIET).add_task(sensor("d", steps=5))
    with pytest.raises(DataError, match=r"^task 'a': its data were deleted: .*task_00\.safetensors is missing$"):
        RunFolder(tmp_path).stream.task(0)


def test_a_task_that_was_stopped_goes_on_before_the_next_one(tmp_path, monkeypatch):
    def stop(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    for number, data in enumerate(SENSORS[:2]):
        with pytest.raises(KeyboardInterrupt):
            Learner(BODY, SETTINGS, tmp_path, Callbacks(on_epoch=stop), QUIET).add_task(data)
        learner = Learner(BODY, SETTINGS, tmp_path, options=QUIET)
        with pytest.raises(
            TrainingError, match=f"^task '{data.name}' was begun and is not finished; add it again first$"
        ):
            learner.add_task(SENSORS[2])
        assert len(learner.add_task(data).records) == number + 1


# --- functions of one's own --------------------------------------------------------------------------------------


def smoothed(logits, labels):
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


def momentum(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def noise(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


OWN = Callbacks(loss=smoothed, optimizer=momentum, augment=noise)


def test_a_run_with_functions_of_ones_own_ends_in_the_same_bytes_after_a_kill(tmp_path, monkeypatch):
    train(BODY, SENSORS[:2], SETTINGS, tmp_path / "whole", OWN, QUIET)
    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "CHECKPOINT_SHARE", 1e9)
    seen = []

    def killed(epoch):
        seen.append((epoch.task, epoch.epoch))
        if len(seen) in (3, 6):
            raise KeyboardInterrupt

    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train(
                BODY,
                SENSORS[:2],
                SETTINGS,
                tmp_path / "killed",
                replace(OWN, on_epoch=killed),
                replace(QUIET, resume=resume),
            )
    records = []
    train(
        BODY,
        SENSORS[:2],
        SETTINGS,
        tmp_path / "killed",
        replace(OWN, on_task=records.append),
        replace(QUIET, resume=True),
    )
    assert networks_of(tmp_path / "killed") == networks_of(tmp_path / "whole")
    assert [record["task"] for record in records] == ["bb"]
    assert seen[:4] == [("a", 1), ("a", 2), ("a", 3), ("a", 3)]


@pytest.mark.parametrize("name", ["loss", "optimizer", "augment"])
def test_every_function_of_ones_own_is_used(name, finished, tmp_path):
    own = Callbacks(**{name: getattr(OWN, name)})
    train(BODY, SENSORS[:1], SETTINGS, tmp_path, own, QUIET)
    learned = "trained/task_00.safetensors"
    assert (tmp_path / learned).read_bytes() != (finished[0] / learned).read_bytes()


def test_an_optimizer_whose_state_no_checkpoint_holds_is_refused(tmp_path, monkeypatch):
    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            self.state[self.param_groups[0]["params"][0]]["steps"] = [1]

    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(TrainingError, match=r"^the optimizer keeps steps as list: it must be a tensor$"):
        train(BODY, SENSORS[:1], SETTINGS, tmp_path, Callbacks(optimizer=lambda p, lr: Counting(p, lr=lr)), QUIET)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "settings", "message"),
    [
        (mlp((4,), (5,)), SETTINGS, "body: takes inputs (4,), the tasks have (2, 1, 6)"),
        (
            BODY,
            replace(SETTINGS, route=replace(SETTINGS.route, enabled=True, memory="samples_input")),
            "route.memory = 'samples_input': keeps pixels, and the tasks have values; take another",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(body, settings, message, tmp_path):
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        train(body, SENSORS, settings, tmp_path / "run", options=QUIET)
    assert not (tmp_path / "run").exists()


def test_shares_of_an_unknown_number_of_tasks_are_refused(tmp_path):
    settings = replace(SETTINGS, train=replace(SETTINGS.train, keep_policy="equal_remaining"))
    with pytest.raises(SettingsError, match=r"^train\.keep_policy = 'equal_remaining': is of a known number of tasks"):
        Learner(BODY, settings, tmp_path)


def test_changed_data_are_refused(tmp_path):
    train(BODY, SENSORS[:1], SETTINGS, tmp_path, options=QUIET)
    with pytest.raises(TrainingError, match=r"^task 'a': its data are not what"):
        train(
            BODY,
            [replace(SENSORS[0], x_train=SENSORS[0].x_train + 1), SENSORS[1]],
            SETTINGS,
            tmp_path,
            options=RunOptions(resume=True),
        )
    Path(tmp_path / "data/task_00.safetensors").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"^data of a task .*: damaged"):
        RunFolder(tmp_path).stream.task(0)
