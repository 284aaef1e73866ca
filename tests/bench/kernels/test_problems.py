"""Floors of the problems, as the documentation counts them."""

from __future__ import annotations

import torch

from edgefel.bench.kernels.problems import Work, poolings, pyramid_levels


def test_floors_of_the_full_model():
    level1, _, level3 = pyramid_levels(256, torch.float16)
    forward = level1.work(backward=False)
    # ../docs/kernels.md: four maps of 256 * 784 * 64 * 2 bytes, and the table
    assert forward.bytes == 4 * 256 * 784 * 64 * 2 + 55 * 55 * 2 * 2
    assert forward.flops == 4 * 256 * 2 * 784**2 * 32
    assert forward.exponentials == 256 * 2 * 784**2
    assert level1.work(backward=True).flops == 3.5 * forward.flops
    assert (level3.window, level3.heads, level3.width) == (7, 8, 32)


def test_floors_of_the_poolings():
    patches, first, last = poolings(64, torch.float16)
    assert [(p.op, p.name) for p in (patches, first, last)] == [
        ("pool_patches", "196 to 160"),
        ("pool_tokens", "160 to 144"),
        ("pool_tokens", "116 to 104"),
    ]
    # ../kernels/token_pooling/README.md: all patches and positions in, what is kept out
    assert patches.work(False) == Work(2 * (64 * (196 + 160) * 768 + 196 * 768), 0, 0)
    assert patches.work(True).bytes == 2 * patches.work(False).bytes
    # what is kept in and out, and one row of the products of 8 heads
    assert first.work(False) == Work(2 * 64 * (2 * 145 * 768 + 8 * 160), 0, 0)
    assert first.work(True).bytes == first.work(False).bytes + 2 * 64 * (145 + 161) * 768
