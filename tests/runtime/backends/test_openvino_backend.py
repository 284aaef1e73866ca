"""OpenVINO against ONNX Runtime on the same files."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tiny_bundle import write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.backends import openvino_backend
from edgefel.runtime.backends.base import ModelFile
from edgefel.runtime.backends.openvino_backend import OpenVinoBackend, compile_options
from edgefel.runtime.manifest import OUTPUT_NAMES, BundleFile, read_manifest
from edgefel.runtime.session import Session
from edgefel.runtime.telemetry.sysfs import lacks_vnni

pytest.importorskip("openvino", reason="needs OpenVINO; pip install edgefel[openvino]")
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="OpenVINO is taken on x86 processors alone"
)


def images(count: int, size: int = 120) -> list[np.ndarray]:
    """Smooth random images; noise is far from what a network was calibrated for."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in small]


def sqnr(values: np.ndarray, reference: np.ndarray) -> float:
    """Signal to noise, dB."""
    noise = np.square(values.astype(np.float64) - reference).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))


def test_fp32_outputs_are_onnxruntimes(nano_bundle):
    with (
        Session.open(nano_bundle, backend="openvino", threads=1, max_batch=4) as session,
        Session.open(nano_bundle, backend="onnxruntime", threads=1) as reference,
    ):
        assert session.choice.why == "openvino (asked for)"
        expected, actual = reference(images(7)), session(images(7))
        for name in OUTPUT_NAMES:
            np.testing.assert_allclose(
                getattr(actual, name), getattr(expected, name), atol=1e-4, err_msg=name
            )


@pytest.mark.parametrize(
    ("precision", "lacking", "refused"),
    [
        ("int8", True, True),
        ("int8+fp16", True, True),
        ("fp32", True, False),
        ("int8", False, False),
        ("int8", None, False),
    ],
)
def test_int8_is_refused_on_a_processor_that_computes_it_wrong(monkeypatch, precision, lacking, refused):
    monkeypatch.setattr(openvino_backend, "lacks_vnni", lambda: lacking)
    reason = OpenVinoBackend.unavailable_reason(BundleFile("model.onnx", "onnx", precision, "0" * 64, 1))
    assert ("without VNNI" in (reason or "")) == refused


@pytest.mark.skipif(lacks_vnni() is True, reason="a processor without VNNI, where OpenVINO's INT8 is refused")
def test_int8_outputs_are_those_of_the_file_as_exactly_as_onnxruntimes(nano_bundle):
    """Both round values between 8-bit layers in their own way. The judge is the file run node by node, each
    quantized product in float: OpenVINO may not be further from it than ONNX Runtime is, beyond 3 dB."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    exact = onnxruntime.InferenceSession(
        nano_bundle / "model.int8.onnx", options, providers=["CPUExecutionProvider"]
    )
    with (
        Session.open(nano_bundle, "int8", "openvino", threads=1, force=True) as session,
        Session.open(nano_bundle, "int8", "onnxruntime", threads=1, force=True) as reference,
    ):
        batch = session.manifest.preprocessing.batch(images(8))
        (truth,) = exact.run(["logits"], {"image": batch})
        ours, theirs = (sqnr(one.run(batch).logits, truth) for one in (session, reference))
    assert ours > 20
    assert ours > theirs - 3


def test_threads_each_get_their_own_outputs(bundle):
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((1 + i % 4, 3, 14, 14)).astype(np.float32) for i in range(8)]
    with (
        Session.open(bundle, backend="openvino", threads=1) as session,
        Session.open(bundle, backend="onnxruntime") as reference,
        ThreadPoolExecutor(8) as pool,
    ):
        expected = [reference.run(batch).logits for batch in batches]
        for _ in range(10):
            for found, wanted in zip(pool.map(session.run, batches), expected, strict=True):
                np.testing.assert_allclose(found.logits, wanted, atol=1e-5)


def test_outputs_stay_when_the_next_call_comes(bundle):
    with Session.open(bundle, backend="openvino") as session:
        first = session.run(np.ones((2, 3, 14, 14), np.float32))
        kept = first.logits.copy()
        session.run(-np.ones((2, 3, 14, 14), np.float32))
        np.testing.assert_array_equal(first.logits, kept)


@pytest.mark.parametrize("prepared", [(), (2,), (16, 7)])
def test_a_batch_is_put_together_from_compiled_sizes(bundle, prepared, monkeypatch):
    monkeypatch.setattr(openvino_backend, "PAYS", 50)
    rng = np.random.default_rng(0)
    with (
        Session.open(bundle, backend="openvino", threads=1) as session,
        Session.open(bundle, backend="onnxruntime", threads=1) as reference,
    ):
        session.warm_up(batches=prepared)
        compiled = set(session._runner._compiled)
        assert compiled == {1, *prepared} if prepared != (16, 7) else compiled == {16, 6, 1}
        for count in (1, 2, 3, 7, 13, 16):
            batch = rng.standard_normal((count, 3, 14, 14)).astype(np.float32)
            np.testing.assert_allclose(session.run(batch).logits, reference.run(batch).logits, atol=1e-5)


def test_a_size_is_compiled_once_it_pays(bundle, monkeypatch):
    monkeypatch.setattr(openvino_backend, "PAYS", 12)
    batch = np.random.default_rng(0).standard_normal((5, 3, 14, 14)).astype(np.float32)
    with Session.open(bundle, backend="openvino", threads=1) as session:
        seen = []
        for _ in range(4):
            found = session.run(batch).logits
            seen.append(set(session._runner._compiled))
            np.testing.assert_allclose(found, session.run(batch[::-1]).logits[::-1], atol=1e-5)
        assert seen[0] == {1}
        assert seen[1:] == [{1, 4}] * 3


def test_large_files_are_compiled_for_fewer_sizes(bundle, monkeypatch):
    monkeypatch.setattr(openvino_backend, "LARGE", 100)
    batch = np.random.default_rng(0).standard_normal((7, 3, 14, 14)).astype(np.float32)
    with (
        Session.open(bundle, backend="openvino", threads=1) as session,
        Session.open(bundle, backend="onnxruntime", threads=1) as reference,
    ):
        session.warm_up(batches=(7,))
        assert set(session._runner._compiled) == {4, 1}
        np.testing.assert_allclose(session.run(batch).logits, reference.run(batch).logits, atol=1e-5)


def test_an_input_that_varies_in_its_sides_has_one_network(bundle, tmp_path):
    path = tmp_path / "sum.onnx"
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    model = ModelFile(path, read_manifest(bundle).files[0], (3,), np.dtype(np.float32), {}, "x")
    backend = OpenVinoBackend.open(model, threads=1)
    backend.prepare([4])
    for shape in ((1, 3, 5, 7), (1, 3, 9, 2)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(backend.run(x)["y"], np.maximum(x, 0))
    assert backend.input_shape == (1, 3, None, None)


def test_the_callers_batch_is_not_written(bundle):
    batch = np.random.default_rng(0).standard_normal((3, 3, 14, 14)).astype(np.float32)
    kept = batch.copy()
    with Session.open(bundle, backend="openvino") as session:
        session.run(batch)
    np.testing.assert_array_equal(batch, kept)


def test_the_stage_is_told(bundle):
    told = []
    with Session.open(bundle, backend="openvino") as session:
        session(images(2), lambda stage, seconds: told.append(stage))
    assert told == ["preprocess", "inference"]


def test_files_that_do_not_load_or_run(bundle, tmp_path):
    manifest = read_manifest(bundle)
    (bundle / "model.fp32.onnx").write_bytes(b"nothing")
    with pytest.raises(
        EdgefelError, match=r"model.fp32.onnx: OpenVINO cannot load it \(.+\); choose --backend"
    ) as caught:
        OpenVinoBackend.open(ModelFile.of(manifest, manifest.files[0]), threads=1)
    assert "\n" not in str(caught.value)
    with (
        Session.open(write_bundle(tmp_path / "other", size=16), backend="openvino") as session,
        pytest.raises(EdgefelError, match=r"OpenVINO cannot run it on \[1, 3, 14, 14\]"),
    ):
        session.run(np.zeros((1, 3, 14, 14), np.float32))


def test_where_it_is_not_for(bundle, monkeypatch):
    (file,) = read_manifest(bundle).files
    monkeypatch.setattr(openvino_backend.platform, "machine", lambda: "aarch64")
    assert "is for x86 processors, and this one is aarch64" in OpenVinoBackend.unavailable_reason(file)
    monkeypatch.setattr(openvino_backend.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(openvino_backend.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'edgefel[openvino]'" in OpenVinoBackend.unavailable_reason(file)


def test_options_that_the_plugin_has_taken(bundle):
    (file,) = read_manifest(bundle).files
    backend = OpenVinoBackend.open(ModelFile.of(read_manifest(bundle), file), threads=1)
    taken = {name: str(backend._compiled[1].compiled.get_property(name)) for name in compile_options(1)}
    assert taken["INFERENCE_NUM_THREADS"] == "1"
    assert "float32" in taken["INFERENCE_PRECISION_HINT"] or "f32" in taken["INFERENCE_PRECISION_HINT"]
    assert "LATENCY" in taken["PERFORMANCE_HINT"]


def test_it_reports_no_usage_and_prints_nothing_but_json(bundle, tmp_path):
    """Its telemetry writes a client number into the home folder and starts a thread that sends it."""
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((30, 30, 3), 128, np.uint8))
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(home)}
    predict = [
        "predict",
        str(bundle),
        str(tmp_path / "crop.png"),
        "--no-detect",
        "--json",
        "--backend",
        "openvino",
    ]
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('telemetry' * ('openvino_telemetry' in sys.modules), file=sys.stderr))\n"
        f"sys.argv[1:] = {predict!r}\n"
        "from edgefel.cli.main import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    (line,) = result.stdout.splitlines()
    assert len(json.loads(line)["faces"]) == 1
    assert "model.fp32.onnx by openvino (asked for)" in result.stderr
    assert "telemetry" not in result.stderr
    assert not (home / "intel").exists()


def test_a_request_that_cannot_be_made_is_explained(tmp_path, monkeypatch):
    with Session.open(write_bundle(tmp_path / "bundle"), backend="openvino") as session:

        def refuse(self):
            raise RuntimeError("no memory")

        with monkeypatch.context() as patched:
            patched.setattr(openvino_backend._Compiled, "request", refuse)
            with pytest.raises(EdgefelError, match=r"OpenVINO cannot run it on .* \(no memory\)"):
                session(images(1))
        assert len(session(images(1)).confidence) == 1
