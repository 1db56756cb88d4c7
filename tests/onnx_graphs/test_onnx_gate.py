"""The gate in every engine: the simulator, its ONNX graph on onnxruntime and in the reference evaluator."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export import check_folder, write_onnx, write_onnx_shared
from export.onnx_graphs.gate import gate_graph
from export.onnx_graphs.graph import input_dtype
from export.onnx_graphs.session import reference_evaluator, run_graph
from sim import Gate
from tests.helpers.gates import with_gates
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.small_network import NET
from tsn_hw.app.deploy.graphs import run_on_files
from tsn_hw.core import reference
from tsn_hw.core.errors import SettingsError


@settings(max_examples=40)
@given(recipes(extremes=False), st.integers(0, 999))
def test_every_engine_gives_the_scores_of_the_loop_and_names_the_first_of_the_best(recipe: Recipe, seed: int) -> None:
    net = with_gates(random_network(recipe), seed)
    x = adversarial_inputs(net, 7, seed)
    scores = reference.gate_scores(net, x)
    np.testing.assert_array_equal(Gate(net)(x), scores)
    model, feeds = gate_graph(net), {"x": x.astype(input_dtype(net))}
    evaluator = reference_evaluator(model)
    first = [row.index(max(row)) for row in scores.tolist()]
    for found, task in (run_graph(model.SerializeToString(), feeds), evaluator.run(None, feeds)):
        np.testing.assert_array_equal(found, scores)
        np.testing.assert_array_equal(task, first)
    assert Gate(net).predict(x).tolist() == first
    total = scores[:6].reshape(2, 3, -1).sum(axis=1).tolist()
    assert Gate(net).predict(x, together=3).tolist() == [row.index(max(row)) for row in total]


@pytest.mark.parametrize("write", [write_onnx, write_onnx_shared])
def test_a_folder_of_graphs_holds_the_gate_of_its_network(write, tmp_path: Path) -> None:
    net = with_gates(random_network(Recipe("conv", tasks=3, seed=5)), 5)
    assert write(net, tmp_path)[-4:] == [
        tmp_path / name for name in ("gate.onnx", *(f"task_0{t}.onnx" for t in range(3)))
    ]
    assert [graph.task for graph in check_folder(tmp_path)] == ["gate", *(task.name for task in net.tasks)]
    x = adversarial_inputs(net, 5)
    np.save(tmp_path / "x.npy", x.astype(np.int16))
    told = run_on_files(tmp_path / "gate.onnx", [tmp_path / "x.npy"]).data["predictions"]
    assert [entry["class"] for entry in told] == [
        net.tasks[t].name for t in Gate(net).predict(adversarial_inputs(net, 5))
    ]
    write(replace(net, tasks=tuple(replace(task, gate=None) for task in net.tasks)), tmp_path)
    assert not (tmp_path / "gate.onnx").exists()


def test_a_network_without_gates_has_none_to_run() -> None:
    for make in (Gate, gate_graph):
        with pytest.raises(SettingsError, match=r"has no gates to tell its tasks apart; tsn-hw gate makes them"):
            make(NET)
