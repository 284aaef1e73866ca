"""From PyTorch to an ONNX graph: tracing and graph passes."""
