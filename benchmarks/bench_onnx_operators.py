"""What stock operators take for one convolution of ResNet-18: whole convolutions, and the bare products in them.

    python benchmarks/bench_onnx_operators.py

A stage of the ResNet-18 of 20 channels has convolutions of 3 x 3 from and to as many channels. Prints, a stage and a
batch size: milliseconds of a float32 Conv with Relu, and over that the time of QLinearConv on uint8 with weights of
uint8 or int8, and of MatMulInteger and MatMul with the same products, as if patches had been gathered and nothing were
left to scale, round or saturate. Convolutions are timed in chains of four, which share what a session does once.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from bench_onnx import medians, start
from onnx import NodeProto, TensorProto, helper, numpy_helper

CHAIN = 4
STAGES = {20: 32, 40: 16, 80: 8, 160: 4}
"""Channels of a stage -> side of its images."""
BATCHES = (1, 64)
BYTES = {"uint8": 128, "int8": 0}
"""Types of weights -> their zero point."""
OUTPUTS = {"QLinearConv": TensorProto.UINT8, "MatMulInteger": TensorProto.INT32}


def model(nodes: list[NodeProto], x: np.ndarray, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A graph from ``x`` to the output of the last node."""
    output, kind = nodes[-1].output[0], OUTPUTS.get(nodes[-1].op_type, TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "operators",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def chain(link: Callable[[str, str], list[NodeProto]]) -> list[NodeProto]:
    """Nodes of CHAIN convolutions, each reading what the one before wrote."""
    names = ["x", *(f"y{i}" for i in range(CHAIN))]
    return [node for source, target in itertools.pairwise(names) for node in link(source, target)]


def float_convolutions(x: np.ndarray, weights: np.ndarray) -> onnx.ModelProto:
    def link(source: str, target: str) -> list[NodeProto]:
        convolution = helper.make_node("Conv", [source, "w"], [f"{target}_sum"], pads=[1] * 4)
        return [convolution, helper.make_node("Relu", [f"{target}_sum"], [target])]

    return model(chain(link), x, {"w": weights.astype(np.float32) * np.float32(1e-3)})


def byte_convolutions(x: np.ndarray, weights: np.ndarray, dtype: str) -> onnx.ModelProto:
    names = ["one", "zero", "w", "scale", "w_zero", "one", "zero"]
    scalars = {"one": np.float32(1), "zero": np.uint8(0), "scale": np.float32(1e-3)}
    scalars["w_zero"] = np.array(BYTES[dtype], dtype)
    nodes = chain(lambda s, t: [helper.make_node("QLinearConv", [s, *names], [t], pads=[1] * 4)])
    return model(nodes, x, scalars | {"w": (weights + BYTES[dtype]).astype(dtype)})


def byte_product(x: np.ndarray, weights: np.ndarray, dtype: str) -> onnx.ModelProto:
    zeros = {"zero": np.uint8(0), "w_zero": np.array(BYTES[dtype], dtype)}
    node = helper.make_node("MatMulInteger", ["x", "w", "zero", "w_zero"], ["y"])
    return model([node], x, zeros | {"w": (weights + BYTES[dtype]).astype(dtype)})


def float_product(x: np.ndarray, weights: np.ndarray) -> onnx.ModelProto:
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], x, {"w": weights.astype(np.float32)})


def measure(channels: int, batch: int) -> str:
    """A row of the table."""
    rng, side = np.random.default_rng(0), STAGES[channels]
    weights = rng.integers(-60, 61, (channels, channels, 3, 3))
    images = rng.integers(0, 256, (batch, channels, side, side)).astype(np.uint8)
    patches = rng.integers(0, 256, (batch * side * side, 9 * channels)).astype(np.uint8)
    matrix = np.ascontiguousarray(weights.reshape(channels, -1).T)
    real_images, real_patches = images.astype(np.float32), patches.astype(np.float32)
    inputs = [real_images, images, images, patches, patches, real_patches]
    models = [
        float_convolutions(real_images, weights),
        *(byte_convolutions(images, weights, dtype) for dtype in BYTES),
        *(byte_product(patches, matrix, dtype) for dtype in BYTES),
        float_product(real_patches, matrix),
    ]
    seconds = medians([start(each)[0] for each in models], inputs)
    seconds[:3] /= CHAIN
    ratios = " | ".join(f"{ratio:.2f}" for ratio in seconds[1:] / seconds[0])
    return f"| {channels} x {side} x {side} | {batch} | {seconds[0] * 1e3:.3f} | {ratios} |"


def main() -> None:
    sys.stdout.write(
        f"onnxruntime {onnxruntime.__version__}, 1 thread\n"
        "| stage | batch | float32 Conv ms | QLinearConv uint8 | int8 | MatMulInteger uint8 | int8 | MatMul float32 |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|\n"
    )
    for batch in BATCHES:
        for channels in STAGES:
            sys.stdout.write(measure(channels, batch) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
