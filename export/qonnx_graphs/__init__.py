"""QONNX graphs for qonnx, hls4ml and FINN."""
