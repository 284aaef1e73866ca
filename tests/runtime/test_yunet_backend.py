"""The backend of YuNet: an engine beside the file first.

Engines run on the stand-in of tests/fake_tensorrt.py, which is ONNX Runtime: it says nothing of a real GPU.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import fake_tensorrt
import numpy as np
import onnx
import pytest
from engine_files import add_engine, assert_right, random_batch
from tiny_bundle import write_bundle
from yunet_like import yunet_like

from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.write import sha256, write_json
from edgefel.runtime import engines
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.backends.base import backend_entry
from edgefel.runtime.engines import Gpu
from edgefel.runtime.manifest import describe_file
from edgefel.runtime.session import Session
from edgefel.runtime.yunet import YuNetDetector
from edgefel.runtime.yunet_backend import engine_path, open_yunet, output_shapes, record_path, variant_path

ORIN = Gpu("Orin", (8, 7))
SIDES = (256, 320)


@pytest.fixture
def machine(monkeypatch, make_machine):
    """A machine with a GPU and a TensorRT."""
    return install(monkeypatch, make_machine())


def install(monkeypatch, machine):
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.tensorrt(machine))
    monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)
    return machine


@pytest.fixture
def model(tmp_path):
    """YuNet's file with an "engine" beside it: the same network for one size."""
    path = yunet_like(tmp_path / "yunet.onnx")
    fixed = onnx.load(yunet_like(tmp_path / "fixed.onnx", sides=SIDES))
    for output in fixed.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = output_shapes(SIDES)[output.name][0]
    engine_path(path).write_bytes(fixed.SerializeToString())
    builder = {"package": "tensorrt", "version": "10.3.0", "gpu": ORIN.name, "compute_capability": "8.7"}
    builder |= {"options": {"input_shape": [1, 3, *SIDES]}, "source_sha256": sha256(path)}
    file = describe_file(engine_path(path), kind="engine", precision="fp32", builder=builder)
    write_json(record_path(path), file.to_dict())
    return path


def lit(height, width, row, column, cell=16):
    """A face where the square is."""
    image = np.zeros((height, width, 3), np.uint8)
    image[row : row + cell, column : column + cell] = 255
    return image


def test_the_engine_comes_first_and_finds_the_same(machine, model):
    gpu, cpu = YuNetDetector(model), YuNetDetector(model, backend="onnxruntime")
    assert (gpu.backend, gpu._sides) == ("tensorrt", SIDES)
    image = lit(250, 310, 96, 160)
    assert gpu(image) == cpu(image) != []
    # twice as large: shrunk to the engine's size
    (box,) = gpu(lit(500, 620, 192, 320, 32))
    assert box.side == pytest.approx(160, abs=4)
    assert machine.enqueued > 0


@pytest.mark.parametrize("unified", [False, True], ids=["card", "Jetson"])
def test_the_next_image_is_searched_while_faces_of_the_last_are_labelled(
    monkeypatch, make_machine, model, tmp_path, unified
):
    """Detector and network share the GPU's context; each has a stream, of which only its own results wait."""
    machine = install(monkeypatch, make_machine(unified=unified))
    detector, image = YuNetDetector(model), lit(250, 310, 96, 160)
    faces, batch = detector(image), random_batch(2)
    bundle = add_engine(write_bundle(tmp_path / "bundle"))
    begun, go_on = threading.Event(), threading.Event()
    with Session.open(bundle, backend="tensorrt") as session, ThreadPoolExecutor(1) as pool:
        handles = {runner._stream.handle for runner in (detector._runner, session._runner)}
        assert len(handles) == machine.live("retained") == 2
        assert machine.live("non-blocking streams") == machine.live("streams") == 2
        end = session._runner._events[-1]
        finish = [end.synchronize]

        def wait():
            begun.set()
            assert go_on.wait(30)
            finish[0]()

        end.synchronize = wait
        labelled = pool.submit(session.run, batch)
        assert begun.wait(30)
        assert detector(image) == faces != []
        assert not labelled.done()
        go_on.set()
        assert_right(labelled.result(), batch)
        del end.synchronize, end
        finish.clear()
    assert machine.live("retained") == 1


def test_several_known_faces_take_one_run_of_the_engine(machine, model, monkeypatch):
    detector, runs, rows = YuNetDetector(model), [], YuNetDetector.rows
    monkeypatch.setattr(YuNetDetector, "rows", lambda self, image: runs.append(1) or rows(self, image))
    known = [FaceBox(128, 64, 80), FaceBox(130, 66, 80), FaceBox(126, 64, 80)]
    assert len(detector.near(lit(250, 310, 96, 160), known)) == 1
    assert len(runs) == 1


def test_without_a_gpu_the_reason_is_kept(model):
    opened = open_yunet(model)
    assert opened.backend in ("onnxruntime-cuda", "onnxruntime")
    assert any(reason.startswith("tensorrt: ") for reason in opened.passed_over)
    assert "not tensorrt: " in YuNetDetector(model).description
    with pytest.raises(EdgefelError, match="no YuNet in tensorrt: "):
        open_yunet(model, "tensorrt")


@pytest.mark.parametrize("what", ["engine", "model", "record", "shape", "no record"])
def test_an_engine_of_another_file_is_not_used(machine, model, what):
    if what == "engine":
        engine_path(model).write_bytes(engine_path(model).read_bytes() + b"x")
    elif what == "model":
        yunet_like(model, face=(60, 70))
    elif what == "record":
        record_path(model).write_text('{"sha256": 5}')
    elif what == "shape":
        record = read_json(record_path(model))
        record["builder"]["options"]["input_shape"] = [64]
        write_json(record_path(model), record)
    else:
        record_path(model).unlink()
    opened = open_yunet(model)
    assert opened.backend != "tensorrt"
    assert len([reason for reason in opened.passed_over if reason.startswith("tensorrt")]) == 1


@pytest.mark.parametrize("call", ["unavailable_reason", "open"])
@pytest.mark.parametrize("broken", ["tensorrt", "onnxruntime"])
def test_a_backend_that_is_broken_in_an_unknown_way_is_passed_over(machine, model, monkeypatch, broken, call):
    def fail(*arguments, **options):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    if broken == "onnxruntime":
        engine_path(model).unlink()
    monkeypatch.setattr(backend_entry(broken).load(), call, fail)
    opened = open_yunet(model)
    assert opened.backend == ("onnxruntime" if broken == "tensorrt" else "openvino")
    reason = f"{broken}: it fails here (TypeError: pybind11::init(): factory function returned nullptr)"
    assert reason in opened.passed_over
    with pytest.raises(EdgefelError, match=f"no YuNet in {broken}: it fails here"):
        open_yunet(model, broken)


def test_an_engine_in_fewer_bits_needs_the_file_it_was_built_from(machine, model):
    source = variant_path(model, "fp16")
    source.write_bytes(b"fewer bits")
    record = read_json(record_path(model))
    record["precision"] = "fp16"
    write_json(record_path(model), record)
    assert open_yunet(model).backend != "tensorrt"  # the hash is still that of the FP32 file
    record["builder"]["source_sha256"] = sha256(source)
    write_json(record_path(model), record)
    assert open_yunet(model).backend == "tensorrt"
    source.unlink()
    assert open_yunet(model).backend != "tensorrt"


def test_no_engine_no_reason(model):
    engine_path(model).unlink()
    assert not any("tensorrt:" in reason for reason in open_yunet(model).passed_over)
    with pytest.raises(
        EdgefelError, match="there is no engine; build it here with 'edgefel detector engine'"
    ):
        open_yunet(model, "tensorrt")
