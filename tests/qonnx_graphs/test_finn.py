"""Multithreshold files in FINN's own front end: hardware layers, and the same integers from them."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import qonnx_graph
from tests.helpers.finn import finn_python, front_end
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tsn_hw.core import reference


@pytest.mark.parametrize("act_bits", [4, 8])
def test_finn_makes_hardware_layers_that_compute_the_integers_of_the_network(act_bits: int, tmp_path: Path) -> None:
    python = finn_python()
    if python is None:
        pytest.skip("TSN_HW_FINN_PYTHON names no interpreter with finn-plus ('make finn' creates one)")
    net = random_network(Recipe(act_bits=act_bits, multipliers=True, tasks=2, seed=7))
    x = adversarial_inputs(net, 8)
    onnx.save(qonnx_graph(net, 1, "multithreshold"), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    found = front_end(python, tmp_path / "net.onnx", tmp_path / "x.npy", [1, 2, 16])
    *_, logits = reference.run(net, 1, x).values()
    computing = [layer for _, layer, step in net.run_order(1) if step.mask is not None]
    for stage in ("Streamline", "InferQuantizedMatrixVectorActivation"):
        assert found[stage]["logits"] == logits.tolist(), stage
    made = found["InferQuantizedMatrixVectorActivation"]["kinds"]
    assert [kind for kind in made if kind == "MVAU"] == ["MVAU"] * len(computing)
    assert set(made) <= {"MVAU", "Add", "Flatten"}, json.dumps(made)
    shapes = [(unit["rows"], unit["columns"]) for unit in found["units"].values()]
    assert sorted(shapes) == sorted(layer.weight_shape for layer in computing)
    for unit in found["units"].values():
        one, two, sixteen = unit["blocks"]
        assert one == unit["bram_18k"] <= two <= 2 * one
        assert two <= sixteen <= 16 * one
