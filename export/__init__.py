"""Back ends: they turn a packed network into files that other tools run."""

from export.onnx_check import check_folder
from export.onnx_files import write_onnx, write_onnx_shared
from export.onnx_graph import onnx_graph
from export.qonnx import qonnx_graph, write_qonnx

__all__ = ["check_folder", "onnx_graph", "qonnx_graph", "write_onnx", "write_onnx_shared", "write_qonnx"]
