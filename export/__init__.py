"""Back ends: they turn a packed network into files that other tools run."""

from export.onnx_graph import onnx_graph, write_onnx

__all__ = ["onnx_graph", "write_onnx"]
