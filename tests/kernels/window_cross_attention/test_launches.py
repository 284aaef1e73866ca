"""Which kernel is picked, in what tiles, and that the spaces stay small."""

from __future__ import annotations

from itertools import product

import pytest

from edgefel.kernels.ahead_of_time.specs import attention_spec
from edgefel.kernels.window_cross_attention import launches
from edgefel.kernels.window_cross_attention.launches import Device, pick

H100 = Device(90, 132, 50 << 20)
ORIN_NANO = Device(87, 8, 2 << 20)
DEVICES = [H100, ORIN_NANO, Device(75, 40, 4 << 20), Device(120, 170, 96 << 20), launches.INTERPRETER]


@pytest.mark.parametrize(
    ("window", "heads", "windows", "device", "dense"),
    [
        (28, 2, 256, H100, True),
        (28, 2, 16, H100, True),
        (28, 2, 15, H100, False),
        (28, 2, 1, H100, False),
        (28, 2, None, H100, False),  # ahead of time: the batch is free
        (28, 2, 256, ORIN_NANO, False),  # 3.2 MB of bias in 2 MB of cache
        (14, 4, 256, ORIN_NANO, True),
        (7, 8, 256, ORIN_NANO, True),
    ],
)
def test_batches_whose_bias_fits_the_cache_are_dense(window, heads, windows, device, dense):
    assert pick(window, heads, 32, "fp16", windows, device).dense is dense


def test_training_is_dense_like_its_backward_pass():
    assert pick(28, 2, 32, "fp16", 1, ORIN_NANO, differentiable=True).dense


def test_hopper_takes_windows_in_pairs():
    assert pick(28, 2, 32, "fp16", 256, H100).default.group == 2
    assert pick(14, 4, 32, "fp16", 256, Device(120, 170, 96 << 20)).default.group == 1
    assert pick(7, 8, 32, "fp16", 256, H100).default.group == 1  # the bias is in registers anyway


@pytest.mark.parametrize("window", [1, 2, 5, 7, 9, 11, 14, 28])
@pytest.mark.parametrize("width", [16, 24, 32, 64, 128])
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_spaces_are_small_and_tiles_no_larger_than_a_window_needs(window, width, device):
    most = max(16, 1 << (window * window - 1).bit_length())
    plans = [pick(window, 2, width, dtype, n, device) for dtype in ("fp16", "fp32") for n in (1, 64)]
    backward = launches.backward_space(window)
    spaces = [(plan.space, 9) for plan in plans] + [(backward, 5)]
    for space, limit in spaces:
        assert 1 <= len(space) <= limit
        assert len(set(space)) == len(space)
    defaults = [plan.default for plan in plans]
    for dtype, kernel in product(("fp16", "fp32"), ("kv", "q", "table")):
        defaults.append(launches.backward_default(kernel, window, width, dtype, device))
    for launch in [*defaults, *(launch for space, _ in spaces for launch in space)]:
        assert 16 <= launch.block_m <= most
        assert 16 <= launch.block_n <= most
        assert launch.warps in (1, 2, 4, 8)
        assert launches.bias_side(window) % launch.block_m == 0, "tiles must end where the dense bias does"
        assert launches.bias_side(window) % launch.block_n == 0


@pytest.mark.parametrize("window", range(1, 33))
def test_tiles_of_keys_are_whole_rows_that_divide_the_window(window):
    for block_n in (16, 32, 64, 128):
        rows = launches.key_rows(window, block_n)
        assert window % rows == 0
        assert rows == 1 or rows * window <= block_n
    assert launches.key_rows(28, 64) == 2
    assert launches.key_rows(7, 64) == 7


@pytest.mark.parametrize("windows", [1, 2, 7, 16, 256])
def test_parts_are_no_more_than_there_is_work(windows):
    plan = pick(28, 2, 32, "fp16", 256, H100)
    parts = launches.parts_of(28, 2, windows, plan.default, H100)
    assert 1 <= parts <= max(1, -(-windows // 2))
    assert launches.parts_of(28, 2, 256, plan.default, H100) == 10  # 26 tiles, two programs each on 132


def test_head_widths_are_padded_to_what_a_matrix_product_takes():
    assert [launches.padded(width) for width in (1, 16, 24, 32, 33)] == [16, 16, 32, 32, 64]


def test_ahead_of_time_kernels_know_older_gpus():
    spec = attention_spec("level3", 7, 8, 32, 1, "fp16")
    assert spec.constants["ROWS"] == 7
    assert spec.older.constants["ROWS"] == 1, "without tensor cores the whole window spills"
    assert spec.arguments == spec.older.arguments
