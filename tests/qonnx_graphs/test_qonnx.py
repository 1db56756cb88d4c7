"""QONNX files: what they hold, what they refuse, and the integers that qonnx and hls4ml make of them.

The tools run in an environment of their own; ``TSN_HW_PEERS_PYTHON`` names its interpreter.
"""

import hashlib
import itertools
import json
import os
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export import check_folder, qonnx_graph, write_onnx, write_qonnx
from export.onnx_graphs.metadata import golden_inputs, is_sealed, logit_exponent, logits_digest, properties
from export.qonnx_graphs.plan import qonnx_layer
from export.qonnx_graphs.thresholds import thresholds
from tests.helpers.handmade import S8, U8, linear, network, requantization
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.small_network import NET, other_network
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import ActFormat, requantization_magnitude, requantize
from tsn_hw.core.errors import ArtifactError, ExportError
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool

FLAVOURS = ("quant", "multithreshold")
U1, U2, U4, U16 = (ActFormat(bits, signed=False, exponent=0) for bits in (1, 2, 4, 16))
S1, S4 = (ActFormat(bits, signed=True, exponent=0) for bits in (1, 4))


def finer(form, exponent):
    return ActFormat(form.bits, form.signed, exponent)


def fitting():
    """Every kind of layer, with formats that fit together as a trained network's do: hls4ml takes it as a whole."""
    rng = np.random.default_rng(1)

    def weights(*shape):
        return rng.integers(-7, 8, shape) * (rng.random(shape) < 0.6)

    unsigned = ActFormat(5, signed=False, exponent=-2)
    layers = [
        (
            Conv2d("conv", 1, 2, (3, 3), (2, 1), (1, 0)),
            weights(2, 1, 3, 3),
            requantization(finer(U4, -2), 4, [8, -13], [3, -2], 2),
        ),
        (MaxPool("pool", (1, 2), (1, 1), (0,)), None, None),
        (Conv2d("mix", 2, 2, (1, 1), inputs=(1,)), weights(2, 2, 1, 1), requantization(finer(S4, -3), 2, 2, 1, 2)),
        (Add("add", (1, 2)), None, requantization(unsigned, 1)),
        (AvgPool("average", (2, 1), (1, 1), (3,)), None, requantization(unsigned, 1)),
        (Flatten("flatten", (4,)), None, None),
        (Linear("head", 4, 3, (5,)), weights(3, 4), requantization(None, 0, [-90, 5, 77], channels=3)),
    ]
    return network((1, 4, 5), ActFormat(6, signed=False, exponent=-6), layers, head=False)


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


# what the files hold -------------------------------------------------------------------------------------------------


def test_a_threshold_is_the_smallest_accumulator_that_rounds_to_an_output_half_to_even():
    net = linear([[1], [1], [-1]], requantization(U2, 2, [0, 1, 0], [1, 1, 3], 3), U8)
    # 2 / 4 rounds to 0, 6 / 4 and 10 / 4 to 2; an accumulator of at most 0 reaches none, which is said by 0 + 1
    assert thresholds(qonnx_layer(net, 0, 0, 0), U2).tolist() == [[3, 6, 11], [2, 5, 10], [1, 1, 1]]


@pytest.mark.parametrize("form", [U1, S1, U2, S4, U8, S8])
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_counting_thresholds_is_requantizing(form, shift):
    rng = np.random.default_rng(shift)
    multiplier = np.array([-(2**15), -3, 0, 1, 2, 2**15 - 1])
    offset = rng.integers(-(2**16), 2**16, 6)
    offset[:3] = 1 << shift >> 1
    layer = qonnx_layer(
        linear(rng.integers(-9, 10, (6, 3)), requantization(form, shift, offset, multiplier, 6), S4), 0, 0, 0
    )
    steps = thresholds(layer, form)
    assert steps.shape == (6, 2**form.bits - 1)
    for channel, (low, high) in enumerate(zip(layer.low, layer.high, strict=True)):
        acc = np.arange(low, high + 1)
        counted = (acc[:, None] >= steps[channel]).sum(axis=1) + form.range[0]
        sign = np.sign(multiplier[channel])
        expected = requantize(acc * sign, multiplier[channel], offset[channel], shift, form.range)
        np.testing.assert_array_equal(counted, expected)


def test_thresholds_are_the_closed_form_where_no_accumulator_ends():
    """k * 2**shift - 2**(shift - 1), one more for odd k because ties round to even, less the offset."""
    net = linear([[127, -128]], requantization(U4, 9, [-1000]), U8)
    k = np.arange(1, 16)
    assert thresholds(qonnx_layer(net, 0, 0, 0), U4).tolist() == [((k << 9) - 256 + k % 2 + 1000).tolist()]


def test_a_quant_graph_keeps_weights_offsets_and_activations_on_their_grids():
    net = linear([[3, 0], [-8, 5]], requantization(finer(U4, -1), 3, [6, 0], 1, 2), ActFormat(8, False, -4))
    model = qonnx_graph(net, 0, "quant")
    stored = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    quants = {n.output[0]: [stored[i] for i in n.input[1:]] for n in model.graph.node if n.op_type == "Quant"}
    assert stored["fc.weights.values"] == [[3.0, -8.0], [0.0, 5.0]]  # (in, out); -1 - 3 - -4 = 0
    assert stored["fc.offset.values"] == [6 / 16, 0]
    assert quants == {  # scale, zero point, bits
        "x.quantized": [1 / 16, 0, 8],
        "fc.weights": [1, 0, 4],
        "fc.offset": [1 / 16, 0, 4],
        "fc": [1 / 2, 0, 4],
        "head.weights": [1, 0, 2],
        "head.offset": [1 / 2, 0, 2],
    }
    kinds = ["Quant", "Quant", "Quant", "MatMul", "Add", "Relu", "Quant", "Quant", "Quant", "MatMul", "Add"]
    assert [node.op_type for node in model.graph.node] == kinds


def test_a_multithreshold_graph_tells_the_integer_type_of_every_tensor():
    model = qonnx_graph(fitting(), 0, "multithreshold")
    kinds = ["Conv", "MultiThreshold", "MaxPool", "Conv", "MultiThreshold", "Mul", "Add", "MultiThreshold"]
    kinds += ["Conv", "MultiThreshold", "Flatten", "MatMul", "Add"]
    assert [node.op_type for node in model.graph.node] == kinds
    types = {a.tensor_name: a.quant_parameter_tensor_names[0].value for a in model.graph.quantization_annotation}
    assert {a.quant_parameter_tensor_names[0].key for a in model.graph.quantization_annotation} == {"finn_datatype"}
    tensors = {"x", *(tensor.name for tensor in model.graph.initializer), *(n.output[0] for n in model.graph.node)}
    assert types.keys() == tensors
    assert {name: types[name] for name in ("x", "conv", "pool", "mix", "add.thresholds", "flatten")} == {
        "x": "UINT6",
        "conv": "UINT4",
        "pool": "UINT4",
        "mix": "INT4",
        "add.thresholds": "INT7",
        "flatten": "UINT5",
    }
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in model.graph.node[4].attribute}
    assert attributes == {"out_dtype": b"INT4", "out_scale": 1, "out_bias": -8, "data_layout": b"NCHW"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_files_have_a_folder_of_their_own_and_tell_of_themselves(flavour, tmp_path):
    write_onnx(NET, tmp_path)
    paths = write_qonnx(NET, tmp_path, flavour)
    assert paths == [tmp_path / "qonnx" / f"task_{task:02d}.{flavour}.onnx" for task in (0, 1)]
    content = paths[1].read_bytes()
    told = properties(onnx.load_from_string(content))
    assert is_sealed(content, told["sha256"])
    assert (told["format"], told["task"], told["weights"]) == (f"qonnx {flavour} 2", "b", "decoded")
    logits = list(reference.run(NET, 1, golden_inputs(NET.input_shape, NET.input)).values())[-1]
    assert told["golden"] == logits_digest(logits)
    assert write_qonnx(NET, tmp_path, flavour) == paths
    assert paths[1].read_bytes() == content
    assert [graph.path.name for graph in check_folder(tmp_path)] == ["task_00.onnx", "task_01.onnx"]
    with pytest.raises(ArtifactError) as error:
        check_folder(tmp_path / "qonnx")
    assert str(error.value) == f"{paths[0]}: is no graph of tsn-hw of format 4, but 'qonnx {flavour} 2'"


def test_files_of_another_network_are_removed_and_those_of_another_flavour_stay(tmp_path):
    write_qonnx(NET, tmp_path, "quant")
    first = write_qonnx(NET, tmp_path, "multithreshold")
    assert len(list((tmp_path / "qonnx").iterdir())) == 4
    written = write_qonnx(other_network().first_tasks(1), tmp_path, "quant")
    assert list((tmp_path / "qonnx").iterdir()) == written
    first[0].write_bytes(b"")
    with pytest.raises(
        ExportError, match=r"task_00\.multithreshold\.onnx: is no graph of tsn-hw; choose another folder"
    ):
        write_qonnx(NET, tmp_path, "quant")


# what they refuse ----------------------------------------------------------------------------------------------------


def refusals():
    """(network, flavour, message) of everything that a flavour does not hold."""
    wide = linear([[257, 0]], requantization(U8, 20), U16)
    limit = "QONNX holds integers up to 16777216 exactly"
    yield wide, "quant", f"layer 'fc': its accumulator with multiplier and offset reaches 16842495, {limit}"
    yield wide, "multithreshold", f"layer 'fc': its largest threshold reaches 16842496, {limit}"
    logits = linear([[1]], requantization(None, 0, [2**24 - 254]), U8, head=False)
    for flavour in FLAVOURS:
        yield logits, flavour, f"layer 'fc': its accumulator with multiplier and offset reaches 16777217, {limit}"
    message = "layer 'fc': 9-bit activations need 511 thresholds a channel, at most 8 bits"
    yield linear([[1]], requantization(ActFormat(9, False, 0), 1), U8), "multithreshold", message
    message = "layer 'fc': its logits are shifted by 3 bits, MultiThreshold needs 0"
    yield linear([[1]], requantization(None, 3), U8, head=False), "multithreshold", message
    message = "is signed with 1 bit, which holds -1 and 0; Quant reads it as -1 and 1"
    yield linear([[1]], requantization(S1, 1), U8), "quant", f"layer 'fc': its output: {message}"
    yield linear([[1]], requantization(U8, 1), S1), "quant", f"input: {message}"
    far = linear([[1]], requantization(finer(U8, -64), 62), ActFormat(8, False, 1))
    message = "layer 'fc': its weights have exponent -127, float32 holds -126..103"
    yield far, "quant", message


@pytest.mark.parametrize(("net", "flavour", "message"), list(refusals()))
def test_what_a_flavour_does_not_hold_is_refused_in_one_line(net, flavour, message, tmp_path):
    with pytest.raises(ExportError) as error:
        write_qonnx(net, tmp_path, flavour)
    assert str(error.value) == message
    assert list(tmp_path.iterdir()) == []


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
