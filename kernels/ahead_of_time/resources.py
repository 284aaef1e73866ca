"""A compiled kernel's use of a multiprocessor, and how many of its blocks fit there."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgefel.errors import EdgefelError


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one multiprocessor, from the CUDA programming guide, table "Technical specifications per compute
    capability"."""

    name: str
    threads: int
    blocks: int
    shared_kib: int
    registers: int = 65536


TARGETS: dict[int, Multiprocessor] = {
    75: Multiprocessor("Turing (T4)", 1024, 16, 64),
    80: Multiprocessor("Ampere (A100)", 2048, 32, 164),
    87: Multiprocessor("Jetson Orin", 1536, 16, 164),
    90: Multiprocessor("Hopper (H100)", 2048, 32, 228),
    110: Multiprocessor("Jetson Thor", 1536, 24, 228),
    120: Multiprocessor("Blackwell (RTX 50)", 1536, 24, 100),
}
# shared memory that the system reserves per block (compute capability 8.0 and later), bytes
_RESERVED_SHARED = 1024


@dataclass(frozen=True)
class Resources:
    """registers per thread; stack, local and spilled bytes per thread; shared bytes per block."""

    registers: int
    stack_bytes: int
    local_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    shared_bytes: int


def read_resources(cubin: bytes, function: str, tool: Path, shared: int) -> Resources:
    """Resources of `function` in `cubin`, by cuobjdump (`tool`). `shared`: dynamic shared memory, bytes.

    Raises EdgefelError where the tool fails or does not name the function.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        usage = _call([str(tool), "--dump-resource-usage", str(file)])
        found = parse_resources(usage, "", function, shared)
        if not found.stack_bytes and not found.local_bytes:
            return found  # there is nowhere to spill to
        code = _call([str(tool), "--dump-sass", str(file)])
    return parse_resources(usage, code, function, shared)


def parse_resources(usage: str, code: str, function: str, shared: int) -> Resources:
    """Resources from the output of cuobjdump --dump-resource-usage and --dump-sass.

    Spills are the local loads and stores in the code, at 4 bytes times their width.
    """
    found = re.search(rf"Function {re.escape(function)}:\s*\n(.*)", usage)
    if not found:
        raise EdgefelError(f"cuobjdump reports no function '{function}'")
    fields = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", found[1])}
    if missing := {"REG", "STACK", "SHARED", "LOCAL"} - set(fields):
        raise EdgefelError(f"cuobjdump reports no {', '.join(sorted(missing))} for '{function}'")
    return Resources(
        registers=fields["REG"],
        stack_bytes=fields["STACK"],
        local_bytes=fields["LOCAL"],
        spill_store_bytes=_local_bytes(code, "STL"),
        spill_load_bytes=_local_bytes(code, "LDL"),
        shared_bytes=max(fields["SHARED"], shared),
    )


def _local_bytes(code: str, mnemonic: str) -> int:
    widths = re.findall(rf"\b{mnemonic}(?:\.LU)?(\.64|\.128)?\b", code)
    return sum({"": 4, ".64": 8, ".128": 16}[width] for width in widths)


def blocks_per_multiprocessor(resources: Resources, warps: int, arch: int) -> int:
    """How many blocks of a kernel one multiprocessor holds at once; an estimate from the published limits.

    Registers are allocated to a warp in units of 256, shared memory to a block in units of 128 bytes.
    """
    limits = TARGETS[arch]
    per_warp = -(-resources.registers * 32 // 256) * 256
    by_registers = limits.registers // (per_warp * warps) if per_warp else limits.blocks
    reserved = _RESERVED_SHARED if arch >= 80 else 0
    shared = -(-(resources.shared_bytes + reserved) // 128) * 128
    by_shared = limits.shared_kib * 1024 // shared if shared else limits.blocks
    return min(limits.blocks, limits.threads // (32 * warps), by_registers, by_shared)


def occupancy(resources: Resources, warps: int, arch: int) -> float:
    """Share of a multiprocessor's warps that are resident, 0 to 1; an estimate."""
    return blocks_per_multiprocessor(resources, warps, arch) * warps * 32 / TARGETS[arch].threads


def _call(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise EdgefelError(f"{Path(command[0]).name}: {result.stderr.strip().splitlines()[-1:]}")
    return result.stdout
