"""Checkpoints: whole, refused, or absent."""

from __future__ import annotations

import json
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgefel.data.framing import Framing
from edgefel.data.labels import EXPRESSIONS_7, RAF_DB
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.models import build_model
from edgefel.models.checkpoint import (
    initialize_from,
    load_checkpoint,
    read_framing,
    read_preprocessing,
    save_checkpoint,
    save_part,
)
from edgefel.models.registry import list_models
from edgefel.runtime.shipped import FOLDER
from edgefel.training.model import SupervisedModel


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


def test_others_may_read_the_weights_as_they_may_the_description(saved):
    modes = {file.name: stat.filemode(file.stat().st_mode) for file in saved[0].iterdir()}
    assert modes["model.safetensors"] == modes["model.json"]


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


def test_a_bundle_is_named_with_the_command_that_makes_a_checkpoint_of_it():
    with pytest.raises(EdgefelError, match="is a bundle; turn it into a checkpoint with: edgefel import "):
        load_checkpoint(FOLDER)


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
    "start",
    [load_checkpoint, lambda folder: initialize_from(build_model("arbex-nano"), folder, EXPRESSIONS_7)],
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
    for read in (
        load_checkpoint,
        read_preprocessing,
        lambda folder: initialize_from(model, folder, EXPRESSIONS_7),
    ):
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
    start = initialize_from(other, tmp_path / "part", EXPRESSIONS_7)
    assert start.entries == tuple(sorted(weights))
    assert "the head starts anew" in start.describe()
    key = f"{part}.stem.0.weight"
    assert torch.equal(other.state_dict()[key], weights[key])


@pytest.mark.parametrize(
    "name", [*list_models(), "apvit-nano+reliability", "poster-v2-nano+resizer+reliability"]
)
def test_the_class_axes_are_exactly_what_changes_with_the_classes(name):
    """Another entry with a class axis would be copied row for row, whatever the rows mean."""
    with torch.device("meta"):
        seven, eight = (build_model(name, num_classes=count) for count in (7, 8))
    small, large = seven.state_dict(), eight.state_dict()
    assert small.keys() == large.keys()
    changed = {
        key: next(axis for axis, size in enumerate(small[key].shape) if size != large[key].shape[axis])
        for key in small
        if small[key].shape != large[key].shape
    }
    assert seven.class_axes() == eight.class_axes() == changed


def test_the_auxiliary_classifier_has_rows_of_classes_too():
    with torch.device("meta"):
        parts = [SupervisedModel(build_model("poster-v2-nano", num_classes=n), True) for n in (7, 8)]
    small, large = (part.state_dict() for part in parts)
    assert set(parts[0].class_axes()) == {key for key in small if small[key].shape != large[key].shape}


def test_a_folded_head_declares_its_rows_too():
    head = build_model("arbex-nano").head
    head.fold_attention()
    assert head.class_axes()["folded.weight"] == head.class_axes()["folded.bias"] == 0
    rows = {key for key, value in head.state_dict().items() if value.shape[:1] == (7,)}
    assert rows == set(head.class_axes())


@pytest.mark.parametrize("name", ["arbex-nano", "poster-v2-nano"])
def test_rows_of_classes_follow_their_names(name, tmp_path):
    model = build_model(name).eval()
    save_checkpoint(tmp_path / "c", model, RAF_DB, default_preprocessing(112).to_dict())
    other = build_model(name)
    start = initialize_from(other, tmp_path / "c", EXPRESSIONS_7)
    assert start.complete
    order = [RAF_DB.index(label) for label in EXPRESSIONS_7]
    images = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        there, here = model(images).probabilities, other.eval()(images).probabilities
    torch.testing.assert_close(here, there[:, order])


def test_seven_of_eight_classes_are_taken_and_the_eighth_starts_anew(saved):
    folder, model = saved
    labels = ("contempt", *EXPRESSIONS_7[::-1])
    eight = build_model("arbex-nano", num_classes=8)
    before = {key: value.clone() for key, value in eight.state_dict().items()}
    start = initialize_from(eight, folder, labels)
    line = start.describe()
    assert not start.complete
    assert "classes taken by name: neutral, happiness" in line
    assert "classes that start anew: contempt" in line
    state, source = eight.state_dict(), model.state_dict()
    for key in eight.class_axes():
        assert torch.equal(state[key][0], before[key][0]), key
        assert torch.equal(state[key][1:], source[key].flip(0)), key
    for key in state.keys() - eight.class_axes().keys():
        assert torch.equal(state[key], source[key]), key


def test_a_part_of_the_head_with_another_form_starts_anew_and_says_so(saved):
    folder, model = saved
    other = build_model("arbex-nano", head={"anchors_per_class": 4, "attentive": False})
    line = initialize_from(other, folder, EXPRESSIONS_7).describe()
    assert line.endswith("parts of the head that start anew: anchors; left behind: attentive")
    last = max(other.class_axes().keys() - {"head.anchors"})
    assert torch.equal(other.state_dict()[last], model.state_dict()[last])
    linear = build_model("poster-v2-nano")
    assert "all of it starts anew" in initialize_from(linear, folder, EXPRESSIONS_7).describe()
    narrow = build_model("arbex-nano", head={"embedding_dim": 32, "attention_head_dim": 32})
    assert "all of it starts anew" in initialize_from(narrow, folder, EXPRESSIONS_7).describe()


def test_another_encoder_is_refused(saved):
    wide = build_model("arbex-nano", encoder={"width": 64})
    with pytest.raises(EdgefelError, match="does not fit this model"):
        initialize_from(wide, saved[0], EXPRESSIONS_7)


@pytest.mark.parametrize("labels", [["a", "b", "a"], ["a", "b\nc", "d"], "abc", [1, 2, 3]])
def test_labels_that_cannot_stand_are_refused_where_they_enter(saved, tmp_path, labels):
    folder, model = saved
    preprocessing = default_preprocessing(112).to_dict()
    with pytest.raises(EdgefelError, match="label"):
        save_checkpoint(tmp_path / "c", model, labels, preprocessing)
    assert not (tmp_path / "c").exists()
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"labels": labels}))
    with pytest.raises(EdgefelError, match="model.json.*label"):
        load_checkpoint(folder)


def test_names_of_ones_own_survive(tmp_path):
    names = ("Freude", "tristesse profonde", "c", "d", "e", "f", "<b>")
    save_checkpoint(
        tmp_path / "c", build_model("poster-v2-nano"), names, default_preprocessing(112).to_dict()
    )
    assert load_checkpoint(tmp_path / "c").labels == names


def test_the_framing_is_kept_and_checked(saved, tmp_path):
    folder, model = saved
    assert load_checkpoint(folder).framing is None
    assert read_framing(folder) is None
    framing = Framing(0.39, 0.36, 0.03, 0.04, 128)
    save_checkpoint(tmp_path / "framed", model, EXPRESSIONS_7, {}, framing=framing)
    assert load_checkpoint(tmp_path / "framed").framing == framing == read_framing(tmp_path / "framed")
    file = tmp_path / "framed" / "model.json"
    file.write_text(file.read_text().replace("0.36", "3.6"))
    with pytest.raises(EdgefelError, match=r"model.json: framing: eyes_apart is 3.6"):
        load_checkpoint(tmp_path / "framed")
