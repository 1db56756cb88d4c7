"""What the reader of other tools' models knows about ONNX: operators, advice, windows, what makes an operator valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, checker, helper

from tsn_hw.core.errors import ArtifactError, NetworkError, brief, shown
from tsn_hw.core.layers import Pair

SUPPORTED = (
    "Conv, Gemm, MatMul, Relu, MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool, BatchNormalization, Add, "
    "Flatten, Reshape to (N, features), Dropout, Identity, and Softmax or ArgMax at the end"
)
_ADVICE = {
    "use Relu: activations are saturated integers, and Relu is the saturation at 0": (
        "LeakyRelu PRelu Sigmoid HardSigmoid Tanh Elu Selu Celu Gelu Softplus Softsign Swish HardSwish Mish Clip "
        "ThresholdedRelu"
    ),
    "use BatchNormalization: its statistics stand still after training": (
        "LayerNormalization InstanceNormalization GroupNormalization RMSNormalization LpNormalization LRN"
    ),
    "give 'check' the float model that was quantized: the learner quantizes by itself": (
        "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger "
        "Quant BipolarQuant Trunc MultiThreshold"
    ),
    "sum the branches with Add": "Concat",
    "put the padding into the Conv": "Pad",
    "use GlobalAveragePool for the mean of a map": "ReduceMean",
    "export the model with channels first, (N, channels, height, width)": "Transpose",
    "scale and shift the data before the network, which takes pixels as they are": "Sub Mul Div",
    "use a Conv with a stride, or a pool": "Resize Upsample ConvTranspose SpaceToDepth DepthToSpace",
    "export the model without control flow": "If Loop Scan",
}
ADVICE = {operator: advice for advice, operators in _ADVICE.items() for operator in operators.split()}
QUANTIZERS = {operator for operator, advice in ADVICE.items() if advice.startswith("give 'check' the float model")}
TRANSPARENT = {"Dropout", "Identity", "Cast", "Relu", "BatchNormalization"}
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
LAST = {"Softmax", "LogSoftmax", "ArgMax"}


def require_text(graph: onnx.GraphProto) -> None:
    """Refuse a graph with a name that is no text: protobuf gives what is no UTF-8 as bytes."""
    names = [entry.name for entry in (*graph.input, *graph.output, *graph.initializer, *graph.node)]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output, *(entry.name for entry in node.attribute)]
    for name in names:
        if not isinstance(name, str):
            raise ArtifactError(f"the model is damaged: the name {shown(name)} is no text")


def require_valid(node: onnx.NodeProto, model: onnx.ModelProto) -> None:
    """Refuse an operator that has other inputs, outputs or attributes than ONNX asks for."""
    context = checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    try:
        checker.check_node(node, context)
    except checker.ValidationError as error:
        raise NetworkError(f"is no valid ONNX: {brief(str(error).partition(' ==> ')[0])}") from error
    if "" in (*node.input[:1], *node.output[:1]):
        raise NetworkError("is no valid ONNX: has no input or no output")


def window(attributes: dict[str, Any], shape: Sequence[int]) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding of a Conv or a pool, if they have a counterpart."""
    kernel = tuple(attributes.get("kernel_shape", shape))
    if len(kernel) != 2:
        raise NetworkError(f"has {len(kernel)} spatial dimensions, must have 2")
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic not in (b"NOTSET", b"VALID"):
        raise NetworkError(
            f"has auto_pad {brief(automatic.decode(errors='replace'), 40)}; export it with explicit pads"
        )
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if len(pads) != 4 or pads[:2] != pads[2:]:
        raise NetworkError(f"pads {shown(pads)} differ between both sides; must be the same before and after")
    if any(size != 1 for size in attributes.get("dilations", [])):
        raise NetworkError("has dilations; use a larger kernel, or more layers")
    stride = tuple(attributes.get("strides", [1, 1]))
    return kernel, stride, (pads[0], pads[1])


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs in place of its constants, but for integers, which may be the target of a Reshape.

    Domains that exporters forget to import are imported: their operators are told one by one.
    """
    graph = onnx.GraphProto(name=model.graph.name, node=model.graph.node)
    named = {value.name for value in model.graph.input}
    graph.input.extend(model.graph.input)
    for tensor in model.graph.initializer:
        if (
            tensor.data_type == TensorProto.INT64
            and tensor.data_location != TensorProto.EXTERNAL
            and len(tensor.dims) < 2
        ):
            graph.initializer.append(tensor)
        elif tensor.name not in named:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    opsets, functions = list(model.opset_import), list(model.functions)
    missing = {node.domain for node in graph.node} - {entry.domain for entry in opsets} - {"ai.onnx"}
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted(missing) if domain]
    return onnx.ModelProto(ir_version=model.ir_version, graph=graph, opset_import=opsets, functions=functions)


def sizes_of(value: onnx.ValueInfoProto) -> list[int]:
    """Sizes of a tensor with its batch; 0 where one is not fixed."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def is_list(value: object) -> bool:
    """Whether the value of a Constant is no single number."""
    return hasattr(value, "__len__") and not isinstance(value, bytes)
