"""ONNX models of other tools, operator by operator: what each becomes in a network of ours, or what to change.

A Relu, a bias and a batch norm belong to the layer in front of them; what only moves data away at inference (Dropout,
a Softmax at the end) becomes nothing. Weights are not taken over: subnetworks are trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from tsn_hw.errors import NetworkError
from tsn_hw.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Pair, Shape

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
_TRANSPARENT = {"Dropout", "Identity", "Cast", "Relu", "BatchNormalization"}
_LAST = {"Softmax", "LogSoftmax", "ArgMax"}


@dataclass(frozen=True)
class Operator:
    """One operator of a model: what it becomes (empty: nothing of ours), and what is wrong and to be changed."""

    name: str
    kind: str
    becomes: str
    problem: str = ""


@dataclass
class Foreign:
    """A model read: its operators, what is wrong with the whole, and the layers as far as they are known."""

    operators: list[Operator] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    input_shape: Shape = ()
    layers: list[Layer] = field(default_factory=list)
    unrectified: set[int] = field(default_factory=set)
    normalized: set[int] = field(default_factory=set)

    @property
    def all_problems(self) -> list[str]:
        """Of the whole model, then of each operator."""
        return self.problems + [f"{op.kind} {op.name!r}: {op.problem}" for op in self.operators if op.problem]


def read_foreign(model: onnx.ModelProto) -> Foreign:
    """What every operator of a model would become."""
    return _Reader(model).read()


class _Reader:
    """Follows activations through the graph: ``values`` maps their names to layers, None where that is not known.

    ``figures`` are what is computed from shapes alone, to give a Reshape its target. ``inferred`` is the number of
    dimensions of every tensor, where it is known.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph, self.found = model.graph, Foreign()
        self.inferred: dict[str, int] = {}
        try:
            inferred = shape_inference.infer_shapes(model).graph
        except shape_inference.InferenceError as error:
            self.found.problems.append(f"the model contradicts itself: {' '.join(str(error).split())}")
        else:
            known = [*inferred.value_info, *inferred.output]
            self.inferred = {value.name: len(value.type.tensor_type.shape.dim) for value in known}
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.figures: set[str] = set()
        self.readers = Counter(name for node in self.graph.node for name in node.input)
        self.values: dict[str, int | None] = {}
        self.rectified: set[str] = set()
        self.shapes: list[Shape] = []

    def read(self) -> Foreign:
        self.read_input()
        for node in self.graph.node:
            if node.op_type == "Constant":
                value = helper.get_attribute_value(node.attribute[0])
                is_tensor = isinstance(value, onnx.TensorProto)
                self.constants[node.output[0]] = value if is_tensor else numpy_helper.from_array(np.array(value))
                continue
            if node.op_type == "Shape" or (self.figures and set(node.input) <= self.figures | self.constants.keys()):
                self.figures.update(node.output)
                continue
            name, becomes, problem = node.name or (node.output[0] if node.output else ""), "", ""
            try:
                becomes = self.read_node(node)
            except NetworkError as error:
                problem = str(error)
                self.values |= dict.fromkeys(node.output)
            self.found.operators.append(Operator(name, node.op_type, becomes, problem))
        self.read_end()
        return self.found

    def read_end(self) -> None:
        """The last layer must give the logits, and nothing else may leave the graph."""
        outputs = len(self.graph.output)
        if outputs != 1:
            self.found.problems.append(f"the model has {outputs} outputs; a task has one head: export one model a task")
        ends = [self.values.get(value.name) for value in self.graph.output]
        if None in ends and any(operator.problem for operator in self.found.operators):
            return  # what the end is shows when those are changed
        last = len(self.found.layers) - 1
        is_head = last >= 0 and isinstance(self.found.layers[last], Linear) and last in self.found.unrectified
        if not is_head or set(ends) != {last}:
            self.found.problems.append(
                "the model must end in a Gemm or MatMul without Relu: the head, which gives logits"
            )

    def read_input(self) -> None:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            self.found.problems.append(f"the model has {len(inputs)} inputs; a network has one")
        for value in inputs:
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
            self.values[value.name] = INPUT
            if len(dims) not in (1, 3) or min(dims) < 1:
                shown = ", ".join(str(size or "?") for size in dims)
                self.found.problems.append(
                    f"input {value.name!r}: has shape (N, {shown}); must be (N, features) or (N, channels, height, "
                    f"width) with fixed sizes"
                )
                self.values[value.name] = None
            else:
                self.found.input_shape = tuple(dims)

    # ---------------------------------------------------------------------------------------------------- operators

    def read_node(self, node: onnx.NodeProto) -> str:
        """What an operator becomes, as text; its outputs are then known."""
        if node.domain not in ("", "ai.onnx"):
            raise NetworkError(f"operators of the domain {node.domain!r} are unknown; supported are {SUPPORTED}")
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        readers: dict[str, Callable[[onnx.NodeProto, dict[str, Any]], str]] = {
            "Conv": self.read_conv,
            "Gemm": self.read_linear,
            "MatMul": self.read_linear,
            "MaxPool": self.read_pool,
            "AveragePool": self.read_pool,
            "GlobalMaxPool": self.read_pool,
            "GlobalAveragePool": self.read_pool,
            "Add": self.read_add,
            "Flatten": self.read_flatten,
            "Reshape": self.read_flatten,
        }
        if node.op_type in readers:
            return readers[node.op_type](node, attributes)
        if node.op_type in _LAST and node.output[0] in {value.name for value in self.graph.output}:
            self.values[node.output[0]] = self.source(node)
            return "nothing: the class is the first largest logit"
        if node.op_type not in _TRANSPARENT:
            raise NetworkError(ADVICE.get(node.op_type, f"has no counterpart; supported are {SUPPORTED}"))
        return self.read_transparent(node)

    def read_transparent(self, node: onnx.NodeProto) -> str:
        source = self.source(node)
        self.values[node.output[0]] = source
        if node.input[0] in self.rectified:
            self.rectified.add(node.output[0])
        if node.op_type not in ("Relu", "BatchNormalization"):
            return "nothing"
        if source == INPUT:
            raise NetworkError("stands in front of the first layer; scale and shift the data before the network")
        if self.readers[node.input[0]] > 1:
            raise NetworkError("its input is read elsewhere too; a layer gives its output with it or without, not both")
        if node.op_type == "BatchNormalization":
            self.require_sum(node)
        if source is None:
            return "part of the layer before"
        if node.op_type == "BatchNormalization":
            self.found.normalized.add(source)
            return f"part of {self.found.layers[source].name!r}"
        self.rectified.add(node.output[0])
        computing = source
        while computing != INPUT and isinstance(self.found.layers[computing], MaxPool | Flatten):
            computing = self.found.layers[computing].inputs[0]  # neither order changes what comes out
        self.found.unrectified.discard(computing)
        return "nothing" if computing == INPUT else f"part of {self.found.layers[computing].name!r}"

    def require_sum(self, node: onnx.NodeProto) -> None:
        """A constant scale or offset must meet the sums of a layer with weights, nothing behind them."""
        source = self.source(node)
        behind = any(name in self.rectified for name in node.input)
        if behind or (source is not None and not isinstance(self.found.layers[source], Conv2d | Linear)):
            raise NetworkError("must stand right behind a Conv, Gemm or MatMul, whose scale and bias it becomes")

    def read_conv(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        shape = self.weight_shape(node)
        if len(shape) != 4:
            raise NetworkError(f"has {len(shape) - 2} spatial dimensions, must have 2")
        kernel, stride, padding = _window(attributes, shape[2:])
        groups = int(attributes.get("group", 1))
        name = self.new_name("conv")
        return self.add(
            node, lambda source: Conv2d(name, shape[1] * groups, shape[0], kernel, stride, padding, groups, source)
        )

    def read_linear(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        shape = self.weight_shape(node)
        if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
            raise NetworkError("has transA, alpha or beta; must be a plain product with constant weights")
        if len(shape) != 2:
            raise NetworkError(f"multiplies with weights of {len(shape)} dimensions, must have 2")
        inward, outward = reversed(shape) if attributes.get("transB") else shape
        name = self.new_name("fc")
        return self.add(node, lambda source: Linear(name, inward, outward, source))

    def read_pool(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if attributes.get("ceil_mode") or any(size != 1 for size in attributes.get("dilations", [])):
            raise NetworkError("has ceil_mode or dilations; choose kernel and stride so that it needs none")
        source = self.source(node)
        if node.op_type.startswith("Global"):
            if source is None:
                return self.unknown(node, "a pool")
            kernel: Pair = self.shape(source)[1:]  # type: ignore[assignment]
            stride, padding = kernel, (0, 0)
        else:
            kernel, stride, padding = _window(attributes, attributes.get("kernel_shape", []))
        if max(padding):
            raise NetworkError(
                f"pads by {padding}; pools have no padding: use a Conv with padding, or a smaller kernel"
            )
        kind = MaxPool if node.op_type.endswith("MaxPool") else AvgPool
        name = self.new_name("pool" if kind is MaxPool else "average")
        return self.add(node, lambda source: kind(name, kernel, stride, source))

    def read_add(self, node: onnx.NodeProto, _: dict[str, Any]) -> str:
        constants = [name for name in node.input if name in self.constants]
        if constants:
            source = self.source(node)
            if source == INPUT:
                raise NetworkError("stands in front of the first layer; scale and shift the data before the network")
            self.require_sum(node)
            self.values[node.output[0]] = source
            return "part of the layer before" if source is None else f"part of {self.found.layers[source].name!r}"
        first, second = (self.values.get(name) for name in node.input)
        if first is None or second is None:
            return self.unknown(node, "Add")
        layer = Add(self.new_name("add"), (first, second))
        return self.append(node, layer, layer.output_shape(self.shape(first), self.shape(second)))

    def read_flatten(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if node.op_type == "Reshape":
            if self.inferred.get(node.output[0]) != 2:
                raise NetworkError(
                    "must bring (N, channels, height, width) to (N, features); other shapes have no counterpart"
                )
        elif attributes.get("axis", 1) != 1:
            raise NetworkError(f"has axis {attributes['axis']}, must have 1")
        source = self.source(node)
        if source is not None and len(self.shape(source)) == 1:
            self.values[node.output[0]] = source
            return "nothing"
        name = self.new_name("flatten")
        return self.add(node, lambda source: Flatten(name, source))

    # ------------------------------------------------------------------------------------------------------- tools

    def source(self, node: onnx.NodeProto) -> int | None:
        """The layer whose output an operator reads; None if it is not known."""
        return next((self.values[name] for name in node.input if name in self.values), None)

    def shape(self, index: int) -> Shape:
        return self.found.input_shape if index == INPUT else self.shapes[index]

    def weight_shape(self, node: onnx.NodeProto) -> list[int]:
        weights = self.constants.get(node.input[1])
        if weights is None:
            raise NetworkError("multiplies two activations; one factor must be constant weights")
        return list(weights.dims)

    def new_name(self, stem: str) -> str:
        """The next free name of a kind of layer: conv1, conv2 ..."""
        return f"{stem}{1 + sum(layer.name.rstrip('0123456789') == stem for layer in self.found.layers)}"

    def add(self, node: onnx.NodeProto, make: Callable[[tuple[int]], Any]) -> str:
        """A layer with one input, if that is known."""
        source = self.source(node)
        if source is None:
            return self.unknown(node, type(make((INPUT,))).__name__)
        layer = make((source,))
        return self.append(node, layer, layer.output_shape(self.shape(source)))

    def append(self, node: onnx.NodeProto, layer: Layer, shape: Shape) -> str:
        self.found.layers.append(layer)
        self.shapes.append(shape)
        index = len(self.found.layers) - 1
        self.values[node.output[0]] = index
        if isinstance(layer, Linear | Conv2d | Add | AvgPool):
            self.found.unrectified.add(index)
        sizes = " x ".join(map(str, shape))
        return f"{type(layer).__name__} {layer.name!r}, {sizes} out"

    def unknown(self, node: onnx.NodeProto, kind: str) -> str:
        self.values[node.output[0]] = None
        return f"{kind}, of unknown size because of what stands before it"


def _window(attributes: dict[str, Any], shape: Sequence[int]) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding of a Conv or a pool, if they have a counterpart."""
    kernel = tuple(attributes.get("kernel_shape", shape))
    if len(kernel) != 2:
        raise NetworkError(f"has {len(kernel)} spatial dimensions, must have 2")
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic not in (b"NOTSET", b"VALID"):
        raise NetworkError(f"has auto_pad {automatic.decode()}; export it with explicit pads")
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if pads[:2] != pads[2:]:
        raise NetworkError(f"pads {pads} differ between both sides; must be the same before and after")
    if any(size != 1 for size in attributes.get("dilations", [])):
        raise NetworkError("has dilations; use a larger kernel, or more layers")
    stride = tuple(attributes.get("strides", [1, 1]))
    return kernel, stride, (pads[0], pads[1])
