"""Files of a bundle in every backend: which are taken, which are refused, and how far apart they may be."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefel.bench.sessions import (
    BundleOptions,
    Key,
    check_outputs,
    faces,
    fresh_process_memory_mb,
    open_bundle,
    peak_memory_mb,
)
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest

BUNDLE = Path(__file__).parent.parent / "bundles" / "nano-synthetic"
ORT = BundleOptions(("onnxruntime",))
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.fixture
def bundle(tmp_path):
    """A copy whose FP32 file is there as "int8" too, which failed its comparison."""
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE, folder)
    shutil.copy(folder / "model.fp32.onnx", folder / "model.int8.onnx")
    add(folder, "int8", {"verdict": "fail", "reasons": ["recall of fear fell by 9 points"]})
    return folder


def add(folder: Path, precision: str, parity: dict[str, object] | None = None) -> None:
    file = describe_file(folder / f"model.{precision}.onnx", kind="onnx", precision=precision, parity=parity)
    write_manifest(folder, read_manifest(folder).with_file(file))


def disturb(source: Path, target: Path, share: float) -> None:
    """A copy of a model with noise of that share of their size on its weights."""
    model = onnx.load(source)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            noise = rng.normal(0, share * values.std(), values.shape)
            tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), tensor.name))
    onnx.save(model, target)


def opened(folder, options=ORT):
    return open_bundle(folder, options, threads=1)


def test_everything_that_is_here_is_opened_and_the_rest_says_why():
    with opened(BUNDLE, BundleOptions(batches=(40,))) as found:
        backends = {key.backend for key in found.sessions}
        assert Key("fp32", "onnxruntime") in found.sessions
        assert ("openvino" in backends) == HAS_OPENVINO
        assert found.skipped["tensorrt"] == "the bundle holds no engine"
        assert backends | set(found.skipped) == {
            *("tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime", "onnxruntime-tensorrt")
        }
        # a batch that is asked for runs in one piece, unlike in `Session.open`'s default
        assert {session.max_batch for session in found.sessions.values()} == {40}
    with pytest.raises(EdgefelError, match="closed"):
        found.sessions[Key("fp32", "onnxruntime")].run(np.zeros((1, 3, 112, 112), np.float32))


def test_a_file_that_failed_is_left_out_and_forced_in(bundle):
    with opened(bundle) as found:
        assert list(found.sessions) == [Key("fp32", "onnxruntime")]
        assert "recall of fear" in found.skipped["model.int8.onnx"]
    with opened(bundle, dataclasses.replace(ORT, force=True)) as found:
        assert {key.precision for key in found.sessions} == {"fp32", "int8"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BundleOptions(("tensorrt",)), "tensorrt cannot run it here: the bundle holds no engine"),
        (BundleOptions(precisions=("fp16",)), "holds no fp16 file, only fp32, int8"),
        (BundleOptions(precisions=("int8",)), "failed its comparison with PyTorch"),
    ],
    ids=["backend", "precision", "verdict"],
)
def test_what_was_named_is_there_or_is_an_error(bundle, options, message):
    with pytest.raises(EdgefelError, match=message), opened(bundle, options):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backends": ("magic",)}, "backend 'magic' is not known"),
        ({"precisions": ("fp4",)}, "precision 'fp4' is not known"),
        ({"backends": ()}, "no backend is named"),
    ],
    ids=["backend", "precision", "none"],
)
def test_the_options_know_their_names(arguments, message):
    with pytest.raises(EdgefelError, match=message):
        BundleOptions(**arguments)


def test_a_changed_file_is_refused(bundle):
    with (bundle / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(EdgefelError, match="SHA-256 differs"), opened(bundle):
        pass


def test_the_same_file_is_no_distance_away(bundle):
    with opened(bundle, dataclasses.replace(ORT, force=True)) as found:
        deviations = check_outputs(found)
    assert deviations == {Key("fp32", "onnxruntime"): 0.0, Key("int8", "onnxruntime"): 0.0}


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs OpenVINO")
def test_another_backend_alone_is_compared_with_onnx_runtime():
    with opened(BUNDLE, BundleOptions(("openvino",))) as found:
        deviations = check_outputs(found)
    assert deviations is not None
    assert 0 < deviations[Key("fp32", "openvino")] < 1e-4


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.2), ("int8", 2.0)])
def test_a_file_that_computes_something_else_is_not_timed(bundle, precision, share):
    disturb(bundle / "model.fp32.onnx", bundle / f"model.{precision}.onnx", share)
    add(bundle, precision)
    with (
        opened(bundle) as found,
        pytest.raises(
            EdgefelError, match=f"computes something else of the {precision} file.*nothing was timed"
        ),
    ):
        check_outputs(found)


def test_int8_may_be_off_on_single_faces(bundle):
    """Noise as of 8-bit weights: more than FP16 may be off, and no error."""
    disturb(bundle / "model.fp32.onnx", bundle / "model.int8.onnx", 0.03)
    add(bundle, "int8")
    with opened(bundle) as found:
        deviations = check_outputs(found)
    assert deviations is not None
    assert deviations[Key("int8", "onnxruntime")] > 1e-3


def test_without_an_fp32_file_nothing_is_compared(bundle):
    manifest = read_manifest(bundle)
    only = [dataclasses.replace(file, parity=None) for file in manifest.files if file.precision == "int8"]
    write_manifest(bundle, dataclasses.replace(manifest, files=tuple(only)))
    with opened(bundle) as found:
        assert check_outputs(found) is None


def test_faces_are_many_and_always_the_same():
    once, twice = faces(16), faces(16)
    assert all(np.array_equal(a, b) for a, b in zip(once, twice, strict=True))
    assert len({image.tobytes() for image in once}) == 14
    assert np.array_equal(once[14], once[0])


def test_peak_memory_is_that_of_the_child_alone():
    """`ru_maxrss` of a child begins with its parent's peak: here that would be more than 600 MB."""
    code = "held = bytearray(80_000_000)"
    parent = (
        "from edgefel.bench.sessions import fresh_process_memory_mb\n"
        "held = bytearray(600_000_000)\n"
        f"print(fresh_process_memory_mb({code!r}, ()))"
    )
    found = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 80 < float(found.stdout) < 200


def test_peak_memory_of_a_session_is_that_of_its_runtime(bundle):
    with opened(bundle) as found:
        peak = peak_memory_mb(found.sessions[Key("fp32", "onnxruntime")], 2)
    assert 30 < peak < 400


def test_a_process_that_fails_says_so_in_one_line():
    with pytest.raises(EdgefelError, match="peak memory was not measured: .*no such thing$"):
        fresh_process_memory_mb("raise ValueError('no such thing')", ())
