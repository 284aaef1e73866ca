"""TensorRT engines: building, caching, layer reports."""
