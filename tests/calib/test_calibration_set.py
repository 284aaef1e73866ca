"""Calibration sets on disk: balanced, hashed, and refused when anything changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from edgefel.calib.calibration_set import (
    LabellingModel,
    check_preprocessing,
    choose_calibration_set,
    read_calibration_set,
    write_calibration_set,
)
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError

PREPROCESSING = default_preprocessing(112)
MODEL = LabellingModel("arbex-nano", "model.safetensors", "0" * 64)


@pytest.fixture
def chosen(faces_folder):
    return choose_calibration_set(open_dataset(faces_folder), per_class=3, group_cap=4, seed=0)


def test_every_class_gives_the_same_from_the_training_split_alone(chosen, faces_folder):
    assert set(chosen.counts.values()) == {3}
    assert max(chosen.groups.values()) <= 4
    assert chosen.short == ()
    train = {sample.path.name for sample in open_dataset(faces_folder, "train").samples}
    assert {image.path.split("/")[-1] for image in chosen.images} <= train


def test_the_same_seed_chooses_the_same_and_another_does_not(chosen, faces_folder):
    dataset = open_dataset(faces_folder)
    assert choose_calibration_set(dataset, 3, 4, 0) == chosen
    assert choose_calibration_set(dataset, 3, 4, 1).key() != chosen.key()


def test_a_file_brings_back_the_set_and_says_what_is_in_it(chosen, tmp_path):
    write_calibration_set(tmp_path / "set.json", chosen)
    assert read_calibration_set(tmp_path / "set.json") == chosen
    document = json.loads((tmp_path / "set.json").read_text())
    assert document["counts"] == chosen.counts
    assert document["key"] == chosen.key()


def test_a_file_and_its_images_may_move_together(faces_folder, tmp_path):
    shutil.copytree(faces_folder, tmp_path / "here" / "faces")
    chosen = choose_calibration_set(open_dataset(tmp_path / "here" / "faces"), 2, 4, 0)
    (tmp_path / "here" / "sets").mkdir()
    write_calibration_set(tmp_path / "here" / "sets" / "set.json", chosen)
    assert json.loads((tmp_path / "here/sets/set.json").read_text())["root"] == "../faces"
    (tmp_path / "here").rename(tmp_path / "there")
    moved = read_calibration_set(tmp_path / "there/sets/set.json")
    assert moved == replace(chosen, root=str((tmp_path / "there/faces").resolve()))
    assert len(moved.open()) == 14


def test_a_file_with_an_absolute_folder_is_read_as_before(chosen, tmp_path):
    write_calibration_set(tmp_path / "set.json", chosen)
    document = json.loads((tmp_path / "set.json").read_text())
    (tmp_path / "set.json").write_text(json.dumps(document | {"root": chosen.root}))
    assert read_calibration_set(tmp_path / "set.json") == chosen


def test_the_key_is_of_the_contents_not_of_the_place(chosen):
    assert replace(chosen, root="/elsewhere").key() == chosen.key()
    assert replace(chosen, seed=9).key() != chosen.key()
    assert replace(chosen, images=chosen.images[::-1]).key() != chosen.key()
    assert replace(chosen, preprocessing=PREPROCESSING.to_dict()).key() != chosen.key()


def test_a_class_that_is_too_small_is_named(faces_folder):
    chosen = choose_calibration_set(open_dataset(faces_folder), per_class=500, group_cap=1000, seed=0)
    assert chosen.short == chosen.labels
    assert all(0 < count < 500 for count in chosen.counts.values())


def test_the_images_open_in_order_with_their_labels(chosen):
    dataset = chosen.open()
    assert [dataset.labels[sample.label] for sample in dataset.samples] == [
        image.label for image in chosen.images
    ]
    assert dataset.load(0).ndim == 3


def test_a_changed_or_missing_image_is_named(chosen, tmp_path):
    for image in chosen.images:
        target = tmp_path / image.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"an image")
    moved = replace(chosen, root=str(tmp_path))
    with pytest.raises(EdgefelError, match=f"{chosen.images[0].path}: has changed since it was chosen"):
        moved.open()
    (tmp_path / chosen.images[0].path).unlink()
    with pytest.raises(
        EdgefelError, match=f"{chosen.images[0].path}: no such file, but the calibration set lists it"
    ):
        moved.open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not a calibration set"),
        ({"version": 7}, "version 7, this edgefel reads 2"),
        ({"seed": 5}, "was edited"),
        ({"images": []}, "lists no images"),
        ({"images": [{"path": "a"}]}, "lacks images"),
        ({"labels": ["neutral"]}, r"lists \['anger'"),
    ],
)
def test_another_or_an_edited_file_is_refused(change, message, chosen, tmp_path):
    write_calibration_set(tmp_path / "set.json", chosen)
    document = json.loads((tmp_path / "set.json").read_text())
    (tmp_path / "set.json").write_text(json.dumps(document | change))
    with pytest.raises(EdgefelError, match=message):
        read_calibration_set(tmp_path / "set.json")


def test_a_file_says_whose_predictions_and_which_preprocessing(faces_folder, tmp_path):
    dataset = open_dataset(faces_folder)
    chosen = choose_calibration_set(dataset, 2, 4, 0, model=MODEL, preprocessing=PREPROCESSING)
    assert (chosen.labelled_by, chosen.model) == ("predictions", MODEL)
    write_calibration_set(tmp_path / "set.json", chosen)
    assert read_calibration_set(tmp_path / "set.json") == chosen
    document = json.loads((tmp_path / "set.json").read_text())
    assert document["model"]["sha256"] == "0" * 64
    assert document["preprocessing"] == PREPROCESSING.to_dict()
    other = choose_calibration_set(dataset, 2, 4, 0, model=replace(MODEL, sha256="1" * 64))
    assert other.key() != chosen.key()


def test_a_model_is_named_exactly_where_predictions_stand_in(chosen):
    for change in ({"model": MODEL}, {"labelled_by": "predictions"}):
        with pytest.raises(EdgefelError, match="exactly where predictions stand in"):
            replace(chosen, **change)
    with pytest.raises(EdgefelError, match="labelled_by is 'guesses'"):
        replace(chosen, labelled_by="guesses")
    with pytest.raises(EdgefelError, match="preprocessing: missing crop"):
        replace(chosen, preprocessing={"resize": 1})


def test_preprocessing_of_another_model_is_refused(chosen):
    made = replace(chosen, preprocessing=PREPROCESSING.to_dict())
    check_preprocessing(made, PREPROCESSING)
    check_preprocessing(made, json.loads(json.dumps(PREPROCESSING.to_dict())))
    check_preprocessing(chosen, Preprocessing(9, 9))  # a set that names none fits every model
    with pytest.raises(EdgefelError, match=r"set.json: .*resize 128 against 256, crop 112 against 224"):
        check_preprocessing(made, default_preprocessing(224), "set.json")
    with pytest.raises(EdgefelError, match="resample area against antialias"):
        check_preprocessing(made, replace(PREPROCESSING, resample="antialias"))
    other = replace(PREPROCESSING, resample="bilinear")
    with pytest.raises(EdgefelError, match="resample bilinear against area"):
        check_preprocessing(replace(made, preprocessing=other.to_dict()), PREPROCESSING)
    with pytest.raises(EdgefelError, match=r"mean \[0.485"):
        check_preprocessing(made, replace(PREPROCESSING, mean=(0.5, 0.5, 0.5)))


def test_a_resample_may_lie_in_the_graph_or_in_preprocessing(chosen):
    large = default_preprocessing(224)
    check_preprocessing(replace(chosen, preprocessing=replace(large, stride=2).to_dict()), large)


def test_a_file_that_is_there_is_not_replaced(chosen, tmp_path):
    (tmp_path / "set.json").write_text("mine")
    with pytest.raises(EdgefelError, match="exists already"):
        write_calibration_set(tmp_path / "set.json", chosen)
    assert (tmp_path / "set.json").read_text() == "mine"
