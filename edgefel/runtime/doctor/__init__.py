"""Whether this machine can run edgefel, and what to do where it cannot. Torch-free."""
