"""Running a graph with onnxruntime, with its errors as ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tsn_hw.core.errors import ArtifactError, brief

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator


def run_graph(
    source: bytes | Path, feeds: dict[str, NDArray[Any]], outputs: Sequence[str] | None = None
) -> list[NDArray[Any]]:
    """The outputs of a model, given as its content or its file. Raises ArtifactError where it cannot be run."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    theirs = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    refusals: tuple[type[Exception], ...] = (ValueError, RuntimeError, TypeError, *theirs)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    name = "a graph" if isinstance(source, bytes) else str(source)
    content = source if isinstance(source, bytes) else str(source)
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        found = list(session.run(outputs, feeds))
    except refusals as error:
        raise ArtifactError(f"{name}: onnxruntime refuses it: {brief(str(error))}") from error
    if not all(isinstance(values, np.ndarray) and values.dtype.kind in "iufb" for values in found):
        raise ArtifactError(f"{name}: gives what are no tensors of numbers")
    return found


def reference_evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """ONNX's reference evaluator of a graph of ours; numpy does its GatherElements.

    That of onnx 1.23 is wrong, or refuses, where more than 32 values are there to choose from. An evaluator hands
    operators that replace its own to no function, so that functions are inlined.
    """
    from onnx.inliner import inline_local_functions
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        def _run(self, data: NDArray[Any], indices: NDArray[Any], axis: int) -> tuple[NDArray[Any]]:
            return (np.take_along_axis(data, indices, axis),)

    return ReferenceEvaluator(inline_local_functions(model), new_ops=[GatherElements])


def parse(content: bytes, name: str) -> onnx.ModelProto:
    """A model from the content of a file. Raises ArtifactError where it is none."""
    try:
        return onnx.load_from_string(content)
    except DecodeError as error:
        raise ArtifactError(f"{name}: is no ONNX file, or damaged: {error}") from error


def constants(model: onnx.ModelProto, names: Sequence[str]) -> list[NDArray[Any]]:
    """The values of tensors that do not depend on an input."""
    known = {tensor.name for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if known.issuperset(node.input):
            nodes.append(node)
            known.update(node.output)
    part = helper.make_model(
        helper.make_graph(
            nodes,
            "constants",
            [],
            [helper.make_empty_tensor_value_info(name) for name in names],
            [tensor for tensor in model.graph.initializer if tensor.data_location != TensorProto.EXTERNAL],
        ),
        functions=list(model.functions),
        ir_version=model.ir_version,
        opset_imports=list(model.opset_import),
    )
    return run_graph(part.SerializeToString(), {}, names) if names else []
