"""ONNX Runtime's providers: it falls back in silence, and the backend does not."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime import engines
from edgefel.runtime.backends import onnxruntime_backend
from edgefel.runtime.backends.base import BACKENDS, ModelFile
from edgefel.runtime.backends.onnxruntime_backend import (
    CUDA,
    OnnxRuntimeBackend,
    OnnxRuntimeCudaBackend,
    OnnxRuntimeTensorRTBackend,
    session_options,
)
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session

GPU_CLASSES = [OnnxRuntimeCudaBackend, OnnxRuntimeTensorRTBackend]
without_gpu_build = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)


def model_of(bundle) -> ModelFile:
    manifest = read_manifest(bundle)
    return ModelFile.of(manifest, manifest.files[0])


def test_sums_of_int8_products_hold_on_every_processor():
    """Pairs of the largest products: 255 * 127 * 2 does not fit into 16 bits, in which some processors add them."""
    rng = np.random.default_rng(0)
    weights = rng.choice(np.array([-127, 127], np.int8), (64, 16))
    x = rng.integers(200, 256, (4, 64)).astype(np.uint8)
    scale, kinds = np.float32(1), (onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT)
    tensors = {"s": scale, "zero": np.uint8(0), "w": weights, "none": np.int8(0), "half": np.uint8(128)}
    tensors["large"] = np.float32(2**14)
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["x", "s", "zero"], ["a"]),
        onnx.helper.make_node("DequantizeLinear", ["w", "s", "none"], ["b"]),
        onnx.helper.make_node("MatMul", ["a", "b"], ["c"]),
        onnx.helper.make_node("QuantizeLinear", ["c", "large", "half"], ["d"]),
        onnx.helper.make_node("DequantizeLinear", ["d", "large", "half"], ["y"]),
    ]
    ends = [onnx.helper.make_tensor_value_info(n, k, None) for n, k in zip("xy", kinds, strict=True)]
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 20)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads=1))
    exact = x.astype(np.int64) @ weights.astype(np.int64)
    assert np.abs(session.run(None, {"x": x})[0] - exact).max() <= 2**13
    assert np.abs(exact).max() > 2**15


@pytest.mark.parametrize(("lacking", "set_"), [(True, True), (None, True), (False, False)])
def test_products_that_hold_are_chosen_where_the_fast_ones_may_not(monkeypatch, lacking, set_):
    monkeypatch.setattr(onnxruntime_backend, "lacks_vnni", lambda: lacking)
    options = session_options()
    if set_:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.x64quantprecision")


@without_gpu_build
@pytest.mark.parametrize("kind", GPU_CLASSES)
def test_a_named_provider_that_is_not_there(bundle, kind):
    with pytest.raises(
        EdgefelError, match=rf"has no {kind.needs}; install a build with it, such as onnxruntime-gpu"
    ):
        Session.open(bundle, backend=next(name for name, entry in BACKENDS.items() if entry.load() is kind))


@without_gpu_build
@pytest.mark.parametrize("kind", GPU_CLASSES)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_that_fell_back_is_refused(bundle, kind):
    """Opened past the check of what is there, ONNX Runtime gives a session on the CPU."""
    with pytest.raises(
        EdgefelError, match=rf"fell back to CPUExecutionProvider, because its {kind.needs} does not"
    ):
        kind.open(model_of(bundle), threads=1)


@pytest.mark.parametrize("kind", GPU_CLASSES)
def test_a_session_with_the_provider_is_taken(bundle, kind, monkeypatch):
    """With a stand-in session that has every provider it was asked for, which a CPU build has not."""
    asked = []

    def open_session(path, options, providers):
        asked.extend(providers)
        names = [name for name, _ in providers]
        return SimpleNamespace(get_providers=lambda: names, get_inputs=list, get_outputs=list)

    stand_in = SimpleNamespace(SessionOptions=onnxruntime.SessionOptions, InferenceSession=open_session)
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    kind.open(model_of(bundle), threads=1)
    assert asked[0][0] == kind.needs
    assert asked[-1] == ("CPUExecutionProvider", {})


def test_engines_of_the_tensorrt_provider_are_kept_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path))
    (name, options), (second, _), _ = OnnxRuntimeTensorRTBackend.providers()
    assert (name, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["trt_engine_cache_path"] == str(tmp_path / "onnxruntime-tensorrt")
    assert (tmp_path / "onnxruntime-tensorrt").is_dir()


def test_fp32_is_not_shortened_on_the_gpu():
    assert CUDA[1]["use_tf32"] == 0


def test_the_stage_is_told(bundle):
    told = []
    with Session.open(bundle, backend="onnxruntime", max_batch=2) as session:
        session([np.zeros((9, 9, 3), np.uint8)] * 3, lambda stage, seconds: told.append((stage, seconds)))
        session.run(
            np.zeros((1, 3, 14, 14), np.float32), lambda stage, seconds: told.append((stage, seconds))
        )
    assert [stage for stage, _ in told] == ["preprocess", "inference"] * 2 + ["inference"]
    assert all(0 < seconds < 10 for _, seconds in told)


def test_it_reports_no_usage(bundle, tmp_path):
    """Its official builds write a device number and a queue of events into the home folder, and send them."""
    code = (
        "from edgefel.runtime.session import Session\n"
        f"Session.open({str(bundle)!r}, backend='onnxruntime').warm_up()"
    )
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment = kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(home.iterdir()) == []


def test_threads_are_those_asked_for(bundle, monkeypatch):
    seen = []
    real = onnxruntime.InferenceSession

    def record(path, options, providers):
        seen.append(options.intra_op_num_threads)
        return real(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    OnnxRuntimeBackend.open(model_of(bundle), threads=3)
    assert seen == [3]


@pytest.mark.parametrize("kind", [OnnxRuntimeCudaBackend, OnnxRuntimeTensorRTBackend])
def test_a_gpu_build_on_a_machine_without_gpu(bundle, kind, monkeypatch):
    """onnxruntime-gpu lists its providers wherever it is installed."""
    stand_in = SimpleNamespace(
        __version__="1.23.2",
        get_available_providers=lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    monkeypatch.setattr(engines, "find_gpu", lambda: None)
    monkeypatch.setattr(engines, "gpu_problem", lambda: "the CUDA driver reports error 803: reboot")
    reason = kind.unavailable_reason(read_manifest(bundle).files[0])
    assert reason.endswith(
        "needs an NVIDIA GPU, and none is found here (the CUDA driver reports error 803: reboot)"
    )
    monkeypatch.setattr(engines, "find_gpu", lambda: engines.Gpu("Orin", (8, 7)))
    assert kind.unavailable_reason(read_manifest(bundle).files[0]) is None
