"""A graph under construction: nodes and constants by name, every tensor named once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.onnx_graphs.functions import DOMAIN
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import ExportError


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph; the integers that it carries are its values minus the zero point.

    ``is_image``: samples of (features,) lie as the rows of one image, (1, features, N, 1).
    """

    name: str
    dtype: str
    zero_point: int = 0
    is_image: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes and constants written so far. Nodes are named after their first output; calls, which are inlined, not."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    names: set[str] = field(default_factory=lambda: {"x"})
    casts: dict[tuple[str, str], str] = field(default_factory=dict)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant tensor; int64 (shapes, sizes) as ONNX's variable-length integers, a byte or two each."""
        self._claim(name)
        if values.dtype == np.int64:
            self.constants[name] = helper.make_tensor(name, TensorProto.INT64, values.shape, values.reshape(-1))
        else:
            self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def shared(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant that is named after its value, or share the one that is there."""
        return name if name in self.constants else self.constant(name, values)

    def scalar(self, value: int, dtype: str) -> str:
        """A shared scalar, named like ``128_u8``."""
        kind = np.dtype(dtype)
        return self.shared(f"{value}_{kind.kind}{8 * kind.itemsize}", np.array(value, kind))

    def external(self, name: str, location: str, offset: int, shape: Sequence[int]) -> str:
        """Add a constant of bytes that lie in another file."""
        self._claim(name)
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.UINT8, data_location=TensorProto.EXTERNAL)
        place = {"location": location, "offset": str(offset), "length": str(math.prod(shape))}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        self.constants[name] = tensor
        return name

    def node(self, kind: str, inputs: Sequence[str], *outputs: str, doc: str = "", **attributes: Any) -> str:
        """Add a standard operator; gives its first output."""
        for output in outputs:
            self._claim(output)
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], doc_string=doc, **attributes))
        return outputs[0]

    def call(self, function_name: str, inputs: Sequence[str], *outputs: str, doc: str = "") -> str:
        """Add a call of one of our functions; gives its first output."""
        output = self.node(function_name, inputs, *outputs, doc=doc, domain=DOMAIN)
        self.nodes[-1].ClearField("name")
        return output

    def rename(self, name: str, new: str) -> None:
        """Give a tensor that a node makes, and that node, another name."""
        self._claim(new)
        for node in self.nodes:
            for tensors in (node.input, node.output):
                tensors[:] = [new if tensor == name else tensor for tensor in tensors]
            if node.name == name:
                node.name = new

    def _claim(self, name: str) -> None:
        if name in self.names:
            raise ExportError(f"layer names: two tensors of the graph would be named {name!r}")
        self.names.add(name)


def element_type(form: ActFormat) -> np.dtype[Any]:
    """The smallest integer type that holds a format and that graphs take."""
    return np.dtype(f"{'' if form.signed else 'u'}int{8 if form.bits <= 8 else 16}")


def onnx_type(dtype: str) -> int:
    """ONNX's number of an element type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
