"""The fused kernels against other implementations of the same ops."""
