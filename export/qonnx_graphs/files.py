"""QONNX files of one task each, for the tools of other people: qonnx, hls4ml and FINN.

Two flavours hold the same integers:

* "quant" (:mod:`export.qonnx_graphs.quant`): real values and Quant nodes; read by qonnx and hls4ml.
* "multithreshold" (:mod:`export.qonnx_graphs.thresholds`): integers, MultiThreshold nodes; for qonnx and FINN.

Both are exact or refused. Their weights are decoded: the format has no place for codes, codebooks, masks and banks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.onnx_graphs.files import golden_digest, is_kin, other_graphs, remove
from export.onnx_graphs.functions import IR_VERSION
from export.onnx_graphs.metadata import TASK_LETTERS, logit_exponent, metadata, network_digests, sealed
from export.qonnx_graphs.nodes import DOMAIN, DOMAIN_VERSION, OPSET, QonnxGraph
from export.qonnx_graphs.plan import qonnx_layer
from export.qonnx_graphs.quant import quant_format, quant_layer
from export.qonnx_graphs.thresholds import integer_type, threshold_layer
from tsn_hw.core.files import StrPath, write_atomically
from tsn_hw.core.layers import INPUT, Flatten, MaxPool, Pad
from tsn_hw.core.network import PackedNetwork

Flavour = Literal["quant", "multithreshold"]

FORMAT_VERSION = "2"
FOLDER = "qonnx"


def qonnx_graph(net: PackedNetwork, task: int | str, flavour: Flavour) -> onnx.ModelProto:
    """The QONNX model of one task, batch 1: x (1, *input_shape) -> logits (1, classes), both float32.

    "quant" takes and gives real values, integer * 2**exponent; "multithreshold" takes and gives integers. Logits whose
    scale is unknown (``output.exponent`` of the metadata is null) are integers in both.

    Raises ExportError where the flavour does not hold the task exactly.
    """
    task, graph = net.task_number(task), QonnxGraph()
    tensors, shape = {INPUT: "x"}, (1, *net.input_shape)
    if flavour == "quant":
        tensors[INPUT] = quant_format(graph, "input", "x", "x.quantized", shape, net.input)
    else:
        graph.types["x"] = integer_type(net.input)
    exponent, summaries = logit_exponent(net, task) or 0, []
    for index, layer, _ in net.run_order(task):
        sources = [tensors[source] for source in layer.inputs]
        summary: dict[str, object] = {"name": layer.name, "kind": layer.kind}
        if isinstance(layer, Flatten):
            tensors[index] = graph.moved("Flatten", sources[0], layer.name, net.shapes[index], axis=1)
        elif isinstance(layer, MaxPool):
            window = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": (0, 0, 0, 0)}
            tensors[index] = graph.moved("MaxPool", sources[0], layer.name, net.shapes[index], **window)
        elif isinstance(layer, Pad):
            top, left, bottom, right = layer.padding
            pads = graph.constant(f"{layer.name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
            tensors[index] = graph.moved("Pad", sources[0], layer.name, net.shapes[index], pads)
        else:
            plan = qonnx_layer(net, task, index, exponent)
            output = "logits" if index == net.head(task) else layer.name
            write = quant_layer if flavour == "quant" else threshold_layer
            tensors[index] = write(graph, plan, sources, output)
            summary |= {"bits": None if plan.output is None else plan.output.bits, "bound": plan.bound}
        summaries.append(summary)
    return _model(net, task, flavour, graph, summaries)


def write_qonnx(net: PackedNetwork, folder: StrPath, flavour: Flavour) -> list[Path]:
    """Write every task as ``folder/qonnx/task_00.quant.onnx`` (or ``.multithreshold.onnx``): same network, same bytes.

    They have a folder of their own because they are no graphs for stock onnxruntime. Files of another network are
    removed from it. A file that exists is replaced as a whole or not at all.

    Raises ExportError where a task is not held exactly or the folder holds graphs that are not ours (then nothing is
    written), FileError where a file cannot be written.
    """
    files: dict[Path, bytes] = {}
    folder, network = Path(folder), network_digests(net)
    for task in range(len(net.tasks)):
        told = {"network": network[: TASK_LETTERS * (task + 1)], "golden": golden_digest(net, task)}
        content = sealed(qonnx_graph(net, task, flavour), told)
        files[folder / FOLDER / f"task_{task:02d}.{flavour}.onnx"] = content
    for path, model in other_graphs(folder / FOLDER, files).items():
        if not is_kin(model, network):
            remove(path)
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def _model(
    net: PackedNetwork, task: int, flavour: Flavour, graph: QonnxGraph, summaries: list[dict[str, object]]
) -> onnx.ModelProto:
    """Put the parts together."""
    logits = (1, len(net.tasks[task].classes))
    graph.shapes.pop("logits")  # an output, not a tensor between nodes
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            net.tasks[task].name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *net.input_shape))],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)],
            list(graph.constants.values()),
            doc_string="Decoded weights: codes, codebooks, masks and banks are not in this file.",
            value_info=graph.value_infos(),
        ),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        producer_name="tsn-hw",
        producer_version=FORMAT_VERSION,
    )
    model.graph.quantization_annotation.extend(graph.annotations())
    others: dict[str, object] = {"format": f"qonnx {flavour} {FORMAT_VERSION}", "weights": "decoded"}
    helper.set_model_props(model, metadata(net, task, summaries, others))
    return model
