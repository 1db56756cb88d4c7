"""A trained stream is put on other widths without being learned again; on its own widths it is the run's network."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.learning import assert_same_state
from tests.helpers.tiny_run import EVERYTHING, TINY, copied_run, finished_run
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import TrainingError
from tsn_hw.core.network import code_bits
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import QuantizeSettings, Settings
from tsn_hw.learn.trained import capture, read_trained, restore, write_trained
from tsn_hw.learn.training import evaluate, generator_of, to_real
from tsn_hw.learn.variants import TrainedStream, Variant, float_accuracies, load_trained, pack

PTQ = replace(TINY, quantize=QuantizeSettings(min_bits=3, max_bits=3))
QAT = replace(EVERYTHING, quantize=QuantizeSettings(min_bits=2, max_bits=2, qat_epochs=2))
"""Batch norm, two banks, post-pruning, and training on with 2-bit codebooks."""


def trained_of(settings: Settings) -> TrainedStream:
    run = RunFolder(finished_run(settings))
    return load_trained(run.settings, run.stream, run.folder)


@pytest.mark.parametrize(
    ("settings", "variant"),
    [(PTQ, Variant((3, 5), 8)), (QAT, Variant((2, 2, 5), 8, qat_epochs=2))],
    ids=["fitted", "trained on"],
)
def test_with_the_widths_of_the_run_a_variant_is_the_network_of_the_run(settings: Settings, variant: Variant) -> None:
    net = pack(trained_of(settings), variant)
    assert artifact.to_bytes(net) == (finished_run(settings) / "net.tsn").read_bytes()


def test_the_run_that_is_compared_with_has_pruned_and_has_two_banks() -> None:
    records = json.loads((finished_run(QAT) / "training.json").read_text())
    assert all(record["pruned"]["after"] < record["pruned"]["before"] for record in records)
    assert [record["route"]["bank"] for record in records] == [0, 1, 0]


def test_every_width_arrives_in_the_network() -> None:
    variant = Variant((1, 4, 3), centroid_bits=6, act_bits=16)
    net = pack(trained_of(QAT), variant)
    assert net.input == ActFormat(8, signed=False, exponent=-8)
    for task in range(3):
        widest = {}
        for index in net.weighted:
            if net.tasks[task].steps[index] is None:
                continue
            words, scale = net.words(task, index), net.step(task, index).requantization
            assert scale is not None
            assert words.centroid_bits == 6
            assert scale.output is None or (scale.output.bits, scale.output.signed) == (16, False)
            widest[net.layers[index].name] = max(map(code_bits, words.codebooks))
        assert [widest["fc1"], widest["fc2"]] == [1, 4]
        assert widest[net.layers[net.head(task)].name] == 3
    assert pack(trained_of(QAT), replace(variant, act_bits=4)).input == ActFormat(4, signed=False, exponent=-4)


def test_shared_weights_are_what_the_first_task_of_the_variant_wrote() -> None:
    net = pack(trained_of(PTQ), Variant((1, 5), 8))
    fc1 = net.weighted[0]
    words, mask = net.words(1, fc1), net.step(1, fc1).mask
    assert mask is not None
    shared = mask & (words.owner == 0)
    assert shared.any()
    assert set(np.unique(net.weights(1, fc1)[shared])) <= set(words.codebooks[0].tolist())
    assert (net.weights(1, fc1)[shared] == net.weights(0, fc1)[shared]).all()


def test_pruning_on_frees_weights_and_training_on_changes_them() -> None:
    trained, plain = trained_of(PTQ), Variant((2, 5), 8)
    fc1 = pack(trained, plain).weighted[0]
    used = [
        int((pack(trained, variant).words(0, fc1).owner >= 0).sum())
        for variant in (plain, replace(plain, prune_iterations=30, prune_drop=50.0))
    ]
    assert used[1] < used[0] / 2
    nets = [artifact.to_bytes(pack(trained, replace(plain, qat_epochs=epochs))) for epochs in (0, 3, 3)]
    assert nets[0] != nets[1] == nets[2]


def test_a_codebook_fit_that_remembers_may_stand_in() -> None:
    asked: list[tuple[int, int, tuple[int, int]]] = []

    def fit(values: object, bits: int, bounds: tuple[int, int]) -> np.ndarray:
        asked.append((np.size(values), bits, bounds))
        return np.array([-9, 9])

    net = pack(trained_of(PTQ), Variant((3, 5), 8), fit)  # type: ignore[arg-type]
    assert [bits for _, bits, _ in asked] == [3, 5, 3, 5]
    assert {bounds for _, _, bounds in asked} == {(-128, 127)}
    assert set(np.unique(net.weights(0, net.weighted[0]))) == {-9, 0, 9}


def test_float_accuracies_are_those_of_the_weights_before_any_codebook() -> None:
    """The first task of a run shares nothing: its accuracy must be the one that the run's own floats have."""
    trained = trained_of(PTQ)
    accuracies = float_accuracies(trained)
    assert len(accuracies) == 2
    model = SubnetModel(trained.architecture, trained.settings.formats)
    model.add_bank(generator_of(0))
    model.add_task(0, 10, generator_of(0))
    restore(model, 0, trained.tasks[0])
    data = trained.stream.task(0)
    test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
    assert accuracies[0] == evaluate(model, 0, *test).accuracy


def test_choosing_grids_of_a_trained_task_keeps_the_statistics_of_its_batch_norms() -> None:
    trained = trained_of(QAT)
    model = SubnetModel(trained.architecture, trained.settings.formats)
    model.add_bank(generator_of(0))
    model.add_task(0, 10, generator_of(0))
    restore(model, 0, trained.tasks[0])
    before = {name: tensor.clone() for name, tensor in capture(model, 0).items()}
    model.calibrate(8 * to_real(torch.from_numpy(trained.stream.task(0).x_train)), 0, trained=True)
    after = capture(model, 0)
    grids = {name for name in before if name.endswith("exponent") and "activations" in name}
    assert any(not torch.equal(before[name], after[name]) for name in grids)
    assert_same_state({n: t for n, t in before.items() if n not in grids}, {n: after[n] for n in before.keys() - grids})


# ------------------------------------------------------------------------------------------------------------- files


def test_a_run_that_did_not_keep_its_trained_tasks_is_refused(tmp_path: Path) -> None:
    run = RunFolder(copied_run(tmp_path / "run", PTQ))
    path = run.folder / "trained" / "task_01.safetensors"
    path.unlink()
    with pytest.raises(TrainingError) as error:
        load_trained(run.settings, run.stream, run.folder)
    assert str(error.value) == (
        f"{path}: missing; the run is not finished, or was learned before runs kept it: learn the run again"
    )


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    run = RunFolder(copied_run(tmp_path / "run", PTQ))
    (run.folder / "net.tsn").write_bytes((run.folder / "tasks" / "after_00.tsn").read_bytes())
    with pytest.raises(TrainingError) as error:
        load_trained(run.settings, run.stream, run.folder)
    assert str(error.value) == f"{run.folder}: 1 of 2 tasks are learned; finish with --resume"


def test_a_trained_task_that_is_damaged_or_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task_00.safetensors"
    write_trained(path, {"a": torch.arange(3)}, "ab")
    assert read_trained(path, "ab")["a"].tolist() == [0, 1, 2]
    with pytest.raises(TrainingError) as error:
        read_trained(path, "cd")
    assert str(error.value) == f"trained task {path}: belongs to a run with other settings"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(TrainingError) as error:
        read_trained(path, "ab")
    assert str(error.value) == (f"trained task {path}: damaged (its SHA-256 does not match); learn the run again")
    path.write_bytes(whole[:-9])
    with pytest.raises(TrainingError, match=rf"^trained task {path}: damaged \(.*\); learn the run again$"):
        read_trained(path, "ab")
