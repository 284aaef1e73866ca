"""Which backend a session takes, and what it says of the others."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from tiny_bundle import write_bundle

from edgefel.cli import params
from edgefel.cli.main import main
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, BackendEntry
from edgefel.runtime.backends.choice import Choice
from edgefel.runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from edgefel.runtime.manifest import PRECISIONS, describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session


class Unusable(OnnxRuntimeBackend):
    @classmethod
    def obstacle(cls, file):
        return f"{file.name}: not on this machine; buy another"


class Broken(OnnxRuntimeBackend):
    @classmethod
    def obstacle(cls, file):
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
            monkeypatch.setitem(BACKENDS, name, BackendEntry(kind, __name__, attribute))
        module = "edgefel.runtime.backends.onnxruntime_backend"
        monkeypatch.setitem(BACKENDS, "onnxruntime", BackendEntry("onnx", module, "OnnxRuntimeBackend"))

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


def test_every_backend_of_the_table_loads_and_knows_its_obstacles(bundle):
    add_engine(bundle)
    files = {file.kind: file for file in read_manifest(bundle).files}
    for entry in BACKENDS.values():
        reason = entry.load().obstacle(files[entry.kind])
        assert reason is None or "\n" not in reason


def test_the_command_lines_choices_are_the_tables():
    def choices(option) -> list[str]:
        return list(option(lambda: None).__click_params__[0].type.choices)

    assert set(choices(params.backend)) == {"auto", *BACKENDS}
    assert choices(params.precision) == list(PRECISIONS)


def test_predict_says_which_backend_ran_and_why(bundle, tmp_path):
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((30, 30, 3), 128, np.uint8))
    run = ["predict", str(bundle), str(tmp_path / "crop.png"), "--no-detect", "--json"]
    asked = CliRunner().invoke(main, [*run, "--backend", "onnxruntime"])
    assert (asked.exit_code, len(asked.stdout.splitlines())) == (0, 1)
    assert "model.fp32.onnx by onnxruntime (asked for)" in asked.stderr
    auto = CliRunner().invoke(main, run)
    assert (auto.exit_code, len(auto.stdout.splitlines())) == (0, 1)
    (line,) = [line for line in auto.stderr.splitlines() if " by " in line and "faces in" not in line]
    assert line.startswith("model.fp32.onnx by ")
    assert "not tensorrt" in line
    assert len(line) <= 100
    told = CliRunner().invoke(main, [*run, "-v"])
    assert told.stdout == auto.stdout
    assert "not tensorrt: the bundle holds no engine\n" in told.stderr


def test_predict_with_a_backend_that_cannot(bundle, tmp_path):
    add_engine(bundle)
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((30, 30, 3), 128, np.uint8))
    run = ["predict", str(bundle), str(tmp_path / "crop.png"), "--no-detect", "--json"]
    result = CliRunner().invoke(main, [*run, "--backend", "tensorrt"])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "backend tensorrt cannot run it here: model.fp16.engine: " in line


def test_a_session_imports_its_own_backend_alone(bundle):
    code = (
        "import sys; from edgefel.runtime.session import Session\n"
        f"Session.open({str(bundle)!r}, backend='onnxruntime').close()\n"
        "heavy = {'torch', 'triton', 'sklearn', 'onnx', 'openvino', 'tensorrt', 'tensorrt_rtx', 'pycuda'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


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
