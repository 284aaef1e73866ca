"""The encoder of POSTER++: windows, fusion, stochastic depth."""

from __future__ import annotations

import pytest
import torch

from edgefel.models.config import EncoderConfig
from edgefel.models.encoder import DropPath, FusionLevel, window_partition, window_reverse


def test_maps_larger_than_the_window():
    """Shared queries: each window of a larger map equals a map of one window."""
    torch.manual_seed(0)
    config = EncoderConfig(
        image_widths=(8, 8, 8),
        landmark_widths=(8, 8, 8),
        windows=(7, 7, 7),
        heads=(2, 2, 2),
        mlp_ratio=2.0,
        layer_scale=0.5,
        query_projection=True,
    )
    level = FusionLevel(config, 0).eval()
    windows = torch.randn(3 * 4, 49, 8)
    landmarks = torch.randn(3, 49, 8)
    with torch.no_grad():
        shared = level.attention(windows, landmarks)
        repeated = level.attention(windows, landmarks.repeat_interleave(4, dim=0))
        single = level.attention(windows[5:6], landmarks[1:2])
        out = level(torch.randn(3, 8, 28, 28), torch.randn(3, 8, 14, 14))
    torch.testing.assert_close(shared, repeated)
    torch.testing.assert_close(shared[5:6], single)
    assert out.shape == (3, 8, 14, 14)


@pytest.mark.parametrize("size", [(7, 7), (14, 21)])
def test_partition_and_reverse(size):
    x = torch.arange(2 * size[0] * size[1] * 3.0).reshape(2, *size, 3)
    windows = window_partition(x, 7)
    assert torch.equal(window_reverse(windows, 7, *size), x)
    assert torch.equal(windows[0], x[0, :7, :7].reshape(49, 3))
    assert torch.equal(windows[-1], x[1, -7:, -7:].reshape(49, 3))


def test_a_map_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="10x7 map"):
        window_partition(torch.zeros(1, 10, 7, 3), 7)


def test_drop_path_keeps_the_mean_and_drops_whole_images():
    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    out = layer(torch.ones(4000, 3))
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))
