"""Streams: capture, detection, inference, tracking, smoothing and sinks. Torch-free."""
