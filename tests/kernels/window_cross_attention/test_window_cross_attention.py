"""The Triton op, forward and every gradient, against the reference in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from edgefel.kernels.window_cross_attention import op
from edgefel.kernels.window_cross_attention.op import window_cross_attention
from edgefel.kernels.window_cross_attention.reference import window_cross_attention as reference


class Problem(NamedTuple):
    """images, windows per image that share a query map, heads, side of the window, head width."""

    images: int
    shared: int
    heads: int
    window: int
    width: int


# odd windows, tails in every dimension, one tile and several, shared queries
PROBLEMS = [
    Problem(1, 1, 1, 5, 16),
    Problem(3, 1, 1, 5, 64),
    Problem(1, 1, 2, 9, 32),
    Problem(1, 4, 1, 5, 32),
    Problem(2, 2, 3, 3, 16),
    Problem(1, 1, 1, 7, 24),
    Problem(1, 1, 1, 14, 32),
]


def tensors(
    problem: Problem, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query map [B, M, H, D], joint keys and values [B nW, M, 2, H, D], table, and a gradient."""
    generator = torch.Generator().manual_seed(sum(problem))
    images, shared, heads, window, width = problem
    m = window * window

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype).to(device)

    return (
        draw(images, m, heads, width),
        draw(images * shared, m, 2, heads, width),
        draw((2 * window - 1) ** 2, heads),
        draw(images * shared, m, heads * width),
    )


def attend(op: Callable[..., Tensor], q_map: Tensor, kv: Tensor, table: Tensor, problem: Problem) -> Tensor:
    """The op as the model calls it: q out of a channels-last map, k and v out of the joint projection."""
    k, v = kv.unbind(2)
    return op(
        q_map.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        table,
        problem.window,
        problem.width**-0.5,
    )


def results(op: Callable[..., Tensor], problem: Problem, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Result and gradients of map, projection and table."""
    q_map, kv, table = (x.clone().requires_grad_() for x in inputs[:3])
    out = attend(op, q_map, kv, table, problem)
    return out, *torch.autograd.grad(out, (q_map, kv, table), inputs[3])


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_forward_and_gradients_match_float64(problem, device, assert_close):
    inputs = tensors(problem, device, torch.float32)
    expected = results(reference, problem, tuple(x.double() for x in inputs))
    found = results(window_cross_attention, problem, inputs)
    for name, out, truth in zip(("out", "q", "kv", "bias_table"), found, expected, strict=True):
        assert_close(out, truth, name)


def test_the_largest_window_of_the_model(device, assert_close):
    problem = Problem(1, 1, 1, 28, 32)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    assert_close(attend(window_cross_attention, q_map, kv, table, problem), expected, "out")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_sums_in_fp32(dtype, device, assert_close):
    if dtype == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter multiplies bfloat16 as integers: NumPy has no such type")
    problem = Problem(1, 1, 2, 7, 32)
    inputs = tensors(problem, device, dtype)
    expected = results(reference, problem, tuple(x.double() for x in inputs))
    found = results(window_cross_attention, problem, inputs)
    for name, out, truth in zip(("out", "q", "kv", "bias_table"), found, expected, strict=True):
        assert out.dtype == dtype
        assert_close(out, truth, name, dtype)


def test_a_window_of_one_position_passes_its_value_on(device):
    problem = Problem(2, 1, 1, 1, 16)
    inputs = tensors(problem, device, torch.float32)
    out, grad_q, grad_kv, grad_table = results(window_cross_attention, problem, inputs)
    assert torch.equal(out, inputs[1][:, :, 1].flatten(2))
    assert torch.equal(grad_kv[:, :, 1].flatten(2), inputs[3])
    for gradient in (grad_q, grad_kv[:, :, 0], grad_table):  # a probability of 1 has no slope
        assert gradient.abs().max() < 1e-5


def test_queries_of_a_channels_first_map_are_read_in_place(device, assert_close):
    problem = Problem(2, 1, 2, 5, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    # [B, H D, M] in memory, as a convolution writes it
    first = q_map.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).unflatten(-1, (2, 16))
    assert not first.is_contiguous()
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    assert_close(attend(window_cross_attention, first, kv, table, problem), expected, "out")


def test_a_transposed_or_wider_table_is_read_in_place(device, assert_close):
    problem = Problem(1, 1, 3, 5, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float16)
    transposed = table.float().t().contiguous().t()
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    out = attend(window_cross_attention, q_map, kv, transposed, problem)
    assert_close(out, expected, "out", torch.float16)


def test_gradients_have_the_same_bits_every_time(device):
    problem = Problem(1, 2, 1, 5, 16)
    inputs = tensors(problem, device, torch.float32)
    first, second = (results(window_cross_attention, problem, inputs) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("programs", [1, 3, 1000], ids=["one sum", "uneven sums", "a sum per window"])
def test_the_tables_gradient_is_summed_over_windows(programs, device, assert_close, monkeypatch):
    """However the six windows are dealt to programs."""
    monkeypatch.setattr(op, "_BIAS_PROGRAMS", programs)
    problem = Problem(3, 2, 1, 3, 16)
    inputs = tensors(problem, device, torch.float32)
    expected = results(reference, problem, tuple(x.double() for x in inputs))
    assert_close(results(window_cross_attention, problem, inputs)[3], expected[3], "bias_table")


def test_adding_a_constant_to_the_table_changes_nothing(device):
    problem = Problem(1, 1, 2, 5, 16)
    q_map, kv, table, grad = tensors(problem, device, torch.float32)
    out = attend(window_cross_attention, q_map, kv, table, problem)
    moved = attend(window_cross_attention, q_map, kv, table + 3.0, problem)
    torch.testing.assert_close(moved, out, rtol=1e-5, atol=1e-5)
    # so the gradient of the table sums to zero for each head
    grad_table = results(window_cross_attention, problem, (q_map, kv, table, grad))[3]
    assert grad_table.sum(0).abs().max() < 1e-4 * grad_table.abs().sum(0).max()


def test_far_apart_scores_do_not_overflow(device, assert_close):
    problem = Problem(1, 1, 1, 5, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    expected = attend(reference, 100 * q_map.double(), kv.double(), 50 * table.double(), problem)
    out = attend(window_cross_attention, 100 * q_map, kv, 50 * table, problem)
    assert_close(out, expected, "out")


def test_an_empty_batch_is_no_error(device):
    problem = Problem(0, 1, 2, 5, 16)
    inputs = tensors(problem, device, torch.float32)
    out, *gradients = results(window_cross_attention, problem, inputs)
    assert out.shape == (0, 25, 32)
    assert [g.shape for g in gradients] == [x.shape for x in inputs[:3]]
    assert torch.equal(gradients[2], torch.zeros_like(gradients[2]))


def test_only_needed_gradients_are_asked_for(device, assert_close):
    problem = Problem(1, 1, 1, 5, 16)
    q_map, kv, table, grad = tensors(problem, device, torch.float32)
    table.requires_grad_()
    attend(window_cross_attention, q_map, kv, table, problem).backward(grad)
    wide = table.detach().double().requires_grad_()
    attend(reference, q_map.double(), kv.double(), wide, problem).backward(grad.double())
    assert_close(table.grad, wide.grad, "bias_table")


def test_autocast_chooses_the_type(device):
    problem = Problem(1, 1, 1, 5, 16)
    q_map, kv, table, grad = tensors(problem, device, torch.float32)
    table.requires_grad_()
    with torch.autocast(device.type, dtype=torch.float16):
        out = attend(window_cross_attention, q_map, kv.half(), table, problem)
    assert out.dtype == torch.float16
    out.backward(grad.half())
    assert table.grad.dtype == torch.float32


def bad_call(device: torch.device, **changes: Tensor) -> None:
    good = {name: torch.zeros(1, 2, 9, 4, device=device) for name in "qkv"}
    good["bias_table"] = torch.zeros(25, 2, device=device)
    window_cross_attention(**(good | changes), window=3, scale=1.0)


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("k", torch.zeros(1, 2, 8, 4), "M = 9 tokens for window 3, got 8"),
        ("v", torch.zeros(1, 2, 9, 5), r"the shape of k .*, got \(1, 2, 9, 5\)"),
        ("q", torch.zeros(1, 3, 9, 4), r"\[B, 2, 9, 4\], got shape \(1, 3, 9, 4\)"),
        ("q", torch.zeros(2, 2, 9, 4), r"a divisor of 1"),
        ("bias_table", torch.zeros(24, 2), r"\[25, 2\], got shape \(24, 2\)"),
        ("k", torch.zeros(1, 2, 9, 4, dtype=torch.float16), "float32 like q, got torch.float16"),
        (
            "v",
            torch.zeros(1, 2, 9, 4, dtype=torch.float64),
            "float32, float16 or bfloat16, got torch.float64",
        ),
        ("bias_table", torch.zeros(25, 2, dtype=torch.int64), "got torch.int64"),
        ("bias_table", torch.zeros(25, 2, device="meta"), "like q, got meta"),
    ],
)
def test_what_does_not_fit_is_named_before_any_launch(argument, value, expected, device):
    value = value if value.is_meta else value.to(device)
    with pytest.raises(ValueError, match=f"^{argument}: expected .*{expected}"):
        bad_call(device, **{argument: value})


def test_the_operator_keeps_pytorchs_rules(device):
    problem = Problem(1, 2, 2, 3, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    k, v = (x.transpose(1, 2).contiguous().requires_grad_() for x in kv.unbind(2))
    q = q_map.transpose(1, 2).contiguous().requires_grad_()
    torch.library.opcheck(
        torch.ops.edgefel.window_cross_attention.default, (q, k, v, table.requires_grad_(), 3, 0.25, True)
    )


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
