"""The ONNX graphs against the int64 loops of tsn_hw.core.reference, on onnxruntime and ONNX's reference evaluator."""

import itertools
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from export import onnx_graph, write_onnx
from export.onnx_graphs.fold import folded
from export.onnx_graphs.functions import DOMAIN, function
from export.onnx_graphs.graph import TAP, input_dtype
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.small_network import NET, put, step, words
from tsn_hw.core import arithmetic, reference
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import ExportError, FileError
from tsn_hw.core.layers import Add, Linear
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task

EXAMPLES = settings.default.max_examples * 2 // 5
TABLE = json.loads((Path(__file__).parents[1] / "cases" / "requantize.json").read_text())
U8, S8, U16, S16 = (ActFormat(bits, signed, 0) for bits in (8, 16) for signed in (False, True))
CASES = [dict(zip(TABLE["columns"], row, strict=True)) for rows in TABLE["rules"].values() for row in rows]


def session(model, **options):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def on_onnxruntime(model):
    """A model as a function from named inputs to named outputs."""
    running = session(model)
    names = [output.name.removesuffix(TAP) for output in running.get_outputs()]
    return lambda **feeds: dict(zip(names, running.run(None, feeds), strict=True))


def on_evaluator(model):
    evaluator = ReferenceEvaluator(model)

    def run(**feeds):
        with np.errstate(invalid="ignore"):  # its MaxPool pads uint8 tensors with NaN, be the padding empty or not
            values = evaluator.run(None, feeds)
        return {name.removesuffix(TAP): value for name, value in zip(evaluator.output_names, values, strict=True)}

    return run


ENGINES = [on_onnxruntime, on_evaluator]


def assert_equal_integers(net, task, form=None, engines=ENGINES, seed=0):
    x = adversarial_inputs(net, 6, seed)
    expected = reference.run(net, task, x)
    expected["logits"] = list(expected.values())[-1]
    model = onnx_graph(net, task, taps=True, form=form)
    onnx.checker.check_model(model, full_check=True)
    for engine in engines:
        outputs = engine(model)(x=x.astype(input_dtype(net)))
        assert outputs.keys() == expected.keys()
        for name, value in outputs.items():
            assert value.dtype == np.int32
            np.testing.assert_array_equal(value, expected[name], err_msg=f"{engine.__name__}, {form}, {name}")


def told(model):
    """What the metadata of a model tell."""
    (entry,) = model.metadata_props
    assert entry.key == "tsn_hw"
    return json.loads(entry.value)


def forms(model):
    layers = told(model)["layers"]
    return dict(zip(layers["name"], layers.get("form", []), strict=True))


def scale(multiplier, offset, shift, output=U8):
    """A requantization of every channel by multiplier / 2**shift."""
    return Requantization(np.array(multiplier), np.array(offset), shift, output)


def linear_network(weights, requantization, source=U8, centroid_bits=8, head_offset=0):
    """One task of one Linear "fc" with the given weights, and a head that passes its first output on."""
    weights = np.array(weights)
    book, code = np.unique(weights, return_inverse=True)
    layers = (Linear("fc", weights.shape[1], weights.shape[0]), Linear("head", weights.shape[0], 1, (0,)))
    first = np.eye(1, len(weights), dtype=bool)
    bank = Bank(
        (
            BankLayer(np.zeros(weights.shape), code.reshape(weights.shape), (book,), centroid_bits, 0),
            BankLayer(np.where(first, 0, UNUSED), np.zeros(first.shape), (np.array([1]),), 8, 0),
        )
    )
    steps = (Step(np.ones(weights.shape, bool), requantization), Step(first, scale([1], [head_offset], 0, None)))
    return PackedNetwork((weights.shape[1],), source, layers, (bank,), (Task("only", 0, ("yes",), steps),))


# the same integers everywhere ---------------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES)
@given(recipes())
def test_random_networks_compute_the_integers_of_the_int64_loops(recipe):
    net = random_network(recipe)
    task = recipe.seed % len(net.tasks)
    assert_equal_integers(net, task, seed=recipe.seed)
    assert_equal_integers(net, task, form="integer", engines=[on_onnxruntime], seed=recipe.seed)
    with suppress(ExportError):  # which sums exceed float32 is tested below
        assert_equal_integers(net, task, form="float32", engines=[on_onnxruntime], seed=recipe.seed)


CORNERS = {
    "all masks empty": Recipe(mask_kinds=("empty",)),
    "all masks full": Recipe(kind="conv", mask_kinds=("full",)),
    "one weight a layer": Recipe(mask_kinds=("one weight",)),
    "16 by 16 bits": Recipe(kind="conv", act_bits=16, centroid_bits=16, density=0.9),
    "16 by 16 bits with multipliers": Recipe(act_bits=16, centroid_bits=16, multipliers=True, density=0.9),
    "8 bits with multipliers": Recipe(kind="residual", multipliers=True),
    "signed input, padding": Recipe(kind="conv", signed_input=True, seed=3),
    "signed 16-bit activations, padding": Recipe(kind="residual", signed_input=True, act_bits=16),
    "4-bit activations": Recipe(kind="conv", act_bits=4),
    "12 tasks in 3 banks, widths 1..8": Recipe(tasks=12, banks=3, code_bits=(1, 8)),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_corner_cases_in_every_form(corner):
    net = random_network(CORNERS[corner])
    task = len(net.tasks) - 1
    assert_equal_integers(net, task)
    assert_equal_integers(net, task, form="integer")
    if "16" not in corner:
        assert_equal_integers(net, task, form="float32")


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_go_to_the_even_neighbour_and_sums_saturate(engine):
    net = linear_network([[1], [-1], [127]], scale([1, 1, 1], [0, 10, 0], 1))
    outputs = engine(onnx_graph(net, 0, taps=True))(x=np.array([[0], [1], [3], [5], [7], [255]], np.uint8))
    assert outputs["fc"].tolist() == [[0, 5, 0], [0, 4, 64], [2, 4, 190], [2, 2, 255], [4, 2, 255], [128, 0, 255]]
    assert outputs["logits"].tolist() == [[0], [0], [2], [2], [4], [128]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", [None, "float32", "integer"])
def test_a_signed_output_keeps_its_sign_in_every_form(engine, form):
    net = linear_network([[1], [-1]], scale([1, 1], [0, 0], 0, S8))
    outputs = engine(onnx_graph(net, 0, taps=True, form=form))(x=np.array([[3], [255]], np.uint8))
    assert outputs["fc"].tolist() == [[3, -3], [127, -128]]
    assert outputs["logits"].tolist() == [[3], [127]]


def test_uint8_by_uint8_saturates_nowhere():
    """255 * (127 + 127) exceeds the 16 bits in which uint8 by int8 adds pairs on processors without VNNI."""
    net = linear_network(np.full((2, 64), [[127], [-128]]), scale([1, 1], [0, 0], 6, S16))
    for form in (None, "integer"):
        outputs = on_onnxruntime(onnx_graph(net, 0, taps=True, form=form))(x=np.full((1, 64), 255, np.uint8))
        assert outputs["fc"].tolist() == [[255 * 127, -255 * 128]]


def pair_network(first, second, shift, output):
    """Two inputs of 8 bits, brought to the formats of both operands of an Add without a loss, added, and passed on."""
    layers = (
        Linear("first", 2, 1),
        Linear("second", 2, 1),
        Add("add", (0, 1)),
        Linear("head", 1, 1, (2,)),
    )
    low = [128 * form.signed for form in (first, second)]
    bank = Bank(
        (words([[0, UNUSED]], [[0, 0]], [1]), words([[UNUSED, 0]], [[0, 0]], [1]), None, words([[0]], [[0]], [1]))
    )
    steps = (
        step([[1, 0]], scale([1], [-low[0]], 0, first)),
        step([[0, 1]], scale([1], [-low[1]], 0, second)),
        step(None, scale([1], [0], shift, output)),
        step([[1]], scale([1], [0], 0, None)),
    )
    return PackedNetwork((2,), U8, layers, (bank,), (Task("only", 0, ("yes",), steps),))


@pytest.mark.parametrize("apart", [0, 1, 7])
@pytest.mark.parametrize("shift", [0, 1, 6])
def test_every_pair_of_bytes_is_added_exactly(apart, shift):
    x = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).reshape(-1, 2)
    for first, second, output in itertools.product((U8, S8), (U8, S8), (U8, S8, ActFormat(4, True, 0))):
        net = pair_network(first, replace(second, exponent=apart), shift, replace(output, exponent=shift))
        model = onnx_graph(net, 0, taps=True)
        assert forms(model)["add"] == "quantized"
        expected = reference.run(net, 0, x)["add"]
        for engine in ENGINES:
            np.testing.assert_array_equal(engine(model)(x=x.astype(np.uint8))["add"], expected)


BEYOND_FLOAT32 = scale([1, 1], [2**24 + 1, -5], 2)


@pytest.mark.parametrize(
    ("requantization", "kinds"),
    [
        (scale([1, 1], [5, -5], 2), ["QGemm", "QGemm", "Cast"]),
        (scale([3, 3], [6, -9], 4), ["QGemm", "QGemm", "Cast"]),
        (scale([3, 7], [6, -7], 4), ["Unsqueeze", "QLinearConv", "Squeeze", "QGemm", "Cast"]),
        (BEYOND_FLOAT32, ["Unsqueeze", "QLinearConv", "Squeeze", "QGemm", "Cast"]),
    ],
    ids=["gemm", "scale", "scales", "large"],
)
def test_onnxruntime_makes_one_operator_of_a_linear_layer(tmp_path, requantization, kinds):
    path = tmp_path / "optimized.onnx"
    session(onnx_graph(linear_network([[1, -2], [3, 4]], requantization), 0), optimized_model_filepath=str(path))
    assert [node.op_type for node in onnx.load(path).graph.node] == kinds


def test_onnxruntime_adds_bytes_in_one_operator(tmp_path):
    path = tmp_path / "optimized.onnx"
    net = pair_network(U8, S8, 1, U8)
    session(onnx_graph(net, 0), optimized_model_filepath=str(path))
    assert "QLinearAdd" in [node.op_type for node in onnx.load(path).graph.node]


def test_sums_beyond_float64_are_requantized_in_int64():
    requantization = scale([32767], [1], 40, S16)
    net = linear_network(np.full((1, 1024), 32767), requantization, U16, centroid_bits=16)
    model = onnx_graph(net, 0, taps=True)
    assert "RequantizeInteger" in {node.op_type for node in model.graph.node}
    assert_equal_integers(net, 0)
    x = np.full((1, 1024), 65535, np.uint16)
    assert on_onnxruntime(model)(x=x)["fc"].tolist() == [[32767]]  # 2**56.0 / 2**40 saturates
    assert on_onnxruntime(model)(x=x // 4)["fc"].tolist() == [[round((16383 * 32767 * 1024 * 32767 + 1) / 2**40)]]


def test_sums_of_more_than_32_bits_saturate():
    """3 * 2**30 after the shift, which a clip of its low 32 bits takes for a negative number."""
    net = linear_network([[1], [1]], scale([1, 1], [3 << 53, -(3 << 53)], 23))
    for form in (None, "float32", "integer"):
        for engine in ENGINES:
            assert engine(onnx_graph(net, 0, taps=True, form=form))(x=np.array([[9]], np.uint8))["fc"].tolist() == [
                [255, 0]
            ]


@pytest.mark.parametrize(("offset", "shift", "logit"), [(7, 0, 7), (-1, 0, -1), (0, 0, 0), (3 << 20, 21, 2)])
def test_a_head_of_multiplier_zero_gives_its_offset_alone(offset, shift, logit):
    net = random_network(Recipe(kind="mlp", tasks=1, widths=(3, 2), classes=1))
    head = net.head(0)
    net = put(net, ("tasks", 0, "steps", head, "requantization"), scale([0], [offset], shift, None))
    for form in (None, "float32", "integer"):
        for engine in ENGINES:
            outputs = engine(onnx_graph(net, 0, form=form))(x=np.array([[0, 1, 2], [255, 9, 0]], np.uint8))
            assert outputs["logits"].tolist() == [[logit], [logit]]
    with pytest.raises(ExportError) as error:
        onnx_graph(net, 0, form={"head0": "quantized"})
    assert str(error.value) == (
        "layer 'head0': the form 'quantized' is not exact: "
        "channel 0 has multiplier 0, which is no scale and hides every offset"
    )


def test_int64_without_a_shift_rounds_nothing():
    full = 1024 * 32767 * 65535 * 32767  # about 2**56
    net = linear_network(np.full((1, 1024), 32767), scale([32767], [3 - full], 0, S16), U16, centroid_bits=16)
    model = onnx_graph(net, 0, taps=True)
    assert "RequantizeInteger" in {node.op_type for node in model.graph.node}
    assert on_onnxruntime(model)(x=np.full((1, 1024), 65535, np.uint16))["fc"].tolist() == [[3]]


def test_sums_of_bytes_are_exact_where_they_exceed_their_total():
    """-1 is the bytes -1 and 255: the low ones sum up to 401 * 255 * 255, an odd number beyond 2**24."""
    net = linear_network([[*[-1] * 401, 200]], scale([1], [401 * 255], 0, S16), centroid_bits=16)
    x = np.array([[*[255] * 401, 0]], np.uint8)
    for engine in ENGINES:
        assert engine(onnx_graph(net, 0, taps=True, form="integer"))(x=x)["fc"].tolist() == [[0]]


# local functions ----------------------------------------------------------------------------------------------------


def function_model(name, dtype):
    """A graph that calls one function; limits and result are float64."""
    inputs = list(function(name).input)
    nodes = [helper.make_node(name, inputs, ["y"], domain=DOMAIN)]
    infos = [
        helper.make_tensor_value_info(tensor, TensorProto.DOUBLE if tensor in ("low", "high", "y") else dtype, None)
        for tensor in [*inputs, "y"]
    ]
    graph = helper.make_graph(nodes, name, infos[:-1], infos[-1:])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, functions=[function(name)], opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize("engine", ENGINES)
def test_requantize_follows_the_case_table(engine):
    run = engine(function_model("Requantize", TensorProto.DOUBLE))
    exact = [case for case in CASES if abs(case["value"] * case["multiplier"] + case["offset"]) <= 2**53]
    assert len(exact) > 100
    for case in exact:
        low, high = ActFormat(min(case["bits"], 16), case["signed"], 0).range
        value = (case["value"] * case["multiplier"] + case["offset"]) / 2 ** case["shift"]
        y = run(value=np.array(value), low=np.array(low, float), high=np.array(high, float))["y"]
        assert y == np.clip(case["expected"], low, high), case


def requantizer(run, shift, bounds):
    """RequantizeInteger of one shift and format, as a function of int64 values."""
    fixed = {"unit": np.array(2**shift), "half": np.array(max(1, 2**shift // 2))}
    fixed |= {name: np.array(limit, float) for name, limit in zip(("low", "high"), bounds, strict=True)}
    return lambda value: run(value=np.array(value), **fixed)["y"]


@pytest.mark.parametrize("engine", ENGINES)
def test_requantize_integer_follows_the_case_table(engine):
    run = engine(function_model("RequantizeInteger", TensorProto.INT64))
    for case in CASES:
        bounds = (-(2 ** (case["bits"] - 1)) if case["signed"] else 0, 2 ** (case["bits"] - case["signed"]) - 1)
        value = case["value"] * case["multiplier"] + case["offset"]
        assert requantizer(run, case["shift"], bounds)(value) == case["expected"], case


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bounds", [(0, 255), (-128, 127), (-(2**15), 2**15 - 1), (0, 1), (-(2**31), 2**31 - 1)])
def test_requantize_integer_saturates_what_has_more_than_32_bits(engine, bounds):
    run = engine(function_model("RequantizeInteger", TensorProto.INT64))
    near = [sign * (1 << bits) + change for bits in range(62) for sign in (1, -1) for change in (-1, 0, 1)]
    values = np.array([*near, 3 << 30, -(3 << 30), 2**63 - 2**61 - 1, 2**61 - 2**63])
    for shift in (0, 1, 31, 62):
        expected = arithmetic.requantize(values, np.array(1), np.array(0), shift, bounds)
        np.testing.assert_array_equal(requantizer(run, shift, bounds)(values), expected, err_msg=f"{shift}")


@pytest.mark.parametrize("engine", ENGINES)
def test_codebook_lookup_decodes_the_weights_of_the_packed_network(engine):
    net = random_network(Recipe(kind="conv", tasks=5, code_bits=(1, 5), mask_kinds=("random", "empty", "full")))
    for task in range(len(net.tasks)):
        model = onnx_graph(net, task)
        layers = [layer.name for _, layer, step in net.run_order(task) if step.mask is not None]
        layers[-1] = "head"
        names = [f"{layer}.{tensor}" for layer in layers for tensor in ("weights", "words")]
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        outputs = engine(model)(x=adversarial_inputs(net, 1).astype(input_dtype(net)))
        for index, layer, run in net.run_order(task):
            if run.mask is None:
                continue
            name = "head" if index == net.head(task) else layer.name
            weights = outputs[f"{name}.weights"]
            zero_point = 128 if weights.dtype == np.uint8 else 0
            decoded = weights.astype(np.int64).reshape(run.mask.shape) - zero_point
            np.testing.assert_array_equal(decoded, net.weights(task, index))
            used = outputs[f"{name}.words"].reshape(-1) >= 0
            np.testing.assert_array_equal(used[: run.mask.size].reshape(run.mask.shape), run.mask)
            assert not used[run.mask.size :].any()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("shares", "widths"),
    [
        ([0.5, 0.5], [1]),
        ([*[0.22] * 4, *[0.12 / 28] * 28], [2, 3]),
        ([*[0.24] * 4, *[0.03 / 8] * 8, *[0.01 / 244] * 244], [2, 1, 5]),
    ],
)
def test_rare_centroids_escape_to_levels_of_their_own(engine, shares, widths):
    """Frequent centroids have short codes; a bit tells the others, which hold the rest of their codes elsewhere."""
    rng = np.random.default_rng(len(shares))
    rare = np.arange(len(shares))  # every centroid occurs
    picked = np.concatenate([rare, rng.choice(len(shares), 120 * 180 - len(shares), p=shares)])
    net = linear_network((rng.permutation(256) - 128)[picked].reshape(120, 180), scale([1] * 120, [0] * 120, 14))
    model = onnx_graph(net, 0, taps=True)
    layers = told(model)["layers"]
    assert layers["code_bits"][0] == (widths if len(widths) > 1 else widths[0])
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    planes = [constants[f"fc.{'escaped_' * level}codes"] for level in range(len(widths))]
    assert [len(codes) for codes in planes] == widths
    escapes = [constants[f"fc.{'escaped_' * level}escapes"] for level in range(len(widths) - 1)]
    counts = [int(np.unpackbits(mask).sum()) for mask in escapes]
    assert [codes.shape[2] for codes in planes] == [-(-count // 8) for count in (120 * 180, *counts)]
    model.graph.output.append(helper.make_empty_tensor_value_info("fc.weights"))
    x = adversarial_inputs(net, 6).astype(np.uint8)
    outputs = engine(model)(x=x)
    np.testing.assert_array_equal(outputs["fc.weights"].reshape(120, 180).astype(np.int64) - 128, net.weights(0, 0))
    np.testing.assert_array_equal(outputs["fc"], reference.run(net, 0, x)["fc"])


def test_more_than_256_centroids_of_several_owners_are_told_apart():
    """Every owner has up to 256 of 9 bits; a task that reads the words of many needs codes of more than a byte."""
    recipe = Recipe("conv", tasks=11, code_bits=(8, 8), centroid_bits=9, signed_input=True, density=0.3, seed=93)
    net = random_network(recipe)
    (codebook,) = (tensor for tensor in onnx_graph(net, 4).graph.initializer if tensor.name == "fc.codebook")
    assert codebook.dims[0] > 1 + 256
    for task in range(len(net.tasks)):
        assert_equal_integers(net, task, engines=[on_onnxruntime], seed=4)
    assert_equal_integers(net, 4, engines=[on_evaluator], seed=4)


# the file -----------------------------------------------------------------------------------------------------------


def test_a_graph_pins_its_versions_and_explains_itself():
    model = onnx_graph(NET, 1)
    assert (model.ir_version, model.producer_name) == (9, "tsn-hw")
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 19, "tsn_hw": 1}
    assert [entry.name for entry in model.functions] == [
        "ByteGemm",
        "UnpackBits",
        "Place",
        "CodebookLookup",
        "ReadCodes",
    ]
    assert all(entry.doc_string for entry in model.functions)
    x, logits = model.graph.input[0], model.graph.output[0]
    assert (x.name, x.type.tensor_type.elem_type, x.doc_string) == (
        "x",
        TensorProto.UINT8,
        "0..255; real value = x * 2**0",
    )
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", TensorProto.INT32)
    assert [dim.dim_param or dim.dim_value for dim in x.type.tensor_type.shape.dim] == ["N", 1, 3, 2]
    assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["N", 3]
    assert all(node.name == node.output[0] for node in model.graph.node)
    assert {"mix.codes", "mix.mask", "mix.codebook"} <= {tensor.name for tensor in model.graph.initializer}


def test_metadata_tell_task_classes_input_and_layers():
    assert told(onnx_graph(NET, 1)) == {
        "format": 4,
        "task": "b",
        "classes": ["0", "1", "2"],
        "input": {"bits": 8, "signed": False, "exponent": 0},
        "output": {"exponent": -7},
        "image": {"layout": "CHW", "mode": "L", "resize": "bilinear", "size": [3, 2]},
        "layers": {
            "name": ["conv", "mix", "add", "average", "head_b"],
            "form": ["quantized", "quantized", "quantized", "quantized", "quantized"],
            "accumulator": [127 * 255, 30 * 255, 510, 6 * 255, 14 * 255],
            "bound": [127 * 255, 30 * 255, 510, 6 * 255, 14 * 255],
            "bits": [8, 8, 8, 8, None],
            "code_bits": [1, 1, None, None, 1],
        },
    }


def test_the_head_of_every_task_is_called_head_in_its_graph():
    for task in range(2):
        assert "head.codes" in {tensor.name for tensor in onnx_graph(NET, task).graph.initializer}
    layers = (replace(NET.layers[0], name="head"), *NET.layers[1:])
    names = {tensor.name for tensor in onnx_graph(replace(NET, layers=layers), 1).graph.initializer}
    assert {"head.codes", "head_b.codes"} <= names


@pytest.mark.parametrize(("shift", "multiplier", "exponent"), [(0, 1, -3), (4, 1, 1), (4, 3, None)])
def test_the_exponent_of_the_logits_is_that_of_products_and_shift(shift, multiplier, exponent):
    net = linear_network([[1]], scale([1], [0], 0, ActFormat(8, False, -3)))
    net = put(net, ("tasks", 0, "steps", 1, "requantization"), scale([multiplier], [0], shift, None))
    assert told(onnx_graph(net, 0))["output"] == {"exponent": exponent}


def test_codes_index_the_distinct_centroids_that_the_task_reads_frequent_ones_first():
    net = linear_network([[5, -3, 5, 9]], scale([1], [0], 0))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx_graph(net, 0).graph.initializer}
    assert constants["fc.codebook"].tolist() == [133, 125, 137, 128]  # zero point 128; the last one: not in the mask
    assert constants["fc.codes"].tolist() == [[[0b0010]], [[0b1000]]]  # a plane a bit: codes 0, 1, 0, 2
    assert constants["fc.mask"].tolist() == [[[0b1111]]]


def test_only_survivors_are_stored():
    net = random_network(Recipe(tasks=3, code_bits=(4, 4), density=0.3, seed=5))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx_graph(net, 2).graph.initializer}
    for _, layer, run in net.run_order(2):
        name = layer.name.replace("head2", "head")
        codes, mask, book = (constants[f"{name}.{part}"] for part in ("codes", "mask", "codebook"))
        bits = max(1, (len(book) - 2).bit_length())
        assert codes.shape == (bits, 1, -(-run.mask.sum() // 8))
        assert mask.shape == (1, 1, -(-run.mask.size // 8))
        assert book.dtype == np.uint8


def test_a_file_holds_little_more_than_codes_and_masks():
    weights = np.random.default_rng(0).choice([-99, -50, -7, -1, 1, 7, 50, 99], (300, 400))
    net = linear_network(weights, scale([1] * 300, [0] * 300, 8))
    packed_bytes = weights.size * (3 + 1) // 8
    assert packed_bytes < len(onnx_graph(net, 0).SerializeToString()) < packed_bytes + 12_000


def test_the_same_network_gives_the_same_bytes():
    recipe = Recipe(kind="residual", tasks=3, multipliers=True)
    first, second = (onnx_graph(random_network(recipe), 2).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("bits", "signed", "expected"), [(1, False, "uint8"), (8, True, "int8"), (9, False, "uint16"), (16, True, "int16")]
)
def test_the_input_has_the_smallest_type_that_holds_it(bits, signed, expected):
    net = linear_network([[1]], scale([1], [0], 0, S8), ActFormat(bits, signed, 0))
    model = onnx_graph(net, 0)
    assert input_dtype(net) == expected
    assert helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type) == expected


def test_onnxruntime_folds_the_lookup_and_says_nothing(tmp_path, capfd):
    net = linear_network([[1, -2], [3, 4]], BEYOND_FLOAT32)
    extended = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # the highest without a warning for saving
    path = tmp_path / "optimized.onnx"
    session(onnx_graph(net, 0), graph_optimization_level=extended, optimized_model_filepath=str(path))
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == ["Unsqueeze", "Transpose", "QLinearConv", "Transpose", "Squeeze", "QGemm", "Cast"]
    session(onnx_graph(NET, 0))
    assert capfd.readouterr() == ("", "")


# the rule -----------------------------------------------------------------------------------------------------------


def test_every_form_has_its_place():
    ones = [[1, 1]]
    assert forms(onnx_graph(linear_network(ones, scale([1], [0], 1)), 0)) == {
        "fc": "quantized",
        "head": "quantized",
    }
    assert forms(onnx_graph(linear_network(ones, scale([3], [6], 1)), 0))["fc"] == "quantized"
    assert forms(onnx_graph(linear_network(ones, scale([3], [7], 1)), 0))["fc"] == "integer"
    assert forms(onnx_graph(linear_network(ones, scale([1], [2**24 + 1], 1)), 0))["fc"] == "quantized"  # saturates
    assert forms(onnx_graph(linear_network(ones, scale([1], [0], 1), U16), 0))["fc"] == "float32"
    wide = linear_network([[32767, 32767]], scale([1], [0], 20), U16, centroid_bits=16)
    assert forms(onnx_graph(wide, 0))["fc"] == "integer"


OBSTACLES = {
    "its accumulator reaches 19660500, at most 16777216": ("float32", [[300]], scale([1], [0], 20), U16),
    "activations or centroids have more than 8 bits": ("quantized", [[300]], scale([1], [0], 20), U16),
    "channel 1 has offset 7, no multiple of its multiplier 3": ("quantized", [[1], [1]], scale([3, 3], [6, 7], 1), U8),
    "float32 rounds sums up to 1040400 otherwise in channel 1, whose scale is 1505 / 2**22": (
        "quantized",
        [[127] * 32, [127] * 32 + [1] * 16],
        scale([1506, 1505], [0, 0], 22),
        U8,
    ),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_a_form_that_is_not_exact_is_refused(reason):
    form, weights, requantization, source = OBSTACLES[reason]
    width = max(map(len, weights))
    rows = [[*row, *[0] * (width - len(row))] for row in weights]
    net = linear_network(rows, requantization, source, centroid_bits=16 if source == U16 else 8)
    for forced in (form, {"fc": form}):
        with pytest.raises(ExportError) as error:
            onnx_graph(net, 0, form=forced)
        assert str(error.value) == f"layer 'fc': the form '{form}' is not exact: {reason}"


def test_a_head_is_quantized_only_as_a_gemm_within_float32():
    net = linear_network([[1]], scale([1], [0], 0), head_offset=2**24)
    assert forms(onnx_graph(net, 0))["head"] == "integer"
    with pytest.raises(ExportError) as error:
        onnx_graph(net, 0, form="quantized")
    reason = "its logits are no bytes, and it is no Gemm of one scale within float32"
    assert str(error.value) == f"layer 'head': the form 'quantized' is not exact: {reason}"


def test_layers_are_forced_one_by_one():
    free = forms(onnx_graph(NET, 1))
    assert free["mix"] == free["add"] == "quantized"
    for form in ("float32", "integer"):
        forced = {"mix": form, "add": form}
        assert forms(onnx_graph(NET, 1, form=forced)) == free | forced
        assert_equal_integers(NET, 1, form=forced)


def test_forms_of_layers_that_have_none_are_refused():
    with pytest.raises(ExportError, match=r"^form of layer 'fc9': the network has no such layer$"):
        onnx_graph(NET, 1, form={"fc9": "integer"})
    with pytest.raises(ExportError, match=r"^form of layer 'pool': it computes nothing$"):
        onnx_graph(NET, 1, form={"pool": "integer"})


def test_a_layer_too_wide_for_int32_sums_of_bytes_is_refused():
    weights = np.full((1, 33_026), 127)
    net = linear_network(weights, scale([1], [0], 20))
    with pytest.raises(ExportError) as error:
        onnx_graph(net, 0)
    assert str(error.value) == (
        "layer 'fc': the form 'integer' is not exact: sums of uint8 products reach 2147515650, must fit int32"
    )


def test_layers_may_have_the_names_of_tensors():
    names = ["x", "logits", "flat", "mix.escaped", "x.codes", "128_u8", "head"]
    layers = tuple(replace(layer, name=name) for layer, name in zip(NET.layers, names, strict=False))
    net = replace(NET, layers=(*layers, *NET.layers[len(names) :]))
    integers, x = reference.run(net, 1, adversarial_inputs(net, 6)), adversarial_inputs(net, 6)
    for form in (None, "float32", "integer"):
        model = onnx_graph(net, 1, taps=True, form=form)
        onnx.checker.check_model(model, full_check=True)
        running = session(model)
        outputs = dict(
            zip([o.name for o in running.get_outputs()], running.run(None, {"x": x.astype(np.uint8)}), strict=True)
        )
        assert outputs.keys() == {"logits", *(f"{name}:tap" for name in integers)}
        for name, values in integers.items():
            np.testing.assert_array_equal(outputs[f"{name}:tap"], values)
        np.testing.assert_array_equal(outputs["logits"], list(integers.values())[-1])


# on disk ------------------------------------------------------------------------------------------------------------


def test_write_onnx_writes_a_file_a_task_and_replaces_old_ones(tmp_path):
    folder = tmp_path / "new" / "onnx"
    for _ in range(2):
        assert write_onnx(NET, folder) == [folder / "task_00.onnx", folder / "task_01.onnx"]
    assert sorted(path.name for path in folder.iterdir()) == ["task_00.onnx", "task_01.onnx"]
    for task, path in enumerate(sorted(folder.iterdir())):
        assert onnx.load(path).graph == onnx_graph(NET, task).graph


def test_folded_graphs_lie_beside_the_others_until_an_export_without_them(tmp_path):
    assert [path.name for path in write_onnx(NET, tmp_path, fold=True)] == [
        "task_00.folded.onnx",
        "task_00.onnx",
        "task_01.folded.onnx",
        "task_01.onnx",
    ]
    write_onnx(NET, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task_00.onnx", "task_01.onnx"]


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "onnx").write_text("a file where the folder should be")
    with pytest.raises(FileError) as error:
        write_onnx(NET, tmp_path / "onnx")
    assert str(error.value) == f"cannot write {tmp_path}/onnx/task_00.onnx: File exists"
    (tmp_path / "task_00.onnx").mkdir()
    with pytest.raises(FileError, match=r"task_00\.onnx: Is a directory"):
        write_onnx(NET, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx", "task_00.onnx"]


@settings(max_examples=EXAMPLES // 2)
@given(recipes())
def test_folded_graphs_hold_decoded_weights_and_give_the_same_integers(recipe):
    net = random_network(recipe)
    task = recipe.seed % len(net.tasks)
    x = adversarial_inputs(net, 6, recipe.seed)
    model = folded(onnx_graph(net, task))
    onnx.checker.check_model(model, full_check=True)
    assert {function.name for function in model.functions} <= {
        "ByteGemm",
        "Requantize",
        "RequantizeInteger",
        "SplitBytes",
    }
    expected = list(reference.run(net, task, x).values())[-1]
    for engine in ENGINES:
        np.testing.assert_array_equal(engine(model)(x=x.astype(input_dtype(net)))["logits"], expected)
