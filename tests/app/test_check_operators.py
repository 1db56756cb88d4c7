"""Every operator of another tool's model has a counterpart, or is named with what to change."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.helpers.foreign_models import found_in, model_of
from tsn_hw.learn.foreign import SUPPORTED, read_foreign

HEAD = ("Gemm", ["f", "w"], ["y"], {})
FLAT = {"w": (3 * 32 * 32, 10)}
IN_FRONT = "stands in front of the first layer; scale and shift the data before the network"
K = {"k": (4, 3, 3, 3)}
POOL = {"kernel_shape": [2, 2]}
ONE = {"kernel_shape": [1, 1]}
K3 = {"k3": (3, 3, 3, 3)}
FRONT: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
    ("Conv", ["x", "k3"], ["f0"], {"pads": [1] * 4}),
    ("Flatten", ["f0"], ["f"], {}),
]
TRAINING = "is in training mode; export the model for inference"
WRONG: list[tuple[str, list[str], dict[str, Any], dict[str, tuple[int, ...]], str]] = [
    ("Sigmoid", ["x"], {}, {}, "use Relu: activations are saturated integers, and Relu is the saturation at 0"),
    ("LSTM", ["x"], {}, {}, f"has no counterpart; supported are {SUPPORTED}"),
    ("Softmax", ["x"], {}, {}, f"has no counterpart; supported are {SUPPORTED}"),
    ("Concat", ["x", "x"], {"axis": 1}, {}, "sum the branches with Add"),
    ("Odd", ["x"], {}, {}, f"operators of the domain 'odd' are unknown; supported are {SUPPORTED}"),
    ("Conv", ["x", "k"], {"auto_pad": "SAME"}, K, "has auto_pad SAME, which ONNX does not know"),
    ("Conv", ["x", "k"], {"pads": [0, 0, -1, 1]}, K, "has sizes below 1, or pads below 0"),
    ("Conv", ["x", "k"], {"kernel_shape": [3, 2]}, K, "has kernel_shape [3, 2], its weights have [3, 3]"),
    ("Clip", ["x", "low"], {}, {"low": ()}, "stands in front of the first layer; clip the data before the network"),
    ("ReduceMean", ["x"], {"keepdims": 0}, {}, "must be the mean of whole maps, over all axes behind the channels"),
    ("Conv", ["x", "k"], {}, {"k": (4, 3, 2)}, "has 1 spatial dimensions, must have 2"),
    ("Conv", ["x", "x"], {}, {}, "multiplies two activations; one factor must be constant weights"),
    (
        "Conv",
        ["x", "k"],
        {},
        {"k": (4, 2, 3, 3)},
        "takes 2 channels, its input is (3, 32, 32)",
    ),
    (
        "MaxPool",
        ["x"],
        POOL | {"pads": [1, 1, 1, 1]},
        {},
        "pads what may be negative; put a ReLU before it, or pad the convolution",
    ),
    ("MaxPool", ["x"], POOL | {"dilations": [2, 2]}, {}, "has a dilation, which pools do not have here"),
    (
        "AveragePool",
        ["x"],
        POOL | {"pads": [1, 1, 1, 1]},
        {},
        "leaves padding out of its mean; use count_include_pad=True and no ceil_mode, or none",
    ),
    (
        "AveragePool",
        ["x"],
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1},
        {},
        "leaves padding out of its mean; use count_include_pad=True and no ceil_mode, or none",
    ),
    ("Add", ["x", "k"], {}, {"k": (1,)}, IN_FRONT),
    ("Relu", ["x"], {}, {}, "stands in front of the first layer; clip the data before the network"),
    ("Flatten", ["x"], {"axis": 2}, {}, "has axis 2, must have 1"),
    (
        "Gemm",
        ["x", "k"],
        {"alpha": 2.0},
        {"k": (4, 3)},
        "has transA, alpha or beta; must be a plain product with constant weights",
    ),
]


@pytest.mark.parametrize(("kind", "inputs", "attributes", "weights", "problem"), WRONG)
def test_an_operator_without_counterpart_is_named_with_what_to_change(
    kind: str, inputs: list[str], attributes: dict[str, Any], weights: dict[str, tuple[int, ...]], problem: str
) -> None:
    foreign = found_in([(kind, inputs, ["f"], attributes), HEAD], FLAT | weights, domain="odd")
    assert foreign.all_problems == [f"{kind} 'n0': {problem}"]
    assert foreign.operators[1].becomes == "Linear, of unknown size because of what stands before it"


def test_all_problems_are_told_at_once() -> None:
    nodes = [
        ("Conv", ["x", "k"], ["c"], {}),
        ("Sigmoid", ["c"], ["s"], {}),
        ("Conv", ["s", "k2"], ["c2"], {"kernel_shape": [2, 2]}),
        ("Tanh", ["c2"], ["t"], {}),
        ("Gemm", ["t", "w"], ["y"], {"beta": 2.0}),
    ]
    weights = {"k": (4, 3, 3, 3), "k2": (4, 4, 3, 3), "w": (10, 10)}
    assert [problem.partition(":")[0] for problem in found_in(nodes, weights, outputs=("y", "c")).all_problems] == [
        "the model has 2 outputs; a task has one head",
        "Sigmoid 'n1'",
        "Conv 'n2'",
        "Tanh 'n3'",
        "Gemm 'n4'",
    ]


@pytest.mark.parametrize("shape", [("N", 3, "h", "w"), ("N", 3, 32, 32, 2), ("N",)])
def test_an_input_of_another_shape_is_told(shape: Sequence[int | str]) -> None:
    problem = found_in([("Flatten", ["x"], ["f"], {}), HEAD], FLAT, shape=shape).problems[0]
    assert problem.startswith("input 'x': has shape (N, ")
    shapes = "(N, features), (N, channels, steps) or (N, channels, height, width)"
    assert problem.endswith(f"must be {shapes} with fixed sizes")


@pytest.mark.parametrize("kind", ["Relu", "BatchNormalization"])
def test_an_activation_that_is_read_with_and_without_relu_is_told(kind: str) -> None:
    inputs = ["c", "g", "g", "g", "g"] if kind == "BatchNormalization" else ["c"]
    nodes = [
        ("Conv", ["x", "k"], ["c"], {"pads": [1, 1, 1, 1]}),
        (kind, inputs, ["r"], {}),
        ("Add", ["c", "r"], ["s"], {}),
        ("Flatten", ["s"], ["f"], {}),
        HEAD,
    ]
    (problem,) = found_in(nodes, FLAT | {"k": (3, 3, 3, 3), "g": (3,)}).all_problems
    assert problem == (
        f"{kind} 'n1': its input is read elsewhere too; a layer gives its output with it or without, not both"
    )


@pytest.mark.parametrize("operator", ["Add", "BatchNormalization"])
def test_a_bias_or_norm_behind_a_relu_is_told(operator: str) -> None:
    inputs = ["r", "g", "g", "g", "g"] if operator == "BatchNormalization" else ["r", "g"]
    nodes = [
        ("Conv", ["x", "k"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], ["r"], {}),
        (operator, inputs, ["b"], {}),
        ("Flatten", ["b"], ["f"], {}),
        HEAD,
    ]
    problems = found_in(nodes, FLAT | {"k": (3, 3, 3, 3), "g": (3,)}).all_problems
    assert problems == [
        f"{operator} 'n2': must stand right behind a Conv, Gemm or MatMul, whose scale and bias it becomes"
    ]


def test_a_model_must_end_in_its_logits() -> None:
    nodes = [("Flatten", ["x"], ["f"], {}), ("Gemm", ["f", "w"], ["h"], {}), ("Relu", ["h"], ["y"], {})]
    assert found_in(nodes, FLAT).all_problems == [
        "the model must end in a Gemm or MatMul without Relu and batch norm: the head, which gives logits"
    ]


def test_a_model_that_contradicts_itself_is_told() -> None:
    model = model_of([("Flatten", ["x"], ["y"], {})], {})
    del model.opset_import[:]
    assert read_foreign(model).problems[0].startswith("the model contradicts itself: ")


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"])
@pytest.mark.parametrize("is_imported", [True, False])
def test_a_quantized_model_is_sent_back_to_its_float_model(domain: str, is_imported: bool) -> None:
    """Whatever stands behind quantized weights is read as with the weights themselves."""
    model = model_of(
        [("Odd", ["k", "s", "s", "s"], ["q"], {}), ("Gemm", ["f0", "q"], ["y"], {})],
        {"k": (3072, 4), "s": ()},
        domain=domain,
    )
    model.graph.node[0].op_type = "Quant"
    model.graph.node.insert(0, helper.make_node("Flatten", ["x"], ["f0"]))
    if not is_imported:
        del model.opset_import[1:]
    foreign = read_foreign(model)
    assert foreign.all_problems == [f"Quant 'n0': {QUANTIZED}"]
    assert foreign.operators[2].becomes == "Linear 'fc1', 4 out"


QUANTIZED = "give 'check' the float model that was quantized: the learner quantizes by itself"
READ_TWICE = "its input is read elsewhere too; a layer gives its output with it or without, not both"
NO_BIAS = "adds constants of shape {}; must be a bias a channel, (3, 1, 1)"
SUM: tuple[str, list[str], list[str], dict[str, Any]] = ("Add", ["c", "e"], ["s"], {})
BEHIND: list[tuple[str, list[tuple[str, list[str], list[str], dict[str, Any]]], str]] = [
    ("a bias a channel", [("Add", ["c", "b311"], ["e"], {})], ""),
    ("the same with a batch of one", [("Add", ["b1311", "c"], ["e"], {})], ""),
    ("one number", [("Add", ["c", "b"], ["e"], {})], ""),
    ("constants a pixel", [("Add", ["c", "pixel"], ["e"], {})], NO_BIAS.format("(1, 3, 32, 32)")),
    ("constants a column", [("Add", ["c", "b32"], ["e"], {})], NO_BIAS.format("(32,)")),
    ("constants a sample", [("Add", ["c", "b2111"], ["e"], {})], NO_BIAS.format("(2, 1, 1, 1)")),
    ("one dimension more", [("Add", ["c", "b11311"], ["e"], {})], NO_BIAS.format("(1, 1, 3, 1, 1)")),
    ("a cast to bytes", [("Cast", ["c"], ["e"], {"to": 2})], "cuts numbers down to whole ones; leave them as they are"),
    ("a cast to half floats", [("Cast", ["c"], ["e"], {"to": 10})], ""),
    ("a dropout of training", [("Dropout", ["c", "b", "yes"], ["e"], {})], TRAINING),
    ("a pool, then its ReLU", [("MaxPool", ["c"], ["p"], ONE), ("Relu", ["p"], ["e"], {}), SUM],
     READ_TWICE),
    ("a copy, then its ReLU", [("Identity", ["c"], ["p"], {}), ("Relu", ["p"], ["e"], {}), SUM],
     READ_TWICE),
    ("a bias on one of two ways", [("Add", ["c", "b311"], ["e"], {}), SUM], READ_TWICE),
    ("a tensor twice", [("Identity", ["c"], ["c"], {})], "computes 'c', which is there already"),
    ("a batch of pixels", [("Reshape", ["c", "rows"], ["e"], {})],
     "must bring (N, channels, height, width) to (N, features); other shapes have no counterpart"),
    ("too few inputs", [("Conv", ["c"], ["e"], {})],
     "is no valid ONNX: Node(n1) with schema(::Conv:11) has input size 1 not in range [min=2, max=3]."),
    ("an attribute of another type", [("Conv", ["c", "k"], ["e"], {"strides": 2})],
     "is no valid ONNX: Mismatched attribute type in 'n1 : strides'. Expected: 'INTS', actual: 'INT'"),
    ("pads of half their number", [("Conv", ["c", "k"], ["e"], {"pads": [1, 1]})],
     "is no valid ONNX: must have 2 strides and dilations, and 4 pads"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "problem"), [case[1:] for case in BEHIND], ids=[case[0] for case in BEHIND])
def test_what_stands_behind_a_convolution_is_part_of_it_or_told(nodes: list[Any], problem: str) -> None:
    sizes = {"b311": (3, 1, 1), "b1311": (1, 3, 1, 1), "b": (), "pixel": (1, 3, 32, 32), "b32": (32,)}
    sizes |= {"b2111": (2, 1, 1, 1), "b11311": (1, 1, 3, 1, 1), "k": (3, 3, 3, 3), "yes": ()}
    model = model_of([("Conv", ["x", "k"], ["c"], {"pads": [1] * 4}), *nodes], sizes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 3]), "rows"))
    told = [f"{nodes[0][0] if len(nodes) < 2 else nodes[-2][0]} 'n{max(1, len(nodes) - 1)}': {problem}"] * bool(problem)
    assert [line for line in read_foreign(model).all_problems if not line.startswith("the model must end in")] == told


@pytest.mark.parametrize(
    ("operator", "attributes", "is_right"),
    [
        ("ArgMax", {"axis": 1}, True),
        ("ArgMax", {"axis": -1}, True),
        ("ArgMax", {}, False),  # over the batch
        ("ArgMax", {"axis": 1, "select_last_index": 1}, False),
        ("Softmax", {}, True),
        ("Softmax", {"axis": 0}, False),
    ],
)
def test_the_end_chooses_among_the_classes(operator: str, attributes: dict[str, Any], is_right: bool) -> None:
    nodes = [*FRONT, ("Gemm", ["f", "w"], ["l"], {}), (operator, ["l"], ["y"], attributes)]
    problem = f"{operator} 'n3': must choose among the classes, axis 1, and of equal ones the first"
    assert found_in(nodes, FLAT | K3).all_problems == [problem] * (not is_right)


def test_weights_of_another_number_type_are_weights() -> None:
    nodes = [*FRONT, ("Cast", ["w"], ["v"], {"to": 1}), ("Gemm", ["f", "v"], ["y"], {})]
    assert found_in(nodes, FLAT | K3).all_problems == []


def test_a_model_that_training_refuses_is_refused_in_the_same_words() -> None:
    nodes = [("Flatten", ["x"], ["f"], {}), HEAD]
    assert found_in(nodes, FLAT).all_problems == ["model: the body has no layer with weights, needs one at least"]
