"""One ONNX graph per task: stock operators, a few local functions, and the integers of the packed network.

A graph has the input ``x`` (the integer type that holds ``net.input``, any batch) and the output ``logits`` (int32).
Weights are stored as codes, masks and codebooks, in the graph or in a shared bank file
(:mod:`export.onnx_graphs.weights`); functions decode them, and onnxruntime folds these away when it loads the file.
Between layers, activations are integers in float32, or uint8 where both sides compute on bytes. How a layer computes
exactly is decided in :mod:`export.onnx_graphs.plan`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper

from export.onnx_graphs.bank import BankLayout
from export.onnx_graphs.functions import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, functions
from export.onnx_graphs.layers import as_features, cast, computed, moved
from export.onnx_graphs.metadata import metadata
from export.onnx_graphs.nodes import Graph, Tensor, element_type, onnx_type
from export.onnx_graphs.plan import MOVED, Forms, Plan, check_forms, plan_layer
from export.onnx_graphs.weights import LayerWords, bank_weights, dense_words, shared_words, survivor_weights
from tsn_hw.core.layers import INPUT, Weighted
from tsn_hw.core.network import MAX_CODE_BITS, PackedNetwork

HEAD = "head"
"""The name of every head in the graph of its task."""
TAP = ":tap"
"""What follows the name of a layer in that of its tap: no layer is called so, whatever it is called."""


def onnx_graph(
    net: PackedNetwork, task: int | str, *, taps: bool = False, form: Forms = None, bank: BankLayout | None = None
) -> onnx.ModelProto:
    """The ONNX model of one task, opset 19 and IR 9: x (N, *input_shape) -> logits int32 (N, classes).

    ``taps`` adds an int32 output for every layer, ``NAME:tap``, that holds the layer's integers. ``form`` forces the
    form of all layers that compute, or of some by name, see ``export.onnx_graphs.plan``. With ``bank``, the words
    of all layers but the head are external data in ``banks.bin``, see ``export.onnx_graphs.bank``.

    Raises ExportError where no exact form exists, or the forced one is not exact.
    """
    check_forms(net, form)
    task = net.task_number(task)
    graph = Graph()
    tensors = {INPUT: Tensor("x", str(input_dtype(net)))}
    outputs = [helper.make_tensor_value_info("logits", TensorProto.INT32, ["N", len(net.tasks[task].classes)])]
    summaries: list[dict[str, object]] = []
    shared = {} if bank is None else shared_words(graph, net, task, bank)
    names = _names(net, task)
    for index, layer, _ in net.run_order(task):
        sources = [tensors[source] for source in layer.inputs]
        if isinstance(layer, MOVED):
            tensors[index] = moved(graph, layer, sources[0])
        else:
            plan = plan_layer(net, task, index, form)
            words = shared.get(index)
            summaries.append({"name": layer.name} | plan.summary())
            if words is not None:
                summaries[-1] |= {"code_bits": words.code_bits, "words": words.digest}
            plan = replace(plan, layer=replace(plan.layer, name=names[index]))
            tensors[index] = computed(graph, plan, sources, _weights(graph, plan, words, is_bank=bank is not None))
        if taps:
            tap = cast(graph, as_features(graph, tensors[index]), "int32", f"{layer.name}{TAP}")
            outputs.append(helper.make_tensor_value_info(tap, TensorProto.INT32, ["N", *net.shapes[index]]))
    _end(graph, as_features(graph, tensors[net.head(task)]))
    return _model(net, task, graph, outputs, summaries)


def _end(graph: Graph, logits: Tensor) -> None:
    """Call the output of a head "logits", as int32."""
    if (logits.dtype, logits.zero_point) == ("int32", 0):
        graph.rename(logits.name, "logits")
    else:
        cast(graph, logits, "int32", "logits")


def _names(net: PackedNetwork, task: int) -> dict[int, str]:
    """What layers are called in the graph of a task: by their names, its head "head" if no other is called so."""
    names = {index: layer.name for index, layer, _ in net.run_order(task)}
    if HEAD not in names.values():
        names[net.head(task)] = HEAD
    return names


def _weights(graph: Graph, plan: Plan, words: LayerWords | None, *, is_bank: bool) -> Tensor | None:
    """The weights of a layer that has some, from the bank file or from the graph."""
    if not isinstance(plan.layer, Weighted):
        return None
    if words is None and (not is_bank or plan.words is None or plan.words.code_bits > MAX_CODE_BITS):
        return survivor_weights(graph, plan, plan.layer)
    return bank_weights(graph, plan, plan.layer, words or dense_words(graph, plan, plan.layer))


def input_dtype(net: PackedNetwork) -> np.dtype[Any]:
    """The element type of the graph input ``x``: the smallest integer type that holds ``net.input``."""
    return element_type(net.input)


def _model(
    net: PackedNetwork, task: int, graph: Graph, outputs: list[ValueInfoProto], summaries: list[dict[str, object]]
) -> onnx.ModelProto:
    """Put the parts together, with what a reader needs to quantize an input and read the logits."""
    form = net.input
    x = helper.make_tensor_value_info("x", onnx_type(str(input_dtype(net))), ["N", *net.input_shape])
    x.doc_string = f"{form.range[0]}..{form.range[1]}; real value = x * 2**{form.exponent}"
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            net.tasks[task].name,
            [x],
            outputs,
            list(graph.constants.values()),
            doc_string="Class: first largest logit.",
        ),
        functions=functions(node.op_type for node in graph.nodes if node.domain == DOMAIN),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        producer_name="tsn-hw",
    )
    helper.set_model_props(model, metadata(net, task, summaries))
    return model
