"""The Triton code that torch.compile writes for a GPU that is not there, and the count of its instructions.

An experiment and no part of the product: it replaces some forty private functions of torch, registers a device by a few
lines of C++ compiled against torch's headers, and so works with the torch it was written for (2.13) alone. On a machine
with a GPU `edgefel bench kernels` runs the real thing.
"""
