"""Compiles launches for absent GPUs and makes rows of what their code says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefel.bench.environment import describe
from edgefel.bench.kernels.model.count import Count, Plan, bound, count
from edgefel.bench.kernels.model.gpus import GPUS
from edgefel.bench.kernels.model.sass import disassemble
from edgefel.bench.results import Row, make_row
from edgefel.errors import EdgefelError
from edgefel.kernels.ahead_of_time.compiler import CompiledKernel, compile_kernel
from edgefel.kernels.ahead_of_time.kernel_spec import KernelSpec
from edgefel.kernels.ahead_of_time.resources import blocks_per_multiprocessor
from edgefel.workers import worker_pool

if TYPE_CHECKING:
    from edgefel.bench.kernels.model.modelled import ModelledLaunch

KIND = "kernel-model"
OURS = "edgefel"


def count_spec(spec: KernelSpec, plan: Plan, arch: int) -> tuple[CompiledKernel, Count]:
    """Compiles one launch and counts its instructions. Raises EdgefelError where the compiler refuses it, or its loops
    are not those of the plan."""
    import triton

    kernel = compile_kernel(spec, arch)
    code = disassemble(kernel.cubin, kernel.entry, Path(triton.knobs.nvidia.cuobjdump.path))
    try:
        return kernel, count(code, plan)
    except EdgefelError as error:
        raise EdgefelError(f"{spec.function}, {spec.name}, sm_{arch}: {error}") from None


def metrics(kernel: CompiledKernel, found: Count, arch: int) -> dict[str, Any]:
    """What a row says of one launch on one target; plain JSON values."""
    resources, plan, limit = kernel.resources, found.plan, bound(found, GPUS[arch], arch)
    return {
        "unit": plan.unit,
        "units": plan.units,
        "instructions_per_unit": round(found.per_unit, 3),
        "by_pipe": {name: round(each, 3) for name, each in found.by_pipe.items()},
        "whole_per_unit": round(found.whole_per_unit, 3),
        "warp_instructions": found.warp_instructions,
        "redundancy": found.redundancy,
        "registers": resources.registers,
        "shared_bytes": resources.shared_bytes,
        "spill_bytes": resources.spill_store_bytes + resources.spill_load_bytes,
        "blocks_per_multiprocessor": blocks_per_multiprocessor(resources, plan.warps, arch),
        "programs": plan.programs,
        "requested_bytes": found.requested_bytes,
        "l2_bytes": plan.l2_bytes,
        "dram_bytes": plan.dram_bytes,
        "bound_us": round(limit["us"], 3),
        "bound_by": limit["by"],
        "bounds_us": {name: round(each, 3) for name, each in limit["parts_us"].items()},
        "constants": _plain(kernel.spec),
        "gpu": asdict(GPUS[arch]),
    }


def _plain(spec: KernelSpec) -> dict[str, Any]:
    """The sizes that decide about the code."""
    sizes = {key: value for key, value in spec.constants.items() if key.isupper()}
    return sizes | {"warps": spec.warps, "stages": spec.stages}


def measure(spec: KernelSpec, plan: Plan, arch: int) -> tuple[dict[str, Any], list[str]]:
    """Metrics and notes of one launch; for a worker process, so without torch."""
    kernel, found = count_spec(spec, plan, arch)
    unknown = ", ".join(found.unknown)
    return metrics(kernel, found, arch), [f"no pipe is known for {unknown}"] if unknown else []


def model_rows(
    launches: Mapping[int, Sequence[ModelledLaunch]],
    *,
    workers: int | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Row, ...]:
    """A row for each launch, by target (compute capability -> its launches). Progress: advance(done, total).

    Raises EdgefelError as `count_spec` does, and in interpreter mode.
    """
    tasks = [(launch, arch) for arch, own in launches.items() for launch in own]
    here, found = describe(packages=("triton",)), {}
    with worker_pool(workers) as pool:
        futures = {
            pool.submit(measure, launch.spec, launch.plan, arch): number
            for number, (launch, arch) in enumerate(tasks)
        }
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            advance(len(found), len(tasks))
    return tuple(
        make_row(KIND, subject(launch, arch), found[number][0], here, found[number][1])
        for number, (launch, arch) in enumerate(tasks)
    )


def subject(launch: ModelledLaunch, arch: int, implementation: str = OURS) -> dict[str, Any]:
    """What a row is of."""
    import triton

    names = ("op", "problem", "batch", "dtype", "mode", "kernel")
    return {
        **{name: getattr(launch, name) for name in names},
        "implementation": implementation,
        "target": f"sm_{arch}",
        "triton": triton.__version__,
    }
