"""The Triton op, forward and every gradient, against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from attention_problems import Problem, attend, results, tensors
from torch import Tensor

from edgefel.kernels.tuning import Launch
from edgefel.kernels.window_cross_attention import launches, op
from edgefel.kernels.window_cross_attention.op import window_cross_attention
from edgefel.kernels.window_cross_attention.reference import window_cross_attention as reference

# odd windows, tails in every dimension, one tile and several, every head width, shared queries
PROBLEMS = [
    Problem(1, 1, 1, 5, 16),
    Problem(3, 1, 1, 5, 64),
    Problem(1, 4, 1, 5, 32),
    Problem(2, 2, 3, 3, 16),
    Problem(1, 1, 1, 7, 24),
    Problem(3, 1, 2, 7, 32),
    Problem(1, 2, 2, 9, 32),
    Problem(1, 3, 1, 11, 16),
    Problem(1, 1, 1, 11, 64),
    Problem(1, 1, 1, 14, 32),
    Problem(1, 2, 1, 14, 16),
    Problem(1, 2, 1, 7, 16),
    Problem(1, 1, 1, 7, 64),
    Problem(1, 2, 1, 11, 32),
    Problem(1, 1, 1, 14, 64),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_a_small_batch_matches_float64(problem, device, assert_close, monkeypatch):
    monkeypatch.setattr(launches, "DENSE_FROM", 1 << 30)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    assert_close(attend(window_cross_attention, q_map, kv, table, problem), expected, "out")


@pytest.fixture(params=["rows", "dense"])
def path(request, monkeypatch):
    """Each of the two forward kernels, whatever the batch; what needs gradients is dense."""
    monkeypatch.setattr(launches, "DENSE_FROM", 1 if request.param == "dense" else 1 << 30)
    return request.param


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_forward_and_gradients_match_float64(problem, device, assert_close):
    inputs = tensors(problem, device, torch.float32)
    expected = results(reference, problem, tuple(x.double() for x in inputs))
    found = results(window_cross_attention, problem, inputs)
    for name, out, truth in zip(("out", "q", "kv", "bias_table"), found, expected, strict=True):
        assert_close(out, truth, name)


@pytest.mark.parametrize(
    "problem",
    [
        Problem(1, 1, 1, 28, 32),
        pytest.param(Problem(1, 2, 1, 28, 16), marks=pytest.mark.slow),
        pytest.param(Problem(1, 1, 1, 28, 64), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_largest_window_of_the_model(problem, path, device, assert_close):
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    assert_close(attend(window_cross_attention, q_map, kv, table, problem), expected, "out")


@pytest.mark.parametrize(
    "problem",
    [
        Problem(1, 1, 1, 28, 16),
        pytest.param(Problem(1, 1, 1, 28, 32), marks=pytest.mark.slow),
        pytest.param(Problem(1, 2, 1, 28, 64), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_gradients_of_the_largest_window_of_the_model(problem, device, assert_close):
    inputs = tensors(problem, device, torch.float32)
    expected = results(reference, problem, tuple(x.double() for x in inputs))
    found = results(window_cross_attention, problem, inputs)
    for name, out, truth in zip(("out", "q", "kv", "bias_table"), found, expected, strict=True):
        assert_close(out, truth, name)


# tiles of queries and keys, windows side by side; the last tile of keys has 1 to all of its tokens
DENSE = [(16, 16, 1), (32, 64, 2), (64, 32, 1), (64, 128, 2), (128, 64, 1)]


@pytest.mark.parametrize("tile", DENSE, ids=str)
@pytest.mark.parametrize("window", [3, 11])
@pytest.mark.parametrize("windows", [1, 4, 5])
def test_the_dense_kernel_in_any_tiles(tile, window, windows, device, assert_close, monkeypatch):
    most = launches.padded(window**2)
    block_m, block_n, group = min(tile[0], most), min(tile[1], most), tile[2]
    launch = Launch(block_m, block_n, 4, 1, group)
    monkeypatch.setattr(op, "pick", lambda *problem: launches.Plan(True, launch, (launch,)))
    monkeypatch.setattr(op, "parts_of", lambda *problem: 2)
    problem = Problem(1 if windows == 4 else windows, windows if windows == 4 else 1, 1, window, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float16)
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    out = attend(window_cross_attention, q_map, kv, table, problem)
    assert_close(out, expected, "out", torch.float16)


@pytest.mark.parametrize("block_n", [16, 32, 64, 128])
@pytest.mark.parametrize("window", [3, 6, 7, 9, 11])
def test_the_row_aligned_kernel_in_any_tiles(block_n, window, device, assert_close, monkeypatch):
    launch = Launch(32, block_n, 2, 1)
    monkeypatch.setattr(op, "pick", lambda *problem: launches.Plan(False, launch, (launch,)))
    problem = Problem(1, 2, 2, window, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float16)
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    out = attend(window_cross_attention, q_map, kv, table, problem)
    assert_close(out, expected, "out", torch.float16)


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


def test_queries_of_a_channels_first_map_are_read_in_place(path, device, assert_close):
    problem = Problem(2, 1, 2, 5, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    # [B, H D, M] in memory, as a convolution writes it
    first = q_map.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).unflatten(-1, (2, 16))
    assert not first.is_contiguous()
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    assert_close(attend(window_cross_attention, first, kv, table, problem), expected, "out")


def test_a_transposed_or_wider_table_is_read_in_place(path, device, assert_close):
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
    monkeypatch.setattr(launches, "TABLE_PROGRAMS", programs)
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


def test_an_empty_batch_is_no_error(device):
    problem = Problem(0, 1, 2, 5, 16)
    inputs = tensors(problem, device, torch.float32)
    out, *gradients = results(window_cross_attention, problem, inputs)
    assert out.shape == (0, 25, 32)
    assert [g.shape for g in gradients] == [x.shape for x in inputs[:3]]
    assert torch.equal(gradients[2], torch.zeros_like(gradients[2]))


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
