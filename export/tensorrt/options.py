"""Options of an engine, and how they are set on the installed TensorRT.

Some names are missing in TensorRT 10.3, in 11 or outside of TensorRT for RTX, and are looked up; `tests/real_tensorrt`
tells which. An option that the installed TensorRT lacks is an error; otherwise the difference would be noticed on the
device only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import INPUT_NAME

MIB = 1 << 20
LEVELS = range(6)
HARDWARE_LEVELS = ("ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built for.

    min_batch, opt_batch, max_batch: the optimization profile; fastest at opt_batch.
    builder_level: TensorRT's optimization level 0 to 5, None for its default.
    workspace_mb: MiB that a layer's scratch memory may take, None for TensorRT's default (all of the GPU's).
    version_compatible: the engine also runs in later versions of TensorRT.
    hardware_compatibility: "ampere_plus" or "same_compute_capability": it also runs on other GPUs.
    compute_capabilities: targets of TensorRT for RTX such as "sm_89", or "current"; none for its default,
    Ampere and later.
    input_shape: of the one input of a network that is not edgefel's own; None for [batch, 3, S, S] named `image`.
    """

    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 8
    builder_level: int | None = None
    workspace_mb: int | None = None
    version_compatible: bool = False
    hardware_compatibility: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "compute_capabilities", tuple(self.compute_capabilities))
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise EdgefelError(
                f"engine: batch sizes must satisfy 1 <= min <= opt <= max, got min {self.min_batch}, "
                f"opt {self.opt_batch}, max {self.max_batch}"
            )
        if self.builder_level is not None and self.builder_level not in LEVELS:
            raise EdgefelError(f"engine: builder level {self.builder_level}; give 0 (fastest build) to 5")
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise EdgefelError(f"engine: workspace of {self.workspace_mb} MiB; give at least 1")
        if self.hardware_compatibility not in (None, *HARDWARE_LEVELS):
            raise EdgefelError(
                f"engine: hardware compatibility '{self.hardware_compatibility}'; choose one of "
                f"{', '.join(HARDWARE_LEVELS)}"
            )
        if len(set(self.compute_capabilities)) != len(self.compute_capabilities):
            raise EdgefelError(
                f"engine: compute capabilities {', '.join(self.compute_capabilities)}: one is given twice"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for manifests and cache keys."""
        values = {**dataclasses.asdict(self), "compute_capabilities": list(self.compute_capabilities)}
        shape = values.pop("input_shape")
        return values if shape is None else {**values, "input_shape": list(shape)}


@dataclass(frozen=True)
class Effort:
    """Memory and time that one build may take: workspace in bytes and builder level, None for defaults."""

    workspace: int | None = None
    level: int | None = None

    @classmethod
    def of(cls, options: EngineOptions) -> Effort:
        """What the options ask for."""
        return cls(
            None if options.workspace_mb is None else options.workspace_mb * MIB, options.builder_level
        )

    def __str__(self) -> str:
        workspace = (
            "default workspace" if self.workspace is None else f"workspace {self.workspace // MIB} MiB"
        )
        return f"{workspace}, builder level {'default' if self.level is None else self.level}"


def add_profile(builder: Any, network: Any, config: Any, options: EngineOptions) -> None:
    """The one optimization profile: min, opt and max batch of the input `image` [N, 3, S, S]; none for a fixed
    shape."""
    if options.input_shape is not None:
        return
    shape = tuple(network.get_input(0).shape)[1:]
    profile = builder.create_optimization_profile()
    batches = (options.min_batch, options.opt_batch, options.max_batch)
    profile.set_shape(INPUT_NAME, *((batch, *shape) for batch in batches))
    config.add_optimization_profile(profile)


def set_effort(trt: ModuleType, config: Any, effort: Effort) -> Effort:
    """Limits the build; returns the limits in force, defaults filled in; a workspace of 0 bytes is None."""
    pool = trt.MemoryPoolType.WORKSPACE
    if effort.workspace is not None:
        config.set_memory_pool_limit(pool, effort.workspace)
    if effort.level is not None:
        config.builder_optimization_level = effort.level
    return Effort(int(config.get_memory_pool_limit(pool)) or None, config.builder_optimization_level)


def set_compatibility(trt: ModuleType, config: Any, options: EngineOptions) -> None:
    """Where else the engine may run. Raises EdgefelError for what this TensorRT cannot do."""
    if options.version_compatible:
        # TensorRT for RTX has the flag, and fails at the end of the build for want of a lean runtime:
        # its engines run in the release that built them alone
        if trt.__name__ == "tensorrt_rtx":
            raise _missing(trt, "version-compatible engines (--version-compatible)")
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility is not None:
        _set_hardware(trt, config, options.hardware_compatibility)
    if options.compute_capabilities:
        _set_targets(trt, config, options.compute_capabilities)


def _set_hardware(trt: ModuleType, config: Any, name: str) -> None:
    level = getattr(trt.HardwareCompatibilityLevel, name.upper(), None)
    if level is not None:
        config.hardware_compatibility_level = level
        # TensorRT for RTX takes the setting and ignores it with a warning
        if config.hardware_compatibility_level == level:
            return
    raise _missing(trt, f"hardware compatibility '{name}' (--hardware-compatibility)")


def _set_targets(trt: ModuleType, config: Any, names: tuple[str, ...]) -> None:
    if not hasattr(trt, "ComputeCapability"):
        raise _missing(
            trt, "target compute capabilities (--target); full TensorRT builds for the GPU it runs on"
        )
    known = {key: target for key, target in trt.ComputeCapability.__members__.items() if key != "NONE"}
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        target = known.get(name.upper().replace("_", ""))
        if target is None:
            there = ", ".join(
                f"sm_{key[2:]}" if key.startswith("SM") else key.lower() for key in sorted(known)
            )
            raise EdgefelError(
                f"engine: {trt.__name__} {trt.__version__} has no target '{name}'; it has {there}"
            )
        if not config.set_compute_capability(target, index):
            raise EdgefelError(
                f"engine: {trt.__name__} {trt.__version__} refuses the targets {', '.join(names)} together; "
                "'current' stands alone and needs a GPU"
            )


def _missing(trt: ModuleType, what: str) -> EdgefelError:
    return EdgefelError(
        f"engine: {trt.__name__} {trt.__version__} has no {what}; leave that option out, or build with a "
        "TensorRT that has it"
    )
