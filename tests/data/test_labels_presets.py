"""Orders of labels that networks of others have: presets, and a file's own names."""

from __future__ import annotations

import pytest

from edgefel.data.labels import (
    EXPRESSIONS_7,
    EXPRESSIONS_8,
    PRESETS,
    RAF_DB,
    canonical_label,
    choose_labels,
    parse_labels,
)
from edgefel.data.readers.aff_wild2 import AffWild2
from edgefel.data.readers.fer_plus import FerPlus
from edgefel.errors import EdgefelError

# mmcls/datasets/raf.py of APViT, FER_CLASSES
APVIT = ("anger", "disgust", "fear", "sadness", "happiness", "surprise", "neutral")


@pytest.mark.parametrize(
    ("preset", "labels"),
    [
        ("canonical", EXPRESSIONS_7),
        ("canonical", EXPRESSIONS_8),
        ("rafdb", RAF_DB),
        ("apvit-rafdb", APVIT),
        ("ferplus", FerPlus().classes),
        ("ferplus", FerPlus(7).classes),
        ("affwild2", AffWild2.classes),
        ("alphabetical", ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")),
    ],
)
def test_presets(preset, labels):
    assert parse_labels(preset, len(labels)) == labels


def test_every_preset_orders_known_names():
    for meaning, orders in PRESETS.values():
        assert meaning
        for order in orders:
            assert len(set(order)) == len(order) in (7, 8)
            assert {canonical_label(name) or name for name in order} <= {*EXPRESSIONS_8, "other"}


def test_own_names_stay():
    assert parse_labels("Happy, Sad,bored", 3) == ("Happy", "Sad", "bored")
    with pytest.raises(EdgefelError, match="3 names for 3 classes"):
        parse_labels("happy,joy,sad", 3)  # the same class twice
    with pytest.raises(EdgefelError, match="7 names for 8 classes; give canonical, rafdb, apvit-rafdb"):
        parse_labels("rafdb", 8)


def test_a_file_that_names_no_classes_needs_labels():
    with pytest.raises(
        EdgefelError, match=r"w.pth: does not name its classes; .*--labels: canonical \(Affect"
    ):
        choose_labels(None, (), 7, "w.pth")
    with pytest.raises(EdgefelError, match="names 8 classes for 7 outputs"):
        choose_labels(None, EXPRESSIONS_8, 7, "w.pth")
    assert choose_labels("rafdb", (), 7, "w.pth") == RAF_DB
    assert choose_labels("rafdb", EXPRESSIONS_8, 7, "w.pth") == RAF_DB  # names of something else


def test_a_file_that_names_its_classes_wins():
    named = ("Anger", "Disgust", "Fear", "Sad", "Happy", "Surprise", "Neutral")
    assert choose_labels(None, named, 7, "w.pth") == APVIT
    assert choose_labels("apvit-rafdb", named, 7, "w.pth") == APVIT
    own = "Angry,Disgusted,Fearful,Sad,Happy,Surprised,Neutral"  # the same classes as somebody calls them
    assert choose_labels(own, named, 7, "w.pth") == tuple(own.split(","))
    assert choose_labels(None, ("Bored", "Awake"), 2, "w.pth") == ("Bored", "Awake")
    with pytest.raises(
        EdgefelError, match="names its classes anger, disgust.* but --labels rafdb says surprise"
    ):
        choose_labels("rafdb", named, 7, "w.pth")


def test_names_that_no_line_can_hold_are_refused():
    with pytest.raises(EdgefelError, match="line break"):
        choose_labels(None, ("a\nb", "c"), 2, "w.pth")
