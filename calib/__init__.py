"""Calibration: balanced samples and Q/DQ quantization."""
