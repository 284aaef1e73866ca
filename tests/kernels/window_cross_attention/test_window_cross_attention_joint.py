"""The kernel of the ONNX operator, as its specification launches it, against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from attention_problems import Problem, attend, tensors

from edgefel.kernels.ahead_of_time.specs import fused_attention_spec
from edgefel.kernels.window_cross_attention.reference import window_cross_attention as reference


@pytest.mark.parametrize(
    "problem",
    [Problem(3, 1, 1, 5, 16), Problem(2, 1, 3, 7, 24), Problem(1, 1, 2, 9, 32), Problem(2, 1, 1, 14, 8)],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_matches_float64(problem, dtype, device, assert_close):
    from edgefel.kernels.window_cross_attention.kernel import joint_kernel

    images, _, heads, window, width = problem
    kind = "fp32" if dtype is torch.float32 else "fp16"
    spec = fused_attention_spec(window, heads, width, width**-0.5, kind)
    q_map, kv, table, _ = tensors(problem, device, dtype)
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    out = torch.empty(images, window * window, heads * width, dtype=dtype, device=device)
    q = q_map.transpose(1, 2).contiguous()
    joint_kernel[(images * spec.programs_per_image,)](
        q, kv, table, out, **spec.constants, num_warps=spec.warps
    )
    assert_close(out, expected, "out", dtype)


def test_arrays_are_in_tensorrts_order_inputs_then_outputs():
    spec = fused_attention_spec(7, 2, 16, 0.25, "fp16")
    assert spec.name == "window_cross_attention_w7_h2_d16_fp16"
    assert [(argument.name, argument.shape) for argument in spec.arguments] == [
        ("q_ptr", "[N, 2, 49, 16]"),
        ("kv_ptr", "[N, 49, 64]"),
        ("table_ptr", "[169, 2]"),
        ("out_ptr", "[N, 49, 32]"),
    ]
