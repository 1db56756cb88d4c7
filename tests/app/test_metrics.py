"""ACC, BWT and FWT: by hand on small matrices, and measured from the files of a run."""

import json
from pathlib import Path

import numpy as np
import pytest

from sim import Simulator
from tests.helpers.small_network import put
from tests.helpers.tiny_run import copied_run, finished_run
from tsn_hw.app.learning.metrics import Metrics, accuracy, measure
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact, reference
from tsn_hw.core.network import PackedNetwork

_ = np.nan


def metrics(matrix: list[list[float]], alone: list[float]) -> Metrics:
    return Metrics(np.array(matrix), np.array(alone))


def always(net: PackedNetwork, task: int, label: int) -> PackedNetwork:
    """The network with a bias in one head that makes it answer one class whatever it sees."""
    head = net.head(task)
    requantization = net.step(task, head).requantization
    assert requantization is not None
    offset = requantization.offset.copy()
    offset[label] += 1 << 29
    return put(net, ("tasks", task, "steps", head, "requantization", "offset"), offset)  # type: ignore[no-any-return]


def test_three_tasks_by_hand() -> None:
    three = metrics([[90, _, _], [80, 70, _], [85, 64, 40]], [_, 75, 30])
    assert three.acc == 63.0  # (85 + 64 + 40) / 3
    assert three.bwt == -5.5  # ((85 - 90) + (64 - 70)) / 2
    assert three.fwt == 2.5  # ((70 - 75) + (40 - 30)) / 2


def test_one_task_can_neither_forget_nor_profit() -> None:
    one = metrics([[87.5]], [_])
    assert (one.acc, one.bwt, one.fwt) == (87.5, 0.0, None)


def test_forward_transfer_needs_every_later_task_alone_and_not_the_first() -> None:
    assert metrics([[90, _, _], [90, 70, _], [90, 70, 50]], [_, 60, _]).fwt is None
    assert metrics([[90, _], [90, 70]], [_, 60]).fwt == 10.0


def test_cells_that_do_not_exist_are_null_in_json() -> None:
    values = metrics([[90, _], [80, 70]], [_, _]).to_json()
    assert values == {
        "acc_percent": 75.0,
        "bwt": -10.0,
        "fwt": None,
        "accuracy_matrix_percent": [[90.0, None], [80.0, 70.0]],
    }
    json.dumps(values, allow_nan=False)


def test_accuracy_counts_the_first_of_the_largest_logits() -> None:
    net = always(RunFolder(finished_run()).network, 0, label=3)
    images = np.zeros((5, 1, 8, 8), np.uint8)
    assert accuracy(Simulator(net, 0), images, np.array([3, 3, 3, 0, 9])) == 60.0


def test_a_run_is_measured_with_the_network_of_every_moment() -> None:
    run = RunFolder(finished_run())
    found, net = run.metrics(), run.network
    expected = np.full((2, 2), np.nan)
    for i, j in ((0, 0), (1, 0), (1, 1)):
        data = run.stream.task(j)
        logits = list(reference.run(net.first_tasks(i + 1), j, data.x_test.astype(np.int64)).values())[-1]
        expected[i, j] = 100 * (logits.argmax(1) == data.y_test).mean()
    np.testing.assert_array_equal(found.matrix, expected)
    assert found.bwt == 0.0
    assert np.isnan(found.alone[0])
    assert 0 <= found.alone[1] <= 100


def test_metrics_come_from_the_stored_files_and_from_nothing_that_was_noted(tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    before = RunFolder(run).metrics()
    path = run / "tasks" / "after_00.tsn"
    artifact.save(always(artifact.load(path), 0, label=7), path)
    artifact.save(always(artifact.load(run / "alone" / "task_01.tsn"), 0, label=7), run / "alone" / "task_01.tsn")
    after = RunFolder(run).metrics()
    assert after.matrix[0, 0] == 10.0  # one class of ten
    assert after.alone[1] == 10.0
    assert after.bwt == before.matrix[1, 0] - 10.0
    assert after.fwt == before.matrix[1, 1] - 10.0
    np.testing.assert_array_equal(after.matrix[1], before.matrix[1])


def test_tasks_that_were_not_learned_alone_have_no_forward_transfer() -> None:
    run = RunFolder(finished_run())
    found = measure([run.network.first_tasks(1), run.network], {}, run.stream)
    assert found.fwt is None


@pytest.mark.parametrize("count", [1, 2])
def test_the_matrix_has_a_row_a_stored_network(count: int) -> None:
    run = RunFolder(finished_run())
    nets = [run.network.first_tasks(k) for k in range(1, count + 1)]
    assert measure(nets, {}, run.stream).matrix.shape == (count, count)
