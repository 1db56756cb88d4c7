"""What the reader of other tools' models knows about ONNX: operators, advice, windows, what makes an operator valid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from tsn_hw.core.errors import ArtifactError, NetworkError, brief, shown
from tsn_hw.core.layers import Shape
from tsn_hw.learn.imported import Window

SUPPORTED = (
    "Conv, Gemm, MatMul, Relu, Clip, MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool, ReduceMean of maps, "
    "BatchNormalization, Add, Flatten, Reshape and Squeeze to (N, features), Dropout, Identity, and Softmax or ArgMax "
    "at the end"
)
_ADVICE = {
    "use Relu: activations are saturated integers, and Relu is the saturation at 0": (
        "LeakyRelu PRelu Sigmoid HardSigmoid Tanh Elu Selu Celu Gelu Softplus Softsign Swish HardSwish Mish "
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
    "export the model with channels first, (N, channels, height, width)": "Transpose",
    "scale and shift the data before the network, which takes pixels as they are": "Sub Mul Div",
    "use a Conv with a stride, or a pool": "Resize Upsample ConvTranspose SpaceToDepth DepthToSpace",
    "export the model without control flow": "If Loop Scan",
}
ADVICE = {operator: advice for advice, operators in _ADVICE.items() for operator in operators.split()}
QUANTIZERS = {operator for operator, advice in ADVICE.items() if advice.startswith("give 'check' the float model")}
TRANSPARENT = {"Dropout", "Identity", "Cast"}
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
LAST = {"Softmax", "LogSoftmax", "ArgMax"}
LARGEST = 3e38
"""Limits of a Clip from here on, such as the largest float32, are none."""


class Constants:
    """Constant tensors of a graph: their sizes by name, and their numbers as far as they stand in the model."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        self._held: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}

    def add(self, name: str, value: Any) -> None:
        """The value of a Constant: a tensor, a list or a number."""
        is_list = hasattr(value, "__len__") and not isinstance(value, bytes)
        self.sizes[name] = list(value.dims) if isinstance(value, TensorProto) else [len(value)] * is_list
        self._held[name] = value

    def copy(self, source: str, name: str) -> bool:
        """Whether a tensor is constant; then it has a second name."""
        if source in self.sizes:
            self.sizes[name], self._held[name] = self.sizes[source], self._held[source]
        return source in self.sizes

    def numbers(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor; NetworkError where they are none, or stand elsewhere."""
        held = self._held.get(name)
        if isinstance(held, TensorProto) and held.data_location == TensorProto.EXTERNAL:
            raise NetworkError(f"constant {shown(name)} stands in another file")
        try:
            values = numpy_helper.to_array(held) if isinstance(held, TensorProto) else held
            return np.array(values, np.float32)
        except (ValueError, TypeError, OverflowError) as error:
            raise NetworkError(f"constant {shown(name)} holds no numbers: {brief(str(error), 80)}") from error


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


def require_channels(sizes: Sequence[int], shape: Sequence[int]) -> None:
    """Constants that are added may differ from channel to channel of a shape without batch, and by nothing else."""
    wanted = [1, shape[0], *[1] * (len(shape) - 1)]
    padded = [*[1] * (len(wanted) - len(sizes)), *sizes]
    if len(sizes) > len(wanted) or any(size not in (1, whole) for size, whole in zip(padded, wanted, strict=True)):
        raise NetworkError(f"adds constants of shape {tuple(sizes)}; must be a bias a channel, {tuple(wanted[1:])}")


def window(attributes: dict[str, Any], kernel: Sequence[int], sizes: Shape) -> Window:
    """The window of a Conv or a pool over maps of these sizes, if it has a counterpart.

    >>> window({"pads": [1, 2], "strides": [2]}, [5], (32,)).padding  # of signals: left and right
    (0, 1, 0, 2)
    """
    kernel, rank = tuple(attributes.get("kernel_shape", kernel)), len(sizes)
    if len(kernel) != rank:
        raise NetworkError(f"has {len(kernel)} spatial dimensions, must have {rank}")
    stride, dilation = (tuple(attributes.get(name, [1] * rank)) for name in ("strides", "dilations"))
    pads = tuple(attributes.get("pads", [0] * 2 * rank))
    if (len(stride), len(dilation), len(pads)) != (rank, rank, 2 * rank):
        raise NetworkError(f"is no valid ONNX: must have {rank} strides and dilations, and {2 * rank} pads")
    if min(*kernel, *stride, *dilation) < 1 or min(pads) < 0:
        raise NetworkError("has sizes below 1, or pads below 0")
    made = Window.of(kernel, stride, 0, dilation)
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        reaches = [step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True)]
        spans = [(-(-size // step) - 1) * step for size, step in zip(sizes, stride, strict=True)]
        total = [max(0, span + reach - size) for span, reach, size in zip(spans, reaches, sizes, strict=True)]
        less, more = [size // 2 for size in total], [size - size // 2 for size in total]
        pads = (*less, *more) if automatic == b"SAME_UPPER" else (*more, *less)
    elif automatic == b"VALID":
        pads = (0,) * 2 * rank
    elif automatic != b"NOTSET":
        raise NetworkError(f"has auto_pad {brief(automatic.decode(errors='replace'), 40)}, which ONNX does not know")
    top, bottom = (0, 0) if rank == 1 else (pads[0], pads[2])
    return replace(made, padding=(top, pads[rank - 1], bottom, pads[-1]))


def rounded_up(window: Window, sizes: Shape) -> Shape:
    """Sizes of the map that a pool with ceil_mode gives."""
    rank, (top, left, bottom, right) = len(sizes), window.padding
    sides, found = ((top, bottom), (left, right))[2 - rank :], []
    for size, side, kernel, stride in zip(
        sizes, sides, window.kernel[2 - rank :], window.stride[2 - rank :], strict=True
    ):
        steps = -(-max(0, size + sum(side) - kernel) // stride)
        if steps * stride >= size + side[0]:
            raise NetworkError("has ceil_mode and a window that lies in the padding alone; choose other sizes")
        found.append(steps + 1)
    return tuple(found)


def limits(node: onnx.NodeProto, attributes: dict[str, Any], constants: Constants) -> tuple[float, float]:
    """Least and largest number of a Clip, which may be attributes or constants."""
    found = [attributes.get("min", -math.inf), attributes.get("max", math.inf)]
    for place, name in enumerate(node.input[1:3]):
        if name and name not in constants.sizes:
            raise NetworkError("has limits that are computed; must be constants")
        if name:
            (found[place],) = constants.numbers(name).reshape(-1)[:1].tolist() or [math.nan]
    return float(found[0]), math.inf if found[1] >= LARGEST else float(found[1])


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
