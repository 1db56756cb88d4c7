"""Graphs whose weights are decoded: larger files that start faster."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from export.onnx_graphs.functions import DOMAIN, functions
from export.onnx_graphs.session import constants


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every tensor that does not depend on the input computed, as runtimes do when they load it."""
    known = {tensor.name for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if known.issuperset(node.input):
            known.update(node.output)
        else:
            kept.append(node)
    read = {name for node in kept for name in node.input}
    stored = [tensor for tensor in model.graph.initializer if tensor.name in read]
    names = sorted((read & known) - {tensor.name for tensor in stored})
    stored += [numpy_helper.from_array(v, n) for n, v in zip(names, constants(model, names), strict=True)]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for field, values in (("node", kept), ("initializer", stored)):
        result.graph.ClearField(field)
        getattr(result.graph, field).extend(values)
    result.ClearField("functions")
    result.functions.extend(functions(node.op_type for node in kept if node.domain == DOMAIN))
    return result
