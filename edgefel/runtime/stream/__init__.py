"""From camera to labels: capture, detection, inference, tracking, smoothing, sinks. Torch-free."""
