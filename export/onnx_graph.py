"""One ONNX graph per task: stock operators, a few local functions, and the integers of the packed network.

A graph has the input ``x`` (the integer type that holds ``net.input``, any batch) and the output ``logits`` (int32).
Weights are stored as codes of the survivors, mask bits and a codebook; the function ``CodebookLookup`` decodes them,
and onnxruntime folds it away when it loads the file. Between layers, activations are integers in float32, or uint8
where both sides compute on bytes. How a layer computes exactly is decided in :mod:`export.onnx_plan`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.onnx_functions import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, function
from export.onnx_plan import ForcedForm, Plan, plan_layer
from tsn_hw.arithmetic import FLOAT32_EXACT, Ints
from tsn_hw.errors import ExportError
from tsn_hw.layers import INPUT, Add, Conv2d, Flatten, Linear, MaxPool, Weighted
from tsn_hw.network import PackedNetwork

FORMAT_VERSION = "1"
"""Version of the graphs: names of tensors, functions and ``metadata_props`` (whose keys start with ``tsn_hw.``)."""
_BYTE_ZERO = 128
"""Zero point of a byte that carries a signed integer."""


def onnx_graph(net: PackedNetwork, task: int, *, taps: bool = False, form: ForcedForm | None = None) -> onnx.ModelProto:
    """The ONNX model of one task, opset 18 and IR 8: x (N, *input_shape) -> logits int32 (N, classes).

    ``taps`` adds an int32 output for every layer, named after it, that holds the layer's integers. ``form`` forces
    the form of every sum of products, see :mod:`export.onnx_plan`.

    Raises ExportError where no exact form exists, or the forced one is not exact.
    """
    graph = _Graph()
    tensors = {INPUT: _Tensor("x", str(input_dtype(net)))}
    outputs = [helper.make_tensor_value_info("logits", TensorProto.INT32, ["N", len(net.tasks[task].classes)])]
    summaries: list[dict[str, object]] = []
    for index, layer, _ in net.run_order(task):
        sources = [tensors[source] for source in layer.inputs]
        summary: dict[str, object] = {"name": layer.name, "kind": type(layer).__name__}
        if isinstance(layer, Flatten):
            tensors[index] = _moved(graph, "Flatten", sources[0], layer.name, axis=1)
        elif isinstance(layer, MaxPool):
            attributes = {"kernel_shape": layer.kernel, "strides": layer.stride}
            tensors[index] = _moved(graph, "MaxPool", sources[0], layer.name, **attributes)
        else:
            plan = plan_layer(net, task, index, form)
            tensors[index] = _computed(graph, plan, sources)
            summary |= plan.summary()
        summaries.append(summary)
        if taps:
            _cast(graph, tensors[index], "int32", layer.name)
            outputs.append(helper.make_tensor_value_info(layer.name, TensorProto.INT32, ["N", *net.shapes[index]]))
    _cast(graph, tensors[net.head(task)], "int32", "logits")
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
            try:
                partial.write_bytes(content)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise ExportError(f"cannot write {path}: {error.strerror}") from error
    return paths


def input_dtype(net: PackedNetwork) -> np.dtype[Any]:
    """The element type of the graph input ``x``: the smallest integer type that holds ``net.input``."""
    return np.dtype(f"{'' if net.input.signed else 'u'}int{8 if net.input.bits <= 8 else 16}")


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the graph; the integers that it carries are its values minus the zero point."""

    name: str
    dtype: str
    zero_point: int = 0


@dataclass(frozen=True)
class _Graph:
    """Nodes and constants written so far. Every tensor has one name, and a node is named after its first output."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    names: set[str] = field(default_factory=lambda: {"x"})
    casts: dict[tuple[str, str], str] = field(default_factory=dict)

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


def _cast(graph: _Graph, tensor: _Tensor, dtype: str, output: str) -> str:
    """The integers of a tensor in a type that holds them, without zero point."""
    if (tensor.dtype, tensor.zero_point) == (dtype, 0):
        return graph.node("Identity", [tensor.name], output)
    if tensor.zero_point == 0:
        return graph.node("Cast", [tensor.name], output, to=_onnx_type(dtype))
    above = graph.node("Cast", [tensor.name], f"{output}.above_zero_point", to=_onnx_type(dtype))
    return graph.node("Sub", [above, graph.scalar(tensor.zero_point, dtype)], output)


def _in_type(graph: _Graph, tensor: _Tensor, dtype: str) -> str:
    """The integers of a tensor in a type that holds them; the cast is written once."""
    if (tensor.dtype, tensor.zero_point) == (dtype, 0):
        return tensor.name
    key = tensor.name, dtype
    if key not in graph.casts:
        graph.casts[key] = _cast(graph, tensor, dtype, f"{tensor.name}.{dtype}")
    return graph.casts[key]


def _in_bytes(graph: _Graph, tensor: _Tensor, *, signed: bool) -> _Tensor:
    """The integers of a tensor, at most 8 bits wide, in uint8; the cast is written once."""
    if tensor.dtype == "uint8":
        return tensor
    key, zero_point = (tensor.name, "uint8"), _BYTE_ZERO if signed else 0
    if key not in graph.casts:
        source = _in_type(graph, tensor, "float32")
        if signed:
            above = f"{tensor.name}.above_zero_point"
            source = graph.node("Add", [source, graph.scalar(zero_point, "float32")], above)
        graph.casts[key] = graph.node("Cast", [source], f"{tensor.name}.bytes", to=TensorProto.UINT8)
    return _Tensor(graph.casts[key], "uint8", zero_point)


def _moved(graph: _Graph, kind: str, source: _Tensor, layer_name: str, **attributes: Any) -> _Tensor:
    """An operator that only moves and compares integers; runtimes have it for uint8 and float32."""
    if source.dtype != "uint8":
        source = _Tensor(_in_type(graph, source, "float32"), "float32")
    return replace(source, name=graph.node(kind, [source.name], f"{layer_name}.integers", **attributes))


def _computed(graph: _Graph, plan: Plan, sources: list[_Tensor]) -> _Tensor:
    """Write one layer; gives its integers: uint8 of the quantized form, else the carrier."""
    if isinstance(plan.layer, Add):
        value = _affine(graph, plan, _aligned_sum(graph, plan, sources), plan.carrier)
    elif plan.form == "quantized":
        return _quantized_product(graph, plan, plan.layer, sources[0])
    elif plan.form == "float32":
        value = _float32_product(graph, plan, plan.layer, _in_type(graph, sources[0], "float32"))
    else:
        value = _affine(graph, plan, *_integer_product(graph, plan, plan.layer, sources[0]))
    return _requantized(graph, plan, value)


def _quantized_product(graph: _Graph, plan: Plan, layer: Weighted, source: _Tensor) -> _Tensor:
    """QLinearConv, for a Linear inside of a function of ours: offset, shift, rounding and saturation are its own."""
    name, requantization, form = layer.name, plan.requantization, plan.requantization.output
    assert form is not None  # the plan keeps heads out
    x = _in_bytes(graph, source, signed=plan.inputs[0].signed)
    weights = _in_bytes(graph, _Tensor(_weights(graph, plan, layer), "float32"), signed=True)
    unit, (x_zero, weight_zero) = graph.scalar(1, "float32"), _zero_points(graph, x, weights)
    scale = graph.constant(f"{name}.scale", np.array(2.0**-requantization.shift, np.float32))
    offset = np.broadcast_to(requantization.offset, (layer.channels,)).astype(np.int32)
    zero_point = _BYTE_ZERO if form.signed else 0
    y = _Tensor(f"{name}.integers" if form.bits == 8 else f"{name}.integers_of_8_bits", "uint8", zero_point)
    inputs = [x.name, unit, x_zero, weights.name, scale, weight_zero, unit, *_zero_points(graph, y)]
    inputs.append(graph.constant(f"{name}.offset", offset))
    if isinstance(layer, Linear):
        graph.call("QLinear", inputs, y.name, doc=_exactness(plan))
    else:
        graph.node("QLinearConv", inputs, y.name, doc=_exactness(plan), **_window(layer))
    if form.bits == 8:
        return y
    limits = [graph.scalar(limit + zero_point, "uint8") for limit in form.range]
    return replace(y, name=graph.node("Clip", [y.name, *limits], f"{name}.integers"))


def _float32_product(graph: _Graph, plan: Plan, layer: Weighted, source: str) -> str:
    """Gemm or Conv on integers in float32; multiplier, offset and shift folded in where that is exact."""
    name = layer.name
    kind, attributes = ("Gemm", {"transB": 1}) if isinstance(layer, Linear) else ("Conv", _window(layer))
    inputs = [source, _weights(graph, plan, layer)]
    if plan.carrier != "float32":
        sums = graph.node(kind, inputs, f"{name}.sum", doc=_exactness(plan), **attributes)
        return _affine(graph, plan, sums, "float32")
    scale = plan.scaled(_compact(plan.requantization.multiplier))
    if (scale != 1).any():
        constant = graph.constant(f"{name}.scale", scale.reshape(-1, *[1] * (len(layer.weight_shape) - 1)))
        inputs[1] = graph.node("Mul", [inputs[1], constant], f"{name}.scaled_weights", doc="multiplier / 2**shift")
    offset = np.broadcast_to(plan.requantization.offset, (layer.channels,))
    if offset.any():
        inputs.append(graph.constant(f"{name}.offset", plan.scaled(offset)))
    return graph.node(kind, inputs, f"{name}.value", doc=_exactness(plan), **attributes)


def _integer_product(graph: _Graph, plan: Plan, layer: Weighted, source: _Tensor) -> tuple[str, str]:
    """MatMulInteger or ConvInteger on every pair of byte planes; gives the sum and its type."""
    name, weights = layer.name, _weights(graph, plan, layer)
    if isinstance(layer, Linear):
        weights = graph.node("Transpose", [weights], f"{name}.transposed_weights", perm=[1, 0])
    kind, attributes = ("MatMulInteger", {}) if isinstance(layer, Linear) else ("ConvInteger", _window(layer))
    form = plan.inputs[0]
    x_planes = _byte_planes(graph, f"{name}.x", source, signed=form.signed, wide=form.bits > 8)
    weight_planes = _byte_planes(
        graph, f"{name}.weights", _Tensor(weights, "float32"), signed=True, wide=plan.has_wide_weights
    )
    total = ""
    for (x_factor, x), (weight_factor, weight) in itertools.product(x_planes.items(), weight_planes.items()):
        output = f"{name}.sum_{x_factor}_{weight_factor}"
        term = graph.node(kind, [x.name, weight.name, *_zero_points(graph, x, weight)], output, **attributes)
        if len(x_planes) == len(weight_planes) == 1:
            return term, "int32"
        term = graph.node("Cast", [term], f"{output}_{plan.carrier}", to=_onnx_type(plan.carrier))
        if x_factor * weight_factor > 1:
            factor = graph.scalar(x_factor * weight_factor, plan.carrier)
            term = graph.node("Mul", [term, factor], f"{output}_scaled")
        total = graph.node("Add", [total, term], f"{output}_total") if total else term
    return total, plan.carrier


def _byte_planes(graph: _Graph, name: str, tensor: _Tensor, *, signed: bool, wide: bool) -> dict[int, _Tensor]:
    """One or two uint8 tensors, by the factor that each has in the integers of a tensor."""
    if not wide:
        return {1: _in_bytes(graph, tensor, signed=signed)}
    zero_point = _BYTE_ZERO if signed else 0
    inputs = [_in_type(graph, tensor, "float32"), graph.scalar(zero_point, "float32")]
    graph.call("SplitBytes", inputs, f"{name}.high", f"{name}.low")
    return {256: _Tensor(f"{name}.high", "uint8", zero_point), 1: _Tensor(f"{name}.low", "uint8")}


def _aligned_sum(graph: _Graph, plan: Plan, sources: list[_Tensor]) -> str:
    """Both operands of an Add on the finer of their grids, added in the carrier."""
    name, finer = plan.layer.name, min(form.exponent for form in plan.inputs)
    terms = [_in_type(graph, source, plan.carrier) for source in sources]
    for number, form in enumerate(plan.inputs):
        if form.exponent > finer:
            factor = graph.scalar(1 << (form.exponent - finer), plan.carrier)
            terms[number] = graph.node("Mul", [terms[number], factor], f"{name}.aligned{number}")
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


def _requantized(graph: _Graph, plan: Plan, value: str) -> _Tensor:
    """Round half to even and saturate. A head cannot saturate (proven at birth) and keeps its carrier."""
    requantization, carrier, output = plan.requantization, plan.carrier, f"{plan.layer.name}.integers"
    is_head = requantization.output is None
    if is_head and requantization.shift == 0:
        return _Tensor(value, carrier)
    if is_head and carrier != "int64":
        return _Tensor(graph.node("Round", [value], output), carrier)
    limits = [graph.scalar(limit, carrier) for limit in requantization.bounds]
    if carrier == "int64":
        unit = 1 << requantization.shift
        divisor = [graph.scalar(unit, carrier), graph.scalar(max(1, unit // 2), carrier)]
        graph.call("RequantizeInteger", [value, *divisor, *limits], output)
    else:
        graph.call("Requantize", [value, *limits], output)
    return _Tensor(output, carrier)


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


def _window(layer: Conv2d) -> dict[str, Any]:
    return {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding * 2, "group": layer.groups}


def _zero_points(graph: _Graph, *tensors: _Tensor) -> list[str]:
    return [graph.scalar(tensor.zero_point, "uint8") for tensor in tensors]


def _exactness(plan: Plan) -> str:
    return f"Sums reach {plan.accumulator}, with offset {plan.bound}; float32 is exact up to {FLOAT32_EXACT}."


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
