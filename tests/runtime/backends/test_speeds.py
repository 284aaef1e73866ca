"""Which pair of file and backend is taken, by the rules and by a measurement, and when a choice is called slower."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from pathlib import Path

import pytest
from tiny_bundle import write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime import session as session_module
from edgefel.runtime.backends.base import BACKENDS, BackendEntry
from edgefel.runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from edgefel.runtime.backends.speeds import LARGE, SMALL, Speeds
from edgefel.runtime.manifest import ENGINE_FORMATS, PRECISIONS, describe_file, read_manifest, write_manifest
from edgefel.runtime.measurement import Measurement, store_measurement
from edgefel.runtime.session import Session

ROWS = Path(__file__).parents[3] / "docs" / "results" / "latency-2core.jsonl"
THREADS = 1


class Anywhere(OnnxRuntimeBackend):
    """Runs here whatever its name stands for, engines too: these are ONNX files."""

    @classmethod
    def unavailable_reason(cls, file):
        return None


@pytest.fixture
def every_backend(monkeypatch):
    """Both CPU backends and TensorRT, each played by ONNX Runtime."""
    for name in list(BACKENDS):
        monkeypatch.delitem(BACKENDS, name)
    for name in ("tensorrt", "openvino", "onnxruntime"):
        kind = "engine" if name == "tensorrt" else "onnx"
        monkeypatch.setitem(BACKENDS, name, BackendEntry(kind, f"{__name__}:Anywhere"))
    session_module._warn_once.cache_clear()


@pytest.fixture
def passed(tmp_path, monkeypatch):
    """A bundle with every precision, of which all passed; a small network unless gmac says otherwise."""
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))

    def make(precisions=PRECISIONS, gmac=0.08, engines=()):
        folder = write_bundle(tmp_path / "bundle", precisions)
        manifest = read_manifest(folder)
        for file in manifest.files:
            manifest = manifest.with_file(dataclasses.replace(file, parity={"verdict": "pass"}))
        for precision in engines:
            path = folder / f"model.{precision.replace('+', '-')}.engine"
            source = folder / f"model.{precision.replace('+', '-')}.onnx"
            path.write_bytes(source.read_bytes())
            built = {"source": source.name}
            manifest = manifest.with_file(
                describe_file(path, kind="engine", precision=precision, builder=built)
            )
        manifest = dataclasses.replace(manifest, model=dataclasses.replace(manifest.model, gmac=gmac))
        write_manifest(folder, manifest)
        return folder

    return make


def measure(folder, ms, threads=THREADS):
    """Stores durations by (backend, name of the file)."""
    store_measurement(read_manifest(folder), Measurement(ms, threads))


def test_the_rules_are_the_committed_rows():
    found = {"arbex": {}, "arbex-nano": {}}
    for line in ROWS.read_text().splitlines():
        row = json.loads(line)
        subject = row["subject"]
        assert (subject["batch"], subject["threads"]) == (1, 1)
        own = found[subject["model"]].setdefault(subject["backend"], {})
        own[subject["precision"]] = round(row["metrics"]["latency_ms"]["p50"], 1)
    assert found == {"arbex": LARGE, "arbex-nano": SMALL}


@pytest.mark.parametrize(
    ("gmac", "precisions", "taken"),
    [
        (0.08, PRECISIONS, ("onnxruntime", "fp32")),
        (0.08, ("fp32",), ("onnxruntime", "fp32")),
        (0.08, ("int8", "int8+fp16"), ("openvino", "int8+fp16")),
        (8.0, PRECISIONS, ("openvino", "int8+fp16")),
        (8.0, ("fp32", "int8"), ("openvino", "int8")),
        (8.0, ("fp32",), ("openvino", "fp32")),
    ],
)
def test_without_a_measurement_the_rules_decide_file_and_backend(
    passed, every_backend, gmac, precisions, taken
):
    with Session.open(passed(precisions, gmac), threads=THREADS) as session:
        assert (session.backend, session.precision) == taken
        size = "below" if gmac < 1 else "from"
        assert f"by rule (measured on another CPU, for networks {size} 1 GMAC)" in session.choice.basis
        assert "bench pick" in session.choice.basis
        assert "\n" not in session.choice.basis


def test_a_measurement_overrules_them(passed, every_backend):
    folder = passed()
    by_rule = {"openvino": SMALL["openvino"], "onnxruntime": SMALL["onnxruntime"]}
    ms = {
        (backend, f"model.{precision.replace('+', '-')}.onnx"): value
        for backend, own in by_rule.items()
        for precision, value in own.items()
    }
    measure(folder, ms | {("openvino", "model.int8-fp16.onnx"): 3.125})
    with Session.open(folder, threads=THREADS) as session:
        assert (session.backend, session.precision) == ("openvino", "int8+fp16")
        assert session.choice.basis == (
            "3.12 ms an image with 1 thread, measured on this machine with 7 alternatives"
        )
        assert "onnxruntime" in dict(session.choice.others)
    with Session.open(folder, "fp32", threads=THREADS) as session:
        assert session.backend == "onnxruntime"
    with Session.open(folder, backend="onnxruntime", threads=THREADS) as session:
        assert session.precision == "fp32"
    with Session.open(folder, threads=2) as session:  # that many threads were not measured
        assert session.backend == "onnxruntime"
        assert "by rule" in session.choice.basis


def test_int8_that_is_hardly_faster_does_not_replace_fp32(passed, every_backend):
    folder = passed(("fp32", "int8"))
    files = ("model.fp32.onnx", "model.int8.onnx")
    measure(folder, {("onnxruntime", name): ms for name, ms in zip(files, (4.0, 3.95), strict=True)})
    with Session.open(folder, threads=THREADS) as session:
        assert session.precision == "fp32"


def test_int8_with_warnings_stays_behind_however_fast(passed, every_backend):
    folder = passed(("fp32", "int8"))
    manifest = read_manifest(folder)
    warned = dataclasses.replace(manifest.find("int8"), parity={"verdict": "warn", "reasons": ["few"]})
    write_manifest(folder, manifest.with_file(warned))
    measure(folder, {("onnxruntime", "model.fp32.onnx"): 4.0, ("onnxruntime", "model.int8.onnx"): 1.0})
    with Session.open(folder, threads=THREADS) as session:
        assert session.precision == "fp32"


@pytest.mark.parametrize(
    ("ms", "taken"),
    [({"fp16": 2.0, "int8+fp16": 1.5}, "int8+fp16"), ({"fp16": 1.5, "int8+fp16": 2.0}, "fp16")],
)
def test_on_a_gpu_int8_or_fp16_by_the_measurement(passed, every_backend, ms, taken):
    folder = passed(engines=("fp16", "int8+fp16"))
    with Session.open(folder, threads=THREADS) as session:  # nothing measured: the nearly exact one
        assert (session.backend, session.precision) == ("tensorrt", "fp16")
        assert "none was measured" in session.choice.basis
    own = {("tensorrt", f"model.{name.replace('+', '-')}.engine"): value for name, value in ms.items()}
    measure(folder, own | {("onnxruntime", "model.fp32.onnx"): 20.0, ("openvino", "model.fp32.onnx"): 25.0})
    with Session.open(folder, threads=THREADS) as session:
        assert (session.backend, session.precision) == ("tensorrt", taken)
    slow = dict.fromkeys(own, 40.0)
    measure(folder, slow | {("onnxruntime", "model.fp32.onnx"): 20.0})
    with Session.open(folder, threads=THREADS) as session:
        assert session.backend == "onnxruntime"


def test_a_gpu_that_was_not_measured_is_tried_again(passed, every_backend, caplog, monkeypatch):
    """It did not start when the rest was measured; once it does, nothing has to be measured anew."""
    folder = passed(engines=("fp16",))
    measure(folder, {("onnxruntime", "model.fp32.onnx"): 20.0})
    with Session.open(folder, threads=THREADS) as session:
        assert session.backend == "tensorrt"
    real = Anywhere.open.__func__

    def broken(cls, model, *, threads):
        if model.file.kind == "engine":
            raise EdgefelError("does not start")
        return real(cls, model, threads=threads)

    monkeypatch.setattr(Anywhere, "open", classmethod(broken))
    with caplog.at_level(logging.WARNING), Session.open(folder, threads=THREADS) as session:
        assert session.backend == "onnxruntime"
    assert "backend tensorrt is passed over: does not start" in caplog.text


def warnings_of(caplog, folder, **chosen):
    session_module._warn_once.cache_clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING), Session.open(folder, threads=THREADS, **chosen):
        return [record.getMessage() for record in caplog.records]


# by the rules: every pair, and the times as long as the fastest FP32
SLOWER = {
    (8.0, "onnxruntime", "fp16"): 247.4 / 227.1,
    (8.0, "onnxruntime", "int8+fp16"): 672.4 / 227.1,
    (0.08, "onnxruntime", "fp16"): 9.1 / 7.6,
    (0.08, "onnxruntime", "int8"): 10.3 / 7.6,
    (0.08, "onnxruntime", "int8+fp16"): 21.3 / 7.6,
    (0.08, "openvino", "fp32"): 10.6 / 7.6,
    (0.08, "openvino", "int8"): 10.6 / 7.6,
    (0.08, "openvino", "int8+fp16"): 8.0 / 7.6,
}
ON_CPU = tuple(name for name in PRECISIONS if name not in ENGINE_FORMATS)
FASTER = {8.0: "--precision int8+fp16 --backend openvino", 0.08: "--precision fp32 --backend onnxruntime"}


@pytest.mark.parametrize("precision", ON_CPU)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("gmac", [0.08, 8.0])
def test_every_choice_that_is_slower_than_fp32_warns(passed, every_backend, caplog, gmac, backend, precision):
    found = warnings_of(caplog, passed(gmac=gmac), precision=precision, backend=backend)
    if (times := SLOWER.get((gmac, backend, precision))) is None:
        assert found == []
        return
    (line,) = found
    assert line == (
        f"model.{precision.replace('+', '-')}.onnx by {backend} takes {times:.1f} times as long as FP32 "
        f"(measured on another machine); faster: {FASTER[gmac]}"
    )


@pytest.mark.parametrize(
    ("backend", "precision"),
    [*(("tensorrt", name) for name in PRECISIONS), *itertools.product(("onnxruntime", "openvino"), ON_CPU)],
)
def test_and_by_what_was_measured_here(passed, every_backend, caplog, backend, precision):
    """Whatever is slow here: the pair alone takes twice as long as FP32 does."""
    folder = passed(engines=PRECISIONS)
    suffix = "engine" if backend == "tensorrt" else "onnx"
    own = f"model.{precision.replace('+', '-')}.{suffix}"
    others = ("onnxruntime", "openvino", "tensorrt")
    ms = {
        (name, file.name): 4.0
        for name in others
        for file in read_manifest(folder).files
        if (file.kind == "engine") == (name == "tensorrt")
    }
    chosen = {"precision": precision, "backend": backend}
    measure(folder, ms)
    assert warnings_of(caplog, folder, **chosen) == []
    measure(folder, ms | {(backend, own): 8.0})
    (line,) = warnings_of(caplog, folder, **chosen)
    assert line.startswith(f"{own} by {backend} takes 2.0 times as long as FP32 (measured here); faster: ")


def test_it_warns_once_and_not_where_speeds_are_compared(passed, every_backend, caplog):
    folder = passed()
    chosen = {"precision": "fp16", "backend": "onnxruntime"}
    assert len(warnings_of(caplog, folder, **chosen)) == 1
    with caplog.at_level(logging.WARNING), Session.open(folder, threads=THREADS, **chosen) as again:
        assert len(caplog.records) == 1
        assert again.choice.slower is not None
    assert warnings_of(caplog, folder, **chosen, advise=False) == []


@pytest.mark.parametrize("gmac", [0.08, 8.0])
def test_auto_never_warns_of_its_own_choice(passed, every_backend, caplog, gmac):
    assert warnings_of(caplog, passed(gmac=gmac)) == []


def test_a_bundle_without_fp32_says_to_export_it(passed, every_backend, caplog):
    (line,) = warnings_of(caplog, passed(("int8+fp16",)), backend="onnxruntime")
    assert line.endswith("faster: --precision int8+fp16 --backend openvino")


def test_where_nothing_in_the_bundle_is_faster(passed, every_backend, caplog, monkeypatch):
    monkeypatch.delitem(BACKENDS, "openvino")
    (line,) = warnings_of(caplog, passed(("int8+fp16",)), backend="onnxruntime")
    assert line.endswith(
        "takes 2.8 times as long as FP32 (measured on another machine); export the bundle with --fp32"
    )


def test_what_cannot_run_here_is_not_recommended(passed, every_backend, caplog, monkeypatch):
    monkeypatch.setattr(
        Anywhere, "unavailable_reason", classmethod(lambda cls, file: "no" if "int8-" in file.name else None)
    )
    (line,) = warnings_of(caplog, passed(gmac=8.0), precision="fp16", backend="onnxruntime")
    assert line.endswith("faster: --precision int8 --backend openvino")


def test_the_speeds_of_rules_know_no_gpu(passed):
    manifest = read_manifest(passed())
    speeds = Speeds(manifest, 1)
    assert speeds.ms("tensorrt", manifest.files[0]) is None
    assert speeds.slower("tensorrt", manifest.files[0], ("tensorrt", manifest.files[0]), None) is None
