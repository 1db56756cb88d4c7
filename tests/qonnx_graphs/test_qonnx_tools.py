"""QONNX files in qonnx, FINN's transformations and hls4ml: the same integers."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess

import numpy as np
import onnx
import pytest

from export import qonnx_graph
from export.onnx_graphs.metadata import logit_exponent
from tests.helpers.handmade import U8, linear, network, requantization
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.qonnx_networks import S1, S4, U1, U2, U4, finer, fitting
from tests.helpers.small_network import NET
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import ActFormat, requantization_magnitude
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear


def odd_multipliers():
    """Multipliers below, at and above 0 in every kind of layer, offsets full of ties, and operands on unlike grids."""
    rng = np.random.default_rng(2)
    layers = [
        (
            Conv2d("conv", 2, 4, (2, 2), groups=2),
            rng.integers(-8, 8, (4, 1, 2, 2)),
            requantization(S4, 5, [16, -16, 48, 16], [-3, 0, 5, 1], 4),
        ),
        (AvgPool("average", (2, 2), (1, 1), (0,)), None, requantization(finer(S4, -1), 3, 4, -5)),
        (AvgPool("constant", (2, 2), (1, 1), (0,)), None, requantization(finer(U4, 1), 1, 5, 0)),
        (Add("add", (1, 2)), None, requantization(finer(S4, -3), 4, -8, -7)),
        (Flatten("flatten", (3,)), None, None),
        (Linear("fc", 16, 3, (4,)), rng.integers(-8, 8, (3, 16)), requantization(U1, 7, 64, [-1, 2, 0], 3)),
    ]
    return network((2, 4, 4), ActFormat(3, signed=True, exponent=0), layers)


def at_the_limit():
    """A bound of exactly 2**24, with both signs."""
    weights, offset = [[127, 0], [-127, 1]], [2**24 - 127 * 255, -(2**24) + 128 * 255]
    return linear(weights, requantization(U8, 16, offset, 1, 2), U8)


def random_networks():
    """Networks whose multipliers are small enough that the Quant flavour holds most of them."""
    kinds, widths = ("mlp", "conv", "residual"), ((2, 4), (4, 4), (8, 6), (8, 8))
    masks = (("random", "full"), ("empty", "one weight"), ("same as an earlier task", "random"))
    for seed, (kind, (act_bits, centroid_bits), multipliers) in enumerate(itertools.product(kinds, widths, (0, 1))):
        recipe = Recipe(
            kind=kind,
            banks=1 + seed % 2,
            code_bits=(1, 4),
            act_bits=act_bits,
            centroid_bits=centroid_bits,
            signed_input=seed % 4 > 1,
            multipliers=bool(multipliers),
            density=0.2,
            mask_kinds=masks[seed % 3],
            seed=seed,
        )
        yield f"{kind}_{act_bits}_{centroid_bits}{'_multipliers' * multipliers}", random_network(recipe)


def taken(net, x, flavour):
    """Integers as a flavour takes them."""
    return np.ldexp(x.astype(np.float32), net.input.exponent if flavour == "quant" else 0)


def exponents(net, task, flavour):
    """By tensor, the exponents of the values that stand for the integers of a layer."""
    found = {}
    for index, layer, _ in net.run_order(task):
        is_head = index == net.head(task)
        exponent = (logit_exponent(net, task) or 0) if is_head else net.format(task, index).exponent
        found["logits" if is_head else layer.name] = exponent if flavour == "quant" else 0
    return found


def integers(net, task, x):
    """Of every layer, by tensor, from the int64 loops."""
    *body, (_, logits) = reference.run(net, task, x).items()
    return dict(body) | {"logits": logits}


def largest_value(net, task):
    """The largest |acc * multiplier + offset| that a layer can reach."""
    computing = ((i, s.requantization) for i, _, s in net.run_order(task) if s.requantization is not None)
    return max(requantization_magnitude(*net.accumulator(task, i), r.multiplier, r.offset) for i, r in computing)


# running them elsewhere ---------------------------------------------------------------------------------------------

QONNX = """
import hashlib, json, pathlib, sys, warnings
from importlib.metadata import version
import numpy
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.change_batchsize import ChangeBatchSize
from qonnx.transformation.infer_shapes import InferShapes

warnings.simplefilter("error")  # qonnx warns of values that their integer type does not hold
digests = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    x, exponents = numpy.load(path.with_suffix(".npy")), json.loads(path.with_suffix(".json").read_text())
    model = ModelWrapper(str(path)).transform(ChangeBatchSize(len(x))).transform(InferShapes())
    tensors = execute_onnx(model, {"x": x}, return_full_exec_context=True)
    digests[path.stem] = {}
    for name, exponent in exponents.items():
        integers = numpy.ldexp(tensors[name].astype(float), -exponent)
        assert (integers == numpy.rint(integers)).all(), f"{path}: {name}"
        digests[path.stem][name] = hashlib.sha256(integers.astype("<i4").tobytes()).hexdigest()
print(json.dumps({"qonnx": version("qonnx"), "onnx": version("onnx"), "digests": digests}))
"""

FINN = """
import json, sys, warnings
import numpy
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx.util.cleanup import cleanup_model

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Assuming .D input is NC")
model = cleanup_model(ModelWrapper(sys.argv[1]))
for step in (LowerConvsToMatMul(), InferDataTypes(), InferDataLayouts()):
    model = model.transform(step)
nodes = []
for node in model.get_nodes_by_op_type("MultiThreshold"):
    types = [model.get_tensor_datatype(name) for name in (*node.input, *node.output)]
    told = {name: getCustomOp(node).get_nodeattr(name) for name in ("out_dtype", "out_scale", "out_bias")}
    nodes.append(told | {"integer": all(t.is_integer() for t in types), "output": types[-1].name})
source, result = model.graph.input[0].name, model.graph.output[0].name
logits = [execute_onnx(model, {source: x[None]})[result][0].tolist() for x in numpy.load(sys.argv[2])]
print(json.dumps({"nodes": nodes, "logits": logits}))
"""

HLS4ML = """
import json, sys
import hls4ml, numpy
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.util.cleanup import cleanup_model

path, x = sys.argv[1], numpy.load(sys.argv[2])
model = ModelWrapper(path)
told = {entry.key: json.loads(entry.value) for entry in model.model.metadata_props}["tsn_hw"]
form, model = told["input"], cleanup_model(model)
if len(model.get_tensor_shape(model.graph.input[0].name)) == 4:
    model = cleanup_model(model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True)))
    x = numpy.ascontiguousarray(x.transpose(0, 2, 3, 1))
config = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Vitis")
fixed = f"{'' if form['signed'] else 'u'}fixed<{form['bits']},{form['bits'] + form['exponent']}>"
config["LayerName"][model.graph.input[0].name]["Precision"]["result"] = fixed
project = hls4ml.converters.convert_from_onnx_model(model, output_dir=sys.argv[3], backend="Vitis", hls_config=config)
project.compile()
numpy.save(sys.argv[4], project.predict(x).reshape(len(x), -1))
"""


def run(script, *arguments):
    python = os.environ.get("TSN_HW_PEERS_PYTHON")
    if python is None:
        pytest.skip("TSN_HW_PEERS_PYTHON names no interpreter with qonnx and hls4ml (make test creates one)")
    command = [python, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def cases():
    """(name, network, flavour) of all that is run in qonnx; the Quant flavour only where float32 holds the network."""
    networks = dict(random_networks()) | {
        "fitting": fitting(),
        "odd_multipliers": odd_multipliers(),
        "at_the_limit": at_the_limit(),
        "every_kind": NET,
    }
    for name, net in networks.items():
        yield name, net, "multithreshold"
        if largest_value(net, len(net.tasks) - 1) <= 2**24:
            yield name, net, "quant"
    yield "one_signed_bit", linear([[3, -2]], requantization(S1, 2, [2]), U2), "multithreshold"
    shifted = requantization(None, 3, [4, -12], [5, -7], 2)
    yield "rounded_logits", linear([[1, -2], [3, 4]], shifted, U8, head=False), "quant"


def test_qonnx_finds_the_integers_of_every_layer_in_both_flavours(tmp_path):
    expected = {}
    for name, net, flavour in cases():
        task, path = len(net.tasks) - 1, tmp_path / f"{name}.{flavour}"
        model = qonnx_graph(net, task, flavour)
        onnx.checker.check_model(model, full_check=True)
        x = adversarial_inputs(net, 8)
        onnx.save(model, f"{path}.onnx")
        np.save(f"{path}.npy", taken(net, x, flavour))
        path.with_name(f"{path.name}.json").write_text(json.dumps(exponents(net, task, flavour)))
        digests = {n: hashlib.sha256(v.astype("<i4").tobytes()).hexdigest() for n, v in integers(net, task, x).items()}
        expected[path.name] = digests
    assert len(expected) == 51
    found = json.loads(run(QONNX, tmp_path))
    assert found["qonnx"] == "1.0.0"
    assert found["onnx"].startswith("1.22.")
    assert found["digests"] == expected


@pytest.mark.parametrize("make", [fitting, lambda: random_network(Recipe(act_bits=4, multipliers=True, seed=7))])
def test_finn_finds_integers_and_layouts_where_its_hardware_layers_ask_for_them(make, tmp_path):
    net = make()
    x = adversarial_inputs(net, 8)
    onnx.save(qonnx_graph(net, 0, "multithreshold"), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", taken(net, x, "multithreshold"))
    found = json.loads(run(FINN, tmp_path / "net.onnx", tmp_path / "x.npy"))
    assert len(found["nodes"]) == sum(s.requantization is not None for _, _, s in net.run_order(0)) - 1
    for node in found["nodes"]:
        assert node["integer"]
        assert node["out_scale"] == 1
        assert node["output"] == node["out_dtype"]
        assert node["out_dtype"].startswith("INT") == (node["out_bias"] < 0)
    assert found["logits"] == integers(net, 0, x)["logits"].tolist()


@pytest.mark.parametrize(
    "make",
    [
        fitting,
        lambda: random_network(
            Recipe(act_bits=4, centroid_bits=4, signed_input=True, multipliers=True, density=0.2, tasks=1, seed=3)
        ),
    ],
    ids=["conv", "mlp"],
)
def test_hls4ml_simulates_the_same_integers_in_cpp(make, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    net = make()
    x = adversarial_inputs(net, 64)
    onnx.save(qonnx_graph(net, 0, "quant"), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", taken(net, x, "quant"))
    run(HLS4ML, tmp_path / "net.onnx", tmp_path / "x.npy", tmp_path / "project", tmp_path / "logits.npy")
    logits = np.ldexp(np.load(tmp_path / "logits.npy").astype(float), -exponents(net, 0, "quant")["logits"])
    np.testing.assert_array_equal(logits, integers(net, 0, x)["logits"])
