"""Inductor's kernels are read from its code, and counted as ours are; the code itself is made in the slow test."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from edgefel.bench.experiments.inductor import counted, pretended
from edgefel.bench.kernels.model.launches import attention_forward
from edgefel.bench.kernels.problems import pyramid_levels
from edgefel.errors import EdgefelError

pytest.importorskip("triton")
CODE = """
triton_poi_fused_ones_0 = async_compile.triton('triton_poi_fused_ones_0', '''
triton_helpers.set_driver_to_gpu()
@triton_heuristics.pointwise(
    size_hints={'x': 1},
    triton_meta={'signature': {'out_ptr0': '*i32', 'xnumel': 'constexpr'}, 'device': 0},
)
@triton.jit
def triton_poi_fused_ones_0(out_ptr0, xnumel):
    pass
''', device_str='cuda')
triton_tem_fused_flex_attention_1 = async_compile.triton('triton_tem_fused_flex_attention_1', '''
@triton_heuristics.template(
num_stages=3,
num_warps=8,
triton_meta={'signature': {'arg_Q': '*fp16', 'ks0': 'i32'}, 'configs': []},
)
@triton.jit
def triton_tem_fused_flex_attention_1(arg_Q, ks0):
    BLOCK_M : tl.constexpr = 128
    BLOCK_N : tl.constexpr = 64
''', device_str='cuda')
"""


def test_kernels_are_read_with_types_and_launch():
    ones, flex = counted.parse(CODE)
    assert (ones.kind, ones.signature) == ("pointwise", {"out_ptr0": "*i32", "xnumel": "constexpr"})
    assert (flex.warps, flex.stages, flex.signature) == (8, 3, {"arg_Q": "*fp16", "ks0": "i32"})
    assert "set_driver_to_gpu" not in ones.source
    assert "triton_heuristics" not in flex.source
    assert "@triton.jit\ndef triton_tem" in flex.source
    assert flex.constant("BLOCK_M") == 128
    with pytest.raises(EdgefelError, match="no constant BLOCK_K; this torch writes other code"):
        flex.constant("BLOCK_K")


def test_the_launch_is_of_the_same_problem(tmp_path):
    ours = attention_forward(pyramid_levels(256, torch.float16)[0], 90)[-1]
    launch = counted.launch("flex", counted.parse(CODE), ours, tmp_path)
    assert launch.plan.units == ours.plan.units == 256 * 2 * 784**2
    assert (launch.plan.programs, launch.plan.tile, launch.plan.trips) == (7 * 2 * 256, 128 * 64, (13,))
    assert (launch.spec.warps, launch.spec.stages, launch.spec.arguments[0].type) == (8, 3, "fp16")
    assert (tmp_path / f"{launch.spec.module}.py").read_text().count("@triton.jit") == 1
    with pytest.raises(EdgefelError, match="compile: expected one kernel with the scores, got 0"):
        counted.launch("compile", counted.parse(CODE), ours, tmp_path)


def test_the_code_is_found_below_what_torch_wraps_it_in():
    outer = RuntimeError("backend failed")
    outer.__cause__ = ValueError("inner")
    outer.__cause__.inner_exception = pretended.Written("code")
    assert pretended._written(outer) == "code"
    assert pretended._written(ValueError("no")) is None


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing needs to be pretended")
def test_both_are_counted_for_a_gpu_that_is_not_there(tmp_path):
    """Where torch is of another version this may fail without a fault of ours: it is an experiment."""
    if not torch.__version__.startswith("2.13"):
        pytest.skip(f"written for torch 2.13, this is {torch.__version__}")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [
        sys.executable,
        "-m",
        "edgefel.bench.experiments.inductor.counted",
        "--levels",
        "3",
        "--archs",
        "90",
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=1400
    )
    assert result.returncode == 0, result.stderr
    flex, softmax = (json.loads(line) for line in result.stdout.splitlines())
    assert [row["subject"]["implementation"] for row in (flex, softmax)] == ["flex", "compile"]
    assert flex["metrics"]["by_pipe"]["tensor"] > 0
    assert softmax["metrics"]["by_pipe"]["tensor"] == 0
    assert all(row["metrics"]["by_pipe"]["mufu"] >= 1 for row in (flex, softmax))
