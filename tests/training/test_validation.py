from __future__ import annotations

import pytest
from lightning_fabric import Fabric
from training.runs import write_faces

from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.evaluation.evaluate import evaluate
from edgefel.models.checkpoint import load_checkpoint
from edgefel.training.validation import validate


def test_scores_are_those_of_an_evaluation_and_unreadable_images_do_not_count(nano_checkpoint, tmp_path):
    data = write_faces(tmp_path / "faces", broken=(30,))
    loaded, dataset = load_checkpoint(nano_checkpoint), open_dataset(data, "val")
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    source = ImageSource(dataset, preprocessing, cache_mb=0)
    scores = validate(loaded.model, source, preprocessing, Fabric(accelerator="cpu", devices=1))
    assert list(source.skipped) == [30 - 28]
    found = evaluate(nano_checkpoint, data, "val", copies=False)
    assert found.images == 6
    for name in ("accuracy", "macro_f1", "ece"):
        assert scores[f"val_{name}"] == pytest.approx(getattr(found.with_head, name))
    assert scores["val_primary_accuracy"] == pytest.approx(found.without_head.accuracy)
    assert scores["val_primary_macro_f1"] == pytest.approx(found.without_head.macro_f1)
    assert 0 < scores["val_loss"] < 16.2
