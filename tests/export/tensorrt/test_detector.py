"""YuNet's engine is built beside its file; TensorRT for RTX builds without a GPU."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from yunet_like import yunet_like

from edgefel.cli.main import main
from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.detector import build_detector_engine
from edgefel.files.write import sha256
from edgefel.runtime.yunet_backend import engine_path, record_path


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


def test_errors_are_one_line(tmp_path):
    for arguments, message in (
        (("--detector-model", tmp_path / "absent.onnx"), "no such file; run 'edgefel detector get'"),
        ((), "run 'edgefel detector get'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_failed_build_leaves_no_engine_that_is_used(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    model = tmp_path / "yunet.onnx"
    model.write_bytes(b"nothing")
    record_path(model).write_text("{}")
    with pytest.raises(EdgefelError, match="cannot parse it"):
        build_detector_engine(model, (320, 256))
    assert not record_path(model).exists()
