"""A bound on a kernel's time from its machine code, without a GPU."""
