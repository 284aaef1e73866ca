"""Whole bundles: what is in the folder, what the manifest says, and that failures leave nothing."""

from __future__ import annotations

import dataclasses
import inspect
import json

import numpy as np
import onnx
import pytest
import torch
from data.readers.trees_affectnet import write_affectnet
from exported import (
    HAS_TENSORRT,
    LABELS,
    large_bundle,
    large_model,
    run_onnx,
    run_torch,
    save,
    tiny_model,
    varied_int8,
    varied_model,
    varied_shift,
    with_shifted_logits,
    write_colours,
)

from edgefel.calib.calibration_set import read_calibration_set
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.data.readers.shard_writer import write_shards
from edgefel.errors import EdgefelError
from edgefel.export.bundle import ExportReport, _Export, export_bundle, summarize
from edgefel.export.onnx import trace as tracing
from edgefel.export.onnx.passes import spread_prelu
from edgefel.export.onnx.trace import export_onnx, serialize
from edgefel.export.options import ExportOptions
from edgefel.export.parity.limits import LIMITS
from edgefel.export.precision.precisions import PrecisionGraph
from edgefel.files.write import sha256
from edgefel.models.checkpoint import load_checkpoint
from edgefel.progress import SILENT
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session


@pytest.fixture(scope="module")
def folder():
    return large_bundle()[0]


@pytest.fixture(scope="module")
def manifest(folder):
    return read_manifest(folder)


def test_files_and_hashes(folder, manifest):
    expected = ["model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx", "model.int8-fp16.onnx"]
    if HAS_TENSORRT:
        expected += ["model.fp32.engine", "model.fp16.engine", "model.int8-fp16.engine"]
    assert [file.name for file in manifest.files] == expected
    reports = [f"{name}.layers.json" for name in expected if name.endswith(".engine")]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*expected, *reports, "calibration.json", "manifest.json"]
    )
    for file in manifest.files:
        assert manifest.verify(file).stat().st_size == file.bytes


def test_the_manifest_describes_model_source_and_tools(folder, manifest):
    assert manifest.labels == LABELS
    assert manifest.model.name == "arbex-nano"
    assert manifest.model.parameters == sum(p.numel() for p in tiny_model().parameters())
    assert manifest.model.embedding_dim == 64
    weights = folder.parent / "large" / "model.safetensors"
    assert manifest.source == {"checkpoint": "large", "path": "../large", "sha256": sha256(weights)}
    assert set(manifest.tools) >= {"edgefel", "torch", "onnx", "onnxsim", "onnxruntime"}
    assert str(folder.parent) not in json.dumps(manifest.to_dict()["source"])


def test_no_json_file_says_where_the_images_lie(folder):
    assert str(folder.parent / "faces") not in (folder / "manifest.json").read_text()
    document = json.loads((folder / "calibration.json").read_text())
    assert document["root"] == "faces"
    assert not [image["path"] for image in document["images"] if ".." in image["path"]]


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
    assert (float32["top1_agreement"], float32["verdict"]) == (1.0, "pass")
    # 16 images are no ground to judge labels on, and that is said
    for precision in ("fp16", "int8", "int8+fp16"):
        judged = manifest.find(precision).parity
        assert judged["verdict"] == "warn"
        assert "16 images are too few to judge labels by" in judged["reasons"][0]
        assert judged["limits"] == LIMITS[precision].to_dict()
        assert sum(row["images"] for row in judged["labels"]["classes"]) == 16
    assert manifest.find("fp16").parity["logits_sqnr_db"] > 40
    assert manifest.find("int8").parity["logits_sqnr_db"] > 15


def test_int8_files_say_how_they_were_calibrated(folder, manifest):
    builder = manifest.find("int8").builder
    assert builder["policy"] == "onnxruntime"
    assert builder["calibration"]["counts"] == dict.fromkeys(LABELS, 3)
    assert builder["calibration"]["used"] == 23
    assert len(builder["calibration"]["skipped"]) == 1
    assert builder["calibration"]["images"] == "faces"
    # the one that cannot be read is named every time, so nothing was kept for the next export
    assert builder["calibration"]["ranges"]["cache"] == "miss"
    calibrated = read_calibration_set(folder / "calibration.json")
    assert builder["calibration"]["key"] == calibrated.key()
    assert calibrated.counts == dict.fromkeys(LABELS, 3)
    # one of them cannot be read as an image, but its bytes are still known
    with pytest.raises(EdgefelError, match="no such file"):
        calibrated.open()
    assert len(dataclasses.replace(calibrated, root=str(folder.parent / "faces")).open()) == 24
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


def test_the_same_weights_give_the_same_bytes(folder, monkeypatch):
    """Exported twice: from a checkpoint on disk by the command, and from the model in memory, traced anew."""
    monkeypatch.setattr(tracing, "_trace", inspect.unwrap(tracing._trace))
    again = export_onnx(tiny_model())
    assert (folder / "model.fp32.onnx").read_bytes() == serialize(spread_prelu(again)[0])


def test_input_size_112_gives_what_224_gives(folder, manifest):
    assert manifest.preprocessing == dataclasses.replace(default_preprocessing(224), stride=2)
    assert manifest.input_shape == ("N", 3, 112, 112)
    images = [np.random.default_rng(i).integers(0, 256, (300, 260, 3), dtype=np.uint8) for i in range(2)]
    large = default_preprocessing(224).batch(images)
    from_112 = run_onnx(folder / "model.fp32.onnx", manifest.preprocessing.batch(images))
    from_224 = run_onnx(export_onnx(large_model()), large)
    from_torch = run_torch(large_model(), large)
    for name, values in from_224.items():
        assert np.array_equal(values, from_112[name]), name
        assert np.abs(values - from_torch[name]).max() < 1e-4, name


def an_export(tmp_path, images=120, limits=LIMITS, **options) -> _Export:
    checkpoint = load_checkpoint(save(tmp_path / "model", varied_model()))
    faces = write_colours(tmp_path / "faces", images)
    options = ExportOptions(**options)
    return _Export(checkpoint, options, tmp_path, faces, SILENT, limits, tmp_path)


def test_faces_in_boxes_and_archives_are_recorded_as_calibrated(tmp_path):
    checkpoint = load_checkpoint(save(tmp_path / "model", tiny_model()))
    write_affectnet(tmp_path / "set")
    write_shards(open_dataset(tmp_path / "set"), tmp_path / "shards")
    next(
        (tmp_path / "set").rglob("train03*.jpg")
    ).unlink()  # skipped where ranges are measured, and named there
    for data, layout, images in (("set", "affectnet", 7), ("shards", "webdataset", 8)):
        options = ExportOptions(("int8",), per_class=1, layout=layout)
        export = _Export(checkpoint, options, tmp_path, tmp_path / data, SILENT, LIMITS, tmp_path)
        chosen = export.calibration_set
        assert chosen.layout == layout
        assert len(chosen.images) == len(chosen.open()) == images
        assert all(image.box is not None for image in chosen.images)


def test_an_fp32_file_that_deviates_ends_the_export(tmp_path):
    export = an_export(tmp_path, images=24, parity_images=4)
    off = with_shifted_logits(varied_shift() + np.float32(0.1))
    with pytest.raises(EdgefelError, match="logits deviates by 0.1 of .*, limit 0.00.*nothing was written"):
        export._write("fp32", PrecisionGraph(off, {}), export._gate())


def test_an_int8_file_that_fails_is_written_and_marked_with_its_reasons(tmp_path):
    export = an_export(tmp_path)
    gate = export._gate()
    limits = dataclasses.replace(LIMITS["int8"], min_agreement=0.8, max_recall_loss=None, max_f1_loss=None)
    gate.limits = {"int8": limits, "int8+fp16": limits}
    export._write("int8", PrecisionGraph(varied_int8(), {}), gate)
    export._write("int8+fp16", PrecisionGraph(varied_int8(8.0), {}), gate)
    good, broken = export.files
    assert (good.verdict, broken.verdict) == ("pass", "fail")
    assert any("of the labels agree" in reason for reason in broken.parity["reasons"])
    assert (tmp_path / broken.name).is_file()
    report = ExportReport(export._manifest(), ())
    assert report.refused
    assert not ExportReport(dataclasses.replace(report.manifest, files=(good,)), ()).refused
    assert [row["verdict"] for row in summarize(report)] == ["pass", "fail"]


def test_a_diverged_checkpoint_is_refused_and_leaves_nothing(tmp_path):
    checkpoint = save(tmp_path / "model", tiny_model())
    loaded = load_checkpoint(checkpoint)
    with torch.no_grad():
        loaded.model.head.reduce.weight.fill_(3e38)  # finite, and no sum of two is
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
