"""Tile sizes of the window cross-attention kernels: the defaults, and the space that tuning searches."""

from __future__ import annotations

from edgefel.kernels.backend import next_power_of_two
from edgefel.kernels.tuning import Launch

# tl.dot takes no side under 16
_LEAST = 16


def block_d(head_width: int) -> int:
    """The padded head width."""
    return max(_LEAST, next_power_of_two(head_width))


def forward_space(window: int, head_width: int) -> list[Launch]:
    """Tiles no larger than the window needs; at most 9 launches, since each costs a second of compiling."""
    tiles = [(32, 32), (64, 32), (64, 64), (128, 32)]
    launches = [Launch(m, n, 4, stages) for m, n in tiles for stages in (2, 3)]
    return _fitting(window, [*launches, Launch(128, 64, 8, 2)])


def backward_space(window: int, head_width: int) -> list[Launch]:
    """Tiles of the three large backward kernels, which hold two products at once; at most 5 launches."""
    tiles = [(32, 32), (32, 64), (64, 32), (64, 64)]
    return _fitting(window, [*(Launch(m, n, 4, 2) for m, n in tiles), Launch(64, 64, 8, 2)])


def _fitting(window: int, launches: list[Launch]) -> list[Launch]:
    most = max(_LEAST, next_power_of_two(window * window))
    small = [launch for launch in launches if launch.block_m <= most and launch.block_n <= most]
    return small or [Launch(most, most, 4, 2)]


def default_forward(window: int, head_width: int, dtype: str = "fp16") -> Launch:
    """A launch that keeps everything in registers on every target (docs/kernels.md has the report).

    dtype: "fp32", whose products take twice the registers, or one of the 16-bit types.
    """
    most = max(_LEAST, next_power_of_two(window * window))
    narrow = dtype == "fp32" or block_d(head_width) > 64
    return Launch(min(32 if narrow else 64, most), min(32, most), 4, 1 if narrow else 2)


def default_backward(window: int, head_width: int) -> Launch:
    """As `default_forward`, for the backward kernels."""
    most = max(_LEAST, next_power_of_two(window * window))
    return Launch(min(32, most), min(32, most), 4, 1)


def interpreted(window: int) -> Launch:
    """For Triton's interpreter, whose time goes by the number of tiles more than by their size."""
    most = max(_LEAST, next_power_of_two(window * window))
    return Launch(min(64, most), min(64, most), 4, 1)
