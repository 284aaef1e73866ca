"""The reference op against a loop over windows, positions and heads in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefel.kernels.window_cross_attention.reference import relative_position_bias, window_cross_attention


def looped(q, k, v, table, window, scale):
    """Attention written out: one query position at a time."""
    total, heads, m, width = k.shape
    shared = total // q.shape[0]
    out = np.zeros((total, m, heads * width))
    for n in range(total):
        for h in range(heads):
            for i in range(m):
                scores = np.empty(m)
                for j in range(m):
                    dr, dc = i // window - j // window, i % window - j % window
                    bias = table[(dr + window - 1) * (2 * window - 1) + dc + window - 1, h]
                    scores[j] = scale * q[n // shared, h, i] @ k[n, h, j] + bias
                weights = np.exp(scores - scores.max())
                out[n, i, h * width : (h + 1) * width] = weights @ v[n, h] / weights.sum()
    return out


@pytest.mark.parametrize(
    ("images", "windows", "heads", "window", "width"), [(1, 1, 1, 3, 4), (2, 3, 2, 5, 8)]
)
def test_matches_the_loop(images, windows, heads, window, width):
    generator = torch.Generator().manual_seed(0)
    m = window * window
    q = torch.randn(images, heads, m, width, generator=generator, dtype=torch.float64)
    k, v = torch.randn(2, images * windows, heads, m, width, generator=generator, dtype=torch.float64)
    table = torch.randn((2 * window - 1) ** 2, heads, generator=generator, dtype=torch.float64)
    out = window_cross_attention(q, k, v, table, window, width**-0.5)
    expected = looped(q.numpy(), k.numpy(), v.numpy(), table.numpy(), window, width**-0.5)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-12)


def test_bias_depends_on_the_offset_only():
    table = torch.arange(25.0).reshape(25, 1)
    bias = relative_position_bias(table, 3)[0]
    assert torch.equal(bias.diagonal(), torch.full((9,), 12.0))  # offset (0, 0) is the centre of the table
    assert bias[0, 1] == bias[1, 2] == bias[3, 4] == 11.0  # one to the left
    assert bias[3, 0] == bias[6, 3] == 17.0  # one below


def test_adding_a_constant_to_the_table_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 16, 8, generator=generator, dtype=torch.float64)
    table = torch.randn(49, 2, generator=generator, dtype=torch.float64)
    out = window_cross_attention(q, k, v, table, 4, 1.0)
    torch.testing.assert_close(window_cross_attention(q, k, v, table + 3.0, 4, 1.0), out)


@pytest.mark.parametrize(
    ("argument", "shapes"),
    [
        ("k", [(1, 2, 9, 4), (1, 2, 8, 4), (1, 2, 8, 4), (25, 2)]),
        ("v", [(1, 2, 9, 4), (1, 2, 9, 4), (1, 2, 9, 5), (25, 2)]),
        ("q", [(1, 3, 9, 4), (1, 2, 9, 4), (1, 2, 9, 4), (25, 2)]),
        ("bias_table", [(1, 2, 9, 4), (1, 2, 9, 4), (1, 2, 9, 4), (24, 2)]),
    ],
)
def test_a_wrong_shape_names_the_argument(argument, shapes):
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        window_cross_attention(*(torch.zeros(shape) for shape in shapes), 3, 1.0)
