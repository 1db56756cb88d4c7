"""The gate as a graph of its own, ``gate.onnx``: which task an input belongs to.

It has the input of the tasks' graphs, ``x``, and two outputs: ``logits``, the score of every task, int32 (N, tasks),
and ``task``, the first task with the largest score, int64 (N,). In its metadata its classes are the names of the tasks,
so that whatever runs the graph of a task runs this one. Of several inputs of one task, the caller adds the scores up.
All arithmetic is that of integers in float64, which holds them exactly: see :mod:`tsn_hw.core.gate`.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.onnx_graphs.functions import IR_VERSION, OPSET
from export.onnx_graphs.metadata import metadata
from export.onnx_graphs.nodes import Graph, element_type, onnx_type
from tsn_hw.core.arithmetic import Ints, signed_bits
from tsn_hw.core.gate import NO_EDGES, SATURATED, Component, Features, Gate, gates_of
from tsn_hw.core.layers import Pair, Shape
from tsn_hw.core.network import PackedNetwork

GATE_FILE = "gate.onnx"
NAME = "gate"


def gate_graph(net: PackedNetwork) -> onnx.ModelProto:
    """The ONNX model of all gates: x (N, *input_shape) -> logits int32 (N, tasks), task int64 (N,).

    Raises SettingsError where the network has no gates.
    """
    gates, graph = gates_of(task.gate for task in net.tasks), Graph()
    x = graph.node("Cast", ["x"], "numbers", to=TensorProto.DOUBLE)
    features = _features(graph, x, gates[0].features, net.input_shape)
    scores = [_score(graph, features, gate, f"gate{number}") for number, gate in enumerate(gates)]
    joined = graph.node("Concat", scores, "scores", axis=1)
    graph.node("Cast", [joined], "logits", to=TensorProto.INT32)
    graph.node("ArgMax", ["logits"], "task", axis=1, keepdims=0)
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.INT32, ["N", len(gates)]),
        helper.make_tensor_value_info("task", TensorProto.INT64, ["N"]),
    ]
    entry = helper.make_tensor_value_info("x", onnx_type(str(element_type(net.input))), ["N", *net.input_shape])
    body = helper.make_graph(graph.nodes, NAME, [entry], outputs, list(graph.constants.values()))
    model = helper.make_model(
        body, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="tsn-hw"
    )
    classes = [task.name for task in net.tasks]
    told: dict[str, object] = {"task": NAME, "classes": classes, "output": {"exponent": None}, "layers": {"name": []}}
    helper.set_model_props(model, metadata(net, 0, [], told))
    return model


def _features(graph: Graph, x: str, features: Features, shape: Shape) -> str:
    """The features of numbers (N, *shape), float64 (N, features)."""
    if len(shape) == 1:
        return _shifted_down(graph, x, features.shift, "features")
    sums = _window_sums(graph, x, shape, features.pool, "pool", [3, 5])
    parts = [_shifted_down(graph, sums, features.shift, "pooled")]
    if features.edges != NO_EDGES:
        for axis, name in ((3, "across"), (2, "down")):
            ends = [_slice(graph, x, axis, start, 2**31 - 1, f"{name}.{start}") for start in (1, -1)]
            following = graph.node("Concat", ends, f"{name}.following", axis=axis)
            difference = graph.node("Sub", [x, following], f"{name}.signed")
            magnitude = graph.node("Abs", [difference], f"{name}.difference")
            total = _window_sums(graph, magnitude, shape, features.edges, name, [1, 3, 5])
            four = graph.shared("4_f64", np.array(4.0))
            root = graph.node("Sqrt", [graph.node("Mul", [total, four], f"{name}.four")], f"{name}.root")
            parts.append(graph.node("Floor", [root], f"{name}.feature"))
    return graph.node("Concat", parts, "features", axis=1)


def _window_sums(graph: Graph, x: str, shape: Shape, window: Pair, name: str, axes: list[int]) -> str:
    """Sums over whole windows that do not overlap, (N, sums); ``axes``: 1 for the channels, 3 and 5 for the window."""
    channels, *sides = shape
    counts = [side // size for side, size in zip(sides, window, strict=True)]
    for axis, (side, size, count) in enumerate(zip(sides, window, counts, strict=True), start=2):
        if side != size * count:
            x = _slice(graph, x, axis, 0, size * count, f"{name}.cut{axis}")
    parts = [0, channels, counts[0], window[0], counts[1], window[1]]
    split = graph.node("Reshape", [x, graph.constant(f"{name}.windows", np.array(parts))], f"{name}.split")
    total = graph.node("ReduceSum", [split, graph.constant(f"{name}.axes", np.array(axes))], f"{name}.sum", keepdims=0)
    size = (1 if 1 in axes else channels) * math.prod(counts)
    return graph.node("Reshape", [total, graph.constant(f"{name}.size", np.array([0, size]))], f"{name}.sums")


def _slice(graph: Graph, x: str, axis: int, start: int, end: int, name: str) -> str:
    limits = [graph.shared(f"[{value}]", np.array([value])) for value in (start, end, axis)]
    return graph.node("Slice", [x, *limits], name)


def _shifted_down(graph: Graph, x: str, shift: int, name: str) -> str:
    scaled = graph.node("Mul", [x, graph.constant(f"{name}.scale", np.array(2.0**-shift))], f"{name}.scaled")
    return graph.node("Floor", [scaled], name)


def _score(graph: Graph, features: str, gate: Gate, name: str) -> str:
    """The score of a task, (N, 1)."""
    parts = [_component(graph, features, part, f"{name}.{k}") for k, part in enumerate(gate.components)]
    return graph.node("Max", parts, f"{name}.score")


def _component(graph: Graph, features: str, part: Component, name: str) -> str:
    bias = graph.constant(f"{name}.bias", np.array([[float(part.bias)]]))
    linear = graph.node(
        "MatMul", [features, _weights(graph, part.linear[:, None], f"{name}.linear")], f"{name}.products"
    )
    score = graph.node("Add", [linear, bias], f"{name}.biased")
    if not len(part.map):
        return score
    sums = graph.node("MatMul", [features, _weights(graph, part.map.T, f"{name}.map")], f"{name}.sums")
    offset = graph.constant(f"{name}.offset", part.offset.astype(np.float64))
    scale = graph.constant(f"{name}.scale", np.ldexp(1.0, -part.shift.astype(np.int32)))
    scaled = graph.node("Mul", [graph.node("Add", [sums, offset], f"{name}.centred"), scale], f"{name}.scaled")
    limits = [graph.shared(f"{limit}_f64", np.array(float(limit))) for limit in SATURATED]
    y = graph.node("Clip", [graph.node("Round", [scaled], f"{name}.rounded"), *limits], f"{name}.y")
    squares = graph.node("Mul", [y, y], f"{name}.squares")
    total = graph.node("ReduceSum", [squares, graph.shared("[1]", np.array([1]))], f"{name}.total", keepdims=1)
    return graph.node("Sub", [score, total], f"{name}.score")


def _weights(graph: Graph, values: Ints, name: str) -> str:
    """Weights as float64, stored in the fewest bytes."""
    stored = graph.constant(name, values.astype(np.int8 if signed_bits(values) <= 8 else np.int16))
    return graph.node("Cast", [stored], f"{name}.f64", to=TensorProto.DOUBLE)
