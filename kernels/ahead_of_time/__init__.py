"""Kernels compiled without a GPU, for programs that have neither torch nor Triton."""
