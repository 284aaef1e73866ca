"""Calibration and comparison never share an image."""

from __future__ import annotations

import pytest
from data.readers.trees_fer_plus import write_disagreeing
from exported import write_faces

from edgefel.calib.calibration_set import (
    choose_calibration_set,
    read_calibration_set,
    write_calibration_set,
)
from edgefel.data.labels import expression_labels
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.images import SyntheticImages, choose_images
from edgefel.export.record import calibration_record

LABELS = expression_labels(8)
COUNTS = {"per_class": 3, "group_cap": 100, "seed": 0}


def test_synthetic_faces_stand_in_and_it_is_said():
    images = choose_images(None, LABELS, calibrate=True, **COUNTS)
    assert images.sources["calibration"]["images"] == "synthetic faces"
    assert images.calibration.counts == dict.fromkeys(LABELS, 3)
    assert any("synthetic faces" in warning for warning in images.warnings)
    assert not set(images.calibration.indices) & set(images.parity)
    held_out = {images.dataset.samples[i].group for i in images.parity}
    assert not held_out & {images.dataset.samples[i].group for i in images.calibration.indices}
    assert images.dataset.load(images.parity[0]).shape == (224, 224, 3)


def test_without_calibration_nothing_is_said_about_it():
    images = choose_images(None, LABELS, calibrate=False, **COUNTS)
    assert images.calibration is None
    assert images.warnings == ()


def test_a_plain_folder_is_split_by_use(tmp_path):
    images = choose_images(write_faces(tmp_path / "f", LABELS, 4), LABELS, calibrate=True, **COUNTS)
    assert images.calibration.counts == dict.fromkeys(LABELS, 3)
    assert len(images.parity) == 8
    assert not set(images.calibration.indices) & set(images.parity)
    assert images.warnings == ()


def test_the_splits_of_the_data_are_kept(tmp_path):
    for split in ("train", "val"):
        write_faces(tmp_path / "f" / split, LABELS, 2)
    images = choose_images(tmp_path / "f", LABELS, calibrate=True, **COUNTS)
    assert {images.dataset.samples[i].split for i in images.calibration.indices} == {"train"}
    assert {images.dataset.samples[i].split for i in images.parity} == {"val"}
    assert images.calibration.short == LABELS
    assert "fewer than 3 calibration images" in images.warnings[0]


def test_when_calibration_takes_everything_noise_is_compared_and_it_is_said(tmp_path):
    images = choose_images(write_faces(tmp_path / "f", LABELS, 3), LABELS, calibrate=True, **COUNTS)
    assert images.sources["parity"] == "noise"
    assert images.parity_dataset.load(0).shape == (256, 256, 3)
    assert any("noise" in warning for warning in images.warnings)


def test_an_order_of_labels_other_than_the_datas_is_fine(tmp_path):
    faces = write_faces(tmp_path / "f", LABELS, 4)
    assert choose_images(faces, LABELS[::-1], calibrate=True, **COUNTS).calibration.counts
    assert SyntheticImages(LABELS[::-1], 0).labels == LABELS


@pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning")
@pytest.mark.parametrize(("layout", "file"), [(None, "fer2013new.csv"), ("fer-plus:label.csv", "label.csv")])
def test_the_bundle_says_which_votes_of_fer_plus_it_was_calibrated_and_compared_by(tmp_path, layout, file):
    write_disagreeing(tmp_path / "f")
    images = choose_images(tmp_path / "f", LABELS, calibrate=True, layout=layout, **COUNTS)
    named = f"{tmp_path / 'f'} (votes: {file})"
    assert (images.sources["calibration"]["images"], images.sources["parity"]) == (named, named)
    record = calibration_record(images.dataset, [0], 1, 1, 0, default_preprocessing(112), layout=layout)
    assert record.layout == f"fer-plus:{file}"
    write_calibration_set(tmp_path / "set.json", record)
    again = choose_images(None, LABELS, calibrate=True, calibration_set=tmp_path / "set.json", **COUNTS)
    assert again.sources["parity"] == named


@pytest.fixture
def chosen_file(tmp_path):
    """A calibration set of three of the four images of each class."""
    faces = open_dataset(write_faces(tmp_path / "f", LABELS, 4))
    write_calibration_set(tmp_path / "set.json", choose_calibration_set(faces, 3, 100, 0))
    return tmp_path / "set.json"


def test_a_calibration_set_is_taken_whole_and_compared_on_what_it_left(chosen_file, tmp_path):
    images = choose_images(None, LABELS, calibrate=True, calibration_set=chosen_file, **COUNTS)
    assert images.calibration.counts == dict.fromkeys(LABELS, 3)
    assert len(images.dataset.samples) == 24
    assert images.sources["calibration"]["key"] == read_calibration_set(chosen_file).key()
    used = {images.dataset.samples[i].path.resolve() for i in images.calibration.indices}
    compared = {images.parity_dataset.samples[i].path.resolve() for i in images.parity}
    assert len(compared) == 8
    assert not used & compared
    other = write_faces(tmp_path / "other", LABELS, 1)
    elsewhere = choose_images(other, LABELS, calibrate=True, calibration_set=chosen_file, **COUNTS)
    assert elsewhere.parity_dataset.root == other
    assert elsewhere.calibration == images.calibration


def test_a_set_of_changed_images_is_refused(chosen_file):
    first = read_calibration_set(chosen_file).open().samples[0].path
    first.write_bytes(first.read_bytes() + b"x")
    with pytest.raises(EdgefelError, match="has changed since it was chosen"):
        choose_images(None, LABELS, calibrate=True, calibration_set=chosen_file, **COUNTS)


def test_a_set_of_other_classes_is_refused(chosen_file):
    with pytest.raises(EdgefelError, match="share fewer than two classes"):
        choose_images(None, ("calm", "rage"), calibrate=True, calibration_set=chosen_file, **COUNTS)


def test_a_set_with_a_class_more_calibrates_as_it_is(chosen_file):
    seven = choose_images(None, expression_labels(7), calibrate=True, calibration_set=chosen_file, **COUNTS)
    assert seven.calibration.counts["contempt"] > 0
    assert "contempt" not in seven.parity_dataset.labels
    assert seven.classes["judged"] == list(expression_labels(7))
    assert any("that the model lacks calibrate too: contempt" in line for line in seven.warnings)


def test_other_classes_are_refused(tmp_path):
    faces = write_faces(tmp_path / "f", expression_labels(7), 2)
    with pytest.raises(EdgefelError, match="share fewer than two classes"):
        choose_images(faces, ("calm", "rage"), calibrate=True, **COUNTS)
    with pytest.raises(EdgefelError, match="--data"):
        choose_images(None, ("calm", "angry"), calibrate=True, **COUNTS)
