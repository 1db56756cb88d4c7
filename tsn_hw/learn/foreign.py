"""ONNX models of other tools, operator by operator: what each becomes in a body of ours, or what to change.

A Relu, a bias and a batch norm belong to the layer in front of them; what only moves data away at inference (Dropout,
a Softmax at the end) becomes nothing. What is told of a model is what a body can be made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from tsn_hw.core.errors import NetworkError, TsnError, brief, shown
from tsn_hw.core.layers import Layer, Shape
from tsn_hw.learn.architectures import INPUT_NAME, Architecture, BodyBuilder
from tsn_hw.learn.foreign_graph import ForeignGraph
from tsn_hw.learn.foreign_operators import (
    ADVICE,
    FLOATS,
    LAST,
    QUANTIZERS,
    SUPPORTED,
    TRANSPARENT,
    limits,
    require_channels,
    require_text,
    require_valid,
    rounded_up,
    sizes_of,
    window,
)
from tsn_hw.learn.imported import Draft, Norm, Window


@dataclass(frozen=True)
class Operator:
    """One operator of a model: what it becomes (empty: nothing of ours), and what is wrong and to be changed."""

    name: str
    kind: str
    becomes: str
    problem: str = ""


@dataclass
class Foreign:
    """A model read: its operators, what is wrong with the whole, its layers, and the body if nothing is wrong."""

    operators: list[Operator] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    classes: int = 0
    body: Architecture | None = None

    @property
    def all_problems(self) -> list[str]:
        """Of the whole model, then of each operator."""
        return self.problems + [f"{op.kind} {op.name!r}: {op.problem}" for op in self.operators if op.problem]


def read_foreign(model: onnx.ModelProto, pretrained: bool = False) -> Foreign:
    """What every operator of a model would become; ``pretrained`` gives the body its weights too.

    Raises ArtifactError where its names are no text, BodyError for weights that are no finite numbers.
    """
    require_text(model.graph)
    return _Reader(model, pretrained).read()


class _Reader:
    """Follows activations through a graph; ``builder`` has the layers of the draft as they came, for their shapes."""

    def __init__(self, model: onnx.ModelProto, pretrained: bool) -> None:
        self.model, self.pretrained, self.found = model, pretrained, Foreign()
        self.graph, self.draft, self.builder = ForeignGraph(model), Draft(), BodyBuilder((0,))
        self.constants, self.names, self.rank = self.graph.constants, self.graph.names, 2
        if self.graph.contradiction:
            self.found.problems.append(self.graph.contradiction)

    def read(self) -> Foreign:
        self.read_input()
        for node in self.model.graph.node:
            if self.graph.is_figure(node):
                self.graph.figures.update(node.output)
                continue
            name, becomes, problem = node.name or (node.output[0] if node.output else ""), "", ""
            try:
                self.graph.require_new(node)
                becomes = self.read_node(node)
            except TsnError as error:
                problem = str(error)
                self.names |= dict.fromkeys(node.output)
            if node.op_type == "Constant" and not problem:
                continue  # like an initializer
            self.found.operators.append(Operator(brief(name, 60), brief(node.op_type, 60), becomes, problem))
        self.found.layers = self.builder.layers
        try:
            self.read_end()
        except TsnError as error:
            self.found.problems.append(str(error))
        return self.found

    def read_end(self) -> None:
        """The last layer must give the logits, and nothing else may leave the graph; what is in front is the body."""
        outputs = len(self.model.graph.output)
        if outputs != 1:
            self.found.problems.append(f"the model has {outputs} outputs; a task has one head: export one model a task")
        ends = {self.names.get(value.name) for value in self.model.graph.output}
        if None in ends and any(operator.problem for operator in self.found.operators):
            return  # what the end is shows when those are changed
        last = next(reversed(self.draft.layers), "")
        if ends != {last} or self.draft.layers[last].kind != "Linear" or not self.draft.is_sum(last):
            raise NetworkError(
                "the model must end in a Gemm or MatMul without Relu and batch norm: the head, which gives logits"
            )
        self.found.classes = self.draft.layers[last].width
        if not self.found.all_problems:
            self.draft.take_head(last)
            self.found.body = self.draft.build(self.builder.input_shape)

    def read_input(self) -> None:
        inputs = [value for value in self.model.graph.input if value.name not in self.constants.sizes]
        if len(inputs) != 1:
            self.found.problems.append(f"the model has {len(inputs)} inputs; a network has one")
        for value in inputs:
            dims = sizes_of(value)[1:]
            self.names[value.name] = INPUT_NAME
            if len(dims) not in (1, 2, 3) or min(dims) < 1:
                sizes = ", ".join(str(size or "?") for size in dims)
                self.found.problems.append(
                    f"input {shown(value.name)}: has shape (N, {brief(sizes, 60)}); must be (N, features), "
                    f"(N, channels, steps) or (N, channels, height, width) with fixed sizes"
                )
                self.names[value.name] = None
            else:
                self.builder, self.rank = BodyBuilder(tuple(dims)), max(1, len(dims) - 1)

    # ---------------------------------------------------------------------------------------------------- operators

    def read_node(self, node: onnx.NodeProto) -> str:
        """What an operator becomes, as text; its outputs are then known."""
        if node.op_type in QUANTIZERS:
            if node.output and node.input:  # quantized weights are weights
                self.constants.copy(node.input[0], node.output[0])
            raise NetworkError(ADVICE[node.op_type])
        if node.domain not in ("", "ai.onnx"):
            raise NetworkError(f"operators of the domain {shown(node.domain)} are unknown; supported are {SUPPORTED}")
        readers: dict[str, Callable[[onnx.NodeProto, dict[str, Any]], str]] = {
            "Conv": self.read_conv,
            **dict.fromkeys(("Gemm", "MatMul"), self.read_linear),
            **dict.fromkeys(("MaxPool", "AveragePool"), self.read_pool),
            **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "ReduceMean"), self.read_whole),
            "Add": self.read_add,
            **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), self.read_flatten),
            "Constant": self.read_constant,
            "BatchNormalization": self.read_batch_norm,
            **dict.fromkeys(("Relu", "Clip"), self.read_relu),
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
        self.constants.add(node.output[0], next(iter(attributes.values())))
        return ""

    def read_last(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if node.output[0] not in {value.name for value in self.model.graph.output}:
            raise NetworkError(f"has no counterpart; supported are {SUPPORTED}")
        axis = attributes.get("axis", 0 if node.op_type == "ArgMax" else -1)
        if axis not in (1, -1) or attributes.get("select_last_index"):
            raise NetworkError("must choose among the classes, axis 1, and of equal ones the first")
        self.names[node.output[0]] = self.graph.source(node)
        return "nothing: the class is the first largest logit"

    def read_transparent(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if node.op_type == "Cast" and attributes["to"] not in FLOATS:
            raise NetworkError("cuts numbers down to whole ones; leave them as they are")
        if node.op_type == "Dropout" and len(node.input) > 2:
            raise NetworkError("is in training mode; export the model for inference")
        if not self.constants.copy(node.input[0], node.output[0]):
            self.graph.pass_on(node, self.graph.source(node))
        return "nothing"

    def read_batch_norm(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        if attributes.get("training_mode"):
            raise NetworkError("is in training mode; export the model for inference")
        source = self.behind(node)
        self.graph.require_constants(node, 1)
        if source is not None:
            wanted = [self.draft.layers[source].width]
            if any(self.constants.sizes[name] != wanted for name in node.input[1:]):
                raise NetworkError(f"has constants of other shapes than one number a channel, {tuple(wanted)}")
            norm = None
            if self.pretrained:
                scale, offset, mean, variance = (self.constants.numbers(name) for name in node.input[1:5])
                norm = Norm(scale, offset, mean, variance, attributes.get("epsilon", 1e-5))
            self.draft.normalize(source, norm)
        return self.part_of(source)

    def read_relu(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        """A Relu, or a Clip that is one or saturates."""
        low, high = (0.0, math.inf) if node.op_type == "Relu" else limits(node, attributes, self.constants)
        source = self.graph.source(node)
        computing = None if source is None else self.draft.computing(source)
        if computing is not None and self.draft.is_cut(computing, low, high):
            self.graph.require_alone(node.input[0])
            self.draft.rectify(computing, low, high)
        self.graph.pass_on(node, source)
        return self.part_of(computing)

    def read_conv(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        shape = self.weight_shape(node)
        self.graph.require_constants(node, 2)
        if len(shape) != 2 + self.rank:
            raise NetworkError(f"has {len(shape) - 2} spatial dimensions, must have {self.rank}")
        if list(attributes.get("kernel_shape", shape[2:])) != shape[2:]:
            raise NetworkError(f"has kernel_shape {shown(attributes['kernel_shape'])}, its weights have {shape[2:]}")
        source = self.graph.source(node)
        if source is None:
            return self.unknown(node, "Conv2d")
        groups, made = int(attributes.get("group", 1)), window(attributes, shape[2:], self.sizes(source))
        if shape[1] * groups != self.builder.shape_of(source)[0]:
            raise NetworkError(f"takes {shape[1] * groups} channels, its input is {self.builder.shape_of(source)}")
        name = self.draft.convolution(self.new_name("conv"), source, shape[0], made, groups)
        return self.weighted(node, name, lambda values: values.reshape(*shape[:2], *made.kernel))

    def read_linear(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        shape = self.weight_shape(node)
        if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
            raise NetworkError("has transA, alpha or beta; must be a plain product with constant weights")
        if len(shape) != 2:
            raise NetworkError(f"multiplies with weights of {len(shape)} dimensions, must have 2")
        transposed = not attributes.get("transB")
        inward, outward = shape if transposed else reversed(shape)
        self.graph.require_constants(node, 2)
        source = self.graph.source(node)
        if source is None:
            return self.unknown(node, "Linear")
        if self.builder.shape_of(source) != (inward,):
            raise NetworkError(f"takes ({inward},), its input is {self.builder.shape_of(source)}")
        name = self.draft.append("Linear", self.new_name("fc"), (source,), width=outward)
        return self.weighted(node, name, lambda values: values.T if transposed else values)

    def weighted(
        self, node: onnx.NodeProto, name: str, values: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    ) -> str:
        """The layer that a Conv or a product with weights has become, its weights as ``values`` turns them."""
        told = self.append(node, name)
        for bias in node.input[2:3]:
            if bias:
                self.shift(name, bias, (self.draft.layers[name].width,))
        if self.pretrained:
            self.draft.weights[f"{name}.weight"] = np.ascontiguousarray(values(self.constants.numbers(node.input[1])))
        return told

    def read_pool(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        source, is_average = self.graph.source(node), node.op_type == "AveragePool"
        kind = "AvgPool" if is_average else "MaxPool"
        if source is None:
            return self.unknown(node, kind)
        made, sizes = window(attributes, attributes.get("kernel_shape", []), self.sizes(source)), self.sizes(source)
        if attributes.get("ceil_mode"):
            made = made.up_to(sizes, rounded_up(made, sizes))
        counted = bool(attributes.get("count_include_pad", 0))
        name = self.new_name("average" if is_average else "pool")
        return self.append(node, self.draft.pool("AvgPool" if is_average else "MaxPool", name, source, made, counted))

    def read_whole(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        """The maximum or the mean of whole maps."""
        source, is_average = self.graph.source(node), node.op_type != "GlobalMaxPool"
        if source is None:
            return self.unknown(node, "a pool")
        sizes = self.sizes(source)
        if node.op_type == "ReduceMean":
            axes = attributes.get("axes") or [
                int(axis) for name in node.input[1:2] for axis in self.constants.numbers(name)
            ]
            dims = len(sizes) + 2
            if not sizes or sorted(axis % dims for axis in axes) != list(range(2, dims)):
                raise NetworkError("must be the mean of whole maps, over all axes behind the channels")
        made, name = Window.of(sizes, sizes, 0, 1), self.new_name("average" if is_average else "pool")
        told = self.append(node, self.draft.pool("AvgPool" if is_average else "MaxPool", name, source, made))
        if node.op_type == "ReduceMean" and not attributes.get("keepdims", 1):
            self.append(node, self.draft.flatten(self.new_name("flatten"), name))
        return told

    def read_add(self, node: onnx.NodeProto, _: dict[str, Any]) -> str:
        constants = [name for name in node.input if name in self.constants.sizes]
        if constants:
            activation = next((name for name in node.input if name not in self.constants.sizes), "")
            source = self.behind(node, activation)
            if source is not None:
                self.shift(source, constants[0], self.map_shape(source))
            return self.part_of(source)
        first, second = (self.names.get(name) for name in node.input)
        if first is None or second is None:
            return self.unknown(node, "Add")
        return self.append(node, self.draft.add(self.new_name("add"), first, second))

    def read_flatten(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> str:
        source = self.graph.source(node)
        if node.op_type != "Flatten":
            sizes = self.graph.inferred.get(node.output[0], [])
            whole = None if source is None else math.prod(self.builder.shape_of(source))
            if len(sizes) != 2 or (whole and sizes[1] not in (0, whole)):
                raise NetworkError(
                    "must bring (N, channels, height, width) to (N, features); other shapes have no counterpart"
                )
        elif attributes.get("axis", 1) != 1:
            raise NetworkError(f"has axis {attributes['axis']}, must have 1")
        if source is None:
            return self.unknown(node, "Flatten")
        if len(self.builder.shape_of(source)) == 1:
            self.graph.pass_on(node, source)
            return "nothing"
        return self.append(node, self.draft.flatten(self.new_name("flatten"), source))

    # ------------------------------------------------------------------------------------------------------- tools

    def behind(self, node: onnx.NodeProto, tensor: str = "") -> str | None:
        """The layer whose sums an operator scales or shifts, nothing but perhaps a norm behind them yet."""
        tensor = tensor or node.input[0]
        source = self.names.get(tensor)
        if source == INPUT_NAME:
            raise NetworkError("stands in front of the first layer; scale and shift the data before the network")
        is_right = self.draft.is_sum if node.op_type == "BatchNormalization" else self.draft.is_open
        if source is not None and not is_right(source):
            raise NetworkError("must stand right behind a Conv, Gemm or MatMul, whose scale and bias it becomes")
        self.graph.require_alone(tensor)
        self.graph.pass_on(node, source, tensor)
        return source

    def part_of(self, source: str | None) -> str:
        return "part of the layer before" if source is None else f"part of {source!r}"

    def map_shape(self, source: str) -> Shape:
        """Shape of what a layer gives as the model has it: of signals (channels, steps)."""
        shape = self.builder.shape_of(source)
        return shape if len(shape) == 1 else (shape[0], *shape[3 - self.rank :])

    def sizes(self, source: str) -> Shape:
        """Sizes of the map that a layer gives."""
        if len(self.builder.shape_of(source)) == 1:
            raise NetworkError(f"reads {self.builder.shape_of(source)}; must read maps")
        return self.map_shape(source)[1:]

    def weight_shape(self, node: onnx.NodeProto) -> list[int]:
        self.graph.require_constants(node, 1)
        return self.constants.sizes.get(node.input[1], [])

    def shift(self, name: str, constant: str, shape: Sequence[int]) -> None:
        """Add a constant to the sums of a layer, which give this shape."""
        require_channels(self.constants.sizes.get(constant, []), shape)
        if self.pretrained:
            self.draft.shift(name, np.broadcast_to(self.constants.numbers(constant).reshape(-1), (shape[0],)))

    def new_name(self, stem: str) -> str:
        """The next free name of a kind of layer: conv1, conv2 ..."""
        return f"{stem}{1 + sum(name.rstrip('0123456789') == stem for name in self.draft.layers)}"

    def append(self, node: onnx.NodeProto, name: str) -> str:
        """Take a layer of the draft for what an operator gives, unless shapes speak against it."""
        described = self.draft.layers[name]
        try:
            self.builder.add(described)
        except TsnError:
            del self.draft.layers[name]
            raise
        self.names[node.output[0]] = name
        if described.kind in ("MaxPool", "Flatten"):
            self.graph.origin[node.output[0]] = node.input[0]
        sizes = " x ".join(map(str, self.map_shape(name)))
        return f"{described.kind} {name!r}, {sizes} out"

    def unknown(self, node: onnx.NodeProto, kind: str) -> str:
        self.names[node.output[0]] = None
        return f"{kind}, of unknown size because of what stands before it"
