"""What a compiled kernel's folder says, and what is refused; real compilation is in test_ahead_of_time_training.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgefel.errors import EdgefelError
from edgefel.kernels.ahead_of_time.compiler import (
    INDEX,
    CompiledKernel,
    _parameter_count,
    _typed,
    compile_kernel,
    parse_arch,
    write_kernels,
)
from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec
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


def test_numbers_are_compiled_in_or_passed_as_tritons_launcher_does():
    names = (
        "e_ptr",
        "anchors_ptr",
        "factor_ptr",
        "grad_anchors_ptr",
        "batch",
        "ANCHORS",
        "E",
        "BLOCK_B",
        "BLOCK_E",
    )
    parameters = [SimpleNamespace(name=name, is_constexpr=name.isupper()) for name in names]
    function = SimpleNamespace(params=parameters)
    pointers = tuple(Argument(name, "fp16", "") for name in ("e_ptr", "anchors_ptr", "factor_ptr"))
    constants = {"grad_anchors_ptr": None, "batch": 65, "ANCHORS": 70, "E": 128, "BLOCK_B": 64, "BLOCK_E": 32}
    spec = KernelSpec("gradient", "", "", pointers, constants, 1, 4, 1)
    signature, fixed, attributes = _typed(function, spec)
    assert signature["e_ptr"] == "*fp16"
    assert (signature["batch"], fixed[4,]) == ("constexpr", 65)
    assert set(attributes) == {(0,), (1,), (2,)}, "only pointers are known to be aligned"
    passed = {65: ("i32", {}, False), 32: ("i32", {}, True), 1: ("constexpr", {(4,): 1}, False)}
    passed |= {0.5: ("fp32", {}, False), (32, 1): (("i32", "constexpr"), {(4, 1): 1}, False)}
    for value, (kind, compiled, divisible) in passed.items():
        launch = replace(spec, constants=constants | {"batch": value}, numbers=True)
        signature, fixed, attributes = _typed(function, launch)
        assert signature["batch"] == kind
        assert fixed == {(3,): None, (5,): 70, (6,): 128, (7,): 64, (8,): 32} | compiled
        assert ((4,) in attributes) is divisible
        assert ((4, 0) in attributes) is isinstance(value, tuple)


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
