"""What a kernel is compiled from; without torch, which the processes that compile need not wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Argument:
    """One pointer argument: name, element type, shape with `N` for the batch, and a note on its content."""

    name: str
    type: str
    shape: str
    note: str = ""


@dataclass(frozen=True)
class KernelSpec:
    """A kernel with all its sizes.

    name: of this variant, unique within a model. module, function: of the Triton source. arguments: the pointers, in
    order. constants: all other parameters, by name. programs_per_image: the grid is (programs_per_image * N, 1, 1).
    older: what is compiled instead for compute capabilities below 8.0, where Triton uses no tensor cores. numbers:
    whether those of the constants that are no tl.constexpr, such as strides, are passed at each launch, as PyTorch's
    operators pass them; the code is the one that such a launch compiles.
    """

    name: str
    module: str
    function: str
    arguments: tuple[Argument, ...]
    constants: Mapping[str, Any]
    programs_per_image: int
    warps: int
    stages: int
    older: KernelSpec | None = None
    numbers: bool = False
