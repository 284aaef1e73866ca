"""Exact rewrites of ONNX graphs, each a function `ModelProto -> (ModelProto, report)`."""
