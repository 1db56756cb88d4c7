"""One ONNX graph per task: stock operators, a few local functions, and the integers of the packed network.

A graph has the input ``x`` (the integer type that holds ``net.input``, any batch) and the output ``logits`` (int32).
Weights are stored as codes of the survivors, mask bits and a codebook; the function ``CodebookLookup`` decodes them,
and onnxruntime folds it away when it loads the file. Between layers, activations are integers in float32. How a layer
computes exactly is decided in :mod:`export.onnx_plan`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.onnx_functions import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, function
from export.onnx_plan import Form, Plan, plan_layer
from tsn_hw.arithmetic import FLOAT32_EXACT, Ints
from tsn_hw.errors import ExportError
from tsn_hw.layers import INPUT, Add, Conv2d, Flatten, Linear, MaxPool, Weighted
from tsn_hw.network import PackedNetwork

FORMAT_VERSION = "1"
"""Version of the graphs: names of tensors, functions and ``metadata_props`` (whose keys start with ``tsn_hw.``)."""
_BYTE_ZERO = 128
"""Zero point of a byte that carries a signed integer."""


def onnx_graph(net: PackedNetwork, task: int, *, taps: bool = False, form: Form | None = None) -> onnx.ModelProto:
    """The ONNX model of one task, opset 18 and IR 8: x (N, *input_shape) -> logits int32 (N, classes).

    ``taps`` adds an int32 output for every layer, named after it, that holds the layer's integers. ``form`` forces
    the form of every sum of products instead of the rule in the module's docstring.

    Raises ExportError where no exact form exists, or the forced one is not exact.
    """
    graph = _Graph()
    tensors = {INPUT: graph.node("Cast", ["x"], "x.integers_in_float32", to=TensorProto.FLOAT)}
    outputs = [helper.make_tensor_value_info("logits", TensorProto.INT32, ["N", len(net.tasks[task].classes)])]
    summaries: list[dict[str, object]] = []
    for index, layer, _ in net.run_order(task):
        sources = [tensors[source] for source in layer.inputs]
        summary: dict[str, object] = {"name": layer.name, "kind": type(layer).__name__}
        if isinstance(layer, Flatten):
            tensors[index] = graph.node("Flatten", sources, f"{layer.name}.integers", axis=1)
        elif isinstance(layer, MaxPool):
            window = {"kernel_shape": layer.kernel, "strides": layer.stride}
            tensors[index] = graph.node("MaxPool", sources, f"{layer.name}.integers", **window)
        else:
            plan = plan_layer(net, task, index, form)
            tensors[index] = _computed(graph, plan, sources)
            summary |= plan.summary()
        summaries.append(summary)
        if taps:
            graph.node("Cast", [tensors[index]], layer.name, to=TensorProto.INT32)
            outputs.append(helper.make_tensor_value_info(layer.name, TensorProto.INT32, ["N", *net.shapes[index]]))
    graph.node("Cast", [tensors[net.head(task)]], "logits", to=TensorProto.INT32)
    return _model(net, task, graph, outputs, summaries)


def write_onnx(net: PackedNetwork, folder: Path) -> list[Path]:
    """Write the graph of every task as ``folder/task_00.onnx``, ``task_01.onnx`` ...: same network, same bytes.

    A file that exists is replaced as a whole or not at all. Raises ExportError where a task has no exact graph or a
    file cannot be written.
    """
    paths = [folder / f"task_{task:02d}.onnx" for task in range(len(net.tasks))]
    for task, path in enumerate(paths):
        content = onnx_graph(net, task).SerializeToString(deterministic=True)
        partial = path.with_suffix(".onnx.partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise ExportError(f"cannot write {path}: {error.strerror}") from error
    return paths


def input_dtype(net: PackedNetwork) -> np.dtype[Any]:
    """The element type of the graph input ``x``: the smallest integer type that holds ``net.input``."""
    return np.dtype(f"{'' if net.input.signed else 'u'}int{8 if net.input.bits <= 8 else 16}")


@dataclass(frozen=True)
class _Plane:
    """A uint8 tensor that stands for ``factor * (tensor - zero_point)``."""

    tensor: str
    zero_point: int
    factor: int


@dataclass(frozen=True)
class _Graph:
    """Nodes and constants written so far. Every tensor has one name, and a node is named after its first output."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    names: set[str] = field(default_factory=lambda: {"x"})

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant tensor."""
        self._claim(name)
        self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def scalar(self, value: int, dtype: str) -> str:
        """Add a scalar, or share the one that is there."""
        name = f"{value}_{dtype}"
        return name if name in self.constants else self.constant(name, np.array(value, dtype))

    def node(self, kind: str, inputs: Sequence[str], output: str, *, doc: str = "", **attributes: Any) -> str:
        """Add a standard operator with one output."""
        self._claim(output)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, doc_string=doc, **attributes))
        return output

    def call(self, function_name: str, inputs: Sequence[str], *outputs: str, doc: str = "") -> str:
        """Add a call of one of our functions; gives its first output."""
        for output in outputs:
            self._claim(output)
        self.nodes.append(
            helper.make_node(function_name, inputs, outputs, name=outputs[0], doc_string=doc, domain=DOMAIN)
        )
        return outputs[0]

    def _claim(self, name: str) -> None:
        if name in self.names:
            raise ExportError(f"layer names: two tensors of the graph would be named {name!r}")
        self.names.add(name)


def _computed(graph: _Graph, plan: Plan, sources: list[str]) -> str:
    """Write one layer; gives its output: integers in float32, or, of a head, in the carrier."""
    if isinstance(plan.layer, Add):
        value = _affine(graph, plan, _aligned_sum(graph, plan, sources), plan.carrier)
    elif plan.form == "integer":
        value = _affine(graph, plan, *_integer_product(graph, plan, plan.layer, sources[0]))
    else:
        value = _float32_product(graph, plan, plan.layer, sources[0])
    return _requantized(graph, plan, value)


def _float32_product(graph: _Graph, plan: Plan, layer: Weighted, source: str) -> str:
    """Gemm or Conv on integers in float32; multiplier, offset and shift folded in where that is exact."""
    name, doc = layer.name, f"Integers in float32: sums reach {plan.accumulator} of {FLOAT32_EXACT}."
    kind, attributes = ("Gemm", {"transB": 1}) if isinstance(layer, Linear) else ("Conv", _window(layer))
    inputs = [source, _weights(graph, plan, layer)]
    if plan.carrier != "float32":
        sums = graph.node(kind, inputs, f"{name}.sum", doc=doc, **attributes)
        return _affine(graph, plan, sums, "float32")
    scale = plan.scaled(_compact(plan.requantization.multiplier))
    if (scale != 1).any():
        constant = graph.constant(f"{name}.scale", scale.reshape(-1, *[1] * (len(layer.weight_shape) - 1)))
        inputs[1] = graph.node("Mul", [inputs[1], constant], f"{name}.scaled_weights", doc="multiplier / 2**shift")
    offset = np.broadcast_to(plan.requantization.offset, (layer.channels,))
    if offset.any():
        inputs.append(graph.constant(f"{name}.offset", plan.scaled(offset)))
    return graph.node(kind, inputs, f"{name}.value", doc=doc, **attributes)


def _integer_product(graph: _Graph, plan: Plan, layer: Weighted, source: str) -> tuple[str, str]:
    """MatMulInteger or ConvInteger on every pair of byte planes; gives the sum and its type."""
    name, weights = layer.name, _weights(graph, plan, layer)
    if isinstance(layer, Linear):
        weights = graph.node("Transpose", [weights], f"{name}.transposed_weights", perm=[1, 0])
    kind, attributes = ("MatMulInteger", {}) if isinstance(layer, Linear) else ("ConvInteger", _window(layer))
    form = plan.inputs[0]
    x_planes = _byte_planes(graph, f"{name}.x", source, signed=form.signed, wide=form.bits > 8)
    weight_planes = _byte_planes(graph, f"{name}.weight", weights, signed=True, wide=plan.has_wide_weights)
    total = ""
    for x, weight in itertools.product(x_planes, weight_planes):
        zeros = [graph.scalar(plane.zero_point, "uint8") for plane in (x, weight)]
        output = f"{name}.sum_{x.factor}_{weight.factor}"
        term = graph.node(kind, [x.tensor, weight.tensor, *zeros], output, **attributes)
        if len(x_planes) == len(weight_planes) == 1:
            return term, "int32"
        term = graph.node("Cast", [term], f"{output}_{plan.carrier}", to=_onnx_type(plan.carrier))
        if (factor := x.factor * weight.factor) > 1:
            term = graph.node("Mul", [term, graph.scalar(factor, plan.carrier)], f"{output}_scaled")
        total = graph.node("Add", [total, term], f"{output}_total") if total else term
    return total, plan.carrier


def _aligned_sum(graph: _Graph, plan: Plan, sources: list[str]) -> str:
    """Both operands of an Add on the finer of their grids, added in the carrier."""
    name, finer = plan.layer.name, min(form.exponent for form in plan.inputs)
    terms = []
    for number, (source, form) in enumerate(zip(sources, plan.inputs, strict=True)):
        term = source
        if plan.carrier != "float32":
            term = graph.node("Cast", [term], f"{name}.term{number}", to=_onnx_type(plan.carrier))
        if form.exponent > finer:
            factor = graph.scalar(1 << (form.exponent - finer), plan.carrier)
            term = graph.node("Mul", [term, factor], f"{name}.aligned{number}")
        terms.append(term)
    return graph.node("Add", terms, f"{name}.sum")


def _affine(graph: _Graph, plan: Plan, sums: str, dtype: str) -> str:
    """(sums * multiplier + offset) / 2**shift in the carrier; an int64 carrier leaves the shift to the rounding."""
    name, value, per_channel = plan.layer.name, sums, (1, -1, *[1] * (plan.rank - 2))
    if dtype != plan.carrier:
        value = graph.node("Cast", [value], f"{name}.sum_{plan.carrier}", to=_onnx_type(plan.carrier))
    scale = plan.scaled(_compact(plan.requantization.multiplier))
    if (scale != 1).any():
        constant = graph.constant(f"{name}.scale", scale.reshape(per_channel))
        value = graph.node("Mul", [value, constant], f"{name}.scaled_sum")
    if plan.requantization.offset.any():
        constant = graph.constant(f"{name}.offset", plan.scaled(plan.requantization.offset).reshape(per_channel))
        value = graph.node("Add", [value, constant], f"{name}.value")
    return value


def _requantized(graph: _Graph, plan: Plan, value: str) -> str:
    """Round half to even and saturate. A head cannot saturate (proven at birth) and keeps its carrier."""
    requantization, carrier = plan.requantization, plan.carrier
    is_head = requantization.output is None
    output = f"{plan.layer.name}.integers"
    if is_head and requantization.shift == 0:
        return value
    if is_head and carrier != "int64":
        return graph.node("Round", [value], output)
    limits = [graph.scalar(limit, carrier) for limit in requantization.bounds]
    rounded = output if is_head or carrier == "float32" else f"{output}_{carrier}"
    if carrier == "int64":
        unit = 1 << requantization.shift
        divisor = [graph.scalar(unit, carrier), graph.scalar(max(1, unit // 2), carrier)]
        graph.call("RequantizeInteger", [value, *divisor, *limits], rounded)
    else:
        graph.call("Requantize", [value, *limits], rounded)
    return rounded if rounded == output else graph.node("Cast", [rounded], output, to=TensorProto.FLOAT)


def _weights(graph: _Graph, plan: Plan, layer: Weighted) -> str:
    """The weights as integers in float32, decoded in the graph; an average pool sums with ones."""
    name, words = layer.name, plan.words
    shape = graph.constant(f"{name}.shape", np.array(layer.weight_shape, np.int64))
    if words is None:
        one = numpy_helper.from_array(np.ones(1, np.float32))
        return graph.node("ConstantOfShape", [shape], f"{name}.weights", value=one)
    inputs = [
        graph.constant(f"{name}.codes", words.codes),
        graph.constant(f"{name}.mask", words.mask),
        graph.constant(f"{name}.codebook", words.codebook),
        shape,
    ]
    doc = f"{words.survivors} survivors of {math.prod(layer.weight_shape)} weights, {len(words.codes)}-bit codes."
    return graph.call("CodebookLookup", inputs, f"{name}.weights", doc=doc)


def _byte_planes(graph: _Graph, name: str, tensor: str, *, signed: bool, wide: bool) -> list[_Plane]:
    """Integers in float32 as one or two planes of bytes."""
    zero_point = _BYTE_ZERO if signed else 0
    if wide:
        outputs = [f"{name}.high", f"{name}.low"]
        graph.call("SplitBytes", [tensor, graph.scalar(zero_point, "float32")], *outputs)
        return [_Plane(outputs[0], zero_point, 256), _Plane(outputs[1], 0, 1)]
    if signed:
        tensor = graph.node("Add", [tensor, graph.scalar(zero_point, "float32")], f"{name}.above_zero_point")
    return [_Plane(graph.node("Cast", [tensor], f"{name}.bytes", to=TensorProto.UINT8), zero_point, 1)]


def _window(layer: Conv2d) -> dict[str, Any]:
    return {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding * 2, "group": layer.groups}


def _compact(vector: Ints) -> Ints:
    """One entry if all are equal."""
    return vector[:1] if (vector == vector[0]).all() else vector


def _onnx_type(dtype: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _model(
    net: PackedNetwork, task: int, graph: _Graph, outputs: list[ValueInfoProto], summaries: list[dict[str, object]]
) -> onnx.ModelProto:
    """Put the parts together, with what a reader needs to quantize an input and read the logits."""
    name, form = net.tasks[task].name, net.input
    x = helper.make_tensor_value_info("x", _onnx_type(str(input_dtype(net))), ["N", *net.input_shape])
    x.doc_string = f"Integers {form.range[0]}..{form.range[1]}; real value = integer * 2**{form.exponent}."
    functions = sorted({node.op_type for node in graph.nodes if node.domain == DOMAIN})
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            name,
            [x],
            outputs,
            list(graph.constants.values()),
            doc_string=f"Task {name!r} of a packed network: exact integers; class = first index of the largest logit.",
        ),
        functions=[function(name) for name in functions],
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        producer_name="tsn-hw",
        producer_version=FORMAT_VERSION,
    )
    described = {"shape": net.input_shape, "bits": form.bits, "signed": form.signed, "exponent": form.exponent}
    properties = {
        "tsn_hw.format": FORMAT_VERSION,
        "tsn_hw.task": name,
        "tsn_hw.classes": json.dumps(net.tasks[task].classes),
        "tsn_hw.input": json.dumps(described),
        "tsn_hw.layers": json.dumps(summaries),
    }
    helper.set_model_props(model, properties)
    return model
