"""Makes torch.compile write its Triton code for an H100 that is not there; nothing can be run afterwards.

    python -m edgefel.bench.experiments.inductor.pretended flex|compile WINDOW HEADS BATCH > code.py

A process of its own, which prints the code that Inductor generated for attention with the bias of a table.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from edgefel.errors import EdgefelError

WIDTH = 32  # of a head
# tensors of type CUDA need a guard; this one does nothing
_GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace c10::impl { C10_REGISTER_GUARD_IMPL(CUDA, NoOpDeviceGuardImpl<DeviceType::CUDA>) }
"""
# of an H100, as CUDA reports them
_PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132, regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, warp_size=32, total_memory=80 << 30,
    gcnArchName="", L2_cache_size=50 << 20, shared_memory_per_block=49152, shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
)  # fmt: skip


class Written(Exception):
    """Holds the code; raised as soon as it is there, before Inductor would load and run it."""


def generated(which: str, window: int, heads: int, batch: int) -> str:
    """Inductor's module for one attention in FP16. Changes this process's torch for good.

    Raises EdgefelError without a C++ compiler, and where this torch generates nothing.
    """
    _load_guard()
    _pretend()
    from torch._inductor import config
    from torch._inductor.graph import GraphLowering
    from torch._subclasses.fake_tensor import FakeTensorMode

    config.joint_graph_constant_folding = False
    config.compile_threads = 1
    config.force_disable_caches = True
    generate: Any = GraphLowering.codegen

    def codegen(self: Any) -> Any:
        source, *_ = generate(self)
        raise Written(getattr(source, "value", str(source)))

    GraphLowering.codegen = codegen  # type: ignore[method-assign]
    m = window * window
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        q = torch.empty(batch, m, heads, WIDTH, device="cuda", dtype=torch.float16)
        kv = torch.empty(batch, m, 2, heads, WIDTH, device="cuda", dtype=torch.float16)
        table = torch.empty((2 * window - 1) ** 2, heads, device="cuda", dtype=torch.float16)
        try:
            torch.compile(_attention(which, window), dynamic=False)(q, kv, table)
        except Exception as error:
            if (found := _written(error)) is not None:
                return found
            raise EdgefelError(f"torch {torch.__version__} generates no code here: {error}") from error
    raise EdgefelError(f"torch {torch.__version__} ran the code that it was to write")


def _written(error: BaseException | None) -> str | None:
    """torch wraps what is raised inside of its compiler."""
    while error is not None:
        if isinstance(error, Written):
            return str(error)
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return None


def _attention(which: str, window: int) -> Callable[..., Any]:
    from edgefel.kernels.window_cross_attention.reference import window_cross_attention

    scale, side = WIDTH**-0.5, 2 * window - 1

    def split(q: Any, kv: Any) -> tuple[Any, Any, Any]:
        k, v = kv.unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def plain(q: Any, kv: Any, table: Any) -> Any:
        return window_cross_attention(*split(q, kv), table, window, scale)

    def flex(q: Any, kv: Any, table: Any) -> Any:
        from torch.nn.attention.flex_attention import BlockMask, flex_attention

        def add_bias(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
            rows = i // window - j // window + window - 1
            return score + table[rows * side + i % window - j % window + window - 1, h]

        # what flex_attention makes of no mask, without the launches that this takes
        one = torch.ones([1, 1, 1], dtype=torch.int32, device="cuda")
        none = torch.zeros([1, 1, 1, 1], dtype=torch.int32, device="cuda")
        size = (1 << 30, 1 << 30)
        mask = BlockMask(
            (1, 1), one, none, None, None, one, none, None, None,
            BLOCK_SIZE=size, mask_mod=lambda b, h, i, j: b >= 0,
        )  # fmt: skip
        out: Any = flex_attention(*split(q, kv), score_mod=add_bias, block_mask=mask, scale=scale)
        return out.transpose(1, 2).flatten(2)

    if which not in ("flex", "compile"):
        raise EdgefelError(f"{which}: choose flex or compile")
    return flex if which == "flex" else plain


def _load_guard() -> None:
    root = Path(torch.__file__).parent
    compiler = sysconfig.get_config_var("CXX") or "g++"
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "guard.cpp", Path(folder) / "guard.so"
        source.write_text(_GUARD)
        command = [*compiler.split(), "-shared", "-fPIC", "-std=c++20", f"-I{root / 'include'}", str(source)]
        command += ["-o", str(library), f"-L{root / 'lib'}", "-lc10"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except OSError as error:
            raise EdgefelError(f"needs a C++ compiler: {error}") from None
        if result.returncode:
            raise EdgefelError(f"{compiler} cannot compile against torch's headers: {result.stderr[:200]}")
        ctypes.CDLL(str(library))


def _pretend() -> None:
    """Answers torch's questions about CUDA for a device that is not there."""
    import torch._inductor.fx_passes.fuse_attention as fuse_attention
    import torch._inductor.fx_passes.joint_graph as joint_graph
    import torch._inductor.fx_passes.misc_patterns as misc_patterns
    import torch._inductor.fx_passes.pad_mm as pad_mm
    import triton
    from triton.backends.compiler import GPUTarget

    state = torch.zeros(16, dtype=torch.uint8)
    answers = {
        "is_available": True, "device_count": 1, "_get_device_properties": _PROPERTIES,
        "get_device_properties": _PROPERTIES, "get_device_capability": (9, 0), "get_device_name": _PROPERTIES.name,
        "current_device": 0, "is_initialized": True, "get_rng_state": state, "set_rng_state": None, "_lazy_init": None,
        "set_device": None, "_exchange_device": 0, "_maybe_exchange_device": 0, "mem_get_info": (70 << 30, 80 << 30),
        "synchronize": None, "is_bf16_supported": True, "current_stream": SimpleNamespace(cuda_stream=0),
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    for name in ("get_rng_state", "set_rng_state"):
        setattr(torch.cuda.random, name, getattr(torch.cuda, name))
    for name in ("getCurrentRawStream", "getDevice", "exchangeDevice", "maybeExchangeDevice", "setDevice"):
        setattr(torch._C, f"_cuda_{name}", lambda *_: 0)
    torch.version.cuda = "13.0"
    # these trace patterns on the device
    for module, name in (
        (fuse_attention, "_sfdp_init"), (pad_mm, "_pad_mm_init"), (misc_patterns, "_misc_patterns_init"),
        (joint_graph, "_sfdp_init"),
    ):  # fmt: skip
        if hasattr(module, name):
            setattr(module, name, lambda *_, **__: None)
    limits = {"max_shared_mem": 232448, "multiprocessor_count": 132, "max_num_regs": 65536, "warpSize": 32}
    triton.runtime.driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", 90, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda *_: 0,
            get_active_torch_device=lambda: torch.device("cuda"),
            get_device_interface=lambda: torch.cuda,
            map_python_to_cpp_type=lambda *_: "x",
            utils=SimpleNamespace(get_device_properties=lambda _: limits),
        )
    )


if __name__ == "__main__":
    try:
        print(generated(sys.argv[1], *map(int, sys.argv[2:])))
    except EdgefelError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
