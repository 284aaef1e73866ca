"""Predictions piece by piece are those of a whole set. tests/tasks/test_on_ray.py has them on a cluster."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.data.open import open_dataset
from edgefel.errors import EdgefelError
from edgefel.evaluation import predicting
from edgefel.evaluation.predicting import predict
from edgefel.models.checkpoint import load_checkpoint
from edgefel.progress import Progress
from edgefel.tasks.threads import Threads


class Counted(Progress):
    done = 0

    def advance(self, units=1):
        self.done += units


def test_pieces_are_joined_in_order(nano_checkpoint, faces_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "_PIECE", 32)
    data = open_dataset(faces_folder).subset(range(75))
    broken = data.samples[40].path
    loaded, progress = load_checkpoint(nano_checkpoint), Counted()
    real = type(data.samples[0]).read

    def read(self):
        return b"no image" if self.path == broken else real(self)

    monkeypatch.setattr(type(data.samples[0]), "read", read)
    whole, skipped = predict(loaded, data, 0, None, "cpu", Progress())
    parts, also = predict(loaded, data, 0, Threads(1), "cpu", progress)
    assert skipped == also == (str(broken),)
    assert parts.indices.tolist() == [index for index in range(75) if index != 40]
    for name in ("primary", "corrected", "embeddings", "logits"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert progress.done == 75


def test_a_set_that_cannot_be_read(nano_checkpoint, faces_folder, monkeypatch):
    data = open_dataset(faces_folder).subset(range(5))
    monkeypatch.setattr(type(data.samples[0]), "read", lambda self: b"")
    with pytest.raises(EdgefelError, match="none of the 5 images can be read"):
        predict(load_checkpoint(nano_checkpoint), data, 0, Threads(1), "cpu", Progress())
