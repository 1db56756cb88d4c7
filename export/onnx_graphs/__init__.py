"""ONNX graphs for stock onnxruntime."""
