"""Calibration and comparison never share an image, and each image is read once."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter

import numpy as np
import pytest
from data.readers.trees_fer_plus import write_disagreeing
from exported import LABELS, write_faces

from edgefel.calib import calibration_set
from edgefel.calib.calibration_set import (
    choose_calibration_set,
    read_calibration_set,
    write_calibration_set,
)
from edgefel.calib.images import BATCH, SyntheticImages, choose_images, draw_evenly, draw_unseen, load_images
from edgefel.calib.reader import CalibrationReader
from edgefel.data import dataset as dataset_module
from edgefel.data.dataset import Sample
from edgefel.data.labels import expression_labels
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.files.write import sha256

COUNTS = {"per_class": 3, "group_cap": 100, "seed": 0}


def test_synthetic_faces_stand_in_and_it_is_said():
    images = choose_images(None, LABELS, calibrate=True, **COUNTS)
    assert images.sources["calibration"]["images"] == "synthetic faces"
    assert images.calibration.counts == dict.fromkeys(LABELS, 3)
    assert any("synthetic faces" in warning for warning in images.warnings)
    assert not set(images.calibration.indices) & set(images.held_out)
    held_out = {images.dataset.samples[i].group for i in images.held_out}
    assert not held_out & {images.dataset.samples[i].group for i in images.calibration.indices}
    assert images.dataset.load(images.held_out[0]).shape == (224, 224, 3)


def test_without_calibration_nothing_is_said_about_it():
    images = choose_images(None, LABELS, calibrate=False, **COUNTS)
    assert images.calibration is None
    assert images.warnings == ()


def test_a_plain_folder_is_split_by_use(tmp_path):
    images = choose_images(write_faces(tmp_path / "f", LABELS, 4), LABELS, calibrate=True, **COUNTS)
    assert images.calibration.counts == dict.fromkeys(LABELS, 3)
    assert len(images.held_out) == 8
    assert not set(images.calibration.indices) & set(images.held_out)
    assert images.warnings == ()


def test_the_splits_of_the_data_are_kept(tmp_path):
    for split in ("train", "val"):
        write_faces(tmp_path / "f" / split, LABELS, 2)
    images = choose_images(tmp_path / "f", LABELS, calibrate=True, **COUNTS)
    assert {images.dataset.samples[i].split for i in images.calibration.indices} == {"train"}
    assert {images.dataset.samples[i].split for i in images.held_out} == {"val"}
    assert images.calibration.short == LABELS
    assert "fewer than 3 calibration images" in images.warnings[0]


def test_when_calibration_takes_everything_noise_is_compared_and_it_is_said(tmp_path):
    images = choose_images(write_faces(tmp_path / "f", LABELS, 3), LABELS, calibrate=True, **COUNTS)
    assert images.sources["parity"] == "noise"
    assert images.held_out_dataset.load(0).shape == (256, 256, 3)
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
    named = f"f (votes: {file})"
    assert (images.sources["calibration"]["images"], images.sources["parity"]) == (named, named)
    record, _, _ = images.record(3, 100, 0, default_preprocessing(112), layout)
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
    compared = {images.held_out_dataset.samples[i].path.resolve() for i in images.held_out}
    assert len(compared) == 8
    assert not used & compared
    other = write_faces(tmp_path / "other", LABELS, 1)
    elsewhere = choose_images(other, LABELS, calibrate=True, calibration_set=chosen_file, **COUNTS)
    assert elsewhere.held_out_dataset.root == other
    assert elsewhere.calibration == images.calibration


def test_a_set_from_a_bundle_finds_its_images_in_the_data(chosen_file, tmp_path):
    chosen = read_calibration_set(chosen_file)
    write_calibration_set(tmp_path / "bundle.json", chosen, portable=True)
    assert str(tmp_path) not in (tmp_path / "bundle.json").read_text()
    (tmp_path / "f").rename(tmp_path / "moved")
    options = {"calibrate": True, "calibration_set": tmp_path / "bundle.json", **COUNTS}
    images = choose_images(tmp_path / "moved", LABELS, **options)
    assert images.given.key() == chosen.key()
    assert {sample.path.parents[1] for sample in images.dataset.samples} == {tmp_path / "moved"}
    assert len(images.held_out) == 8
    with pytest.raises(EdgefelError, match=r"bundle.json: its images are not in .*f; say where .* --data"):
        choose_images(None, LABELS, **options)


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
    assert "contempt" not in seven.held_out_dataset.labels
    assert seven.classes["judged"] == list(expression_labels(7))
    assert any("that the model lacks calibrate too: contempt" in line for line in seven.warnings)


def test_other_classes_are_refused(tmp_path):
    faces = write_faces(tmp_path / "f", expression_labels(7), 2)
    with pytest.raises(EdgefelError, match="share fewer than two classes"):
        choose_images(faces, ("calm", "rage"), calibrate=True, **COUNTS)
    with pytest.raises(EdgefelError, match="--data"):
        choose_images(None, ("calm", "angry"), calibrate=True, **COUNTS)


PREPROCESSING = default_preprocessing(112)


@pytest.fixture
def uneven(tmp_path):
    """Two images of the first class and six of every other."""
    root = write_faces(tmp_path / "faces", LABELS, 6)
    for i in range(2, 6):
        (root / LABELS[0] / f"{i}.png").unlink()
    return open_dataset(root)


def test_classes_take_turns_and_a_rare_one_gives_what_it_has(uneven):
    chosen = draw_evenly(uneven, range(len(uneven)), 30, seed=0)
    counts = Counter(uneven.samples[i].label for i in chosen)
    assert counts[0] == 2
    assert set(counts.values()) == {2, 4}
    assert list(chosen) == sorted(set(chosen))
    assert chosen == draw_evenly(uneven, range(len(uneven)), 30, seed=0)
    assert chosen != draw_evenly(uneven, range(len(uneven)), 30, seed=1)
    assert len(draw_evenly(uneven, range(len(uneven)), 1000, seed=0)) == len(uneven)


def test_images_that_were_seen_are_known_by_their_bytes(uneven):
    first = uneven.samples[0].path
    shutil.copy(first, uneven.samples[5].path)
    drawn, passed = draw_unseen(uneven, range(len(uneven)), 1000, 0, {sha256(first)})
    assert set(range(len(uneven))) - set(drawn) == {0, 5}
    assert passed == 2
    uneven.samples[7].path.unlink()
    assert 7 in draw_unseen(uneven, range(len(uneven)), 1000, 0, {sha256(first)})[0]


def test_only_images_that_are_drawn_are_hashed(uneven, monkeypatch):
    read = []
    whole = Sample.read
    monkeypatch.setattr(Sample, "read", lambda self: read.append(self.path) or whole(self))
    everything = range(len(uneven))
    assert draw_unseen(uneven, everything, 5, 0) == (draw_evenly(uneven, everything, 5, 0), 0)
    assert read == []
    drawn, passed = draw_unseen(uneven, everything, 5, 0, {"of no image"})
    assert (drawn, passed, len(read)) == (draw_evenly(uneven, everything, 5, 0), 0, 5)


def test_an_image_that_calibrates_is_read_once(tmp_path, monkeypatch):
    images = choose_images(write_faces(tmp_path / "f", LABELS, 4), LABELS, calibrate=True, **COUNTS)
    read = []
    whole = dataset_module.read_image_file
    monkeypatch.setattr(dataset_module, "read_image_file", lambda path: read.append(path) or whole(path))
    record, dataset, indices = images.record(3, 100, 0, PREPROCESSING, None)
    batches = list(CalibrationReader(dataset, indices, PREPROCESSING))
    assert sorted(read) == sorted(set(read))
    assert sum(map(len, batches)) == len(record.images) == len(read) == 24


def test_images_beyond_what_memory_holds_are_read_again(tmp_path, monkeypatch):
    images = choose_images(write_faces(tmp_path / "f", LABELS, 4), LABELS, calibrate=True, **COUNTS)
    monkeypatch.setattr(calibration_set, "HELD_BYTES", 1000)
    record, dataset, indices = images.record(3, 100, 0, PREPROCESSING, None)
    again = [hashlib.sha256(dataset.samples[i].read()).hexdigest() for i in indices]
    assert again == [image.sha256 for image in record.images]


def test_targets_are_in_the_networks_order_and_unreadable_images_are_named(uneven):
    uneven.samples[3].path.write_bytes(b"no image")
    labels = LABELS[::-1]
    images = load_images(uneven, (0, 3, 10), labels, PREPROCESSING, "faces", labelled=True)
    names = [labels[target] for target in images.targets]
    assert names == [uneven.labels[uneven.samples[i].label] for i in (0, 10)]
    assert images.skipped == (uneven.samples[3].path.name,)
    assert {crop.shape for crop in images.crops} == {(128, 128, 3)}
    with pytest.raises(EdgefelError, match="none of 1 comparison images can be read"):
        load_images(uneven, (3,), labels, PREPROCESSING, "faces", labelled=True)
    with pytest.raises(EdgefelError, match="no image is left"):
        load_images(uneven, (), labels, PREPROCESSING, "faces", labelled=True)


def test_batches_are_those_of_the_preprocessing_and_bounded(uneven):
    images = load_images(uneven, range(11), LABELS, PREPROCESSING, "faces", labelled=False)
    assert images.targets is None
    batches = list(images.batches(PREPROCESSING))
    assert [len(batch) for batch in batches] == [BATCH, 3]
    whole = PREPROCESSING.batch([uneven.load(i) for i in range(11)])
    assert np.array_equal(np.concatenate(batches), whole)
    bytes_only = next(iter(images.batches(PREPROCESSING, "uint8")))
    assert (bytes_only.dtype, bytes_only.shape) == (np.uint8, (BATCH, 112, 112, 3))
