"""The local functions of our graphs: requantization, and the lookup of codebooks."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export import onnx_graph
from export.onnx_graphs.functions import DOMAIN, function
from export.onnx_graphs.graph import input_dtype
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.onnx_engines import (
    CASES,
    ENGINES,
    assert_equal_integers,
    linear_network,
    on_evaluator,
    on_onnxruntime,
    scale,
    told,
)
from tsn_hw.core import arithmetic, reference
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.network import UNUSED, Bank

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
        names = [f"{layer}.weights" for layer in layers]
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("shares", "widths"),
    [
        ([0.5, 0.5], [1]),
        ([*[0.22] * 4, *[0.12 / 28] * 28], [2, 3]),
        ([*[0.24] * 4, *[0.03 / 8] * 8, *[0.01 / 244] * 244], [2, 2, 4]),
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
    escapes = [constants[f"fc.escapes{level or ''}"] for level in range(len(widths) - 1)]
    counts = [120 * 180, *(int(np.unpackbits(mask).sum()) for mask in escapes)]
    for level, (width, count) in enumerate(zip(widths, counts, strict=True)):  # one more code is for nobody
        found = {key: value.size for key, value in constants.items() if key.startswith(f"fc.codes{level or ''}")}
        fields = [size for key, size in found.items() if level or key.split("_")[0] == "fc.codes"]
        assert sum(fields) == width * -(-(1 + count) // 8)
    model.graph.output.append(helper.make_empty_tensor_value_info("fc.weights"))
    x = adversarial_inputs(net, 6).astype(np.uint8)
    outputs = engine(model)(x=x)
    np.testing.assert_array_equal(outputs["fc.weights"].reshape(120, 180).astype(np.int64) - 128, net.weights(0, 0))
    np.testing.assert_array_equal(outputs["fc"], reference.run(net, 0, x)["fc"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("shape", "density"), [((64, 320), 0.05), ((61, 301), 0.05), ((61, 301), 0.0)])
def test_sparse_masks_hold_their_bytes_that_are_not_0(engine, shape, density):
    mask = np.random.default_rng(1).random(shape) < density
    net = linear_network(np.full(shape, 7), scale([1] * shape[0], [0] * shape[0], 4))
    words, task = net.banks[0].layers[0], net.tasks[0]
    words = replace(words, owner=np.where(mask, 0, UNUSED), codebooks=(np.array([7] if mask.any() else []),))
    steps = (replace(task.steps[0], mask=mask), task.steps[1])
    banks = (Bank((words, net.banks[0].layers[1])),)
    net = replace(net, banks=banks, tasks=(replace(task, steps=steps),))
    model = onnx_graph(net, 0, taps=True)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert held["fc.mask"].size + held["fc.used_bytes"].size < 0.55 * mask.size / 8
    assert held["fc.mask"].all(where=np.arange(held["fc.mask"].size) > 0)
    x = adversarial_inputs(net, 6).astype(np.uint8)
    np.testing.assert_array_equal(engine(model)(x=x)["fc"], reference.run(net, 0, x)["fc"])


def test_more_than_256_centroids_of_several_owners_are_told_apart():
    """Every owner has up to 256 of 9 bits; a task that reads the words of many needs codes of more than a byte."""
    recipe = Recipe("conv", tasks=11, code_bits=(8, 8), centroid_bits=9, signed_input=True, density=0.3, seed=93)
    net = random_network(recipe)
    (codebook,) = (tensor for tensor in onnx_graph(net, 4).graph.initializer if tensor.name == "fc.codebook")
    assert codebook.dims[1] > 256
    for task in range(len(net.tasks)):
        assert_equal_integers(net, task, engines=[on_onnxruntime], seed=4)
    assert_equal_integers(net, 4, engines=[on_evaluator], seed=4)
