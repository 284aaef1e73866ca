"""Which backend a session takes, and what it says of the others."""

from __future__ import annotations

import dataclasses
import logging
import sys
import types

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, BackendEntry
from edgefel.runtime.backends.choice import Choice, preferred
from edgefel.runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session


class Unusable(OnnxRuntimeBackend):
    @classmethod
    def unavailable_reason(cls, file):
        return f"{file.name}: not on this machine; buy another"


class Broken(OnnxRuntimeBackend):
    @classmethod
    def unavailable_reason(cls, file):
        return None

    @classmethod
    def open(cls, model, *, threads):
        raise EdgefelError(f"{model.path}: does not load; do something")


@pytest.fixture
def backends(monkeypatch):
    """Replaces the table of backends by some of this module's, and ONNX Runtime at the end."""

    def put(**classes: str) -> None:
        for name in list(BACKENDS):
            monkeypatch.delitem(BACKENDS, name)
        for name, attribute in classes.items():
            kind = "engine" if name == "engines" else "onnx"
            monkeypatch.setitem(BACKENDS, name, BackendEntry(kind, f"{__name__}:{attribute}"))
        onnxruntime = "edgefel.runtime.backends.onnxruntime_backend:OnnxRuntimeBackend"
        monkeypatch.setitem(BACKENDS, "onnxruntime", BackendEntry("onnx", onnxruntime))

    return put


def add_engine(folder, precision="fp16"):
    path = folder / f"model.{precision.replace('+', '-')}.engine"
    path.write_bytes(b"engine")
    builder = {"package": "tensorrt", "version": "10.3.0", "gpu": "Orin", "compute_capability": "8.7"}
    file = describe_file(path, kind="engine", precision=precision, builder=builder)
    write_manifest(folder, read_manifest(folder).with_file(file))


def test_reasons_against_the_others_are_kept_in_order(bundle, backends):
    backends(engines="Unusable", first="Unusable")
    with Session.open(bundle) as session:
        assert session.backend == session.choice.backend == "onnxruntime"
        assert list(session.choice.skipped.items()) == [
            ("engines", "the bundle holds no engine"),
            ("first", "model.fp32.onnx: not on this machine; buy another"),
        ]
        assert session.choice.why == (
            "onnxruntime (not engines: the bundle holds no engine; "
            "not first: model.fp32.onnx: not on this machine; buy another)"
        )


def test_the_first_that_can_is_taken(bundle, backends):
    backends(first="OnnxRuntimeBackend", second="Broken")
    with Session.open(bundle) as session:
        assert (session.backend, session.choice.skipped, session.choice.why) == ("first", {}, "first")


def test_one_that_fails_to_load_is_passed_over_loudly(bundle, backends, caplog):
    backends(first="Broken")
    with caplog.at_level(logging.WARNING), Session.open(bundle) as session:
        assert session.backend == "onnxruntime"
        assert session.choice.skipped == {
            "first": f"{bundle / 'model.fp32.onnx'}: does not load; do something"
        }
    (record,) = caplog.records
    assert record.getMessage().startswith("backend first is passed over: ")


@pytest.mark.parametrize(("attribute", "message"), [("Unusable", "buy another"), ("Broken", "do something")])
def test_a_named_backend_is_never_replaced(bundle, backends, attribute, message, caplog):
    backends(first=attribute)
    with pytest.raises(EdgefelError, match=message):
        Session.open(bundle, backend="first")
    assert caplog.records == []


def test_a_named_backend_is_the_only_one_that_is_tried(bundle, backends):
    backends(first="Broken")
    with Session.open(bundle, backend="onnxruntime") as session:
        assert session.choice == Choice("onnxruntime", {}, asked=True)
        assert session.choice.why == "onnxruntime (asked for)"


def test_when_none_can(bundle, backends, monkeypatch):
    backends(first="Unusable", second="Unusable")
    monkeypatch.delitem(BACKENDS, "onnxruntime")
    with pytest.raises(EdgefelError, match=r"no backend can run it here: first: .*; second: .*buy another"):
        Session.open(bundle)
    backends(first="Unusable", second="Broken")
    monkeypatch.delitem(BACKENDS, "onnxruntime")
    with pytest.raises(EdgefelError, match="does not load; do something"):
        Session.open(bundle)


def test_backends_that_auto_leaves_out(bundle, backends, monkeypatch):
    backends(first="OnnxRuntimeBackend")
    monkeypatch.setitem(BACKENDS, "first", dataclasses.replace(BACKENDS["first"], auto=False))
    with Session.open(bundle) as session:
        assert session.backend == "onnxruntime"
    with Session.open(bundle, backend="first") as session:
        assert session.backend == "first"


def test_the_engines_that_do_not_fit_are_passed_over_one_by_one(make_bundle, backends):
    bundle = make_bundle(precisions=("fp32", "fp16", "int8"))
    add_engine(bundle, "int8+fp16")
    backends(engines="Unusable")
    with Session.open(bundle) as session:
        assert session.choice.skipped["engines"].startswith("model.int8-fp16.engine: ")
        assert session.file.name == "model.fp32.onnx"
    with Session.open(bundle, "int8") as session:
        assert session.choice.skipped["engines"] == "the bundle holds no int8 engine, only int8+fp16"
        assert session.file.name == "model.int8.onnx"


def test_a_changed_file_is_not_worked_around(bundle, backends):
    backends(first="OnnxRuntimeBackend")
    path = bundle / "model.fp32.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EdgefelError, match="SHA-256 differs"):
        Session.open(bundle)


def test_predict_says_which_backend_ran_and_why(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))  # no measurement of an equal file decides
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((30, 30, 3), 128, np.uint8))
    run = ["predict", str(bundle), str(tmp_path / "crop.png"), "--no-detect", "--json"]
    asked = CliRunner().invoke(main, [*run, "--backend", "onnxruntime"])
    assert (asked.exit_code, len(asked.stdout.splitlines())) == (0, 1)
    assert "model.fp32.onnx by onnxruntime (asked for)" in asked.stderr
    auto = CliRunner().invoke(main, run)
    assert (auto.exit_code, len(auto.stdout.splitlines())) == (0, 1)
    (line,) = [line for line in auto.stderr.splitlines() if line.startswith("model.fp32.onnx by ")]
    assert "not tensorrt" in line
    assert len(line) <= 100
    (reason,) = [
        line for line in auto.stderr.splitlines() if line.startswith("by rule (")
    ]  # one line, also by --json
    assert reason.endswith("measures this machine")
    told = CliRunner().invoke(main, [*run, "-v"])
    assert told.stdout == auto.stdout
    assert reason in told.stderr
    assert "not tensorrt: the bundle holds no engine\n" in told.stderr


def test_predict_with_a_backend_that_cannot(bundle, tmp_path):
    add_engine(bundle)
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((30, 30, 3), 128, np.uint8))
    run = ["predict", str(bundle), str(tmp_path / "crop.png"), "--no-detect", "--json"]
    result = CliRunner().invoke(main, [*run, "--backend", "tensorrt"])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "backend tensorrt cannot run it here: model.fp16.engine: " in line


def test_close_frees_once(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(OnnxRuntimeBackend, "close", lambda self: closed.append(self))
    session = Session.open(write_bundle(tmp_path / "bundle"), backend="onnxruntime")
    session.warm_up(1, batches=(1, 3))
    for _ in range(2):
        session.close()
    assert len(closed) == 1
    assert session.notes == ()
    with pytest.raises(EdgefelError, match="the session is closed"):
        session([np.zeros((9, 9, 3), np.uint8)])


def test_tensorrt_without_an_engine_says_how_to_build_one(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    with pytest.raises(
        EdgefelError, match="holds no engine, which tensorrt runs; build one on the device with"
    ):
        Session.open(folder, backend="tensorrt")


class Foreign(OnnxRuntimeBackend):
    """Raises what is not ours, where `at` says."""

    at = "open"
    error: Exception = TypeError("pybind11::init(): factory function returned nullptr")

    @classmethod
    def unavailable_reason(cls, file):
        if cls.at == "unavailable_reason":
            raise cls.error
        return

    @classmethod
    def open(cls, model, *, threads):
        if cls.at == "open":
            raise cls.error
        return super().open(model, threads=threads)

    def run(self, batch, record=None):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        TypeError("pybind11::init(): factory function returned nullptr"),
        RuntimeError("CUDA failure 35"),
        MemoryError(),
        OSError("libcudart.so.12: cannot open shared object file"),
        ImportError("libnvinfer.so.10: undefined symbol"),
        AttributeError("'NoneType' object has no attribute 'deserialize_cuda_engine'"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("at", ["unavailable_reason", "open", "run"])
def test_whatever_a_broken_backend_raises_auto_goes_on(bundle, backends, monkeypatch, caplog, error, at):
    monkeypatch.setattr(Foreign, "error", error)
    monkeypatch.setattr(Foreign, "at", at)
    backends(first="Foreign")
    with caplog.at_level(logging.WARNING), Session.open(bundle) as session:
        assert session.backend == "onnxruntime"
        assert type(error).__name__ in session.choice.skipped["first"]
    assert [record.getMessage().startswith("backend first is passed over") for record in caplog.records] == (
        [] if at == "unavailable_reason" else [True]
    )
    if at != "run":  # a backend that was asked for is not tried out: its first run says what is wrong
        with pytest.raises(EdgefelError, match=type(error).__name__):
            Session.open(bundle, backend="first")


def judge(bundle, gmac=8.0, **verdicts) -> None:
    """Sets the verdict of the files by precision, "int8_fp16" for int8+fp16."""
    manifest = read_manifest(bundle)
    for file in manifest.files:
        verdict = verdicts.get(file.precision.replace("+", "_"))
        parity = None if verdict is None else {"verdict": verdict, "reasons": ["too far"]}
        manifest = manifest.with_file(dataclasses.replace(file, parity=parity))
    model = dataclasses.replace(manifest.model, gmac=gmac)
    write_manifest(bundle, dataclasses.replace(manifest, model=model))


ALL = ("fp32", "fp16", "int8", "int8+fp16")
PASSED = {"fp32": "pass", "fp16": "pass", "int8": "pass", "int8_fp16": "pass"}


@pytest.mark.parametrize(
    ("backend", "gmac", "verdicts", "order"),
    [
        # docs/results/latency-2core.jsonl: 106, 237, 247 and 672 ms; and 69, 74, 218, 227 ms
        ("onnxruntime", 8.0, PASSED, ("int8", "fp32", "fp16", "int8+fp16")),
        ("openvino", 8.0, PASSED, ("int8+fp16", "int8", "fp16", "fp32")),
        # 7.6, 9.1, 10.3 and 21.3 ms; and 7.8, 8.0, 10.6 and 10.6 ms
        ("onnxruntime", 0.08, PASSED, ("fp32", "fp16", "int8", "int8+fp16")),
        ("openvino", 0.08, PASSED, ("fp16", "int8+fp16", "fp32", "int8")),
        ("tensorrt", 8.0, PASSED, ("fp16", "int8+fp16", "fp32", "int8")),
        # INT8 that nobody has judged, or not to the end, comes last; what failed does not come at all
        ("onnxruntime", 8.0, {}, ("fp32", "fp16", "int8", "int8+fp16")),
        ("onnxruntime", 8.0, PASSED | {"int8": "warn"}, ("fp32", "fp16", "int8+fp16", "int8")),
        ("tensorrt", 8.0, PASSED | {"fp16": "fail"}, ("int8+fp16", "fp32", "int8")),
    ],
)
def test_the_order_of_files_is_that_of_the_measurements(make_bundle, backend, gmac, verdicts, order):
    bundle = make_bundle(precisions=ALL)
    judge(bundle, gmac, **verdicts)
    manifest = read_manifest(bundle)
    assert tuple(file.precision for file in preferred(manifest, manifest.files, backend)) == order


def test_a_bundle_without_fp32_runs_and_says_with_what(make_bundle, tmp_path):
    """As docs/jetson.md exports it: --fp16 --int8."""
    bundle = make_bundle(precisions=("fp16", "int8", "int8+fp16"))
    judge(bundle, fp16="pass", int8="fail", int8_fp16="fail")
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((30, 30, 3), 128, np.uint8))
    run = ["predict", str(bundle), str(tmp_path / "crop.png"), "--no-detect", "--json"]
    result = CliRunner().invoke(main, [*run, "-v"])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("model.fp16.onnx by ")
    assert "not model.int8.onnx: it failed its comparison with PyTorch\n" in result.stderr
    named = CliRunner().invoke(main, [*run, "--precision", "int8"])
    assert named.exit_code == 2
    assert "model.int8.onnx: failed its comparison with PyTorch: too far" in named.stderr


def test_when_all_files_failed(make_bundle):
    bundle = make_bundle(precisions=("fp16", "int8"))
    judge(bundle, fp16="fail", int8="fail")
    with pytest.raises(EdgefelError, match=r"model\.fp16\.onnx: failed its comparison with PyTorch: too far"):
        Session.open(bundle)
    with Session.open(bundle, force=True) as session:
        assert session.precision in ("fp16", "int8")


def test_a_file_that_needs_a_newer_onnx_runtime_gives_way_to_one_that_does_not(make_bundle):
    bundle = make_bundle(precisions=("fp32", "fp16"))
    manifest = read_manifest(bundle)
    requires = {"ir_version": 99, "opset": 99, "onnxruntime": ">=99.1"}
    write_manifest(bundle, manifest.with_file(dataclasses.replace(manifest.find("fp32"), requires=requires)))
    with Session.open(bundle, backend="onnxruntime") as session:
        assert session.precision == "fp16"
        assert (
            "needs ONNX Runtime 99.1 or later (IR 99, opset 99)" in session.choice.others["model.fp32.onnx"]
        )
    with pytest.raises(EdgefelError, match=r"run: pip install 'onnxruntime>=99.1'"):
        Session.open(bundle, "fp32", "onnxruntime")


@pytest.mark.parametrize("name", ["model.fp32.onnx", f"{'long' * 40}.onnx"])
@pytest.mark.parametrize(
    "choice",
    [
        Choice("onnxruntime"),
        Choice("onnxruntime", {}, asked=True),
        Choice("onnxruntime", {"tensorrt": "x" * 500, "onnxruntime-cuda": "y", "openvino": "z"}),
        Choice("onnxruntime", {f"backend-{n}": "no" for n in range(30)}),
    ],
)
def test_the_headline_fits_in_100_characters(bundle, name, choice):
    file = dataclasses.replace(read_manifest(bundle).files[0], name=name)
    line = choice.headline(file)
    assert len(line) <= 100
    assert " by onnxruntime" in line


def test_onnx_runtime_that_is_missing_or_half_there(bundle, monkeypatch):
    file = read_manifest(bundle).files[0]
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    assert "ONNX Runtime does not load (AttributeError" in OnnxRuntimeBackend.unavailable_reason(file)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert (
        OnnxRuntimeBackend.unavailable_reason(file)
        == "ONNX Runtime is not installed; run: pip install onnxruntime"
    )


@pytest.mark.parametrize("precision", ["fp8", "w8a16", "w4a16"])
def test_no_onnx_backend_takes_a_format_of_tensorrt(bundle, precision):
    manifest = read_manifest(bundle)
    path = bundle / f"model.{precision}.onnx"
    path.write_bytes((bundle / "model.fp32.onnx").read_bytes())
    file = describe_file(path, kind="onnx", precision=precision, parity={"verdict": "pass"})
    write_manifest(bundle, manifest.with_file(file))
    with Session.open(bundle) as session:
        assert session.file.precision == "fp32"
        assert "is for TensorRT alone" in session.choice.others[path.name]
    with pytest.raises(
        EdgefelError, match="is for TensorRT alone; build an engine of it with 'edgefel engine'"
    ):
        Session.open(bundle, precision, "onnxruntime")
