"""A model's predictions in the place of labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from exported import LABELS, run_torch, save, tiny_model
from tiny_bundle import PREPROCESSING, expected_outputs, write_bundle

from edgefel.calib.calibration_set import choose_calibration_set
from edgefel.calib.predicted_labels import float_model_of_bundle, float_model_of_checkpoint, predict_labels
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.data.readers.folder import open_unlabelled
from edgefel.errors import EdgefelError
from edgefel.files.write import sha256


def write_images(folder, count, seed=0):
    """Images of one colour each, by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (count, 3), dtype=np.uint8)
    for i, colour in enumerate(colours):
        cv2.imwrite(str(folder / f"{i:03}.png"), np.full((20, 20, 3), colour, np.uint8))
    return folder


@pytest.fixture
def videos(tmp_path):
    write_images(tmp_path / "videos/a", 30, seed=1)
    write_images(tmp_path / "videos/b/c", 30, seed=2)
    return tmp_path / "videos"


@pytest.fixture
def model(tmp_path):
    return float_model_of_bundle(write_bundle(tmp_path / "bundle"), threads=1)


def test_labels_are_the_argmax_of_the_models_probabilities(videos, model):
    unlabelled = open_unlabelled(videos)
    steps = []
    predicted = predict_labels(unlabelled, model, lambda done, total: steps.append((done, total)))
    batch = PREPROCESSING.batch([unlabelled.load(i) for i in range(len(unlabelled))])
    expected = expected_outputs(batch)["probabilities"].argmax(axis=1)
    assert [sample.label for sample in predicted.dataset.samples] == list(expected)
    assert predicted.dataset.labels == EXPRESSIONS_7
    assert predicted.never == tuple(EXPRESSIONS_7[i] for i in range(7) if i not in expected)
    assert predicted.never  # else the line above has compared nothing with nothing
    assert {sample.group for sample in predicted.dataset.samples} == {"a", "b/c"}
    assert steps[-1] == (60, 60)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_the_bundle_is_known_by_the_hash_of_what_ran(model, tmp_path):
    assert model.identity.file == "model.fp32.onnx"
    assert model.identity.sha256 == sha256(tmp_path / "bundle/model.fp32.onnx")
    with pytest.raises(EdgefelError, match="no fp32 file"):
        float_model_of_bundle(write_bundle(tmp_path / "int8", ("int8",)))


def test_unreadable_images_are_skipped_and_named(videos, model):
    (videos / "a/005.png").write_bytes(b"no image")
    (videos / "a/040.png").write_bytes(b"")
    predicted = predict_labels(open_unlabelled(videos), model)
    assert [path.name for path in predicted.skipped] == ["005.png", "040.png"]
    assert len(predicted.dataset) == 59
    for image in videos.rglob("*.png"):
        image.write_bytes(b"no image")
    with pytest.raises(EdgefelError, match="none of 61 images can be read"):
        predict_labels(open_unlabelled(videos), model)


def test_held_out_images_are_not_even_labelled(tmp_path, model):
    for split in ("train", "test"):
        write_images(tmp_path / "faces" / split / "fear", 5, seed=len(split))
    dataset = open_dataset(tmp_path / "faces")
    predicted = predict_labels(dataset, model)
    assert {sample.split for sample in predicted.dataset.samples} == {"train"}
    assert [s.group for s in predicted.dataset.samples] == [
        s.group for s in dataset.samples if s.split == "train"
    ]
    assert {sample.label for sample in predicted.dataset.samples} != {EXPRESSIONS_7.index("fear")}


def test_a_set_is_balanced_on_the_predictions(videos, model):
    predicted = predict_labels(open_unlabelled(videos), model)
    chosen = choose_calibration_set(
        predicted.dataset, 2, 4, 0, model=model.identity, preprocessing=model.preprocessing
    )
    assert max(chosen.counts.values()) == 2
    assert max(chosen.groups.values()) <= 4
    assert set(predicted.never) <= set(chosen.short)
    assert chosen.preprocessing == PREPROCESSING.to_dict()


def test_a_checkpoint_labels_as_the_network_does(tmp_path):
    folder = save(tmp_path / "checkpoint", tiny_model())
    opened = float_model_of_checkpoint(folder)
    assert opened.labels == LABELS
    assert opened.identity.sha256 == sha256(folder / "model.safetensors")
    images = open_unlabelled(write_images(tmp_path / "images", 10))
    batch = default_preprocessing(112).batch([images.load(i) for i in range(10)])
    expected = run_torch(tiny_model(), batch)["probabilities"].argmax(axis=1)
    assert [s.label for s in predict_labels(images, opened).dataset.samples] == list(expected)
