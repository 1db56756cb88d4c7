"""A QONNX graph under construction: float32 tensors with the shapes and integer types that its readers ask for.

qonnx, FINN and hls4ml want every shape fixed, so the batch is 1; qonnx's ``ChangeBatchSize`` sets another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorAnnotation, TensorProto, ValueInfoProto, helper

from export.onnx_graphs.nodes import Graph
from export.qonnx_graphs.plan import QonnxLayer
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Conv2d, Shape

DOMAIN = "qonnx.custom_op.general"
DOMAIN_VERSION = 1
OPSET = 13


@dataclass(frozen=True)
class QonnxGraph(Graph):
    """Nodes and constants, the shape of every tensor between them, and the integer types of those that have one."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def tensor(self, kind: str, inputs: Sequence[str], output: str, shape: Shape, **attributes: Any) -> str:
        """Add a node and the shape of its output, batch included; gives the output."""
        self.shapes[output] = shape
        return self.node(kind, inputs, output, **attributes)

    def number(self, value: float) -> str:
        """A shared float32 scalar."""
        return self.shared(f"number_{value!r}", np.array(value, np.float32))

    def moved(self, kind: str, source: str, output: str, shape: Shape, *constants: str, **attributes: Any) -> str:
        """Add a standard operator that only moves and compares values: they keep their integer type."""
        self.tensor(kind, [source, *constants], output, (1, *shape), **attributes)
        if source in self.types:
            self.types[output] = self.types[source]
        return output

    def product(self, layer: QonnxLayer, inputs: Sequence[str], output: str) -> str:
        """Add the sums of products of a layer; gives ``output``."""
        geometry, shape = layer.geometry, (1, *layer.shape)
        if not isinstance(geometry, Conv2d):
            return self.tensor("MatMul", inputs, output, shape)
        window = {
            "kernel_shape": geometry.kernel,
            "strides": geometry.stride,
            "pads": geometry.padding * 2,
            "dilations": geometry.dilation,  # (1, 1) is the default, which hls4ml does not know
            "group": geometry.groups,
        }
        return self.tensor("Conv", inputs, output, shape, **window)

    def value_infos(self) -> list[ValueInfoProto]:
        """The shapes of all tensors between nodes."""
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self.shapes.items()]

    def annotations(self) -> list[TensorAnnotation]:
        """The integer types, where qonnx and FINN look for them."""
        return [_annotation(name, kind) for name, kind in self.types.items()]


def stored(weights: Ints) -> Ints:
    """Weights as MatMul and Conv take them: (in, out), or (out, in / groups, kernel height, kernel width)."""
    return weights.T if weights.ndim == 2 else weights


def _annotation(name: str, kind: str) -> TensorAnnotation:
    annotation = TensorAnnotation(tensor_name=name)
    annotation.quant_parameter_tensor_names.add(key="finn_datatype", value=kind)
    return annotation
