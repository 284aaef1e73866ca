"""Which kernel computes a problem, and in what tiles.

Counts of instructions behind the choices: README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from edgefel.kernels.backend import next_power_of_two
from edgefel.kernels.tuning import Launch

# From this many windows on, writing the dense bias costs less than looking it up.
DENSE_FROM = 16
# The table's gradient is summed over windows by at least this many programs. The number is the same on every device.
TABLE_PROGRAMS = 1024
# Programs of the dense kernel that a multiprocessor holds, by windows that share a tile of the bias.
_RESIDENT = {1: 3, 2: 2}


@dataclass(frozen=True)
class Device:
    """capability: e.g. 87, 0 for Triton's interpreter. multiprocessors; cache_bytes: of the second level."""

    capability: int
    multiprocessors: int
    cache_bytes: int

    @property
    def interpreted(self) -> bool:
        """Whether kernels run in NumPy, where time depends on the number of tiles more than on their size."""
        return self.capability == 0


INTERPRETER = Device(0, 1, 1 << 30)
# for kernels that are compiled without knowing more of a device
TENSOR_CORES, OLDER = Device(80, 1, 0), Device(75, 1, 0)


@dataclass(frozen=True)
class Plan:
    """The forward pass of a problem. dense: with `dense_kernel`, else `forward_kernel`. default: where nothing is
    timed. space: what tuning times."""

    dense: bool
    default: Launch
    space: tuple[Launch, ...]


def device_of(tensor: torch.Tensor) -> Device:
    """The device of a tensor."""
    if not tensor.is_cuda:
        return INTERPRETER
    found = torch.cuda.get_device_properties(tensor.device)
    return Device(10 * found.major + found.minor, found.multi_processor_count, found.L2_cache_size)


def pick(
    window: int,
    heads: int,
    width: int,
    dtype: str,
    windows: int | None,
    device: Device,
    differentiable: bool = False,
) -> Plan:
    """How the forward pass runs: dense for training, and for batches whose bias fits half of the cache.

    Else row-aligned. width: of a head. dtype: "fp32" or a 16-bit type. windows: the batch; None if it is free, as
    ahead of time. differentiable: the backward pass, which is dense, is to find the probabilities of this one.
    """
    size = 4 if dtype == "fp32" else 2
    small = 2 * size * heads * bias_side(window) ** 2 <= device.cache_bytes
    if differentiable or (windows is not None and windows >= DENSE_FROM and small):
        return Plan(True, _dense_default(window, width, dtype, device), _dense_space(window, dtype, device))
    return Plan(False, _rows_default(window, width, dtype, device), _rows_space(window, dtype))


def padded(size: int) -> int:
    """The side of a tl.dot operand that holds `size`: a power of two, 16 at least."""
    return max(16, next_power_of_two(size))


def bias_side(window: int) -> int:
    """Side of the dense bias of a head: M in whole tiles of every size that is launched, up to 128."""
    m = window * window
    unit = min(padded(m), 128)
    return -(-m // unit) * unit


def key_rows(window: int, block_n: int) -> int:
    """Rows of keys in a tile of the row-aligned kernel: the largest divisor of the window that `block_n` holds."""
    fitting = [rows for rows in range(1, window + 1) if window % rows == 0 and rows * window <= block_n]
    return max(fitting, default=1)


def _fits(window: int, launches: list[Launch]) -> tuple[Launch, ...]:
    """Launches without tiles larger than the window needs."""
    most = padded(window * window)
    return tuple(dict.fromkeys(_clamped(window, one) for one in launches if one.block_m <= most)) or (
        Launch(most, most, 1, 1),
    )


def _clamped(window: int, launch: Launch) -> Launch:
    """The launch with tiles, and as many warps, as the window needs."""
    most = padded(window * window)
    block_m = min(launch.block_m, most)
    warps = max(1, launch.warps * block_m // launch.block_m)
    return replace(launch, block_m=block_m, block_n=min(launch.block_n, most), warps=warps)


def _interpreted(window: int) -> Launch:
    """Several tiles where they take no seconds, for the tests' sake."""
    return _clamped(window, Launch(64, 64, 4, 1) if window < 20 else Launch(128, 128, 4, 1))


def _wide(width: int, device: Device) -> Launch:
    """For elements or heads that take many registers, and for GPUs whose tensor cores Triton does not use."""
    return Launch(64, 32, 4, 1) if padded(width) <= 32 or device.capability == 90 else Launch(32, 32, 4, 1)


def _is_wide(width: int, dtype: str, device: Device) -> bool:
    return dtype == "fp32" or padded(width) > 64 or device.capability < 80


def _rows_default(window: int, width: int, dtype: str, device: Device) -> Launch:
    if device.interpreted:
        return _interpreted(window)
    single = window * window <= 64  # one tile of keys, and no loop to pipeline
    if not _is_wide(width, dtype, device):
        return _clamped(window, Launch(64, 64, 4, 1) if single else Launch(32, 64, 2, 2))
    if padded(width) <= 32 and device.capability >= 80:
        return _clamped(window, Launch(32, 64 if single else 32, 2, 1))
    return _clamped(window, _wide(width, device))


def _rows_space(window: int, dtype: str) -> tuple[Launch, ...]:
    tiles = [(16, 64, 1), (32, 64, 2), (64, 32, 4), (64, 64, 4)]
    launches = [Launch(*tile, stages) for tile in tiles for stages in (1, 2)]
    return _fits(window, [*launches, Launch(32, 32, 2, 2)])


def _dense_default(window: int, width: int, dtype: str, device: Device) -> Launch:
    if device.interpreted:
        return _interpreted(window)
    if _is_wide(width, dtype, device):
        return _clamped(window, _wide(width, device))
    # Hopper's matrix products read shared memory, so that registers are left for a second window
    group = 2 if device.capability == 90 and window * window > 64 and padded(width) <= 32 else 1
    return _clamped(window, Launch(64, 64, 4, 2, group))


def _dense_space(window: int, dtype: str, device: Device) -> tuple[Launch, ...]:
    default = [Launch(64, 64, 4, 1), Launch(64, 64, 4, 2), Launch(64, 32, 4, 1), Launch(32, 32, 2, 2)]
    pairs = [Launch(64, 64, 4, 1, 2), Launch(64, 64, 4, 2, 2), Launch(64, 32, 4, 2, 2)]
    return _fits(window, [*default, *pairs, Launch(128, 64, 8, 2)])


def backward_default(kernel: str, window: int, width: int, dtype: str, device: Device) -> Launch:
    """A launch of a large backward kernel ("kv", "q" or "table").

    It keeps everything in registers from compute capability 8.0 on, up to heads of 64 (32 in FP32).
    """
    if device.interpreted:
        return _interpreted(window)
    if not _is_wide(width, dtype, device):
        return _clamped(
            window, Launch(64, 64 if padded(width) <= 32 or device.capability == 90 else 32, 4, 1)
        )
    if kernel == "kv":  # two sums at once
        return _clamped(window, Launch(32, 32, 2 if padded(width) <= 32 else 4, 1))
    return _clamped(window, _wide(width, device))


def backward_space(window: int) -> tuple[Launch, ...]:
    """What tuning times for each of the large backward kernels: at most 5 launches."""
    tiles = [(32, 32, 2, 1), (64, 32, 4, 1), (32, 64, 4, 2), (64, 64, 4, 1), (64, 64, 4, 2)]
    return _fits(window, [Launch(*tile) for tile in tiles])


def parts_of(window: int, heads: int, windows: int, launch: Launch, device: Device) -> int:
    """Into how many parts the dense kernel divides the windows: all programs at once, and each as long as the rest."""
    programs = device.multiprocessors * _RESIDENT[launch.group] // (-(-(window**2) // launch.block_m) * heads)
    return max(1, min(programs, -(-windows // launch.group)))


def table_splits(window: int, heads: int, windows: int, launch: Launch) -> tuple[int, int]:
    """Into how many parts the table's gradient divides the windows, and the windows of a part."""
    m = window**2
    tiles = -(-m // launch.block_m) * -(-m // launch.block_n) * heads
    per_split = -(-windows // min(windows, -(-TABLE_PROGRAMS // tiles)))
    return -(-windows // per_split), per_split


def rows_constants(heads: int, window: int, width: int, launch: Launch) -> dict[str, int]:
    """Sizes that the row-aligned forward kernel is compiled for."""
    rows = key_rows(window, launch.block_n)
    return {
        "H": heads,
        "W": window,
        "D": width,
        "ROWS": rows,
        "BLOCK_M": launch.block_m,
        "BLOCK_N": padded(rows * window),
        "BLOCK_D": padded(width),
    }


def tile_constants(heads: int, window: int, width: int, launch: Launch) -> dict[str, int]:
    """Sizes that the kernels with a dense bias are compiled for."""
    return {
        "H": heads,
        "M": window * window,
        "D": width,
        "SIDE": bias_side(window),
        "BLOCK_M": launch.block_m,
        "BLOCK_N": launch.block_n,
        "BLOCK_D": padded(width),
    }


def dense_constants(heads: int, window: int, width: int, launch: Launch) -> dict[str, int]:
    """`tile_constants`, and those of the dense forward kernel alone."""
    last = (window * window - 1) % launch.block_n + 1
    more = {"PAIR": launch.group == 2, "BLOCK_T": padded(last)}
    return tile_constants(heads, window, width, launch) | more


def delta_constants(heads: int, m: int, width: int) -> dict[str, int]:
    """Sizes that `delta_kernel` is compiled for."""
    block = max(4096 // padded(width), 1)
    return {"H": heads, "M": m, "D": width, "BLOCK_R": block, "BLOCK_D": padded(width)}


def offset_constants(heads: int, window: int) -> dict[str, int]:
    """Sizes that `sum_offsets_kernel` is compiled for: as many splits at once as give a thread 16 pairs."""
    rows, steps = next_power_of_two(window), next_power_of_two(2 * window - 1)
    return {
        "H": heads,
        "W": window,
        "BLOCK_S": max(2048 // (rows * steps), 1),
        "BLOCK_W": rows,
        "BLOCK_R": steps,
    }
