"""ONNX models as other tools write them, and what `tsn-hw check` says of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sim.area import read_coefficients
from sim.devices import device
from tsn_hw.app.check.network import Checked, check_model
from tsn_hw.app.hardware.platform import Platform
from tsn_hw.learn.foreign import Foreign, read_foreign


def checked_on_zynq(path: Path, name: str = "xc7z020") -> Checked:
    return check_model(path, Platform(device(name), read_coefficients()))


# ---------------------------------------------------------------------------------------------------------------- ONNX


def model_of(
    nodes: Sequence[tuple[str, list[str], list[str], dict[str, Any]]],
    weights: dict[str, tuple[int, ...]],
    shape: Sequence[int | str] = ("N", 3, 32, 32),
    outputs: Sequence[str] = ("y",),
    domain: str = "",
) -> onnx.ModelProto:
    """A float model: nodes as (operator, inputs, outputs, attributes), weights of zeros by shape."""
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, results, f"n{number}", domain=domain if kind == "Odd" else "", **attributes)
            for number, (kind, inputs, results, attributes) in enumerate(nodes)
        ],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()],
    )
    domains = [("", 18)] + ([(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in domains])


def found_in(nodes: Sequence[Any], weights: dict[str, tuple[int, ...]], **options: Any) -> Foreign:
    return read_foreign(model_of(nodes, weights, **options))
