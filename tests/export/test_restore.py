"""From a bundle back to a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported import LABELS, colour_batch, run_onnx, run_torch, tiny_graph, tiny_model, write_faces

from edgefel.data.framing import Framing
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces as write_rendered
from edgefel.errors import EdgefelError
from edgefel.export.bundle import ExportOptions, export_bundle
from edgefel.export.onnx.inputs import uint8_input
from edgefel.export.onnx.passes import keep_outputs, spread_prelu
from edgefel.export.onnx.trace import save_onnx
from edgefel.export.record import model_info
from edgefel.export.restore import FEWEST_IMAGES, restore_checkpoint
from edgefel.models.checkpoint import load_checkpoint
from edgefel.models.config import ModelConfig
from edgefel.runtime.manifest import Manifest, describe_file, read_manifest, write_manifest

NANO_SYNTHETIC = Path(__file__).parents[1] / "bundles" / "nano-synthetic"
PREPROCESSING = Preprocessing(128, 112, colour="grey", detail=48)
FRAMING = Framing(0.38, 0.39, 0.03, 0.05, 100)


def write_bundle(folder: Path, graph: onnx.ModelProto | None = None, **changes: object) -> Path:
    folder.mkdir()
    save_onnx(spread_prelu(tiny_graph())[0] if graph is None else graph, folder / "model.fp32.onnx")
    file = describe_file(folder / "model.fp32.onnx", kind="onnx", precision="fp32")
    manifest = Manifest(
        model=model_info(tiny_model().config),
        labels=LABELS,
        preprocessing=PREPROCESSING,
        files=(file,),
        source={"checkpoint": "step-5", "sha256": "0" * 64},
        framing=FRAMING,
    )
    write_manifest(folder, dataclasses.replace(manifest, **changes))
    return folder


def check_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, values in expected.items():
        scale = max(1.0, float(np.abs(values).max()))  # logits of this network reach 70
        np.testing.assert_allclose(actual[name] / scale, values / scale, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("data") / "faces", LABELS, 10)


@pytest.fixture(scope="module")
def restored(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("restored")
    bundle = write_bundle(folder / "bundle")
    return restore_checkpoint(bundle, folder / "checkpoint", faces), load_checkpoint(folder / "checkpoint")


def test_the_checkpoint_computes_what_the_file_computes(restored):
    result, checkpoint = restored
    batch = colour_batch(6, seed=8)
    check_same(run_torch(checkpoint.model, batch), run_onnx(tiny_graph(), batch))
    assert 0 < result.deviation < 1e-4
    assert result.images == 80
    assert f"BatchNorms with the statistics of {result.images} images" in result.notes[0]


def test_what_the_manifest_knows_is_in_the_checkpoint(restored):
    _, checkpoint = restored
    assert checkpoint.config == tiny_model().config
    assert checkpoint.labels == LABELS
    assert checkpoint.preprocessing == PREPROCESSING.to_dict()
    assert checkpoint.framing == FRAMING
    source = checkpoint.extra["source"]
    assert source["layout"] == "bundle"
    assert source["checkpoint"] == {"checkpoint": "step-5", "sha256": "0" * 64}
    assert source["files"][0]["file"] == "model.fp32.onnx"
    assert source["statistics"]["count"] == 80


@pytest.mark.slow
def test_exported_again_it_is_the_same_and_passes(restored, faces, tmp_path):
    _, checkpoint = restored
    options = ExportOptions(precisions=("fp32", "int8"), per_class=8, parity_images=16)
    report = export_bundle(checkpoint.path, tmp_path / "again", options, data=faces)
    assert not report.refused
    assert report.manifest.find("fp32").verdict == "pass"
    assert ModelConfig.from_dict(dict(report.manifest.model.config)) == checkpoint.config
    assert report.manifest.framing == FRAMING
    batch = colour_batch(6, seed=9)
    before, after = run_onnx(tiny_graph(), batch), run_onnx(tmp_path / "again" / "model.fp32.onnx", batch)
    check_same(after, before)


def test_training_goes_on_where_it_ended(tmp_path):
    """A trained network, and batches of 64 with their own statistics."""
    labels = read_manifest(NANO_SYNTHETIC).labels
    faces = tmp_path / "faces"
    write_rendered(faces, FaceOptions(count=140, size=112))
    restore_checkpoint(NANO_SYNTHETIC, tmp_path / "checkpoint", faces)
    checkpoint = load_checkpoint(tmp_path / "checkpoint")
    assert checkpoint.config.name == "arbex-nano"
    data = open_dataset(faces)
    preprocessing = Preprocessing.from_dict(checkpoint.preprocessing)
    chosen = np.random.default_rng(0).permutation(len(data))[:128]
    batches = torch.from_numpy(preprocessing.batch([data.load(i) for i in chosen])).split(64)
    targets = [labels.index(data.labels[data.samples[i].label]) for i in chosen]

    def right() -> float:
        found = torch.cat([checkpoint.model(batch).probabilities for batch in batches]).argmax(1)
        return float(np.mean(found.numpy() == targets))

    with torch.no_grad():
        evaluated = right()
        checkpoint.model.train()
        assert right() > evaluated - 0.06
    assert evaluated > 0.6


def test_a_file_that_normalises_in_the_graph_and_lacks_outputs(faces, tmp_path):
    outputs = ("probabilities", "confidence")
    graph, _ = uint8_input(keep_outputs(spread_prelu(tiny_graph())[0], outputs)[0], PREPROCESSING)
    bundle = write_bundle(tmp_path / "bundle", graph, input_type="uint8", outputs=outputs)
    assert restore_checkpoint(bundle, tmp_path / "checkpoint", faces).deviation < 1e-5


def refusal(bundle: Path, data: Path | None, tmp_path: Path) -> str:
    with pytest.raises(EdgefelError) as refused:
        restore_checkpoint(bundle, tmp_path / "checkpoint", data)
    assert not (tmp_path / "checkpoint").exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_images_it_is_refused(tmp_path):
    assert "needs the statistics of, with --data" in refusal(write_bundle(tmp_path / "b"), None, tmp_path)


def test_too_few_images_are_refused(tmp_path):
    few = write_faces(tmp_path / "few", LABELS, 2)
    message = refusal(write_bundle(tmp_path / "b"), few, tmp_path)
    assert f"has 16 readable images to measure statistics on, which takes {FEWEST_IMAGES}" in message


def test_a_network_of_other_settings_is_refused(faces, tmp_path):
    """An older manifest does not have them."""
    info = dataclasses.replace(model_info(tiny_model().config), config=None)
    message = refusal(write_bundle(tmp_path / "b", model=info), faces, tmp_path)
    assert "is not the graph of arbex-nano as edgefel exports it: has no weights of encoder." in message


def test_a_network_that_differs_where_there_are_no_weights_is_refused(faces, tmp_path):
    config = json.loads(json.dumps(tiny_model().config.to_dict()))
    config["head"]["delta"] = 30.0
    info = dataclasses.replace(model_info(tiny_model().config), config=config)
    message = refusal(write_bundle(tmp_path / "b", model=info), faces, tmp_path)
    assert "the network of its weights computes something else (" in message


def test_a_network_that_edgefel_does_not_have_is_refused(faces, tmp_path):
    info = dataclasses.replace(model_info(tiny_model().config), name="resnet", config=None)
    assert "unknown model 'resnet'" in refusal(write_bundle(tmp_path / "b", model=info), faces, tmp_path)


def test_bundles_without_a_sound_file_are_refused(faces, tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    broken = shutil.copytree(bundle, tmp_path / "broken")
    (broken / "model.fp32.onnx").write_bytes(b"not ONNX")
    assert "SHA-256 differs" in refusal(broken, faces, tmp_path)
    manifest = read_manifest(broken)
    file = describe_file(broken / "model.fp32.onnx", kind="onnx", precision="fp32")
    write_manifest(broken, manifest.with_file(file))
    assert "cannot be read as ONNX" in refusal(broken, faces, tmp_path)
    write_manifest(broken, dataclasses.replace(manifest, files=()))
    assert "no fp32 onnx file in this bundle" in refusal(broken, faces, tmp_path)


def test_a_folder_in_use_is_refused_before_the_work(restored, faces, tmp_path):
    _, checkpoint = restored
    (tmp_path / "other").write_text("")
    with pytest.raises(EdgefelError, match="not empty"):
        restore_checkpoint(write_bundle(tmp_path / "b"), checkpoint.path, faces)
