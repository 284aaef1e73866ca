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
    found = {(launch.op, launch.kernel) for launch in our_launches([8], torch.float16, 87)}
    assert found == {
        ("window_cross_attention", "forward_kernel"),
        ("window_cross_attention", "backward_kv_kernel"),
        ("window_cross_attention", "backward_q_kernel"),
        ("window_cross_attention", "backward_table_kernel"),
        ("anchor_softmax", "forward_kernel"),
        ("anchor_softmax", "backward_e_kernel"),
        ("anchor_softmax", "backward_anchors_kernel"),
        ("reliability_balance", "forward_kernel"),
        ("pool_patches", "patch_kernel"),
        ("pool_tokens", "token_kernel"),
    }
    levels = {launch.problem for launch in our_launches([8], torch.float16, 90, levels=(2,))}
    assert levels == {"level 2"}


def test_tiles_and_trips_cover_all_scores():
    bias, *launches = (*attention_forward(LEVEL, 90), *attention_backward(LEVEL, 90))
    assert (bias.kernel, bias.plan.units) == ("bias_kernel", 2 * 896**2)
    for launch in launches:
        plan = launch.plan
        assert plan.units == SCORES
        done = plan.programs * plan.tile
        for trips in plan.trips:
            done *= trips
        assert plan.units <= done <= 1.35 * plan.units, launch.kernel


def test_the_kernel_is_the_one_that_the_op_would_pick():
    few = pyramid_levels(1, torch.float16)[0]
    assert [launch.kernel for launch in attention_forward(LEVEL, 90)] == ["bias_kernel", "dense_kernel"]
    # the bias does not fit the cache of an Orin
    assert [launch.kernel for launch in attention_forward(LEVEL, 87)] == ["forward_kernel"]
    assert [launch.kernel for launch in attention_forward(few, 90)] == ["forward_kernel"]


def test_bytes_of_the_forward_launches():
    # four maps of 784 tokens by 64 channels and the table, two bytes each
    everything = 2 * (4 * 64 * 784 * 64 + 55 * 55 * 2)
    (rows,) = attention_forward(LEVEL, 87)
    assert rows.plan.dram_bytes == everything
    # a program reads its queries and all keys and values, and writes as much as its queries
    block = rows.spec.constants["BLOCK_M"]
    assert rows.plan.l2_bytes == rows.plan.programs * 2 * 32 * (2 * block + 2 * 784)
    _, dense = attention_forward(LEVEL, 90)
    assert dense.plan.dram_bytes == everything + 2 * 2 * 896**2


def test_the_gradient_of_the_anchors_loops_over_the_batch_in_six_programs():
    (launch,) = (
        one for one in our_launches([64], torch.float16, 90) if one.kernel == "backward_anchors_kernel"
    )
    assert (launch.plan.programs, launch.plan.trips, launch.plan.units) == (6, (64,), 64 * 70 * 128)


def test_fp32_has_no_matrix_instructions_to_go_by():
    wide = attention_forward(pyramid_levels(64, torch.float32)[0], 90)[-1]
    assert (wide.plan.marker, wide.dtype) == ("", "fp32")
