"""`bench pick`: what is measured, stored and taken."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
from click.testing import CliRunner
from tiny_bundle import write_bundle

from edgefel.bench import pick as module
from edgefel.bench.pick import pick
from edgefel.bench.timer import TimingPlan
from edgefel.cli.main import main
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.measurement import find_measurement
from edgefel.runtime.session import Session
from edgefel.runtime.telemetry.sysfs import lacks_vnni

FEW = TimingPlan(warmup=1, settle_seconds=0, min_runs=3, seconds=0, max_runs=3)
BACKENDS = {"onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])}
PAIRS = {(name, precision) for name in BACKENDS for precision in ("fp32", "int8")}
if lacks_vnni():
    PAIRS.discard(("openvino", "int8"))


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """FP32 and INT8 of the same weights; both passed, with labels."""
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))
    folder = write_bundle(tmp_path / "bundle")
    copy = folder / "model.int8.onnx"
    copy.write_bytes((folder / "model.fp32.onnx").read_bytes())
    parity = {"verdict": "pass", "top1_agreement": 0.99, "labels": {"accuracy": 0.8}}
    manifest = read_manifest(folder)
    manifest = manifest.with_file(dataclasses.replace(manifest.files[0], parity=parity))
    quantized = describe_file(copy, kind="onnx", precision="int8", parity=parity)
    write_manifest(folder, manifest.with_file(quantized))
    return folder


def test_every_pair_is_measured_stored_and_then_taken(bundle):
    found = pick(bundle, 1, FEW)
    pairs = {(row.subject["backend"], row.subject["precision"]) for row in found.rows}
    assert pairs == PAIRS
    stored = find_measurement(read_manifest(bundle), 1)
    assert {(row.subject["backend"], f"model.{row.subject['precision']}.onnx") for row in found.rows} == set(
        stored.ms
    )
    for row in found.rows:
        name = f"model.{row.subject['precision']}.onnx"
        assert stored.ms[row.subject["backend"], name] == pytest.approx(
            row.metrics["latency_ms"]["min"], abs=1e-3
        )
        assert (row.metrics["accuracy"], row.metrics["agreement"]) == (0.8, 0.99)
        assert row.metrics["largest_deviation"] < 1e-4
    with Session.open(bundle, threads=1) as session:
        assert (session.backend, session.file.name) == (found.backend, found.file.name)
        assert (
            found.advice[0] == f"auto takes {session.file.name} by {session.backend}: {session.choice.basis}"
        )


def test_a_file_that_failed_is_not_measured(bundle):
    manifest = read_manifest(bundle)
    failed = dataclasses.replace(manifest.find("int8"), parity={"verdict": "fail", "reasons": ["far"]})
    write_manifest(bundle, manifest.with_file(failed))
    found = pick(bundle, 1, FEW)
    assert {row.subject["precision"] for row in found.rows} == {"fp32"}
    assert "model.int8.onnx" in found.skipped


def test_an_int8_file_with_warnings_is_measured_and_named_but_not_taken(bundle, monkeypatch):
    manifest = read_manifest(bundle)
    warned = dataclasses.replace(manifest.find("int8"), parity={"verdict": "warn", "reasons": ["few"]})
    write_manifest(bundle, manifest.with_file(warned))
    real = module.measure

    def timed(calls, *arguments, **options):
        """INT8 takes a tenth of what it takes."""
        timings = real(calls, *arguments, **options)
        return {
            key: dataclasses.replace(one, min=one.min / 10 if key.precision == "int8" else one.min + 1)
            for key, one in timings.items()
        }

    monkeypatch.setattr(module, "measure", timed)
    found = pick(bundle, 1, FEW)
    assert found.file.precision == "fp32"
    assert "--precision int8" in found.advice[1]
    assert "not plainly passed" in found.advice[1]


def test_outputs_that_differ_end_it_before_anything_is_stored(bundle, tmp_path):
    other = write_bundle(tmp_path / "other", seed=9)
    (bundle / "model.int8.onnx").write_bytes((other / "model.fp32.onnx").read_bytes())
    manifest = read_manifest(bundle)
    parity = {"verdict": "pass"}
    file = describe_file(bundle / "model.int8.onnx", kind="onnx", precision="int8", parity=parity)
    write_manifest(bundle, manifest.with_file(file))
    with pytest.raises(EdgefelError, match="computes something else of the int8 file"):
        pick(bundle, 1, FEW)
    assert not (tmp_path / "cache" / "picks").exists()


def test_the_command(bundle, tmp_path):
    rows = tmp_path / "rows.jsonl"
    result = CliRunner().invoke(
        main, ["bench", "pick", str(bundle), "--threads", "1", "--runs", "3", "-o", str(rows)]
    )
    assert result.exit_code == 0, result.output
    assert "auto takes model." in result.output
    assert len(rows.read_text().splitlines()) == len(PAIRS)
    assert find_measurement(read_manifest(bundle), 1) is not None
    missing = CliRunner().invoke(main, ["bench", "pick", str(tmp_path / "nowhere")])
    assert (missing.exit_code, missing.stdout) == (2, "")
