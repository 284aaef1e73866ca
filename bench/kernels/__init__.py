"""The fused kernels against everything else that computes the same."""
