"""Calibration batches come from the runtime's own preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
from exported import write_faces

from edgefel.calib.reader import CalibrationReader
from edgefel.data.labels import expression_labels
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError


@pytest.fixture
def faces(tmp_path):
    return write_faces(tmp_path / "faces", expression_labels(7), 2)


def test_batches_are_the_runtimes_tensors(faces):
    dataset, preprocessing = open_dataset(faces), default_preprocessing(112)
    reader = CalibrationReader(dataset, [3, 0, 9, 5, 1], preprocessing, batch_size=2)
    batches = list(reader)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for index, tensor in zip([3, 0, 9, 5, 1], np.concatenate(batches), strict=True):
        assert np.array_equal(tensor, preprocessing.to_tensor(dataset.load(index)))
    assert np.array_equal(np.concatenate(list(reader)), np.concatenate(batches)), "a second pass differs"


def test_unreadable_images_are_skipped_and_named(faces):
    dataset = open_dataset(faces)
    dataset.samples[1].path.write_bytes(b"no image")
    reader = CalibrationReader(dataset, range(4), default_preprocessing(112))
    assert sum(len(batch) for batch in reader) == 3
    assert reader.skipped == [dataset.samples[1].path]
    assert reader.require(3) == 3
    with pytest.raises(EdgefelError, match="3 readable images for 4 classes; 1 cannot be read"):
        reader.require(4)


def test_nothing_readable_is_an_error(faces):
    dataset = open_dataset(faces)
    for sample in dataset.samples:
        sample.path.write_bytes(b"")
    with pytest.raises(EdgefelError, match="none of 3 images"):
        list(CalibrationReader(dataset, range(3), default_preprocessing(112)))
