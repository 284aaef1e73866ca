"""Compiles the kernels of an ONNX file's fused operators into a folder, and prints what is known of each, as JSON.

    python compile_plugins.py model.onnx FOLDER sm_87 sm_110

Without TensorRT, and in a process of its own: Triton compiles nothing where its interpreter was chosen.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgefel.kernels.ahead_of_time.compiler import CompiledKernel, compile_kernel, write_kernels
from edgefel.models.inference_kernels import fused_kernels
from edgefel.runtime.onnx_functions import fused_nodes

# a batch that no other size of a shape is
BATCH = 1009


def sides(shape: str) -> list[int]:
    """ "[N, 49, 2*64]" -> [-1, 49, 128]"""
    found = eval(shape, {"N": BATCH})
    return [-1 if side == BATCH else side for side in found]


def known(kernel: CompiledKernel) -> dict[str, Any]:
    """What an engine has to hold of the kernel, from what compiled it."""
    spec = kernel.spec
    arguments = [(one.name, one.type, sides(one.shape)) for one in spec.arguments]
    return {
        "operator": spec.name,
        "arch": f"sm_{kernel.arch}",
        "arguments": arguments,
        "programs": spec.programs_per_image,
        "threads": 32 * spec.warps,
        "shared": kernel.dynamic_shared,
        "resources": asdict(kernel.resources),
    }


if __name__ == "__main__":
    specs = fused_kernels(fused_nodes(Path(sys.argv[1]).read_bytes()))
    archs = [int(arch.removeprefix("sm_")) for arch in sys.argv[3:]]
    compiled = [compile_kernel(spec, arch) for arch in archs for spec in specs]
    write_kernels(compiled, Path(sys.argv[2]), "test")
    print(json.dumps([known(kernel) for kernel in compiled]))
