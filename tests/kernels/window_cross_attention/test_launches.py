"""The stated spaces of tile sizes."""

from __future__ import annotations

import pytest

from edgefel.kernels.window_cross_attention import op


@pytest.mark.parametrize("window", [1, 2, 5, 7, 9, 14, 28])
@pytest.mark.parametrize("width", [16, 24, 32, 64, 128])
def test_spaces_are_small_and_tiles_no_larger_than_a_window_needs(window, width):
    most = max(16, 1 << (window * window - 1).bit_length())
    for space, limit in ((op.forward_space, 9), (op.backward_space, 5)):
        found = space(window)
        assert 1 <= len(found) <= limit
        assert len(set(found)) == len(found)
        assert all(16 <= launch.block_m <= most and 16 <= launch.block_n <= most for launch in found)
    for default in (op.default_forward(window, width, "fp16"), op.default_backward(window)):
        assert 16 <= default.block_m <= most
        assert 16 <= default.block_n <= most


def test_head_widths_are_padded_to_what_a_matrix_product_takes():
    assert [op.padded(width) for width in (1, 16, 24, 32, 33)] == [16, 16, 32, 32, 64]
