"""Formats that a GPU lacks are refused in one line, before anything is built."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt import formats
from edgefel.export.tensorrt.formats import check_formats
from edgefel.export.tensorrt.options import EngineOptions
from edgefel.runtime.engines import Gpu

ORIN, THOR, ADA = Gpu("Orin", (8, 7)), Gpu("Thor", (11, 0)), Gpu("RTX 4090", (8, 9))
EVERY = ("fp32", "fp16", "int8+fp16", "fp8", "w8a16", "w4a16")


@pytest.mark.parametrize(
    ("gpu", "targets", "precisions", "message"),
    [
        (ORIN, (), ("fp8",), "bundle: fp8 needs Ada or later (compute capability 8.9), and the engine is for Orin "
         "(compute capability 8.7): choose another precision, such as int8"),
        (ORIN, (), EVERY, "the engine is for Orin (compute capability 8.7): choose fp32, fp16, int8, w8a16, w4a16"),
        (None, ("sm_87",), EVERY, "fp8 needs Ada or later (compute capability 8.9), and the engine is for sm_87"),
        (None, ("sm_120", "sm_75"), ("w4a16",), "w4a16 needs Ampere or later (compute capability 8.0), and the engine "
         "is for sm_75"),
        # what is named decides, not the GPU that happens to be here
        (ADA, ("sm_86",), ("fp8",), "the engine is for sm_86"),
    ],
)  # fmt: skip
def test_a_gpu_that_lacks_the_format_is_named(monkeypatch, gpu, targets, precisions, message):
    monkeypatch.setattr(formats, "find_gpu", lambda: gpu)
    with pytest.raises(EdgefelError) as caught:
        check_formats(precisions, EngineOptions(compute_capabilities=targets), "bundle")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("gpu", "targets", "precisions"),
    [
        (THOR, (), EVERY),
        (ADA, (), EVERY),
        (None, (), EVERY),
        (ORIN, (), ("fp16", "w8a16", "w4a16")),
        (ORIN, ("sm_89", "sm_110", "sm_120"), EVERY),
        (None, ("current",), EVERY),
        # TensorRT says what targets it has
        (None, ("sm_x",), EVERY),
    ],
)
def test_others_pass(monkeypatch, gpu, targets, precisions):
    monkeypatch.setattr(formats, "find_gpu", lambda: gpu)
    check_formats(precisions, EngineOptions(compute_capabilities=targets), "bundle")
