"""Ceilings of devices: dense operations and bytes per second, each with its source.

The published "TOPS" of a Jetson count structured sparsity, which these networks do not have, and on an Orin
NX or AGX Orin the deep learning accelerators (DLA), which `edgefel` does not use. The rates here are dense
ones of the GPU: multiprocessors x clock x operations per clock. Published rates are roundings of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgefel.errors import EdgefelError

_BLOG = "https://developer.nvidia.com/blog"
SUPER_MODE = (
    f"{_BLOG}/nvidia-jetpack-6-2-brings-super-mode-to-nvidia-jetson-orin-nano-and-jetson-orin-nx-modules/"
)
ORIN_BRIEF = (
    "https://www.nvidia.com/content/dam/en-zz/Solutions/gtcf21/jetson-orin/"
    "nvidia-jetson-agx-orin-technical-brief.pdf"
)
THOR = (
    f"{_BLOG}/introducing-nvidia-jetson-thor-the-ultimate-platform-for-physical-ai/ and "
    "https://docs.nvidia.com/jetson/archives/r38.4/DeveloperGuide/SD/PlatformPowerAndPerformance/JetsonThor.html"
)
H100 = "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet"
HOPPER = f"{_BLOG}/nvidia-hopper-architecture-in-depth/"
BASES = ("published", "derived", "measured")


@dataclass(frozen=True)
class Ceiling:
    """An upper bound on a rate: operations or bytes per second.

    basis: "published" by the maker, "derived" from that, or "measured" here. source: an address, or what was
    measured. how: of a derived or measured one. Raises ValueError for a rate that is not positive or another basis.
    """

    per_second: float
    basis: str
    source: str
    how: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.per_second < float("inf") or self.basis not in BASES:
            raise ValueError(f"{self.per_second} per second, {self.basis}: not a ceiling")


@dataclass(frozen=True)
class DeviceSpec:
    """Ceilings of a device.

    mode: power mode. matrix: of convolutions and products by "fp32", "fp16" and "int8"; vector: of everything
    else, by "fp32" and "fp16". A multiply-accumulate counts as two operations. boards: parts of the `device`
    of result rows that belong to this device.
    """

    name: str
    title: str
    mode: str
    matrix: Mapping[str, Ceiling]
    vector: Mapping[str, Ceiling]
    bandwidth: Ceiling
    boards: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.matrix) != {"fp32", "fp16", "int8"} or set(self.vector) != {"fp32", "fp16"}:
            raise ValueError(f"{self.name}: a ceiling of every type is needed")

    @property
    def ceilings(self) -> dict[str, Any]:
        """Plain JSON values by name: "fp32", "fp16", "int8", "elementwise fp32", "elementwise fp16", "bytes"."""
        vector = {f"elementwise {kind}": ceiling for kind, ceiling in self.vector.items()}
        named = {**self.matrix, **vector, "bytes": self.bandwidth}
        return {name: asdict(ceiling) for name, ceiling in named.items()}


def find_device(name: str) -> DeviceSpec:
    """A device of `DEVICES`. Raises EdgefelError listing the names."""
    if name not in DEVICES:
        raise EdgefelError(f"unknown device {name!r}; known: {', '.join([*DEVICES, 'cpu'])}")
    return DEVICES[name]


def _jetson(
    name: str,
    title: str,
    mode: str,
    clock: tuple[int, float],
    per_clock: Mapping[str, int],
    source: str,
    bandwidth: float,
    *boards: str,
) -> DeviceSpec:
    """clock: number of multiprocessors, and MHz. per_clock: operations of one multiprocessor in a clock: "tf32", "fp16"
    and "int8" of its tensor cores, "fp32" of its CUDA cores, which do twice as much in FP16. bandwidth: bytes per
    second, published by the first of the sources."""
    count, mhz = clock

    def ceiling(operations: int, what: str) -> Ceiling:
        how = f"{count} multiprocessors x {mhz:g} MHz x {operations} operations, {what}"
        return Ceiling(count * mhz * 1e6 * operations, "derived", source, how)

    matrix = {
        "fp32": ceiling(per_clock["tf32"], "TF32, which TensorRT takes for FP32 unless told otherwise"),
        "fp16": ceiling(per_clock["fp16"], "dense"),
        "int8": ceiling(per_clock["int8"], "dense"),
    }
    vector = {
        kind: ceiling(rate * per_clock["fp32"], "CUDA cores") for kind, rate in (("fp32", 1), ("fp16", 2))
    }
    published = Ceiling(bandwidth, "published", source.partition(" and ")[0])
    return DeviceSpec(name, f"NVIDIA Jetson {title}", mode, matrix, vector, published, boards)


# Ampere of Orin: NVIDIA's 170 sparse INT8 TOPS of 16 multiprocessors at 1.3 GHz are 4096 dense operations per clock
_ORIN = {"fp32": 256, "tf32": 1024, "fp16": 2048, "int8": 4096}
# Blackwell of Thor: 2070 sparse FP4 TFLOPS are 1035 dense, 517 in 8 bits and half of that in FP16
_THOR = {"fp32": 256, "tf32": 4096, "fp16": 8192, "int8": 16384}

DEVICES: dict[str, DeviceSpec] = {
    device.name: device
    for device in (
        _jetson(
            "orin-nano-super",
            "Orin Nano Super 8 GB",
            "MAXN SUPER",
            (8, 1020),
            _ORIN,
            SUPER_MODE,
            102e9,
            "Orin Nano",
        ),
        _jetson("orin-nx", "Orin NX 16 GB", "MAXN SUPER", (8, 1173), _ORIN, SUPER_MODE, 102.4e9, "Orin NX"),
        _jetson("agx-orin", "AGX Orin 64 GB", "MAXN", (16, 1301), _ORIN, ORIN_BRIEF, 204.8e9, "AGX Orin"),
        _jetson("thor", "T5000 (AGX Thor)", "MAXN", (20, 1575), _THOR, THOR, 273e9, "Thor", "T5000"),
        DeviceSpec(
            "h100",
            "NVIDIA H100 SXM 80 GB",
            "700 W",
            matrix={
                "fp32": Ceiling(494.7e12, "published", HOPPER, "TF32, dense"),
                "fp16": Ceiling(989.4e12, "published", HOPPER, "dense"),
                "int8": Ceiling(1978.9e12, "published", HOPPER, "dense"),
            },
            vector={
                "fp32": Ceiling(66.9e12, "published", HOPPER, "CUDA cores"),
                "fp16": Ceiling(133.8e12, "published", HOPPER, "CUDA cores"),
            },
            bandwidth=Ceiling(3.35e12, "published", H100),
            boards=("H100",),
        ),
    )
}
