"""Comparison of exported files with PyTorch FP32, and the gate."""
