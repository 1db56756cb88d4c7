"""Runs that start from the weights of a body instead of noise: of modules and of ONNX files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tests.helpers.foreign_models import model_of as model_in_onnx
from tests.helpers.learning import model_of
from tests.helpers.tiny_run import TINY, networks_of
from tsn_hw.core.errors import SettingsError, TrainingError
from tsn_hw.learn import RunOptions, body, train
from tsn_hw.learn import run as run_module
from tsn_hw.learn.bodies import body_of
from tsn_hw.learn.config import read_settings, settings_from_json, stream_of
from tsn_hw.learn.layers import grid_exponent
from tsn_hw.learn.run import train as train_run
from tsn_hw.learn.settings import ModelSettings, PruneSettings, RouteSettings
from tsn_hw.learn.start import weights_of
from tsn_hw.learn.variants import load_trained

QUIET = RunOptions(quiet=True)
SETTINGS = replace(TINY, train=replace(TINY.train, epochs=1, transfer=False), prune=PruneSettings(iterations=1))


def module() -> nn.Module:
    """A perceptron on 8 x 8 digits with a batch norm, and a head that is left out."""
    torch.manual_seed(3)
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
    made.append(nn.Linear(12, 7))
    for tensor in (made[2].weight, made[2].bias, made[2].running_mean):
        nn.init.uniform_(tensor, 0.5, 1.5)
    return made


PRETRAINED = body(module(), torch.rand(2, 1, 8, 8), pretrained=True)
STREAM = stream_of(TINY)


def test_every_bank_and_task_begins_with_the_weights_of_its_body() -> None:
    model = model_of(PRETRAINED, banks=(0, 1, 1))
    for task in range(3):
        private, weights = model.modules_of(task), PRETRAINED.weights
        for index, layer in model.body_layers(task).items():
            name = PRETRAINED.layers[index].name
            np.testing.assert_array_equal(layer.weight.detach(), weights[f"{name}.weight"])
            largest = np.abs(weights[f"{name}.weight"]).max()
            assert int(layer.grid.exponent) == grid_exponent(2 * largest, 8)
            affine = private.affines.of(index)
            for key, tensor in affine.parts.items():
                np.testing.assert_array_equal(tensor.detach(), weights[f"{name}.{key}"])
    assert not torch.equal(model.modules_of(1).head.weight, model.modules_of(2).head.weight)


def test_scores_are_drawn_as_ever_and_larger_weights_get_larger_ones() -> None:
    drawn, dealt = (next(iter(model_of(made).body_layers(0).values())) for made in (fresh(), PRETRAINED))
    scores = dealt.subnet.scores.detach().flatten()
    assert torch.equal(scores.sort().values, drawn.subnet.scores.detach().flatten().sort().values)
    order = dealt.weight.detach().flatten().abs().argsort(stable=True)
    assert (scores.abs()[order].diff() >= 0).all()


def fresh():  # type: ignore[no-untyped-def]
    return replace(PRETRAINED, weights={})


def test_a_run_ends_in_the_same_bytes_after_a_kill_and_keeps_its_weights(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Also where a bank begins after the kill, and the caller has the weights no more."""
    settings = replace(SETTINGS, route=RouteSettings(enabled=True, threshold=1e-9, max_banks=2))
    whole = train(PRETRAINED, STREAM, settings, tmp_path / "whole", options=QUIET).network
    assert len(whole.banks) == 2

    class Killed(Exception):  # noqa: N818
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "snapshot_path", kill)
        with pytest.raises(Killed):
            train(PRETRAINED, STREAM, settings, tmp_path / "killed", options=QUIET)
    described = PRETRAINED.settings()
    assert (described.pretrained, len(described.start)) == (True, 64)
    train(described, STREAM, settings, tmp_path / "killed", options=replace(QUIET, resume=True))
    assert networks_of(tmp_path / "killed") == networks_of(tmp_path / "whole")
    kept = load_trained(replace(settings, model=described), STREAM, tmp_path / "whole").weights
    assert kept.keys() == PRETRAINED.weights.keys()


def test_a_settings_file_starts_from_the_weights_of_an_onnx_file(tmp_path: Path) -> None:
    """Which the run needs no more once it has begun."""
    nodes = [("Flatten", ["x"], ["f"], {}), ("Gemm", ["f", "w"], ["h"], {}), ("Relu", ["h"], ["r"], {})]
    model = model_in_onnx([*nodes, ("Gemm", ["r", "v"], ["y"], {})], {"w": (64, 12), "v": (12, 3)}, ("N", 1, 8, 8))
    drawn = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(drawn, "w"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "run.toml").write_text('model = {kind = "onnx", path = "model.onnx", pretrained = true}\n')
    settings = replace(SETTINGS, model=read_settings(tmp_path / "run.toml").model)
    assert (settings.model.kind, settings.model.path) == ("layers", str(tmp_path / "model.onnx"))
    folder = tmp_path / "run"
    train_run(settings, STREAM, folder, quiet=True)
    (tmp_path / "model.onnx").unlink()
    kept = settings_from_json(folder / "settings.json")
    np.testing.assert_array_equal(weights_of(kept.model, folder, {})["fc1.weight"], drawn.T)
    assert len(train_run(kept, STREAM, folder, resume=True, quiet=True).tasks) == 2


def test_weights_that_are_gone_or_belong_to_no_file_are_told(tmp_path: Path) -> None:
    described = PRETRAINED.settings()
    with pytest.raises(TrainingError) as gone:
        train(described, STREAM, SETTINGS, tmp_path, options=QUIET)
    assert str(gone.value) == (
        f"{tmp_path}: the weights that this run starts from are not there (SHA-256 {described.start[:12]}...); give "
        "the body with its weights, or put pretrained.safetensors back"
    )
    with pytest.raises(SettingsError) as wrong:
        body_of(ModelSettings("mlp", pretrained=True), (1, 8, 8))
    assert str(wrong.value) == "model.pretrained: belongs to kind = 'onnx', the kind is 'mlp'"
