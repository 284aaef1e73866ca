"""The reference model and its relatives in PyTorch."""
