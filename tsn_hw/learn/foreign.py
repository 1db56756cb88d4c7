"""ONNX models of other tools, operator by operator: what each becomes in a network of ours, or what to change.

A Relu, a bias and a batch norm belong to the layer in front of them; what only moves data away at inference (Dropout,
a Softmax at the end) becomes nothing. Weights are not taken over: subnetworks are trained.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import TensorProto, helper, shape_inference

from tsn_hw.core.errors import NetworkError, brief, shown
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Pair, Shape
from tsn_hw.learn.foreign_operators import (
    ADVICE,
    FLOATS,
    LAST,
    QUANTIZERS,
    SUPPORTED,
    TRANSPARENT,
    is_list,
    require_text,
    require_valid,
    sizes_of,
    window,
    without_weights,
)


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
    """What every operator of a model would become; ArtifactError where its names are no text."""
    require_text(model.graph)
    return _Reader(model).read()


class _Reader:
    """Follows activations through the graph: ``values`` maps their names to layers, None where that is not known.

    ``constants`` are sizes of constant tensors by name; ``figures`` are what is computed from shapes alone, to give a
    Reshape its target; ``inferred`` are the sizes of tensors, 0 where one is not known. ``origin`` is the tensor that
    another holds the same numbers of, or of which a pool took some, or in another order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph, self.found = model, model.graph, Foreign()
        self.inferred: dict[str, list[int]] = {}
        try:
            inferred = shape_inference.infer_shapes(without_weights(model)).graph
        except (shape_inference.InferenceError, ValueError, RuntimeError, MemoryError) as error:  # of sizes beyond all
            self.found.problems.append(f"the model contradicts itself: {brief(str(error))}")
        else:
            known = [*inferred.value_info, *inferred.output]
            self.inferred = {value.name: sizes_of(value) for value in known}
        self.constants = {tensor.name: list(tensor.dims) for tensor in self.graph.initializer}
        self.figures: set[str] = set()
        self.readers = Counter(name for node in self.graph.node for name in node.input)
        self.readers.update(value.name for value in self.graph.output)
        self.origin: dict[str, str] = {}
        self.values: dict[str, int | None] = {}
        self.rectified: set[str] = set()
        self.shapes: list[Shape] = []

    def read(self) -> Foreign:
        self.read_input()
        for node in self.graph.node:
            if self.is_figure(node):
                self.figures.update(node.output)
                continue
            name, becomes, problem = node.name or (node.output[0] if node.output else ""), "", ""
            try:
                self.require_new(node)
                becomes = self.read_node(node)
            except NetworkError as error:
                problem = str(error)
                self.values |= dict.fromkeys(node.output)
            if node.op_type == "Constant" and not problem:
                continue  # like an initializer
            self.found.operators.append(Operator(brief(name, 60), brief(node.op_type, 60), becomes, problem))
        self.read_end()
        return self.found

    def is_figure(self, node: onnx.NodeProto) -> bool:
        """Whether an operator computes with shapes alone."""
        inputs = set(node.input)
        if node.op_type == "Shape":
            return True
        if node.op_type in {*TRANSPARENT, *QUANTIZERS} and inputs <= self.constants.keys():
            return False
        return bool(self.figures and inputs) and inputs <= self.figures | self.constants.keys()

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
            dims = sizes_of(value)[1:]
            self.values[value.name] = INPUT
            if len(dims) not in (1, 3) or min(dims) < 1:
                sizes = ", ".join(str(size or "?") for size in dims)
                self.found.problems.append(
                    f"input {shown(value.name)}: has shape (N, {brief(sizes, 60)}); must be (N, features) or "
                    f"(N, channels, height, width) with fixed sizes"
                )
                self.values[value.name] = None
            else:
                self.found.input_shape = tuple(dims)

    # ---------------------------------------------------------------------------------------------------- operators

    def read_node(self, node: onnx.NodeProto) -> str:
        """What an operator becomes, as text; its outputs are then known."""
        if node.op_type in QUANTIZERS:
            if node.output and node.input and node.input[0] in self.constants:  # quantized weights are weights
                self.constants[node.output[0]] = self.constants[node.input[0]]
            raise NetworkError(ADVICE[node.op_type])
        if node.domain not in ("", "ai.onnx"):
            raise NetworkError(f"operators of the domain {shown(node.domain)} are unknown; supported are {SUPPORTED}")
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
            "Constant": self.read_constant,
            **dict.fromkeys(LAST, self.read_last),
            **dict.fromkeys(TRANSPARENT, self.read_transparent),
        }
        if node.op_type not in readers:
            raise NetworkError(ADVICE.get(node.op_type, f"has no counterpart; supported are {SUPPORTED}"))
        require_valid(node, self.model)
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        return readers[node.op_type](node, attributes)

    def read_constant(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if len(attributes) != 1:
            raise NetworkError("is no valid ONNX: must have one value")
        (value,) = attributes.values()
        sizes = list(value.dims) if isinstance(value, TensorProto) else [len(value)] * is_list(value)
        self.constants[node.output[0]] = sizes
        return ""

    def read_last(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if node.output[0] not in {value.name for value in self.graph.output}:
            raise NetworkError(f"has no counterpart; supported are {SUPPORTED}")
        axis = attributes.get("axis", 0 if node.op_type == "ArgMax" else -1)
        if axis not in (1, -1) or attributes.get("select_last_index"):
            raise NetworkError("must choose among the classes, axis 1, and of equal ones the first")
        self.values[node.output[0]] = self.source(node)
        return "nothing: the class is the first largest logit"

    def read_transparent(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if node.op_type == "Cast" and attributes["to"] not in FLOATS:
            raise NetworkError("cuts numbers down to whole ones; leave them as they are")
        if attributes.get("training_mode") or (node.op_type == "Dropout" and len(node.input) > 2):
            raise NetworkError("is in training mode; export the model for inference")
        if node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]
            return "nothing"
        source = self.source(node)
        self.pass_on(node, source)
        if node.input[0] in self.rectified:
            self.rectified.add(node.output[0])
        if node.op_type not in ("Relu", "BatchNormalization"):
            return "nothing"
        if source == INPUT:
            raise NetworkError("stands in front of the first layer; scale and shift the data before the network")
        self.require_alone(node.input[0])
        if node.op_type == "BatchNormalization":
            self.require_sum(node)
            self.require_constants(node, 1)
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

    def require_new(self, node: onnx.NodeProto) -> None:
        """Every tensor is computed once: this also keeps whoever follows tensors back to their origin from a circle."""
        for name in node.output:
            if name in self.values or name in self.constants:
                raise NetworkError(f"computes {shown(name)}, which is there already")

    def require_alone(self, name: str) -> None:
        """Nobody else may read a tensor, nor what it is made of, back to the layer that computes it."""
        while True:
            if self.readers[name] > 1:
                raise NetworkError(
                    "its input is read elsewhere too; a layer gives its output with it or without, not both"
                )
            if name not in self.origin:
                return
            name = self.origin[name]

    def require_constants(self, node: onnx.NodeProto, first: int) -> None:
        """What a layer computes with must be constant, from this input on."""
        for name in node.input[first:]:
            if name and name not in self.constants:
                raise NetworkError("multiplies two activations; one factor must be constant weights")

    def require_channels(self, sizes: Sequence[int], shape: Sequence[int]) -> None:
        """Constants that are added may differ from channel to channel of a shape without batch, and by nothing else."""
        wanted = [1, shape[0], *[1] * (len(shape) - 1)]
        padded = [*[1] * (len(wanted) - len(sizes)), *sizes]
        if len(sizes) > len(wanted) or any(size not in (1, whole) for size, whole in zip(padded, wanted, strict=True)):
            raise NetworkError(f"adds constants of shape {tuple(sizes)}; must be a bias a channel, {tuple(wanted[1:])}")

    def require_sum(self, node: onnx.NodeProto) -> None:
        """A constant scale or offset must meet the sums of a layer with weights, nothing behind them."""
        source = self.source(node)
        behind = any(name in self.rectified for name in node.input)
        if behind or (source is not None and not isinstance(self.found.layers[source], Conv2d | Linear)):
            raise NetworkError("must stand right behind a Conv, Gemm or MatMul, whose scale and bias it becomes")

    def read_conv(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        shape = self.weight_shape(node)
        self.require_constants(node, 2)
        if len(shape) != 4:
            raise NetworkError(f"has {len(shape) - 2} spatial dimensions, must have 2")
        kernel, stride, padding = window(attributes, shape[2:])
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
        self.require_constants(node, 2)
        for bias in node.input[2:]:
            self.require_channels(self.constants.get(bias, []), (outward,))
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
            kernel, stride, padding = window(attributes, attributes.get("kernel_shape", []))
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
            if source is not None:
                self.require_channels(self.constants[constants[0]], self.shape(source))
            activation = next((name for name in node.input if name not in self.constants), "")
            self.require_alone(activation)
            self.pass_on(node, source, activation)
            return "part of the layer before" if source is None else f"part of {self.found.layers[source].name!r}"
        first, second = (self.values.get(name) for name in node.input)
        if first is None or second is None:
            return self.unknown(node, "Add")
        layer = Add(self.new_name("add"), (first, second))
        return self.append(node, layer, layer.output_shape(self.shape(first), self.shape(second)))

    def read_flatten(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if node.op_type == "Reshape":
            sizes, source = self.inferred.get(node.output[0], []), self.source(node)
            whole = None if source is None else math.prod(self.shape(source))
            if len(sizes) != 2 or (whole and sizes[1] not in (0, whole)):
                raise NetworkError(
                    "must bring (N, channels, height, width) to (N, features); other shapes have no counterpart"
                )
        elif attributes.get("axis", 1) != 1:
            raise NetworkError(f"has axis {attributes['axis']}, must have 1")
        source = self.source(node)
        if source is not None and len(self.shape(source)) == 1:
            self.pass_on(node, source)
            return "nothing"
        name = self.new_name("flatten")
        return self.add(node, lambda source: Flatten(name, source))

    # ------------------------------------------------------------------------------------------------------- tools

    def source(self, node: onnx.NodeProto) -> int | None:
        """The layer whose output an operator reads; None if it is not known."""
        return next((self.values[name] for name in node.input if name in self.values), None)

    def pass_on(self, node: onnx.NodeProto, source: int | None, name: str = "") -> None:
        """The output of an operator is still that of a layer; ``name``: of the tensor that it is made of."""
        self.values[node.output[0]] = source
        self.origin[node.output[0]] = name or node.input[0]

    def shape(self, index: int) -> Shape:
        return self.found.input_shape if index == INPUT else self.shapes[index]

    def weight_shape(self, node: onnx.NodeProto) -> list[int]:
        self.require_constants(node, 1)
        return self.constants.get(node.input[1], [])

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
        else:
            self.origin[node.output[0]] = node.input[0]
        sizes = " x ".join(map(str, shape))
        return f"{type(layer).__name__} {layer.name!r}, {sizes} out"

    def unknown(self, node: onnx.NodeProto, kind: str) -> str:
        self.values[node.output[0]] = None
        return f"{kind}, of unknown size because of what stands before it"
