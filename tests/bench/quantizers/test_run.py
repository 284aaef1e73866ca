"""Rows of the quantizers: judged by the FP32 file; what fails or is missing is a row with the reason."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from bench_rows import row

from edgefel.bench.compare.contenders import Subject
from edgefel.bench.quantizers import run, tools
from edgefel.bench.quantizers.run import QuantizerOptions, bench_quantizers, standing
from edgefel.bench.timer import TimingPlan
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import read_manifest, write_manifest

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"
OPTIONS = QuantizerOptions(per_class=1, images=14, plan=TimingPlan.exactly(2), engines=False)


def subject(folder: Path = BUNDLE, *, trained: bool = True) -> Subject:
    manifest = read_manifest(folder)
    return Subject(manifest.model.name, None, folder, trained, manifest.labels, manifest.preprocessing)


@pytest.fixture
def settings(monkeypatch):
    """edgefel's first setting, one that fails, and a tool that is not installed."""
    own = tools.all_settings("percentile")[0]
    failing = dataclasses.replace(own, settings="broken", quantize=partial(tools.edgefel, "int8", "guess"))
    missing = dataclasses.replace(own, tool=tools.Tool("Magic", "edgefel_magic", "magic", "magic"))
    monkeypatch.setattr(run, "all_settings", lambda method: (own, failing, missing))


def test_every_setting_has_a_row_with_numbers_or_a_reason(settings, faces_folder):
    before = (BUNDLE / "model.fp32.onnx").read_bytes()
    rows = bench_quantizers(subject(), dataclasses.replace(OPTIONS, data=faces_folder, images=40))
    reference, own, failing, missing = rows
    assert reference.subject["quantizer"] == "FP32"
    assert reference.metrics["speed"]["onnxruntime"]["value"] == 1.0
    assert own.metrics["sqnr_db"] > 15
    assert 0.5 < own.metrics["agreement"] <= 1
    assert own.metrics["verdict"] in ("pass", "warn", "fail")
    assert own.metrics["worst_class"]["label"] in read_manifest(BUNDLE).labels
    assert own.metrics["version"]
    assert own.metrics["images"] == 40
    assert own.metrics["calibration_images"] == len(read_manifest(BUNDLE).labels)
    low, high = own.metrics["speed"]["onnxruntime"]["interval"]
    assert low <= own.metrics["speed"]["onnxruntime"]["value"] <= high
    assert failing.metrics["reason"].startswith("failed: KeyError")
    assert missing.metrics["reason"] == "not installed; run: pip install 'magic'"
    for one in (failing, missing):
        assert one.metrics["reason"] in one.notes
        assert "sqnr_db" not in one.metrics
    assert (BUNDLE / "model.fp32.onnx").read_bytes() == before
    assert standing(rows) == "edgefel is first in SQNR; edgefel is first in agreement"


def test_random_weights_have_no_accuracy(settings, faces_folder):
    rows = bench_quantizers(subject(trained=False), dataclasses.replace(OPTIONS, data=faces_folder))
    assert "worst_class" not in rows[1].metrics
    assert "random weights: its labels mean nothing" in rows[1].notes


def test_a_bundle_that_takes_bytes_is_refused(tmp_path):
    manifest = read_manifest(BUNDLE)
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.fp32.onnx").write_bytes((BUNDLE / "model.fp32.onnx").read_bytes())
    write_manifest(folder, dataclasses.replace(manifest, input_type="uint8"))
    with pytest.raises(EdgefelError, match="takes uint8, and quantizers want float32"):
        bench_quantizers(subject(folder), OPTIONS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 0}, "images 0: give numbers of at least 1"),
        (
            {"tools": ("magic",)},
            "tool 'magic' is not known; choose from: edgefel, nncf, onnxruntime, modelopt",
        ),
        ({"method": "guess"}, "calibration method 'guess' is not known"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(EdgefelError, match=message):
        QuantizerOptions(**values)


def test_who_is_first_is_named():
    def made(tool: str, **metrics: float):
        return row("quantizers", {"quantizer": tool, "settings": "s"}, metrics)

    own, other = made("edgefel", sqnr_db=20.0, agreement=0.9), made("NNCF", sqnr_db=19.0, agreement=0.95)
    assert standing([own, other]) == "edgefel is first in SQNR; NNCF (s) is first in agreement"
    assert standing([made("NNCF")]) == "nothing was judged"


def test_a_file_that_a_runtime_cannot_run_is_a_reason(settings, monkeypatch):
    """The whole process would end where a runtime crashes: each file is run once in another one before."""

    def crash(pool, function, *arguments):
        if function is tools.run_once:
            raise EdgefelError("a worker process was killed")
        return submit(pool, function, *arguments)

    submit = ProcessPoolExecutor.submit
    monkeypatch.setattr(ProcessPoolExecutor, "submit", crash)
    monkeypatch.setattr("edgefel.runtime.backends.openvino_backend.lacks_vnni", lambda: False)
    reference, own, *_ = bench_quantizers(subject(), OPTIONS)
    assert own.metrics["speed"]["openvino"] == {"failed": "a worker process was killed"}
    assert "openvino: a worker process was killed" in own.notes
    assert reference.metrics["speed"]["openvino"]["value"] == 1.0
