"""Torch-free runtime for exported bundles."""
