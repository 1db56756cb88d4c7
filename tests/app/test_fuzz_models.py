"""Models of other tools under thousands of changes: read, or refused in one line."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.mutations import damaged, judge
from tsn_hw.app.check.network import check_onnx


def foreign() -> onnx.ModelProto:
    """A residual block, a pool, a bias and a head, as another tool exports them."""
    weights = {"w1": (4, 1, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "w3": (64, 3), "b3": (3,), "g": (4,)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1] * 4, kernel_shape=[3, 3], strides=[1, 1]),
        helper.make_node("BatchNormalization", ["a", "g", "g", "g", "g"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["c"], pads=[1] * 4, group=1, dilations=[1, 1]),
        helper.make_node("Add", ["c", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["t"]),
        helper.make_node("MaxPool", ["t"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Constant", [], ["rows"], value_ints=[-1, 64]),
        helper.make_node("Reshape", ["p", "rows"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["l"], alpha=1.0, transB=0),
        helper.make_node("Softmax", ["l"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


KINDS = [
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Relu",
    "MaxPool",
    "GlobalAveragePool",
    "Flatten",
    "Reshape",
    "Cast",
    "ArgMax",
]
KINDS += ["Softmax", "Dropout", "Identity", "Constant", "Shape", "BatchNormalization", "Quant", "If", "Loop", ""]
VALUES: list[Any] = [0, -1, 2**62, 1.5, b"SAME_UPPER", b"\xff", [], [0], [1, 1], [-1] * 4, [2**40] * 4, [0.5], [b"x"]]
VALUES += [numpy_helper.from_array(np.zeros((2, 2), np.float32)), helper.make_graph([], "empty", [], [])]


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if value == []:
        return onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, value)


def changed_model(rng: random.Random) -> bytes:
    """One to three changes of nodes, attributes, constants and inputs."""
    model = foreign()
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)] + ["", "x", "zzz"]
    for _ in range(rng.randrange(1, 4)):
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        change = rng.randrange(11)
        if change == 0:
            node.op_type = rng.choice(KINDS)
        elif change == 1 and node.input:
            del node.input[rng.randrange(len(node.input)) :]
        elif change == 2 and node.output:
            del node.output[:]
        elif change == 3:
            node.input.append(rng.choice(names))
        elif change == 4 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif change == 5 and node.attribute:
            name = rng.choice(node.attribute).name
            kept = [entry for entry in node.attribute if entry.name != name]
            del node.attribute[:]
            node.attribute.extend(kept)
            if rng.randrange(3):
                node.attribute.append(_attribute(name, rng.choice(VALUES)))
        elif change == 6:
            del tensor.dims[rng.randrange(len(tensor.dims)) :]
        elif change == 7:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([0, 1, 2**40, -1, 3])
        elif change == 8:
            graph.node.insert(rng.randrange(len(graph.node)), node)
        elif change == 9:
            dim = rng.choice(graph.input[0].type.tensor_type.shape.dim)
            dim.dim_value = rng.choice([0, -1, 1, 2**62])
        elif node.output:
            node.output[0] = rng.choice(names)
        if not all(entry.dims for entry in graph.initializer):
            break
    return bytes(model.SerializeToString())


def test_models_of_other_tools(tmp_path: Path) -> None:
    path, whole = tmp_path / "model.onnx", foreign().SerializeToString()

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        told = check_onnx(path)
        for problem in (problem for found in told.problems.values() for problem in found):
            assert len(problem) < 500, problem
            assert "\n" not in problem
        told.result().text()

    def make(rng: random.Random) -> bytes:
        return damaged(whole, rng) if rng.randrange(3) == 0 else changed_model(rng)

    assert judge(make, read, path) > 500
