"""Our kernels as TensorRT plugins: which are taken, what is registered, and the PTX."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.plugin import (
    choose_kernels,
    find_kernels,
    launchable_ptx,
    prepare_plugins,
    register_plugins,
    unavailable_reason,
)
from edgefel.files.write import sha256
from edgefel.runtime.engines import Gpu
from edgefel.runtime.kernels import KernelFolder
from edgefel.runtime.onnx_functions import FusedNode

THOR = Gpu("Thor", (11, 0))
ATTENTION = "window_cross_attention_w7_h2_d16_fp16"
NODES = [
    FusedNode(f"level/{ATTENTION}", ATTENTION, {"window": 7, "heads": 2, "width": 16, "scale": 0.25}),
    FusedNode(
        "head/reliability_balance",
        "reliability_balance",
        {"classes": 8, "anchors": 10, "width": 64, "attentive": 1, "inverse_delta": 0.3333333432674408},
    ),
]
CONSTANTS = {
    ATTENTION: {"W": 7, "H": 2, "D": 16, "scale": 0.25, "q_strides": [1, 2, 3, 4]},
    "reliability_balance": {"C": 8, "K": 10, "E": 64, "ATTENTIVE": True, "inverse_delta": 1 / 3},
}
POINTERS = {ATTENTION: 4, "reliability_balance": 7}
PTX = """.version 9.0
.target sm_110a
// @joint_kernel
.visible .entry joint_kernel(
{parameters}
)
.reqntid 64
{{
	ld.param.b64 	%rd1, [joint_kernel_param_0];
	ret;
}}
"""


def ptx(pointers: int) -> str:
    lines = [f"\t.param .u64 .ptr .global .align 1 joint_kernel_param_{i}" for i in range(pointers)]
    return PTX.format(parameters=",\n".join(lines))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Compiled kernels of both operators for Thor."""
    place = tmp_path / "kernels"
    (place / "sm_110").mkdir(parents=True)
    for name, constants in CONSTANTS.items():
        base = place / "sm_110" / name
        base.with_suffix(".cubin").write_bytes(b"code")
        base.with_suffix(".ptx").write_text(ptx(POINTERS[name] + 2))
        pointers = [{"name": f"p{i}", "kind": "pointer"} for i in range(POINTERS[name])]
        nulls = [{"name": f"scratch{i}", "kind": "null pointer"} for i in range(2)]
        description = {
            "name": name,
            "arch": "sm_110",
            "entry": "joint_kernel",
            "arguments": [*pointers, *nulls],
            "constants": constants,
            "grid": {"x": {"programs_per_image": 26}},
            "block": {"x": 64},
            "dynamic_shared_bytes": 5120,
            "cubin_sha256": sha256(base.with_suffix(".cubin")),
        }
        base.with_suffix(".json").write_text(json.dumps(description))
    rows = [{"name": name, "arch": "sm_110"} for name in CONSTANTS]
    index = {"format": "edgefel-kernels", "version": 1, "model": "arbex-nano", "kernels": rows}
    (place / "kernels.json").write_text(json.dumps(index))
    return place


class Expr:
    """A symbolic number, as text."""

    def __init__(self, text: object) -> None:
        self.text = str(text)

    def __mul__(self, other: object) -> Expr:
        return Expr(f"{self.text}*{other.text if isinstance(other, Expr) else other}")


class TensorDesc:
    def __init__(self, shape: tuple[object, ...], dtype: str = "half") -> None:
        self.shape_expr, self.dtype = tuple(map(Expr, shape)), dtype

    def like(self) -> TensorDesc:
        return TensorDesc(self.sides, self.dtype)

    @property
    def sides(self) -> tuple[str, ...]:
        return tuple(side.text for side in self.shape_expr)


@pytest.fixture
def trt(monkeypatch, request) -> ModuleType:
    """What of `tensorrt` and `tensorrt.plugin` a registration uses; `registered` and `kernels` by name."""
    name = f"tensorrt_{request.node.name.partition('[')[0]}"
    module, plugin = ModuleType(name), ModuleType(f"{name}.plugin")
    module.__version__, module.registered, module.kernels = "10.13.3", {}, {}
    plugin.TensorDesc, plugin.SymIntExprs = (
        TensorDesc,
        type("SymIntExprs", (list,), {"__init__": lambda *_: None}),
    )
    plugin.KernelLaunchParams = type("KernelLaunchParams", (SimpleNamespace,), {})
    plugin.from_shape_expr = lambda shape, dtype: TensorDesc([side.text for side in shape], dtype)

    def noted(where):
        def decorator(name):
            def keep(function):
                assert name not in where, "TensorRT refuses a second registration"
                where[name] = function
                return function

            return keep

        return decorator

    plugin.register, plugin.aot_impl = noted(module.registered), noted(module.kernels)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, f"{name}.plugin", plugin)
    return module


def test_kernels_of_the_same_sizes_are_taken(trt, folder):
    chosen = choose_kernels(trt, NODES, folder, THOR)
    assert list(chosen.kernels) == [ATTENTION, "reliability_balance"]
    assert chosen.notes == ()
    before = chosen.digest
    (folder / "sm_110" / f"{ATTENTION}.ptx").write_text(ptx(6) + "// changed")
    assert choose_kernels(trt, NODES, folder, THOR).digest != before


@pytest.mark.parametrize(
    ("constants", "said"),
    [
        ({"H": 4}, "compiled for heads 4, and the network has 2"),
        ({"scale": 0.3}, "for scale 0.3, and .* has 0.25"),
    ],
)
def test_kernels_of_other_sizes_are_not(trt, folder, constants, said):
    path = folder / "sm_110" / f"{ATTENTION}.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"constants": data["constants"] | constants}))
    chosen = choose_kernels(trt, NODES, folder, THOR)
    assert list(chosen.kernels) == ["reliability_balance"]
    (note,) = chosen.notes
    assert note.startswith(f"{ATTENTION} built from the decomposed graph: ")
    assert_says(note, said)


def assert_says(text: str, pattern: str) -> None:
    with pytest.raises(EdgefelError, match=pattern):
        raise EdgefelError(text)
    assert "\n" not in text


@pytest.mark.parametrize(
    ("given", "gpu", "said"),
    [
        (True, Gpu("Orin", (8, 7)), "has no kernels for sm_87, only for sm_110"),
        (True, None, "no GPU is found here"),
        (False, THOR, "no compiled kernels are given; pass their folder to 'edgefel engine --kernels'"),
    ],
)
def test_why_bodies_are_built_is_one_line(trt, folder, given, gpu, said):
    chosen = choose_kernels(trt, NODES, folder if given else None, gpu)
    assert not chosen.kernels
    assert chosen.digest is None
    (note,) = chosen.notes
    assert note.startswith(f"{ATTENTION}, reliability_balance built from the decomposed graph: ")
    assert_says(note, said)


def test_a_file_without_fused_operators_has_nothing_to_say(trt):
    assert choose_kernels(trt, [], None, None).notes == ()


@pytest.mark.parametrize("has_plugins", [True, False])
def test_a_tensorrt_without_ahead_of_time_plugins_says_so(trt, folder, monkeypatch, has_plugins):
    trt.__version__ = "10.3.0"
    if has_plugins:
        del sys.modules[f"{trt.__name__}.plugin"].aot_impl  # 10.7 to 10.9
    else:
        monkeypatch.delitem(sys.modules, f"{trt.__name__}.plugin")
    said = f"{trt.__name__} 10.3.0 has no ahead-of-time plugins (tensorrt 10.13 and later have)"
    assert unavailable_reason(trt) == said
    chosen = prepare_plugins(trt, NODES, folder, THOR)
    assert chosen.notes == (f"{ATTENTION}, reliability_balance built from the decomposed graph: {said}",)
    kernels = {ATTENTION: KernelFolder.open(folder).file(ATTENTION, "sm_110")}
    with pytest.raises(EdgefelError, match="has no ahead-of-time plugins"):
        register_plugins(trt, kernels)


def test_a_registry_that_refuses_leaves_the_bodies(trt, folder):
    sys.modules[f"{trt.__name__}.plugin"].register = lambda name: (_ for _ in ()).throw(
        TypeError("12.0\nchanged")
    )
    chosen = prepare_plugins(trt, NODES, folder, THOR)
    assert not chosen.kernels
    assert chosen.notes == (
        f"{ATTENTION}, reliability_balance built from the decomposed graph: 12.0 changed",
    )


def test_the_signature_is_that_of_the_operator(trt, folder):
    prepare_plugins(trt, NODES, folder, THOR)
    assert (
        list(trt.registered) == list(trt.kernels) == [f"edgefel::{ATTENTION}", "edgefel::reliability_balance"]
    )
    attention, balance = map(inspect.signature, trt.registered.values())
    assert list(attention.parameters) == ["q", "kv", "bias_table"]
    assert {one.annotation for one in attention.parameters.values()} == {TensorDesc}
    assert attention.return_annotation is TensorDesc
    assert list(balance.parameters) == ["logits", "embedding", "anchors", "attentive_logits"]
    assert balance.return_annotation == tuple[TensorDesc, TensorDesc, TensorDesc]
    built = inspect.signature(trt.kernels[f"edgefel::{ATTENTION}"])
    assert list(built.parameters) == ["q", "kv", "bias_table", "outputs", "tactic"]
    assert [one.__name__ for one in built.return_annotation.__args__[:2]] == ["str", "str"]


def test_shapes_of_the_outputs(trt, folder):
    prepare_plugins(trt, NODES, folder, THOR)
    attention, balance = trt.registered.values()
    out = attention(TensorDesc(("N", 2, 49, 16)), TensorDesc(("N", 49, 64)), TensorDesc((169, 2)))
    assert (out.sides, out.dtype) == (("N", "49", "2*16"), "half")
    logits = TensorDesc(("N", 8), "float")
    results = balance(logits, TensorDesc(("N", 64)), TensorDesc((1, 8, 10, 64)), TensorDesc(("N", 8)))
    assert [(one.sides, one.dtype) for one in results] == [
        (("N", "8"), "float"),
        (("N",), "float"),
        (("N", "8"), "float"),
    ]


def test_a_launch_is_the_compiled_kernels(trt, folder):
    prepare_plugins(trt, NODES, folder, THOR)
    inputs = [TensorDesc(("N", 2, 49, 16)), TensorDesc(("N", 49, 64)), TensorDesc((169, 2))]
    name, text, launch, scalars = trt.kernels[f"edgefel::{ATTENTION}"](*inputs, (None,), 0)
    assert name == ATTENTION
    assert f".entry {ATTENTION}(" in text
    assert (launch.grid_x.text, launch.block_x, launch.shared_mem) == ("N*26", 64, 5120)
    assert len(scalars) == 0


def test_another_folder_exchanges_the_kernel_of_a_registered_plugin(trt, folder):
    prepare_plugins(trt, NODES, folder, THOR)
    path = folder / "sm_110" / f"{ATTENTION}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block": {"x": 128}}))
    prepare_plugins(trt, NODES, folder, THOR)
    *_, launch, _ = trt.kernels[f"edgefel::{ATTENTION}"](*[TensorDesc(("N", 2, 49, 16))] * 3, (None,), 0)
    assert launch.block_x == 128


def test_the_entry_is_renamed_and_loses_the_null_pointers(folder):
    kernel = KernelFolder.open(folder).file(ATTENTION, "sm_110")
    text = launchable_ptx(kernel, ATTENTION)
    assert "joint_kernel" not in text
    header = text[text.index(".entry") : text.index(")")]
    assert header.count(".param") == 4
    assert f"{ATTENTION}_param_3" in header
    assert f"[{ATTENTION}_param_0]" in text
    assert "param_4" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        (ptx(5), "has no entry with 6 parameters"),
        (ptx(6).replace("joint_kernel", "other"), "has no entry with 6 parameters"),
        (ptx(6).replace("[joint_kernel_param_0]", "[joint_kernel_param_5]"), "reads scratch memory"),
    ],
)
def test_ptx_that_does_not_fit_is_refused(folder, text, said):
    kernel = KernelFolder.open(folder).file(ATTENTION, "sm_110")
    kernel.ptx.unlink()
    if text is not None:
        kernel.ptx.write_text(text)
    with pytest.raises(EdgefelError, match=said):
        launchable_ptx(kernel, ATTENTION)


def test_an_operator_that_is_unknown_is_named(trt, folder):
    kernel = KernelFolder.open(folder).file(ATTENTION, "sm_110")
    with pytest.raises(
        EdgefelError, match="operator 'conv' of the ONNX file is unknown; known: window_cross"
    ):
        register_plugins(trt, {"conv": kernel})


def test_kernels_beside_a_bundle_are_found(folder, tmp_path):
    (tmp_path / "model").mkdir()
    assert find_kernels(tmp_path / "model") == folder
    assert find_kernels(tmp_path) is None


def test_a_device_needs_neither_torch_nor_triton_nor_onnx():
    code = "import sys, edgefel.export.tensorrt.plugin; print({'onnx', 'torch', 'triton'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
