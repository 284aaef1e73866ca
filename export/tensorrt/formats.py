"""Refuses engines in formats that the GPU has no kernels for, before anything is built."""

from __future__ import annotations

from collections.abc import Sequence

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.options import EngineOptions
from edgefel.runtime.engines import find_gpu, lacks_format


def check_formats(precisions: Sequence[str], options: EngineOptions, where: str) -> None:
    """Raises EdgefelError if a GPU that the engines are for lacks one of the formats: a target, or without targets the
    GPU here. where: begins the message."""
    gpu = find_gpu()
    gpus = {name: _capability(name) for name in options.compute_capabilities if name != "current"}
    if gpu is not None and not gpus:
        gpus[str(gpu)] = gpu.capability
    for name, capability in gpus.items():
        lacking = [reason for one in precisions if (reason := lacks_format(one, capability)) is not None]
        if lacking:
            others = [
                one.removesuffix("+fp16") for one in precisions if lacks_format(one, capability) is None
            ]
            instead = f"choose {', '.join(others)}" if others else "choose another precision, such as int8"
            raise EdgefelError(f"{where}: {'; '.join(lacking)}, and the engine is for {name}: {instead}")


def _capability(target: str) -> tuple[int, int]:
    """(8, 9) of "sm_89"; of a name that TensorRT will refuse, one that has everything."""
    digits = target.lower().removeprefix("sm").removeprefix("_")
    return (int(digits[:-1]), int(digits[-1])) if digits.isdecimal() and len(digits) > 1 else (99, 0)
