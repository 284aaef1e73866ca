"""The Triton ops, forward and every gradient, against the reference in float64.

Values are multiples of 1/8, whose sums are exact in every order: scores tie often, and one choice is right.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.kernels.token_pooling import op as module
from edgefel.kernels.token_pooling.op import pool_patches, pool_tokens, tile_for
from edgefel.kernels.token_pooling.reference import pool_patches as patches_reference
from edgefel.kernels.token_pooling.reference import pool_tokens as tokens_reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# (N, keep, D)
SIZES = [(1, 1, 1), (2, 1, 96), (5, 5, 3), (33, 1, 100), (63, 62, 65), (196, 160, 100), (256, 101, 32)]
# the interpreter takes a second for many tokens, and does the same in every type
CASES = [
    (*size, dtype)
    for size in SIZES
    for dtype in (torch.float32, torch.float16, torch.bfloat16)
    if dtype == torch.float32 or size[0] < 100 or DEVICE.type == "cuda"
]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randint(-16, 17, shape, generator=generator) / 8).to(dtype).to(DEVICE)


def draw_tokens(
    batch: int, count: int, width: int, heads: int = 3, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = 1 + count
    return draw(batch, rows, width, dtype=dtype), draw(batch, heads, rows, rows, dtype=dtype)


def results(op, keep, *inputs):
    """The result and the gradients of all inputs that have one, of a loss that is different everywhere."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = op(*leaves, keep)
    grad = torch.linspace(-1, 1, out.numel(), device=out.device).reshape(out.shape).to(out.dtype)
    return out, *torch.autograd.grad(out, leaves, grad, allow_unused=True)


@pytest.mark.parametrize(("count", "keep", "width", "dtype"), CASES)
def test_patches_and_their_gradients_match_float64(count, keep, width, dtype, assert_close):
    patches, positions = draw(3, count, width, dtype=dtype), draw(count, width, dtype=dtype)
    found = results(pool_patches, keep, patches, positions)
    expected = results(patches_reference, keep, patches.double(), positions.double())
    assert found[0].dtype == dtype
    for name, out, truth in zip(("out", "patches", "positions"), found, expected, strict=True):
        assert_close(out, truth, name, dtype)


@pytest.mark.parametrize(("count", "keep", "width", "dtype"), CASES)
def test_tokens_and_their_gradient_match_float64(count, keep, width, dtype, assert_close):
    tokens, products = draw_tokens(3, count, width, dtype=dtype)
    out, grad, none = results(pool_tokens, keep, tokens, products)
    expected, expected_grad, _ = results(tokens_reference, keep, tokens.double(), products.double())
    assert torch.equal(out, expected.to(dtype))  # a copy
    assert_close(grad, expected_grad, "tokens", dtype)
    assert none is None


def test_scores_that_no_type_holds_exactly(assert_close):
    generator = torch.Generator().manual_seed(0)
    patches, positions = (
        torch.randn(2, 30, 100, generator=generator),
        torch.randn(30, 100, generator=generator),
    )
    inputs = patches.to(DEVICE), positions.to(DEVICE)
    assert_close(pool_patches(*inputs, 20), patches_reference(*(x.double() for x in inputs), 20), "out")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 1.0, math.inf, math.nan, -math.nan]),
        min_size=1,
        max_size=40,
    ),
    st.data(),
)
def test_ties_zeros_infinities_and_nan_are_ranked_as_in_the_reference(scores, data):
    keep = data.draw(st.integers(1, len(scores)))
    rows = 1 + len(scores)
    products = torch.zeros(1, 1, rows, rows)
    products[0, 0, 0, 1:] = torch.tensor(scores)
    tokens = torch.arange(float(rows))[None, :, None].expand(1, rows, 3)
    products, tokens = products.to(DEVICE), tokens.to(DEVICE)
    assert torch.equal(pool_tokens(tokens, products, keep), tokens_reference(tokens, products, keep))


def test_nan_is_kept_and_stays_in_its_image():
    patches, positions = draw(3, 33, 20), draw(33, 20)
    clean = pool_patches(patches, positions, 2)
    patches[1, 30, 5] = math.nan
    patches[1, 7, 19] = -math.nan
    patches[1, 3, 2] = math.inf
    out = pool_patches(patches, positions, 2)
    expected = patches_reference(patches, positions, 2)
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)
    assert out[1].isnan().any(1).all()
    assert torch.equal(out[[0, 2]], clean[[0, 2]])


def test_only_the_row_of_the_class_token_is_read():
    tokens, products = draw_tokens(2, 20, 8)
    expected = pool_tokens(tokens, products, 9)
    products[:, :, 1:] = math.nan
    products[:, :, 0, 0] = math.nan
    assert torch.equal(pool_tokens(tokens, products, 9), expected)


def test_sums_of_half_precision_are_fp32():
    patches = torch.ones(1, 2, 768, dtype=torch.float16, device=DEVICE)
    patches[0, 1, 0] = 1.0625  # 768.0625, which FP16 rounds to 768
    positions = torch.zeros(2, 768, dtype=torch.float16, device=DEVICE)
    assert pool_patches(patches, positions, 1)[0, 0, 0] == 1.0625


def test_types_may_differ_as_under_autocast(assert_close):
    patches, positions = draw(2, 33, 20, dtype=torch.float16), draw(33, 20) + 0.001
    found = results(pool_patches, 20, patches, positions)
    expected = results(patches_reference, 20, patches, positions)
    for name, out, truth in zip(("out", "patches", "positions"), found, expected, strict=True):
        assert out.dtype == truth.dtype, name
        assert_close(out, truth.double(), name)
    tokens, products = draw(2, 34, 20), draw(2, 3, 34, 34, dtype=torch.float16)
    out = pool_tokens(tokens, products, 20)
    assert out.dtype == torch.float32
    assert torch.equal(out, tokens_reference(tokens, products, 20))


def test_strided_inputs_give_the_same_with_gradients():
    patches, positions = draw(2, 33, 20), draw(20, 33).t()
    tokens, products = draw_tokens(2, 33, 20)
    views = (
        (pool_patches, patches.transpose(1, 2).contiguous().transpose(1, 2), positions),  # a map [B, D, N]
        (pool_patches, patches[:1].expand(2, -1, -1), positions),
        (pool_tokens, tokens.transpose(0, 1).contiguous().transpose(0, 1), products),
        (pool_tokens, torch.cat([tokens, tokens], 2)[..., ::2], products.transpose(2, 3).contiguous().mT),
        (pool_tokens, tokens, products.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
        (pool_tokens, tokens, products[:, :1].expand(-1, 4, -1, -1)),
    )
    for number, (op, source, other) in enumerate(views):
        out = op(source, other, 20)
        assert torch.equal(out, op(source.contiguous(), other.contiguous(), 20)), number
        leaf = source.detach().requires_grad_()
        (grad,) = torch.autograd.grad(op(leaf, other, 20).sum(), leaf)
        kept = 20 if op is pool_patches else 21
        assert grad.sum() == 2 * kept * 20, number


@pytest.mark.parametrize("programs", [1, 8, 10**6])
def test_the_result_does_not_depend_on_how_a_image_is_cut(programs, monkeypatch):
    monkeypatch.setattr(module, "_PROGRAMS", programs)
    patches, positions = draw(2, 100, 24), draw(100, 24)
    found = results(pool_patches, 80, patches, positions)
    for out, truth in zip(found, results(patches_reference, 80, patches, positions), strict=True):
        torch.testing.assert_close(out, truth)
    tokens, products = draw_tokens(2, 80, 24)
    for out, truth in zip(results(pool_tokens, 72, tokens, products),
                          results(tokens_reference, 72, tokens, products), strict=True):  # fmt: skip
        assert (out is None and truth is None) or torch.equal(out, truth)


@pytest.mark.parametrize("batch", [1, 64, 1024])
@pytest.mark.parametrize(
    ("count", "rows", "width"), [(196, 196, 768), (160, 161, 768), (256, 257, 5), (1, 2, 1)]
)
def test_a_tile_covers_the_image_in_few_registers(count, rows, width, batch):
    tile = tile_for(count, rows, width, batch)
    assert tile.block_n >= count
    assert tile.slices * tile.rows >= rows > (tile.slices - 1) * tile.rows
    for side, columns in ((tile.block_n, tile.block_d), (tile.rows, tile.block_c)):
        assert columns >= 1
        assert side * columns <= 32 * 32 * tile.warps
    assert tile.slices == 1 or tile.rows == 32 or batch > 1


def test_few_images_are_cut_finer_than_many():
    assert [tile_for(196, 196, 768, batch).slices for batch in (1, 36, 64, 128, 256)] == [7, 7, 4, 2, 1]


def test_an_empty_batch_is_no_error():
    found = results(pool_patches, 2, draw(0, 5, 3), draw(5, 3))
    assert [tuple(x.shape) for x in found] == [(0, 2, 3), (0, 5, 3), (5, 3)]
    assert torch.equal(found[2], torch.zeros_like(found[2]))
    out, grad, _ = results(pool_tokens, 2, *draw_tokens(0, 5, 3))
    assert out.shape == (0, 3, 3)
    assert grad.shape == (0, 6, 3)


@pytest.mark.parametrize(
    ("argument", "patches", "positions", "keep"),
    [
        ("patches", torch.zeros(2, 257, 4), torch.zeros(257, 4), 3),
        ("patches", torch.zeros(2, 5, 4, dtype=torch.float64), torch.zeros(5, 4), 3),
        ("positions", torch.zeros(2, 5, 4), torch.zeros(5, 3), 3),
        ("positions", torch.zeros(2, 5, 4), torch.zeros(5, 4, device="meta"), 3),
        ("keep", torch.zeros(2, 5, 4), torch.zeros(5, 4), 6),
    ],
)
def test_patches_that_do_not_fit_are_named_before_any_launch(argument, patches, positions, keep):
    positions = positions if positions.is_meta else positions.to(DEVICE)
    with pytest.raises(ValueError, match=f"^{argument}: expected .*got"):
        pool_patches(patches.to(DEVICE), positions, keep)


@pytest.mark.parametrize(
    ("argument", "tokens", "products", "keep"),
    [
        ("tokens", torch.zeros(2, 258, 4), torch.zeros(2, 1, 258, 258), 3),
        ("products", torch.zeros(2, 5, 4), torch.zeros(2, 1, 5, 6), 3),
        ("products", torch.zeros(2, 5, 4), torch.zeros(2, 1, 5, 5, dtype=torch.float64), 3),
        ("keep", torch.zeros(2, 5, 4), torch.zeros(2, 1, 5, 5), 0),
    ],
)
def test_tokens_that_do_not_fit_are_named_before_any_launch(argument, tokens, products, keep):
    with pytest.raises(ValueError, match=f"^{argument}: expected .*got"):
        pool_tokens(tokens.to(DEVICE), products.to(DEVICE), keep)


@pytest.mark.parametrize("differentiable", [False, True])
def test_the_operators_keep_pytorchs_rules(differentiable):
    patches, positions = draw(2, 5, 3), draw(5, 3)
    tokens, products = draw_tokens(2, 5, 3)
    for x in (patches, positions, tokens):
        x.requires_grad_(differentiable)
    # without gradients only the shapes differ
    rules = {} if differentiable else {"test_utils": "test_faketensor"}
    for op, *inputs in (
        (torch.ops.edgefel.pool_patches.default, patches, positions),
        (torch.ops.edgefel.pool_tokens.default, tokens, products),
    ):
        torch.library.opcheck(op, (*inputs, 2, differentiable), **rules)


def test_images_too_far_apart_inside_for_32_bits_are_copied():
    near = torch.empty_strided((2, 3, 4), (2**40, 2**29, 1), device="meta")  # the batch has 64 bits
    assert module._near(near) is near
    far = torch.empty_strided((2, 3, 4), (1, 2**30, 1), device="meta")
    assert module._near(far).stride() == (12, 4, 1)
