"""One launch that is counted, and what it is compiled from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefel.bench.kernels.model.count import Plan
from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec


@dataclass(frozen=True)
class ModelledLaunch:
    """One launch. op, problem, mode: as rows of the bench name them; level: of the pyramid, 0 for other ops."""

    op: str
    problem: str
    level: int
    batch: int
    dtype: str
    mode: str
    spec: KernelSpec
    plan: Plan

    @property
    def kernel(self) -> str:
        """Name of the Triton function."""
        return self.spec.function


def launch_spec(
    module: str,
    function: str,
    pointers: Mapping[str, str],
    constants: Mapping[str, Any],
    warps: int = 4,
    stages: int = 1,
) -> KernelSpec:
    """A launch as an operator of PyTorch makes it. pointers: type of each; warps: Triton's own default."""
    arguments = tuple(Argument(name, kind, "") for name, kind in pointers.items())
    return KernelSpec(function, module, function, arguments, constants, 1, warps, stages, numbers=True)
