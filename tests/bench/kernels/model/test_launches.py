"""What each launch does, by hand for the first level of the full model."""

from __future__ import annotations

import pytest
import torch

from edgefel.bench.kernels.model.launches import attention_backward, attention_forward, our_launches
from edgefel.bench.kernels.problems import pyramid_levels

pytest.importorskip("triton")
LEVEL = pyramid_levels(64, torch.float16)[0]
SCORES = 64 * 2 * 784**2


def test_every_kernel_of_the_models_is_there():
    found = {(launch.op, launch.kernel) for launch in our_launches([8], torch.float16)}
    assert found == {
        ("window_cross_attention", "forward_kernel"),
        ("window_cross_attention", "backward_kv_kernel"),
        ("window_cross_attention", "backward_q_kernel"),
        ("window_cross_attention", "backward_bias_kernel"),
        ("anchor_softmax", "forward_kernel"),
        ("anchor_softmax", "backward_e_kernel"),
        ("anchor_softmax", "backward_anchors_kernel"),
        ("reliability_balance", "forward_kernel"),
        ("pool_patches", "patch_kernel"),
        ("pool_tokens", "token_kernel"),
    }
    levels = {launch.problem for launch in our_launches([8], torch.float16, levels=(2,))}
    assert levels == {"level 2"}


def test_tiles_and_trips_cover_all_scores():
    for launch in (attention_forward(LEVEL), *attention_backward(LEVEL)):
        plan = launch.plan
        assert plan.units == SCORES
        done = plan.programs * plan.tile
        for trips in plan.trips:
            done *= trips
        assert plan.units <= done <= 1.15 * plan.units, launch.kernel


def test_bytes_of_the_forward_launch():
    plan = attention_forward(LEVEL).plan
    # four maps of 784 tokens by 64 channels and the table, two bytes each
    assert plan.dram_bytes == 2 * (4 * 64 * 784 * 64 + 55 * 55 * 2)
    # a program reads its queries and all keys and values, and writes as much as its queries
    assert plan.l2_bytes == plan.programs * 2 * 32 * (2 * 64 + 2 * 784)


def test_the_gradient_of_the_anchors_loops_over_the_batch_in_six_programs():
    (launch,) = (one for one in our_launches([64], torch.float16) if one.kernel == "backward_anchors_kernel")
    assert (launch.plan.programs, launch.plan.trips, launch.plan.units) == (6, (64,), 64 * 70 * 128)


def test_fp32_has_no_matrix_instructions_to_go_by():
    wide = attention_forward(pyramid_levels(64, torch.float32)[0])
    assert (wide.plan.marker, wide.dtype) == ("", "fp32")
