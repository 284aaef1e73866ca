"""What a compiled kernel's folder says, and what is refused; real compilation is in test_ahead_of_time_training.py."""

from __future__ import annotations

import hashlib
import json

import pytest

from edgefel.errors import EdgefelError
from edgefel.kernels.ahead_of_time.compiler import (
    INDEX,
    CompiledKernel,
    _parameter_count,
    compile_kernel,
    parse_arch,
    write_kernels,
)
from edgefel.kernels.ahead_of_time.resources import Resources
from edgefel.kernels.ahead_of_time.specs import anchor_spec

KERNEL = CompiledKernel(
    anchor_spec(7, 10, 128),
    87,
    "forward_kernel",
    b"cubin",
    "ptx",
    Resources(64, 0, 0, 0, 0, 2048),
    2048,
    ("scratch",),
)


def test_targets_are_named_with_or_without_sm():
    assert parse_arch("sm_87") == parse_arch("87") == 87
    for text in ("sm_86", "orin", "sm_", "-87"):
        with pytest.raises(EdgefelError, match=f"architecture '{text}' is unknown; known: sm_75, sm_80"):
            parse_arch(text)


def test_the_description_has_what_a_launch_needs():
    found = json.loads(json.dumps(KERNEL.describe()))
    assert [argument["name"] for argument in found["arguments"]] == [
        "e_ptr",
        "anchors_ptr",
        "out_ptr",
        "scratch",
    ]
    assert [argument["kind"] for argument in found["arguments"]] == ["pointer"] * 3 + ["null pointer"]
    assert "distance_ptr" not in found["constants"], "a pointer that is left out is no constant"
    assert (found["arch"], found["dynamic_shared_bytes"]) == ("sm_87", 2048)
    assert found["grid"] == {"x": {"programs_per_image": 1}, "y": 1, "z": 1}
    assert found["block"]["x"] == 32 * found["warps"]
    assert found["resources"]["registers"] == 64


def test_the_folder_holds_every_kernel_with_a_hash(tmp_path):
    pytest.importorskip("triton")
    folder = write_kernels([KERNEL], tmp_path / "compiled", "arbex")
    row = json.loads((folder / "sm_87" / "anchor_softmax.json").read_text())
    assert row["cubin_sha256"] == hashlib.sha256(b"cubin").hexdigest()
    assert (folder / "sm_87" / "anchor_softmax.cubin").read_bytes() == b"cubin"
    index = json.loads((folder / INDEX).read_text())
    assert index["kernels"] == [{"name": "anchor_softmax", "arch": "sm_87"}]
    assert index["model"] == "arbex"


def test_parameters_are_counted_in_the_entrys_own_header():
    ptx = ".visible .entry other(.param .u64 a)\n{}\n.entry forward_kernel(\n.param .u64 a,\n.param .u64 b\n)\n{}"
    assert _parameter_count(ptx, "forward_kernel") == 2
    with pytest.raises(EdgefelError, match="the PTX has no entry 'missing'"):
        _parameter_count(ptx, "missing")


def test_the_interpreter_compiles_nothing(monkeypatch):
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    with pytest.raises(EdgefelError, match="while TRITON_INTERPRET is set; unset it"):
        compile_kernel(KERNEL.spec, 87)
