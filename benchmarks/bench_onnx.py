"""Exported ONNX graphs against the plain float32 graph of the same network, one thread, interleaved in one run.

    python benchmarks/bench_onnx.py [WORD ...]

Prints, a network: file size and session start of the exported graph and of the plain one. Then, a batch size: latency
of the plain graph, and the time of others over it: exported by default, with the other forms forced, and the plain
graph after onnxruntime's own quantizations, which compute other numbers: dynamic, and static (QDQ, calibrated, a scale
a channel) with int8 weights and with uint8 weights. Without VNNI, static int8 weights of more than 7 bits saturate: it
is as fast as it is wrong there. Times are processor time, so that what else runs on the machine counts as little as it
can. Words choose networks whose names hold one of them.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from nets import Numbers, random_alexnet, random_inputs, random_mlp, random_resnet18
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from export import onnx_graph
from export.onnx_graphs.plan import Form
from tsn_hw.core.layers import INPUT, Add, AvgPool, Flatten, Linear, MaxPool
from tsn_hw.core.network import PackedNetwork, Requantization

ROUNDS = 25
ROUND_SECONDS = 0.01
"""Every candidate is repeated within a round until the plain graph takes about this long."""
NETWORKS = {
    "MLP 784-100-100-10": random_mlp((784, 100, 100, 10)),
    "AlexNet": random_alexnet(),
    "AlexNet, batch norms": random_alexnet(Numbers(multiplier_bits=12)),
    "ResNet-18, width 20": random_resnet18(numbers=Numbers()),
    "ResNet-18, width 20, batch norms": random_resnet18(),
    "MLP, 7-bit centroids": random_mlp((784, 100, 100, 10), centroid_bits=7),
    "AlexNet, batch norms, 7-bit centroids": random_alexnet(Numbers(centroid_bits=7, multiplier_bits=12)),
    "ResNet-18, batch norms, 7-bit centroids": random_resnet18(numbers=Numbers(centroid_bits=7, multiplier_bits=12)),
}
BATCHES = (1, 64)
FORMS: tuple[Form, ...] = ("float32", "integer")
STATIC = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
"""Types of weights."""


def float_weights(net: PackedNetwork, index: int, requantization: Requantization) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of a layer in real numbers."""
    output, weights = requantization.output, net.weights(0, index)
    unit = 2.0 ** ((0 if output is None else output.exponent) - requantization.shift)
    gain = requantization.multiplier.reshape(-1, *[1] * (weights.ndim - 1)) * unit
    source = net.format(0, net.layers[index].inputs[0])
    return weights * gain * 2.0**-source.exponent, requantization.offset * unit


def float_graph(net: PackedNetwork) -> onnx.ModelProto:
    """The same layers in float32, batch norms folded, ReLU where formats are unsigned: what a framework exports."""
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    tensors = {INPUT: "x"}

    def add(kind: str, inputs: list[str], **attributes: object) -> str:
        output = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    for index, layer, step in net.run_order(0):
        inputs = [tensors[source] for source in layer.inputs]
        if isinstance(layer, Flatten):
            tensor = add("Flatten", inputs)
        elif isinstance(layer, MaxPool | AvgPool):
            kind = "MaxPool" if isinstance(layer, MaxPool) else "AveragePool"
            tensor = add(kind, inputs, kernel_shape=layer.kernel, strides=layer.stride)
        elif isinstance(layer, Add):
            tensor = add("Relu", [add("Add", inputs)])
        else:
            assert step.requantization is not None  # checked at birth
            output = step.requantization.output
            inputs += [f"{layer.name}.weight", f"{layer.name}.bias"]
            for name, values in zip(inputs[1:], float_weights(net, index, step.requantization), strict=True):
                constants.append(numpy_helper.from_array(values.astype(np.float32), name))
            if isinstance(layer, Linear):
                tensor = add("Gemm", inputs, transB=1)
            else:
                tensor = add("Conv", inputs, strides=layer.stride, pads=layer.padding * 2, group=layer.groups)
            if output is not None and not output.signed:
                tensor = add("Relu", [tensor])
        tensors[index] = tensor
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *net.input_shape])
    y = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "plain", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def dynamic_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime makes of a float graph without calibration."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        quantize_dynamic(before, after)
        return onnx.load(after)


class Inputs(CalibrationDataReader):  # type: ignore[misc]
    """Random inputs to calibrate with."""

    def __init__(self, net: PackedNetwork) -> None:
        self.batches = iter([random_inputs(net, 16, seed).astype(np.float32) for seed in range(2)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


def static_int8(model: onnx.ModelProto, net: PackedNetwork, weights: QuantType) -> onnx.ModelProto:
    """What onnxruntime makes of a float graph with calibration."""
    kinds = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": weights}
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        quantize_static(before, after, Inputs(net), per_channel=True, **kinds)
        return onnx.load(after)


def start(model: onnx.ModelProto) -> tuple[onnxruntime.InferenceSession, float]:
    """A session on one thread, and the seconds that it took to start."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = model.SerializeToString()
    begin = time.thread_time()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session, time.thread_time() - begin


def medians(sessions: list[onnxruntime.InferenceSession], inputs: list[np.ndarray]) -> np.ndarray:
    """Median seconds of a run of every session, timed in turn: of this thread's processor time."""
    begin = time.thread_time()
    for session, x in zip(sessions, inputs, strict=True):
        session.run(None, {"x": x})
    repeats = 1 + int(ROUND_SECONDS * len(sessions) / (time.thread_time() - begin))
    seconds = np.empty((ROUNDS, len(sessions)))
    for row in seconds:
        for column, (session, x) in enumerate(zip(sessions, inputs, strict=True)):
            begin = time.thread_time()
            for _ in range(repeats):
                session.run(None, {"x": x})
            row[column] = (time.thread_time() - begin) / repeats
    return np.median(seconds, axis=0)


def main(words: list[str]) -> None:
    sys.stdout.write(f"onnxruntime {onnxruntime.__version__}, 1 thread, median of {ROUNDS} rounds\n")
    logging.disable(logging.WARNING)  # the quantizer advises to preprocess models
    for name, net in NETWORKS.items():
        if words and not any(word in name for word in words):
            continue
        plain = float_graph(net)
        ours = {"exported": onnx_graph(net, 0)} | {f"form {form}": onnx_graph(net, 0, form=form) for form in FORMS}
        theirs = {"dynamic int8": dynamic_int8(plain)}
        theirs |= {f"static {kind}": static_int8(plain, net, weights) for kind, weights in STATIC.items()}
        models = {"plain": plain, **ours, **theirs}
        sessions, starts = zip(*map(start, models.values()), strict=True)
        plain_bytes, our_bytes = (len(models[kind].SerializeToString()) for kind in ("plain", "exported"))
        sys.stdout.write(
            f"{name}: {our_bytes:,} bytes, {100 * our_bytes / plain_bytes:.1f} % of the plain {plain_bytes:,}; "
            f"starts in {starts[1] * 1e3:.0f} ms, the plain one in {starts[0] * 1e3:.0f} ms\n"
        )
        for batch in BATCHES:
            x = random_inputs(net, batch)
            inputs = [x if kind in ours else x.astype(np.float32) for kind in models]
            seconds = medians(list(sessions), inputs)
            ratios = [f"{kind} {ratio:.2f}" for kind, ratio in zip(models, seconds / seconds[0], strict=True)][1:]
            sys.stdout.write(f"  batch {batch:3}: plain {seconds[0] * 1e6:9.1f} us, {', '.join(ratios)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
