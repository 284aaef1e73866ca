"""Checkpoints: whole, refused, or absent."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.errors import EdgefelError
from edgefel.models import build_model
from edgefel.models.checkpoint import (
    initialize_from,
    load_checkpoint,
    read_preprocessing,
    save_checkpoint,
    save_part,
)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = build_model("arbex-nano").eval()
    save_checkpoint(tmp_path / "checkpoint", model, EXPRESSIONS_7, {"resize": 128}, {"note": 1})
    return tmp_path / "checkpoint", model


def test_round_trip(saved):
    folder, model = saved
    loaded = load_checkpoint(folder)
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(loaded.model(images).probabilities, model(images).probabilities)
    assert loaded.labels == EXPRESSIONS_7
    assert loaded.preprocessing == {"resize": 128}
    assert loaded.extra == {"note": 1}
    assert loaded.config == model.config
    assert not loaded.model.training


def test_a_run_folder_means_its_best_checkpoint(saved, tmp_path):
    folder, _ = saved
    (tmp_path / "last.json").write_text(json.dumps({"checkpoint": "nowhere"}))
    with pytest.raises(EdgefelError, match=r"last.json: points to 'nowhere'"):
        load_checkpoint(tmp_path)
    (tmp_path / "best.json").write_text(json.dumps({"checkpoint": "checkpoint"}))
    assert load_checkpoint(tmp_path).path == folder


def test_an_existing_folder_is_not_overwritten(saved):
    folder, model = saved
    with pytest.raises(EdgefelError, match="not empty"):
        save_checkpoint(folder, model, EXPRESSIONS_7, {})


def test_labels_must_match_the_classes(saved, tmp_path):
    _, model = saved
    with pytest.raises(EdgefelError, match="2 labels for a model of 7 classes"):
        save_checkpoint(tmp_path / "new", model, ["a", "b"], {})
    assert not (tmp_path / "new").exists()


def test_broken_checkpoints_are_explained(saved, tmp_path):
    folder, _ = saved
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgefelError, match=r"model.safetensors: cannot be read, truncated"):
        load_checkpoint(folder)
    weights.unlink()
    with pytest.raises(EdgefelError, match=r"model.safetensors: missing"):
        load_checkpoint(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(EdgefelError, match="not valid JSON"):
        load_checkpoint(folder)
    (folder / "model.json").write_text('{"format": "edgefel-checkpoint", "version": 99}')
    with pytest.raises(EdgefelError, match="checkpoint version 99"):
        load_checkpoint(folder)
    with pytest.raises(EdgefelError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgefelError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "empty")
    with pytest.raises(EdgefelError, match="edgefel import"):
        load_checkpoint(folder / "model.json")


def rewritten(folder, change):
    """`model.safetensors` with every tensor as `change(key, tensor)` gives it."""
    weights = load_file(folder / "model.safetensors")
    save_file({key: change(key, value) for key, value in weights.items()}, folder / "model.safetensors")


def test_weights_in_half_precision_are_computed_with_in_single(saved):
    folder, model = saved
    rewritten(folder, lambda key, value: value.half() if value.is_floating_point() else value)
    loaded = load_checkpoint(folder).model
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.int64}
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        ours, exact = loaded(images).probabilities, model(images).probabilities
    torch.testing.assert_close(ours, exact, atol=1e-2, rtol=0)


def test_integers_for_weights_are_refused(saved):
    folder, _ = saved
    rewritten(folder, lambda key, value: value.to(torch.int8) if key == "encoder.pos_embed" else value)
    with pytest.raises(EdgefelError, match=r"encoder.pos_embed holds torch.int8, not torch.float32"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "start", [load_checkpoint, lambda folder: initialize_from(build_model("arbex-nano"), folder)]
)
def test_weights_of_a_diverged_training_are_refused_by_name(saved, start):
    folder, _ = saved
    rewritten(folder, lambda key, value: value * float("nan") if key == "head.anchors" else value)
    with pytest.raises(EdgefelError, match=r"model.safetensors: head.anchors has NaN or infinite values"):
        start(folder)


@pytest.mark.parametrize("layout", ["poster-v2", "apvit"])
def test_imports_that_crop_what_the_release_does_not_are_refused(saved, tmp_path, layout):
    _, model = saved
    source = {"layout": layout, "files": [{"file": "w.pth", "sha256": "0"}]}
    save_checkpoint(tmp_path / "old", model, EXPRESSIONS_7, {"resize": 256}, {"source": source})
    for read in (load_checkpoint, read_preprocessing, lambda folder: initialize_from(model, folder)):
        with pytest.raises(EdgefelError, match="import the published file again"):
            read(tmp_path / "old")
    save_checkpoint(
        tmp_path / "new", model, EXPRESSIONS_7, {"resize": 224}, {"source": {**source, "notes": []}}
    )
    assert read_preprocessing(tmp_path / "new") == {"resize": 224}
    assert load_checkpoint(tmp_path / "new").labels == EXPRESSIONS_7


def test_weights_of_another_configuration_are_refused(saved):
    folder, _ = saved
    description = json.loads((folder / "model.json").read_text())
    description["config"]["head"]["anchors_per_class"] = 3
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(EdgefelError, match=r"head.anchors has shape \(7, 10, 64\), not \(7, 3, 64\)"):
        load_checkpoint(folder)


def test_a_part_starts_a_run_and_is_no_model(saved, tmp_path):
    _, model = saved
    part = "encoder.image_stream"
    weights = {key: value + 1 for key, value in model.state_dict().items() if key.startswith(part)}
    save_part(tmp_path / "part", part, weights, {})
    with pytest.raises(EdgefelError, match="--init-from"):
        load_checkpoint(tmp_path / "part")
    other = build_model("arbex-nano")
    assert initialize_from(other, tmp_path / "part") == sorted(weights)
    key = f"{part}.stem.0.weight"
    assert torch.equal(other.state_dict()[key], weights[key])


def test_another_head_keeps_its_own_weights_and_another_encoder_is_refused(saved):
    folder, model = saved
    eight = build_model("arbex-nano", num_classes=8)
    copied = initialize_from(eight, folder)
    assert copied
    assert not any(key.startswith("head.") for key in copied)
    assert torch.equal(eight.state_dict()["encoder.pos_embed"], model.state_dict()["encoder.pos_embed"])
    wide = build_model("arbex-nano", encoder={"width": 64})
    with pytest.raises(EdgefelError, match="does not fit this model"):
        initialize_from(wide, folder)
