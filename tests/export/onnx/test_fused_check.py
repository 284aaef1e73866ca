"""Bodies that say something else than the kernel are refused."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from exported import anchors_of, tiny_graph, tiny_model

from edgefel.export.onnx.fused import fuse_operators, fused_head
from edgefel.export.onnx.fused_check import check_attention, check_balance

ATTENTION = {"window": 7, "heads": 2, "width": 16, "scale": 0.25}
BALANCE = {"classes": 8, "width": 64, "attentive": 1, "inverse_delta": 1.0}


@pytest.fixture(scope="module")
def functions() -> dict[str, onnx.FunctionProto]:
    fused, _ = fuse_operators(tiny_graph(), fused_head(tiny_model()))
    return {function.name: function for function in fused.functions}


def test_the_bodies_of_the_network_pass(functions):
    check_attention(functions["window_cross_attention_w7_h2_d16_fp32"], ATTENTION, np.dtype(np.float32))
    check_balance(functions["reliability_balance"], BALANCE, anchors_of(tiny_model()))


def test_keys_and_values_in_the_wrong_order_are_noticed(functions):
    wrong = copy.deepcopy(functions["window_cross_attention_w7_h2_d16_fp32"])
    split = next(node for node in wrong.node if node.op_type == "Split")
    split.output[:] = list(split.output)[::-1]
    with pytest.raises(RuntimeError, match="differs from the kernel's reference by .* in output_0"):
        check_attention(wrong, ATTENTION, np.dtype(np.float32))


@pytest.mark.parametrize("change", [{"scale": 0.3}])
def test_another_number_is_noticed(functions, change):
    body = functions["window_cross_attention_w7_h2_d16_fp32"]
    with pytest.raises(RuntimeError, match="differs from the kernel's reference"):
        check_attention(body, ATTENTION | change, np.dtype(np.float32))


@pytest.mark.parametrize("change", [{"inverse_delta": 0.5}, {"attentive": 0}])
def test_another_head_is_noticed(functions, change):
    with pytest.raises(RuntimeError, match="differs from the kernel's reference"):
        check_balance(functions["reliability_balance"], BALANCE | change, anchors_of(tiny_model()))
