from __future__ import annotations

import numpy as np
import pytest
from lightning_fabric import Fabric
from training.runs import write_faces

from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.evaluation.evaluate import evaluate
from edgefel.models.checkpoint import load_checkpoint
from edgefel.training.validation import Validation, trouble, validate


def test_scores_are_those_of_an_evaluation_and_unreadable_images_do_not_count(nano_checkpoint, tmp_path):
    data = write_faces(tmp_path / "faces", broken=(30,))
    loaded, dataset = load_checkpoint(nano_checkpoint), open_dataset(data, "val")
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    source = ImageSource(dataset, preprocessing, cache_mb=0)
    validation = validate(loaded.model, source, preprocessing, Fabric(accelerator="cpu", devices=1))
    scores = validation.scores
    assert validation.predicted.sum() == 6
    assert validation.actual.tolist() == np.bincount(np.delete(dataset.targets(), 2), minlength=7).tolist()
    assert list(source.skipped) == [30 - 28]
    found = evaluate(nano_checkpoint, data, "val", copies=False)
    assert found.images == 6
    for name in ("accuracy", "macro_f1", "ece"):
        assert scores[f"val_{name}"] == pytest.approx(getattr(found.with_head, name))
    assert scores["val_primary_accuracy"] == pytest.approx(found.without_head.accuracy)
    assert scores["val_primary_macro_f1"] == pytest.approx(found.without_head.macro_f1)
    assert 0 < scores["val_loss"] < 16.2


LABELS = ("anger", "fear", "neutral")


def remarks(predicted=(30, 30, 40), loss=1.0, lowest=None, epoch=1, best_epoch=1, every=1) -> list[str]:
    found = Validation({}, np.array(predicted), np.array([32, 28, 40]))
    return trouble(found, LABELS, loss, lowest, epoch, best_epoch, every)


def test_a_run_that_learns_is_left_alone():
    assert remarks() == []
    assert remarks(loss=0.9, lowest=1.0, epoch=9, best_epoch=5) == []
    assert remarks(loss=1.3, lowest=1.0) == []  # noise
    assert remarks(predicted=(3, 1, 96)) == []
    # of data that is nearly all of one class
    assert trouble(Validation({}, np.array([0, 100]), np.array([3, 97])), LABELS, 1.0, None, 1, 1, 1) == []


def test_one_class_for_all_is_named_with_its_due():
    (remark,) = remarks(predicted=(1, 0, 99))
    assert remark.startswith("99% of val is taken for neutral, which 40% is: try a lower --lr")


def test_a_rising_loss_is_told():
    (remark,) = remarks(loss=2.0, lowest=1.0)
    assert remark.startswith("the training loss has risen from 1.000 to 2.000: try a lower --lr")


def test_a_standstill_is_told_every_ten_validations():
    told = [epoch for epoch in range(1, 60) if remarks(epoch=epoch, best_epoch=5)]
    assert told == [15, 25, 35, 45, 55]
    told = [epoch for epoch in range(2, 60, 2) if remarks(epoch=epoch, best_epoch=4, every=2)]
    assert told == [24, 44]
    assert "since epoch 5, 10 ago" in remarks(epoch=15, best_epoch=5)[0]
