"""Ops, one folder each: pure PyTorch reference and fused kernels."""
