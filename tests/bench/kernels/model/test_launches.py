"""What each launch does, by hand for the first level of the full model."""

from __future__ import annotations

import pytest
import torch

from edgefel.bench.kernels.model.attention import attention_backward, attention_forward
from edgefel.bench.kernels.model.launches import our_launches
from edgefel.bench.kernels.problems import pyramid_levels

pytest.importorskip("triton")
LEVEL = pyramid_levels(64, torch.float16)[0]
SCORES = 64 * 2 * 784**2


def test_every_kernel_of_the_models_is_there():
    found = {(launch.op, launch.kernel) for launch in our_launches([8], torch.float16, 87)}
    assert found == {
        ("window_cross_attention", "forward_kernel"),
        ("window_cross_attention", "bias_kernel"),
        ("window_cross_attention", "delta_kernel"),
        ("window_cross_attention", "sum_offsets_kernel"),
        ("window_cross_attention", "backward_kv_kernel"),
        ("window_cross_attention", "backward_q_kernel"),
        ("window_cross_attention", "backward_table_kernel"),
        ("anchor_softmax", "forward_kernel"),
        ("anchor_softmax", "backward_e_kernel"),
        ("anchor_softmax", "backward_anchors_kernel"),
        ("reliability_balance", "forward_kernel"),
        ("pool_patches", "patch_kernel"),
        ("pool_patches", "backward_kernel"),
        ("pool_patches", "backward_positions_kernel"),
        ("pool_tokens", "token_kernel"),
        ("pool_tokens", "backward_kernel"),
    }
    levels = {launch.problem for launch in our_launches([8], torch.float16, 90, levels=(2,))}
    assert levels == {"level 2"}


def test_tiles_and_trips_cover_all_scores():
    bias, *launches = (*attention_forward(LEVEL, 90), *attention_backward(LEVEL, 90))
    assert (bias.kernel, bias.plan.units) == ("bias_kernel", 2 * 896**2)
    for launch in launches:
        plan = launch.plan
        if plan.unit != "score":
            continue
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


def one(kernel, batch=64):
    (launch,) = (one for one in our_launches([batch], torch.float16, 90) if one.kernel == kernel)
    return launch


def test_the_gradient_of_the_anchors_has_programs_for_every_multiprocessor():
    """Four tiles of 32 columns for each of the 70 anchors, which read 64 embeddings at a time."""
    plan = one("backward_anchors_kernel", 65).plan
    assert (plan.programs, plan.trips, plan.tile, plan.units) == (280, (2,), 64 * 32, 65 * 70 * 128)


def test_backward_is_all_that_the_op_launches():
    """For all four gradients, in the op's order; tests of the op hold its launches."""
    launches = list(attention_backward(LEVEL, 90))
    assert [launch.kernel.removesuffix("_kernel") for launch in launches] == [
        "delta", "bias", "backward_kv", "backward_q", "backward_table", "sum_offsets",
    ]  # fmt: skip
    assert {launch.mode for launch in launches} == {"backward"}


def test_the_small_launches_of_the_attentions_backward_pass():
    delta, *_, offsets = (launch.plan for launch in attention_backward(LEVEL, 90))
    # a tile of 128 rows of 32 channels to a program
    assert (delta.units, delta.programs, delta.tile) == (64 * 2 * 784 * 32, 64 * 2 * 784 / 128, 128 * 32)
    # result and gradient in, a float for each row out
    assert delta.dram_bytes == 64 * 2 * 784 * (2 * 32 * 2 + 4)
    # a program for each row offset and head: 1 to 28 rows of each of 4 splits
    assert (offsets.programs, offsets.units) == (55 * 2, 4 * 2 * 784**2)
    rows = [28 - abs(offset) for offset in range(-27, 28)]
    assert offsets.trips == (4, sum(rows) / 55)
    assert offsets.longest == pytest.approx(28 / offsets.trips[1])


def test_poolings_are_cut_for_their_batch():
    launches = our_launches([1, 256], torch.float16, 90)
    programs = {launch.batch: launch.plan.programs for launch in launches if launch.kernel == "patch_kernel"}
    assert programs == {1: 7, 256: 256}
    plan = one("backward_positions_kernel").plan
    assert (plan.programs, plan.trips, plan.units) == (196 * 12, (1,), 64 * 196 * 768)


def test_numbers_are_passed_as_the_op_passes_them():
    """Not compiled in, as ahead of time."""
    assert all(launch.spec.numbers for launch in our_launches([8], torch.float16, 90))


def test_fp32_has_no_matrix_instructions_to_go_by():
    wide = attention_forward(pyramid_levels(64, torch.float32)[0], 90)[-1]
    assert (wide.plan.marker, wide.dtype) == ("", "fp32")
