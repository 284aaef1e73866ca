"""GPUs whose time is bounded: multiprocessors, clocks and widths, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from edgefel.bench.roofline.devices import DEVICES
from edgefel.errors import EdgefelError

# bytes that one multiprocessor gets from the L2 cache in a cycle. No document states it for every architecture. The
# A100's white paper gives 5120 bytes for 108 multiprocessors, so this is generous, and its time a lower bound.
L2_BYTES_PER_CLOCK = 64
_WHITE_PAPER = (
    "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf"
)


@dataclass(frozen=True)
class Gpu:
    """multiprocessors; megahertz: the clock that times are stated for; multiply_adds: of the tensor cores of one
    multiprocessor in a cycle, FP16 with FP32 sums, dense; bytes_per_s: of its memory; cache_bytes: of its L2 cache;
    source: of these numbers."""

    title: str
    multiprocessors: int
    megahertz: float
    multiply_adds: int
    bytes_per_s: float
    cache_bytes: int
    source: str

    def microseconds(self, cycles: float) -> float:
        """Time of so many cycles."""
        return cycles / self.megahertz


def _known(name: str, multiprocessors: int, megahertz: float, multiply_adds: int, cache_mib: int) -> Gpu:
    """One of `edgefel bench roofline`'s devices."""
    device = DEVICES[name]
    source = device.matrix["fp16"].source
    bandwidth = device.bandwidth.per_second
    return Gpu(device.title, multiprocessors, megahertz, multiply_adds, bandwidth, cache_mib << 20, source)


# by compute capability
GPUS: dict[int, Gpu] = {
    87: _known("orin-nano-super", 8, 1020, 1024, 4),
    # the boost clock of the H100's product brief; the SXM module goes up to 1980 MHz, and times shrink with it
    90: _known("h100", 132, 1755, 2048, 50),
    110: _known("thor", 20, 1575, 4096, 32),
    120: Gpu("NVIDIA GeForce RTX 5090", 170, 2407, 256, 1792e9, 96 << 20, _WHITE_PAPER),
}


def find_gpu(arch: str) -> int:
    """`sm_90` or `90` -> 90. Raises EdgefelError for a target whose clocks are not stated here."""
    digits = arch.removeprefix("sm_")
    if not digits.isdigit() or int(digits) not in GPUS:
        known = ", ".join(f"sm_{number}" for number in GPUS)
        raise EdgefelError(f"--arch {arch}: no clocks are stated for it; known: {known}")
    return int(digits)
