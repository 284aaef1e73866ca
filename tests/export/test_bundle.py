"""Whole bundles: what is in the folder, what the manifest says, and that failures leave nothing."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from exported import (
    HAS_TENSORRT,
    LABELS,
    large_bundle,
    large_model,
    run_onnx,
    run_torch,
    save,
    tiny_graph,
    tiny_model,
    write_faces,
)

from edgefel.errors import EdgefelError
from edgefel.export.bundle import _Export, export_bundle
from edgefel.export.onnx_graph import export_onnx, save_onnx, serialize
from edgefel.export.options import ExportOptions, exported_preprocessing
from edgefel.export.progress import SILENT
from edgefel.files import sha256
from edgefel.models.checkpoint import load_checkpoint
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.preprocessing import default_preprocessing
from edgefel.runtime.session import Session


@pytest.fixture(scope="module")
def folder():
    return large_bundle()[0]


@pytest.fixture(scope="module")
def manifest(folder):
    return read_manifest(folder)


def test_files_and_hashes(folder, manifest):
    expected = ["model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx"]
    if HAS_TENSORRT:
        engines = ["model.fp32.engine", "model.fp16.engine", "model.int8-fp16.engine"]
        expected += ["model.int8-fp16.onnx", *engines]
    assert [file.name for file in manifest.files] == expected
    assert sorted(p.name for p in folder.iterdir()) == sorted([*expected, "manifest.json"])
    for file in manifest.files:
        assert manifest.verify(file).stat().st_size == file.bytes


def test_the_manifest_describes_model_source_and_tools(folder, manifest):
    assert manifest.labels == LABELS
    assert manifest.model.name == "arbex-nano"
    assert manifest.model.parameters == sum(p.numel() for p in tiny_model().parameters())
    assert manifest.model.embedding_dim == 64
    weights = folder.parent / "large" / "model.safetensors"
    assert manifest.source == {"checkpoint": "large", "sha256": sha256(weights)}
    assert set(manifest.tools) >= {"edgefel", "torch", "onnx", "onnxsim", "onnxruntime"}
    assert str(folder.parent) not in json.dumps(manifest.to_dict()["source"])


def test_every_onnx_file_carries_its_comparison(manifest):
    for file in manifest.files:
        if file.kind == "engine":
            assert file.parity is None
            assert file.builder["batch"]["max"] == 8
            assert file.builder["source"] == file.name.replace(".engine", ".onnx")
            continue
        assert file.parity["images"] == 16
        assert set(file.parity["max_abs"]) == {
            "logits",
            "primary",
            "probabilities",
            "confidence",
            "embedding",
        }
    float32 = manifest.find("fp32").parity
    assert max(float32["max_abs"].values()) < 1e-4
    assert (float32["top1_agreement"], float32["status"]) == (1.0, "pass")
    assert manifest.find("fp16").parity["logits_sqnr_db"] > 40
    assert manifest.find("int8").parity["logits_sqnr_db"] > 15


def test_int8_files_say_how_they_were_calibrated(folder, manifest):
    builder = manifest.find("int8").builder
    assert builder["policy"] == "onnxruntime"
    assert builder["calibration"]["counts"] == dict.fromkeys(LABELS, 3)
    assert builder["calibration"]["used"] == 23
    assert len(builder["calibration"]["skipped"]) == 1
    assert builder["calibration"]["images"] == str(folder.parent / "faces")
    assert builder["float_nodes"]["head.reduce/Gemm"]
    assert manifest.find("fp16").builder["float32_nodes"] > 20


def test_the_runtime_reads_every_onnx_precision(folder, manifest):
    crops = [np.random.default_rng(i).integers(0, 256, (90, 80, 3), dtype=np.uint8) for i in range(3)]
    results = {}
    for file in manifest.files:
        if file.kind == "onnx":
            with Session.open(folder, precision=file.precision) as session:
                results[file.precision] = session(crops)
    for prediction in results.values():
        assert np.abs(prediction.probabilities.sum(-1) - 1).max() < 1e-4
    assert np.abs(results["fp16"].probabilities - results["fp32"].probabilities).max() < 0.05


@pytest.mark.skipif(not HAS_TENSORRT, reason="no TensorRT installed")
def test_the_int8_engine_comes_from_int8_over_fp16(folder, manifest):
    graph = onnx.load(folder / "model.int8-fp16.onnx").graph
    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert quantizers
    assert all(types[node.input[1]] == onnx.TensorProto.FLOAT16 for node in quantizers)
    assert manifest.find("int8+fp16").builder["policy"] == "tensorrt"
    assert manifest.find("int8+fp16", "engine").builder["source"] == "model.int8-fp16.onnx"


def test_the_same_weights_give_the_same_bytes(folder):
    """Exported twice: from a checkpoint on disk by the command, and from the model in memory."""
    assert (folder / "model.fp32.onnx").read_bytes() == serialize(tiny_graph())


def test_input_size_112_gives_what_224_gives(folder, manifest):
    assert manifest.preprocessing == exported_preprocessing(default_preprocessing(224), 112)
    assert manifest.input_shape == ("N", 3, 112, 112)
    pictures = [np.random.default_rng(i).integers(0, 256, (300, 260, 3), dtype=np.uint8) for i in range(2)]
    large = default_preprocessing(224).batch(pictures)
    from_112 = run_onnx(folder / "model.fp32.onnx", manifest.preprocessing.batch(pictures))
    from_224 = run_onnx(export_onnx(large_model()), large)
    from_torch = run_torch(large_model(), large)
    for name, values in from_224.items():
        assert np.array_equal(values, from_112[name]), name
        assert np.abs(values - from_torch[name]).max() < 1e-4, name


def test_a_file_that_deviates_ends_the_export(tmp_path):
    checkpoint = load_checkpoint(save(tmp_path / "model", tiny_model()))
    faces = write_faces(tmp_path / "faces", LABELS, 1)
    export = _Export(checkpoint, ExportOptions(parity_images=4), tmp_path, faces, SILENT)
    crops = export._load_crops()
    other = onnx.ModelProto()
    other.CopyFrom(tiny_graph())
    bias = next(t for t in other.graph.initializer if t.name == "head.classifier.8.bias")
    shifted = onnx.numpy_helper.to_array(bias) + np.float32(1e-3)
    bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
    save_onnx(other, tmp_path / "model.fp32.onnx")
    with pytest.raises(EdgefelError, match="logits deviates by 0.001, limit 0.0001.*nothing was written"):
        export._compare(tmp_path / "model.fp32.onnx", "fp32", crops, export._reference(crops))


def test_a_diverged_checkpoint_is_refused_and_leaves_nothing(tmp_path):
    checkpoint = save(tmp_path / "model", tiny_model())
    loaded = load_checkpoint(checkpoint)
    with torch.no_grad():
        loaded.model.head.reduce.weight[0, 0] = float("nan")
    save(tmp_path / "diverged", loaded.model)
    with pytest.raises(EdgefelError, match="embedding of this model are not finite"):
        export_bundle(tmp_path / "diverged", tmp_path / "out", ExportOptions(parity_images=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diverged", "model"]


def test_replace_takes_the_place_of_a_bundle_and_of_nothing_else(tmp_path):
    checkpoint = save(tmp_path / "model", tiny_model())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"precious")
    for replace in (False, True):
        with pytest.raises(EdgefelError, match="choose another"):
            export_bundle(checkpoint, tmp_path / "photos", replace=replace)
    assert (tmp_path / "photos" / "a.png").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precisions": ("fp8",)}, "choose some of fp32, fp16, int8"),
        ({"precisions": ()}, "choose some of"),
        ({"method": "guess"}, "choose one of minmax"),
        ({"parity_images": 0}, "at least 1"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(EdgefelError, match=message):
        ExportOptions(**values)


def test_input_sizes():
    full, nano = default_preprocessing(224), default_preprocessing(112)
    assert exported_preprocessing(full, 112).stride == 2
    assert exported_preprocessing(full, None) == full
    assert exported_preprocessing(nano, 112) == nano
    with pytest.raises(EdgefelError, match="takes 112x112 pictures; choose 112"):
        exported_preprocessing(nano, 224)
