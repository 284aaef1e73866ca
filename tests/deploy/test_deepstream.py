"""nvinfer's configuration, and the graph that takes what nvinfer feeds."""

from __future__ import annotations

import configparser
import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tiny_bundle

from edgefel.data.preprocessing import Preprocessing
from edgefel.deploy.deepstream import DeepStreamOptions, write_deepstream
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.export.onnx.inputs import uint8_input
from edgefel.export.tensorrt.engine import PACKAGES, EngineOptions, build_engine
from edgefel.runtime.backends.onnxruntime_backend import session_options
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session

FILES = ["README.md", "config_infer_secondary_edgefel.txt", "labels.txt", "model.onnx"]
# in INT8 one ulp before a quantizer can become a whole step
LIMITS = {"fp32": 1e-5, "int8+fp16": 2e-3}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.write_bundle(tmp_path / "bundle", ("fp32", "fp16"))


def write(bundle: Path, folder: Path, **options: object) -> dict[str, str]:
    """The properties, as GLib's key files read them."""
    written = write_deepstream(bundle, folder, DeepStreamOptions(**options))
    assert [path.name for path in written] == FILES
    parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.read(folder / "config_infer_secondary_edgefel.txt")
    assert parser.sections() == ["property"]
    return dict(parser["property"])


def feed(folder: Path, pixels: np.ndarray) -> np.ndarray:
    """The one output of the file."""
    file = str(folder / "model.onnx")
    session = ort.InferenceSession(file, session_options(threads=1), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["probabilities"], "each would be a classifier"
    return session.run(None, {"image": pixels})[0]


def resized(recipe: Preprocessing, crops: list[np.ndarray]) -> np.ndarray:
    """What nvinfer makes of faces with net-scale-factor 1 and no offsets: y = x."""
    return np.stack([recipe.resize_image(crop) for crop in crops]).transpose(0, 3, 1, 2).astype(np.float32)


def random_crops(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def to_uint8(bundle: Path, recipe: Preprocessing) -> None:
    """Its FP32 file takes uint8."""
    path = bundle / "model.fp32.onnx"
    onnx.save(uint8_input(onnx.load(path), recipe)[0], path)
    entry = describe_file(path, kind="onnx", precision="fp32")
    manifest = read_manifest(bundle).with_file(entry)
    write_manifest(bundle, dataclasses.replace(manifest, input_type="uint8"))


def tensorrt_builds(folder: Path) -> dict[str, Any]:
    """The report of the build, with the batch of the configuration."""
    if not any(importlib.util.find_spec(package) for package in PACKAGES):
        pytest.skip("no TensorRT installed; pip install edgefel[rtx] brings one that builds without a GPU")
    return build_engine(folder / "model.onnx", folder / "x.engine", EngineOptions(max_batch=16))


def test_the_properties(bundle, tmp_path):
    """Every key is one of Gst-nvinfer's documentation; `strongly-typed` is one of its published source."""
    options = {"threshold": 0.4, "max_batch": 8, "gie_id": 5, "detector_id": 3, "min_face": 40}
    found = write(bundle, tmp_path / "ds", precision="fp32", **options)
    assert found == {
        "gie-unique-id": "5",
        "process-mode": "2",
        "network-type": "1",
        "classifier-type": "expression",
        "operate-on-gie-id": "3",
        "onnx-file": "model.onnx",
        "model-engine-file": "model.onnx_b8_gpu0_fp32.engine",
        "labelfile-path": "labels.txt",
        "batch-size": "8",
        "network-mode": "0",
        "infer-dims": "3;16;16",
        "model-color-format": "0",
        "net-scale-factor": "1.0",
        "maintain-aspect-ratio": "0",
        "scaling-filter": "1",
        "output-blob-names": "probabilities",
        "classifier-threshold": "0.4",
        "classifier-async-mode": "0",
        "input-object-min-width": "40",
        "input-object-min-height": "40",
        "operate-on-class-ids": "0",
    }
    readme = (tmp_path / "ds" / "README.md").read_text()
    assert "operate-on-gie-id=3" in readme
    assert "trtexec" not in readme
    labels = (tmp_path / "ds" / "labels.txt").read_text()
    assert labels == "neutral;happiness;sadness;surprise;fear;disgust;anger\n"


def test_a_file_with_types_of_its_own(bundle, tmp_path):
    found = write(bundle, tmp_path / "ds", precision="fp16", face_class=None)
    assert found["strongly-typed"] == "1"
    assert found["network-mode"] == "0", "nvinfer's FP16 mode lets TensorRT choose types"
    assert "operate-on-class-ids" not in found
    readme = (tmp_path / "ds" / "README.md").read_text()
    assert "trtexec --stronglyTyped --onnx=model.onnx --saveEngine=model.onnx_b16_gpu0_fp32.engine" in readme
    assert "--maxShapes=image:16x3x16x16" in readme


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
def test_the_graph_gives_what_a_session_gives(bundle, tmp_path, input_type):
    recipe = Preprocessing(resize=33, crop=28, stride=2)
    write_manifest(bundle, dataclasses.replace(read_manifest(bundle), preprocessing=recipe))
    if input_type == "uint8":
        to_uint8(bundle, recipe)
    assert write(bundle, tmp_path / "ds", precision="fp32")["infer-dims"] == "3;33;33"
    crops = random_crops((33, 33), (50, 40), (12, 90))
    with Session.open(bundle, "fp32", "onnxruntime", threads=1) as session:
        expected = session(crops).probabilities
    assert np.ptp(expected, axis=0).max() > 0.05, "the crops tell nothing"
    np.testing.assert_allclose(feed(tmp_path / "ds", resized(recipe, crops)), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_real_network(nano_bundle, tmp_path, precision):
    """`force`: weights are random, and what INT8 does to them is not the question. TensorRT's INT8 is over FP16."""
    write(nano_bundle, tmp_path / "ds", precision=precision, force=True)
    precision = precision.replace("int8", "int8+fp16")
    crops = random_crops((128, 128), (60, 80), (300, 200))
    options = {"precision": precision, "backend": "onnxruntime", "threads": 1, "force": True}
    with Session.open(nano_bundle, **options) as session:
        expected = session(crops).probabilities
        found = feed(tmp_path / "ds", resized(session.manifest.preprocessing, crops))
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMITS[precision])
    if precision == "int8+fp16":
        assert tensorrt_builds(tmp_path / "ds")["layer_report"]["precisions"]["int8"] > 0


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
def test_tensorrt_builds_it(bundle, tmp_path, input_type):
    if input_type == "uint8":
        to_uint8(bundle, tiny_bundle.PREPROCESSING)
    write(bundle, tmp_path / "ds")
    assert tensorrt_builds(tmp_path / "ds")["batch"]["max"] == 16


def test_what_is_refused(bundle, tmp_path, monkeypatch):
    manifest = read_manifest(bundle)
    labels = ("neutral; calm", *manifest.labels[1:])
    write_manifest(bundle, dataclasses.replace(manifest, labels=labels))
    with pytest.raises(EdgefelError, match="label 'neutral; calm' cannot stand in nvinfer's label file"):
        write(bundle, tmp_path / "ds")
    failed = dataclasses.replace(manifest.files[0], parity={"verdict": "fail", "reasons": ["too far"]})
    write_manifest(bundle, manifest.with_file(failed))
    with pytest.raises(EdgefelError, match="failed its comparison with PyTorch: too far"):
        write(bundle, tmp_path / "ds", precision="fp32")
    write(bundle, tmp_path / "forced", force=True)
    with pytest.raises(EdgefelError, match="the folder is not empty"):
        write(bundle, tmp_path / "forced", force=True)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgefel\[export\]'"):
        write(bundle, tmp_path / "ds", precision="fp16")
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"max_batch": 0}, "max_batch is 0; give at least 1"),
        ({"min_face": 0}, "min_face is 0"),
        ({"face_class": -1}, "face_class is -1; give at least 0"),
        ({"gie_id": 1}, "gie_id and detector_id are both 1"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(EdgefelError, match=message):
        DeepStreamOptions(**options)
