"""The exported graphs on a processor without VNNI and on onnxruntime 1.17, each in a process of its own."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from export import onnx_graph
from export.onnx_graphs.bank import bank_file, bank_layout
from export.onnx_graphs.fold import folded
from export.onnx_graphs.graph import TAP, input_dtype
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tsn_hw.core import reference

RUN = """
import hashlib, json, pathlib, sys
import numpy, onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
digests = {}
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.onnx")):
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": numpy.load(path.parent / "x.npy")})
    names = [output.name for output in session.get_outputs()]
    name = f"{path.parent.name}/{path.stem}"
    digests[name] = {n: hashlib.sha256(v.tobytes()).hexdigest() for n, v in zip(names, outputs)}
print(json.dumps({"onnxruntime": onnxruntime.__version__, "digests": digests}))
"""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Graphs in every layout with adversarial inputs, and the digests of all their integers by the int64 loops."""
    folder, digests = tmp_path_factory.mktemp("graphs"), {}
    choices = itertools.product(
        ("mlp", "conv", "residual"), ((8, 8), (8, 7), (16, 16), (4, 8)), (False, True), (False, True)
    )
    for seed, (kind, (act_bits, centroid_bits), signed, multipliers) in enumerate(choices):
        recipe = Recipe(
            kind=kind,
            act_bits=act_bits,
            centroid_bits=centroid_bits,
            signed_input=signed,
            multipliers=multipliers,
            mask_kinds=("random", "full"),
            seed=seed,
        )
        net = random_network(recipe)
        name = f"{kind}_{act_bits}_{centroid_bits}{'_signed' * signed}{'_multipliers' * multipliers}"
        x = adversarial_inputs(net, 8, seed)
        layout = bank_layout(net)
        models = {"alone": onnx_graph(net, 1, taps=True), "shared": onnx_graph(net, 1, taps=True, bank=layout)}
        models["folded"] = folded(models["alone"])
        (folder / name).mkdir()
        (folder / name / "banks.bin").write_bytes(bank_file(net, layout))
        np.save(folder / name / "x.npy", x.astype(input_dtype(net)))
        integers = reference.run(net, 1, x)
        integers["logits"] = list(integers.values())[-1]
        expected = {
            layer if layer == "logits" else f"{layer}{TAP}": hashlib.sha256(
                value.astype(np.int32).tobytes()
            ).hexdigest()
            for layer, value in integers.items()
        }
        for stem, model in models.items():
            (folder / name / f"{stem}.onnx").write_bytes(model.SerializeToString())
            digests[f"{name}/{stem}"] = expected
    assert len(digests) == 3 * 48
    return folder, digests


def run(*interpreter, folder):
    command = [*interpreter, "-c", RUN, str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def test_graphs_are_right_without_vnni(graphs):
    """The processor that valgrind shows has AVX2 and nothing newer."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind is not installed")
    folder, expected = graphs
    assert run(valgrind, "-q", "--tool=none", sys.executable, folder=folder)["digests"] == expected


def test_graphs_are_right_on_onnxruntime_1_17(graphs):
    python = os.environ.get("TSN_HW_OLD_PYTHON")
    if python is None:
        pytest.skip("TSN_HW_OLD_PYTHON names no interpreter with onnxruntime 1.17 (make test creates one)")
    folder, expected = graphs
    result = run(python, folder=folder)
    assert result["onnxruntime"].startswith("1.17.")
    assert result["digests"] == expected
