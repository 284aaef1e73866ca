"""Compiles kernels for absent GPUs, and writes folders that run without torch and Triton."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgefel import __version__
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.files.write import atomic_folder, sha256, write_json
from edgefel.kernels.ahead_of_time.kernel_spec import KernelSpec
from edgefel.kernels.ahead_of_time.resources import (
    TARGETS,
    Resources,
    blocks_per_multiprocessor,
    occupancy,
    read_resources,
)
from edgefel.kernels.compile_options import COMPILE_OPTIONS, product_precision, ptx_version
from edgefel.workers import worker_pool

FORMAT = "edgefel-kernels"
VERSION = 1
INDEX = "kernels.json"
# Triton appends these two pointers to every kernel's arguments; kernels without scratch ignore them
HIDDEN_ARGUMENTS = ("global_scratch", "profile_scratch")


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel for one target.

    entry: the function's name in the cubin. dynamic_shared: bytes to launch it with. hidden: trailing null pointers.
    """

    spec: KernelSpec
    arch: int
    entry: str
    cubin: bytes
    ptx: str
    resources: Resources
    dynamic_shared: int
    hidden: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """JSON data for launchers and readers."""
        spec = self.spec
        return {
            "name": spec.name,
            "arch": f"sm_{self.arch}",
            "entry": self.entry,
            "arguments": [
                *(asdict(argument) | {"kind": "pointer"} for argument in spec.arguments),
                *({"name": name, "kind": "null pointer"} for name in self.hidden),
            ],
            "constants": {key: value for key, value in spec.constants.items() if value is not None},
            "grid": {"x": {"programs_per_image": spec.programs_per_image}, "y": 1, "z": 1},
            "block": {"x": 32 * spec.warps, "y": 1, "z": 1},
            "dynamic_shared_bytes": self.dynamic_shared,
            "warps": spec.warps,
            "stages": spec.stages,
            "resources": asdict(self.resources),
            "blocks_per_multiprocessor": blocks_per_multiprocessor(self.resources, spec.warps, self.arch),
            "occupancy": round(occupancy(self.resources, spec.warps, self.arch), 3),
        }


def parse_arch(text: str) -> int:
    """`sm_87` or `87` -> 87; raises EdgefelError for anything that is not a target."""
    digits = text.removeprefix("sm_")
    known = ", ".join(f"sm_{arch}" for arch in TARGETS)
    if not digits.isdigit() or int(digits) not in TARGETS:
        raise EdgefelError(f"architecture '{text}' is unknown; known: {known}")
    return int(digits)


def compile_kernel(spec: KernelSpec, arch: int) -> CompiledKernel:
    """Compiles one kernel with Triton; needs no GPU. Its PRECISION, if it has one, becomes the target's.

    Raises EdgefelError where Triton is missing, in interpreter mode, or refuses the kernel.
    """
    _check_compiler()
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if arch < 80 and spec.older is not None:
        spec = spec.older
    if "PRECISION" in spec.constants:
        precision = product_precision(spec.arguments[0].type, arch)
        spec = replace(spec, constants={**spec.constants, "PRECISION": precision})
    function = getattr(importlib.import_module(spec.module), spec.function)
    missing = set(function.arg_names) - {one.name for one in spec.arguments} - set(spec.constants)
    if missing:
        raise EdgefelError(f"{spec.name}: no value for {', '.join(sorted(missing))}")
    source = ASTSource(function, *_typed(function, spec))
    options = {"num_warps": spec.warps, "num_stages": spec.stages, "ptx_version": ptx_version(arch)}
    options |= COMPILE_OPTIONS
    try:
        compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EdgefelError(f"{spec.name}: Triton cannot compile it for sm_{arch}: {lines[0]}") from error
    cubin, ptx = compiled.asm["cubin"], compiled.asm["ptx"]
    entry = compiled.metadata.name
    tool = Path(triton.knobs.nvidia.cuobjdump.path)
    resources = read_resources(cubin, entry, tool, compiled.metadata.shared)
    hidden = () if spec.numbers else HIDDEN_ARGUMENTS[: _parameter_count(ptx, entry) - len(spec.arguments)]
    if compiled.metadata.global_scratch_size:
        raise EdgefelError(f"{spec.name}: needs scratch memory on sm_{arch}, which the loader does not give")
    return CompiledKernel(spec, arch, entry, cubin, ptx, resources, compiled.metadata.shared, hidden)


def _typed(function: Any, spec: KernelSpec) -> tuple[dict[str, Any], dict[Any, Any], dict[Any, Any]]:
    """Signature, constants and attributes of a kernel, as Triton's compiler takes them."""
    pointers = {argument.name: argument for argument in spec.arguments}
    signature: dict[str, Any] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}

    def passed(value: Any, place: tuple[int, ...]) -> Any:
        """Type of a number; Triton's launcher compiles ones in, and multiples of 16 as such."""
        if isinstance(value, tuple):
            return tuple(passed(each, (*place, index)) for index, each in enumerate(value))
        if value is None or (value == 1 and isinstance(value, int)):
            constants[place] = value
            return "constexpr"
        if isinstance(value, int) and value % 16 == 0:
            attributes[place] = [["tt.divisibility", 16]]
        return "fp32" if isinstance(value, float) else "i32"

    for index, parameter in enumerate(function.params):
        name = parameter.name
        if name in pointers:
            signature[name] = f"*{pointers[name].type}"
            # cudaMalloc aligns to 256 bytes; a launcher must keep 16
            attributes[index,] = [["tt.divisibility", 16]]
        elif spec.numbers and not parameter.is_constexpr:
            signature[name] = passed(spec.constants[name], (index,))
        else:
            signature[name], constants[index,] = "constexpr", spec.constants[name]
    return signature, constants, attributes


def compile_all(
    specs: Sequence[KernelSpec],
    archs: Sequence[int],
    *,
    workers: int | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[CompiledKernel]:
    """Every kernel for every target, in parallel; ordered by target, then as given. Progress: advance(done, total)."""
    _check_compiler()
    tasks = [(spec, arch) for arch in archs for spec in specs]
    found: dict[int, CompiledKernel] = {}
    with worker_pool(workers) as pool:
        futures = {pool.submit(compile_kernel, *task): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            advance(len(found), len(tasks))
    return [found[number] for number in range(len(tasks))]


def write_kernels(kernels: Sequence[CompiledKernel], folder: Path, model: str) -> Path:
    """Writes `folder` atomically: `sm_NN/NAME.{cubin,ptx,json}`, and `kernels.json` with a hash of every file."""
    import triton

    with atomic_folder(folder) as temporary:
        rows = []
        for kernel in kernels:
            place = temporary / f"sm_{kernel.arch}"
            place.mkdir(exist_ok=True)
            base = place / kernel.spec.name
            base.with_suffix(".cubin").write_bytes(kernel.cubin)
            base.with_suffix(".ptx").write_text(kernel.ptx)
            description = kernel.describe() | {"cubin_sha256": sha256(base.with_suffix(".cubin"))}
            write_json(base.with_suffix(".json"), description)
            rows.append({"name": kernel.spec.name, "arch": f"sm_{kernel.arch}"})
        versions = {"edgefel": __version__, "triton": triton.__version__}
        index = {"format": FORMAT, "version": VERSION, "model": model, "kernels": rows, "versions": versions}
        write_json(temporary / INDEX, index)
    return folder


def _check_compiler() -> None:
    try:
        import triton
    except ModuleNotFoundError:
        raise MissingDependencyError("triton", "kernels", "compiling kernels") from None
    if triton.knobs.runtime.interpret:
        raise EdgefelError("kernels cannot be compiled while TRITON_INTERPRET is set; unset it")


def _parameter_count(ptx: str, entry: str) -> int:
    header = re.search(rf"\.entry\s+{re.escape(entry)}\s*\((.*?)\)", ptx, re.DOTALL)
    if not header:
        raise EdgefelError(f"the PTX has no entry '{entry}'")
    return len(re.findall(r"\.param\b", header[1]))
