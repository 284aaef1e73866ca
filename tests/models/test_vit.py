"""The transformer's blocks, and how an encoder starts from scratch."""

from __future__ import annotations

import pytest
import torch

from edgefel.models import build_model
from edgefel.models.vit import QUERY_KEY_GAIN, SelfAttention, ViTBlock


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours = SelfAttention(12, 3).double()
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.project.state_dict())
        x = torch.randn(2, 5, 12, dtype=torch.float64)
        found, products = ours(x)
        expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(products.softmax(-1), weights)


def test_a_block_keeps_the_class_token_and_so_many_others():
    torch.manual_seed(0)
    whole = ViTBlock(8, 2, 2.0).eval()
    pooled = ViTBlock(8, 2, 2.0, keep=3).eval()
    pooled.load_state_dict(whole.state_dict())
    x = torch.randn(2, 7, 8)
    with torch.no_grad():
        every, some = whole(x), pooled(x)
    assert some.shape == (2, 4, 8)
    for image in range(2):
        assert torch.equal(some[image, 0], every[image, 0])
        for token in some[image, 1:]:  # attention came before: what stays is what it would have been
            assert min((token - other).abs().max() for other in every[image, 1:]) < 1e-6


@pytest.mark.parametrize("name", ["arbex-nano", "apvit-nano"])
def test_training_from_scratch_starts_with_sharp_attention_and_large_positions(name):
    torch.manual_seed(0)
    encoder = build_model(name).encoder
    positions = [p for key, p in encoder.named_parameters(recurse=False) if key.endswith("pos_embed")]
    assert all(float(p.detach().std()) == pytest.approx(1.0, abs=0.2) for p in positions)
    for block in encoder.blocks:
        width = block.attention.qkv.in_features
        query_key = block.attention.qkv.weight[: 2 * width]
        assert float(query_key.detach().std()) == pytest.approx(QUERY_KEY_GAIN * width**-0.5, rel=0.05)
