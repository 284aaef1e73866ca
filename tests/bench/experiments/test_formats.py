"""The rows of formats: a GPU that lacks one is a reason, not an engine."""

from __future__ import annotations

from tiny_bundle import write_bundle

from edgefel.bench.experiments import formats


def test_an_engine_has_bytes_or_a_reason(tmp_path, monkeypatch):
    file = write_bundle(tmp_path / "bundle") / "model.fp32.onnx"
    built = []
    monkeypatch.setattr(
        formats, "build_engine", lambda path, engine, options: built.append(engine.write_bytes(b"1234567"))
    )
    assert formats._engine(file, "fp8", "sm_89") == {"bytes": 7, "reason": None}
    refused = formats._engine(file, "fp8", "sm_86")
    assert refused["bytes"] is None
    assert refused["reason"].startswith("model.fp32.onnx: fp8 needs Ada or later")
    assert len(built) == 1
