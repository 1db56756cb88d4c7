"""The graph of another tool's ONNX model: who reads which tensor, what is constant, what follows from shapes alone."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import shape_inference

from tsn_hw.core.errors import NetworkError, brief, shown
from tsn_hw.learn.foreign_operators import QUANTIZERS, TRANSPARENT, Constants, sizes_of, without_weights


class ForeignGraph:
    """Tensors of a model by name.

    ``names`` maps activations to the layers that give them, None where unknown; ``figures`` are what is computed from
    shapes alone, to give a Reshape its target; ``inferred`` are sizes of tensors, 0 where one is not known. ``origin``
    is the tensor that another holds the same numbers of, or of which a pool took some, or in another order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.constants, self.contradiction = Constants(graph), ""
        self.inferred: dict[str, list[int]] = {}
        try:
            inferred = shape_inference.infer_shapes(without_weights(model)).graph
        except (shape_inference.InferenceError, ValueError, RuntimeError, MemoryError) as error:  # of sizes beyond all
            self.contradiction = f"the model contradicts itself: {brief(str(error))}"
        else:
            self.inferred = {value.name: sizes_of(value) for value in [*inferred.value_info, *inferred.output]}
        self.readers = Counter(name for node in graph.node for name in node.input)
        self.readers.update(value.name for value in graph.output)
        self.figures: set[str] = set()
        self.origin: dict[str, str] = {}
        self.names: dict[str, str | None] = {}

    def is_figure(self, node: onnx.NodeProto) -> bool:
        """Whether an operator computes with shapes alone."""
        inputs = set(node.input)
        if node.op_type == "Shape":
            return True
        if node.op_type in {*TRANSPARENT, *QUANTIZERS} and inputs <= self.constants.sizes.keys():
            return False
        return bool(self.figures and inputs) and inputs <= self.figures | self.constants.sizes.keys()

    def pass_on(self, node: onnx.NodeProto, source: str | None, name: str = "") -> None:
        """The output of an operator is still that of a layer; ``name``: of the tensor that it is made of."""
        self.names[node.output[0]] = source
        self.origin[node.output[0]] = name or node.input[0]

    def source(self, node: onnx.NodeProto) -> str | None:
        """The layer whose output an operator reads; None if it is not known."""
        return next((self.names[name] for name in node.input if name in self.names), None)

    def require_new(self, node: onnx.NodeProto) -> None:
        """Every tensor is computed once: this also keeps whoever follows tensors back to their origin from a circle."""
        for name in node.output:
            if name in self.names or name in self.constants.sizes:
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
            if name and name not in self.constants.sizes:
                raise NetworkError("multiplies two activations; one factor must be constant weights")
