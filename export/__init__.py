"""Export: ONNX, simplification, precision, TensorRT engines, parity."""
