"""Back ends: they turn a packed network into files that other tools run."""

from export.hls import write_hls
from export.hls_golden import GoldenRun
from export.memory_files import read_memories, write_memories
from export.onnx_check import check_folder
from export.onnx_files import write_onnx, write_onnx_shared
from export.onnx_graph import onnx_graph
from export.qonnx import qonnx_graph, write_qonnx
from export.rtl import write_rtl

__all__ = [
    "GoldenRun",
    "check_folder",
    "onnx_graph",
    "qonnx_graph",
    "read_memories",
    "write_hls",
    "write_memories",
    "write_onnx",
    "write_onnx_shared",
    "write_qonnx",
    "write_rtl",
]
