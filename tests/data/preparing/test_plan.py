"""Options, and splits that are drawn."""

from __future__ import annotations

import pytest
from data.preparing.photos import (
    described,
    make_photos,
    run,
    whole,
)

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.open import open_dataset
from edgefel.data.preparing.plan import PrepareOptions
from edgefel.errors import EdgefelError


def test_groups_are_dealt_to_splits(tmp_path):
    dataset = make_photos(tmp_path / "photos", splits=False)
    report = run(dataset, tmp_path / "out", whole, shares=(0.6, 0.2, 0.2), seed=3)
    prepared = open_dataset(tmp_path / "out")
    splits: dict[str, set[str]] = {}
    for sample in prepared.samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert len(splits) == 20
    assert all(len(names) == 1 for names in splits.values())
    assert report["per_split"] == {"train": 24, "val": 8, "test": 8}
    assert [d[:2] for d in described(prepared)] == [d[:2] for d in described(dataset)]


def test_a_set_with_splits_keeps_them(photos, tmp_path):
    with pytest.raises(EdgefelError, match=r"has splits of its own \(train, val, test\)"):
        run(photos, tmp_path / "out", shares=(0.8, 0.1, 0.1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 8}, "give a side of 16 to 4096"),
        ({"image_format": "bmp"}, "choose one of jpg, png"),
        ({"missing": "guess"}, "choose one of skip, center"),
        ({"margin": float("nan")}, "give a share of the box's side"),
        ({"per_shard": 0}, "give 1 or more"),
        ({"shares": (0.5, 0.6, 0.1)}, "add up to 1"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(EdgefelError, match=message):
        PrepareOptions(**options)


def test_unlabelled_images_are_refused(photos, tmp_path):
    samples = (*photos.samples[:2], Sample(photos.samples[2].path, -1, "x", "train", None))
    with pytest.raises(EdgefelError, match="2.png: has no label"):
        run(ImageDataset(photos.root, photos.labels, samples), tmp_path / "out")
