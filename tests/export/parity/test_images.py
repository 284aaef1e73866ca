"""Which images are compared on: even over classes, the same every time, none that calibration saw."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
from exported import LABELS, write_faces

from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.images import BATCH, draw_evenly, load_images, unseen
from edgefel.files.write import sha256

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
    left = unseen(uneven, range(len(uneven)), {sha256(first)})
    assert set(range(len(uneven))) - set(left) == {0, 5}
    uneven.samples[7].path.unlink()
    assert 7 in unseen(uneven, range(len(uneven)), {sha256(first)})


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
