"""How Triton compiles our kernels, at a launch and ahead of time; without torch, for processes that only compile."""

from __future__ import annotations

# Products and sums are fused, as everywhere in CUDA; from Triton 3.10 on, they are not unless asked for.
COMPILE_OPTIONS = {"enable_fp_fusion": True}


def ptx_version(capability: int) -> int:
    """The oldest version of PTX that knows the GPU, 87 for 8.7: a driver refuses newer ones than its own CUDA's.

    Source: PTX ISA, "Release Notes". Registers and shared memory of our kernels do not depend on it.
    """
    return {110: 90, 120: 87}.get(capability, 80)


def product_precision(dtype: str, capability: int) -> str:
    """tl.dot's `input_precision` that keeps the accuracy of FP32: "tf32x3" on tensor cores, "ieee" without.

    dtype: "fp32", "fp16" or "bf16"; 16-bit products are exact either way. capability: of the GPU, e.g. 87; 0 for none.
    Three TF32 products carry 22 bits of each factor (Ootomo and Yokota, arXiv 2203.03341).
    """
    return "tf32x3" if dtype == "fp32" and capability >= 80 else "ieee"
