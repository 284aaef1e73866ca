"""Inputs, outputs and profiles of an engine, and how a batch is split into runs. Needs no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import ModelFile
from edgefel.runtime.requirements import older

OLDEST = "10.3"
_REBUILD = "build it anew with 'edgefel engine DIR --rebuild'"
_DYNAMIC = -1
# by the name of TensorRT's type; the others have no NumPy type and are no input or output of ours
_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, type, and the shape of one image's part of it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class OptimizationProfile:
    """An optimization profile: its number and the batch sizes it was built for."""

    index: int
    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise EdgefelError(
                f"optimization profile {self.index}: batch sizes min {self.min}, opt {self.opt}, max {self.max} "
                "are not 1 <= min <= opt <= max"
            )


@dataclass(frozen=True)
class Piece:
    """One run: images start to start + count of the batch, padded to `size`, under the profile of that index."""

    start: int
    count: int
    size: int
    profile: int


@dataclass(frozen=True)
class Binding:
    """Inputs, outputs and profiles of an engine."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[OptimizationProfile, ...]

    @property
    def max_batch(self) -> int:
        """The largest batch of one run."""
        return max(profile.max for profile in self.profiles)


def cut(count: int, profiles: Sequence[OptimizationProfile]) -> list[Piece]:
    """Runs for a batch of `count` images, in order: as few as the profiles allow, the last one padded where no
    profile is that small."""
    pieces: list[Piece] = []
    start = 0
    while start < count:
        left = count - start
        profile = choose_profile(left, profiles)
        taken = min(left, profile.max)
        pieces.append(Piece(start, taken, max(taken, profile.min), profile.index))
        start += taken
    return pieces


def choose_profile(count: int, profiles: Sequence[OptimizationProfile]) -> OptimizationProfile:
    """The profile for the next run of a batch of which `count` images are left.

    Of those that take `count`, the one whose opt is nearest; else the one with the largest batch below it; else
    the one that needs the least padding.
    """
    fitting = [profile for profile in profiles if profile.min <= count <= profile.max]
    if fitting:
        return min(fitting, key=lambda profile: (abs(profile.opt - count), profile.index))
    smaller = [profile for profile in profiles if profile.max < count]
    if smaller:
        return max(smaller, key=lambda profile: (profile.max, -profile.index))
    return min(profiles, key=lambda profile: (profile.min, profile.index))


def check_version(trt: ModuleType) -> None:
    """Raises EdgefelError for a TensorRT older than OLDEST."""
    version = str(trt.__version__)
    if trt.__name__ == "tensorrt" and older(version, OLDEST):
        raise EdgefelError(
            f"tensorrt {version} is older than {OLDEST}, the oldest that is supported; "
            "install JetPack 6.1 or later, or a later TensorRT"
        )


def read_binding(trt: ModuleType, engine: Any, where: str) -> Binding:
    """Inputs, outputs and profiles of a loaded engine; `where` begins the messages.

    Raises EdgefelError for an engine that is not of the kind that `edgefel engine` builds: types without a NumPy
    type, dimensions other than the batch that are not fixed, tensors in host memory, several inputs.
    """
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        spec = _read_tensor(trt, engine, name, where)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(spec)
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs) or "none"
        raise EdgefelError(f"{where}: has {len(inputs)} inputs ({names}), expected one; {_REBUILD}")
    (name,) = (spec.name for spec in inputs)
    fixed = int(next(iter(engine.get_tensor_shape(name))))
    profiles = []
    for index in range(engine.num_optimization_profiles if fixed == _DYNAMIC else 1):
        sizes = [fixed] * 3
        if fixed == _DYNAMIC:
            sizes = [int(next(iter(shape))) for shape in engine.get_tensor_profile_shape(name, index)]
        profiles.append(OptimizationProfile(index, *sizes))
    return Binding(tuple(inputs), tuple(outputs), tuple(profiles))


def _read_tensor(trt: ModuleType, engine: Any, name: str, where: str) -> TensorSpec:
    shape = tuple(int(side) for side in engine.get_tensor_shape(name))
    dtype = getattr(engine.get_tensor_dtype(name), "name", "")
    if dtype not in _TYPES:
        raise EdgefelError(f"{where}: {name} is of type {dtype or 'unknown'}, which NumPy lacks; {_REBUILD}")
    if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
        raise EdgefelError(f"{where}: {name} lies in host memory, as shape tensors do; {_REBUILD}")
    if not shape or _DYNAMIC in shape[1:]:
        raise EdgefelError(
            f"{where}: {name} has shape {list(shape)}; all but the batch must be fixed; {_REBUILD}"
        )
    return TensorSpec(name, np.dtype(_TYPES[dtype]), shape[1:])


def check_binding(binding: Binding, model: ModelFile) -> None:
    """Raises EdgefelError where the engine is not what the manifest says of it."""
    (spec,) = binding.inputs
    if spec.name != model.input_name or (spec.dtype, spec.shape) != (model.dtype, model.image_shape):
        raise EdgefelError(
            f"{model.path}: takes {spec.name}, {spec.dtype} {list(spec.shape)} per image, and the manifest "
            f"promises {model.input_name}, {model.dtype} {list(model.image_shape)}; {_REBUILD}"
        )
    there = {output.name: output.shape for output in binding.outputs}
    for name, shape in model.output_shapes.items():
        if there.get(name) != shape:
            found = f"of shape {list(there[name])} per image" if name in there else "missing"
            raise EdgefelError(
                f"{model.path}: output {name} is {found}, and the manifest promises {list(shape)}; {_REBUILD}"
            )
