"""Back ends: they turn a packed network into files that other tools run."""

from export.c_code.patch import write_c_patch
from export.c_code.project import write_c
from export.hls.project import write_hls
from export.memories.files import read_memories, write_memories
from export.onnx_graphs.check import check_folder
from export.onnx_graphs.files import write_onnx, write_onnx_shared
from export.onnx_graphs.graph import onnx_graph
from export.project.golden import GoldenRun
from export.qonnx_graphs.files import qonnx_graph, write_qonnx
from export.rtl.project import write_rtl

__all__ = [
    "GoldenRun",
    "check_folder",
    "onnx_graph",
    "qonnx_graph",
    "read_memories",
    "write_c",
    "write_c_patch",
    "write_hls",
    "write_memories",
    "write_onnx",
    "write_onnx_shared",
    "write_qonnx",
    "write_rtl",
]
