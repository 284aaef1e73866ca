"""YuNet's engine is built beside its file; TensorRT for RTX builds without a GPU."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from yunet_like import yunet_like

from edgefel.cli.main import main
from edgefel.errors import EdgefelError
from edgefel.export.precision.detector import detector_graph, half_detector
from edgefel.export.tensorrt.detector import build_detector_engine
from edgefel.files.write import sha256, write_json
from edgefel.runtime.yunet_backend import engine_path, record_path, variant_path, variant_record


def run(*arguments: object):
    return CliRunner().invoke(main, ["detector", "engine", *map(str, arguments)])


def test_it_is_built_for_one_size(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    model = yunet_like(tmp_path / "yunet.onnx")
    result = run("--detector-model", model, "--size", "330x250", "--no-cache")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{engine_path(model)}\n"
    record = json.loads(record_path(model).read_text())
    assert record["builder"]["options"]["input_shape"] == [1, 3, 256, 352]
    assert record["builder"]["source_sha256"] == sha256(model)
    assert (record["sha256"], record["kind"]) == (sha256(engine_path(model)), "engine")


def variant(model, verdict="pass"):
    """An FP16 file of the model with its record, as `edgefel detector quantize` writes them."""
    path = variant_path(model, "fp16")
    path.write_bytes(half_detector(detector_graph(model.read_bytes())).SerializeToString())
    parity = {"verdict": verdict, "reasons": ["finds 90.0% of the faces"] if verdict == "fail" else []}
    hashes = {"sha256": sha256(path), "source_sha256": sha256(model)}
    write_json(variant_record(path), hashes | {"parity": parity})
    return path


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_an_engine_of_a_file_in_fewer_bits(tmp_path, verdict):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    model = yunet_like(tmp_path / "yunet.onnx")
    path = variant(model, verdict)
    result = run("--detector-model", model, "--size", "320x256", "--no-cache", "--precision", "fp16")
    assert result.exit_code == 0, result.output
    record = json.loads(record_path(model).read_text())
    assert (record["precision"], record["builder"]["source_sha256"]) == ("fp16", sha256(path))
    assert ("yunet.fp16.onnx: finds 90.0% of the faces" in result.stderr) == (verdict == "fail")


@pytest.mark.parametrize("what", ["no file", "no record", "another file", "changed"])
def test_a_file_in_fewer_bits_that_does_not_belong_is_refused(tmp_path, what):
    model = yunet_like(tmp_path / "yunet.onnx")
    path = variant(model)
    if what == "no file":
        path.unlink()
    elif what == "no record":
        variant_record(path).unlink()
    elif what == "another file":
        yunet_like(model, face=(60, 70))
    else:
        path.write_bytes(path.read_bytes() + b"x")
    record_path(model).write_text("kept")
    with pytest.raises(EdgefelError, match=r"yunet\.fp16\.onnx: .*; make it with 'edgefel detector quantize"):
        build_detector_engine(model, (320, 256), precision="fp16")
    assert record_path(model).read_text() == "kept"


def test_errors_are_one_line(tmp_path):
    for arguments, message in (
        (("--detector-model", tmp_path / "absent.onnx"), "no such file; run 'edgefel detector get'"),
        ((), "run 'edgefel detector get'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_failed_build_leaves_the_engine_that_is_there(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    model = tmp_path / "yunet.onnx"
    model.write_bytes(b"nothing")
    record_path(model).write_text("{}")
    with pytest.raises(EdgefelError, match="cannot parse it"):
        build_detector_engine(model, (320, 256))
    assert record_path(model).read_text() == "{}"
