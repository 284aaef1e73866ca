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
from edgefel.training.config import TrainConfig
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


def remarks(
    predicted=(30, 30, 40), loss=1.0, lowest=None, epoch=1, best_epoch=1, actual=(32, 28, 40), **settings
) -> list[str]:
    found = Validation({}, np.array(predicted), np.array(actual))
    return trouble(found, LABELS, loss, lowest, epoch, best_epoch, TrainConfig().replaced(settings))


def test_a_run_that_learns_is_left_alone():
    assert remarks() == []
    assert remarks(loss=0.9, lowest=1.0, epoch=9, best_epoch=5) == []
    assert remarks(loss=1.3, lowest=1.0) == []  # noise
    assert remarks(predicted=(3, 1, 96)) == []
    # of data that is nearly all of one class
    assert remarks(predicted=(0, 0, 100), actual=(2, 1, 97)) == []


def test_one_class_for_all_is_named_with_its_due():
    (remark,) = remarks(predicted=(1, 0, 99), lr=0.1)
    assert remark == (
        "the network takes 99% of val for neutral, which 40% is; if this lasts, try --lr 0.01, --warmup-steps 100, "
        "--clip-norm 1 or --lambda-auxiliary 1"
    )


def test_what_a_run_has_already_is_not_advised():
    settings = {"lr": 0.002, "warmup_steps": 400, "clip_norm": 1.0, "weight_decay": 0.05}
    settings |= {"loss.lambda_auxiliary": 0.5, "loss.anchor_loss": "hinge", "lr_schedule": "cosine"}
    settings |= {"augment.cutmix": 1.0}
    told = remarks((1, 0, 99), 2.0, 1.0, epoch=11, best_epoch=1, **settings)
    assert [remark.partition("try ")[2] for remark in told] == [
        "--lr 0.0002 or --weight-decay 0.005",
        "--lr 0.0002",
        "another --lr",
    ]
    (remark,) = remarks((1, 0, 99), init_from=["weights"])
    assert "--lambda-auxiliary" not in remark


def test_a_rising_loss_is_told():
    (remark,) = remarks(loss=2.0, lowest=1.0)
    assert remark == (
        "the classification loss on train has risen from 1.000 to 2.000; try --lr 3e-05, --clip-norm 1 or "
        "--anchor-loss hinge"
    )


def test_a_standstill_is_told_every_ten_validations():
    told = [epoch for epoch in range(1, 60) if remarks(epoch=epoch, best_epoch=5)]
    assert told == [15, 25, 35, 45, 55]
    told = [epoch for epoch in range(2, 60, 2) if remarks(epoch=epoch, best_epoch=4, eval_every=2)]
    assert told == [24, 44]
    assert (
        "than that of epoch 5, 10 ago; stop here, or try --lr-schedule" in remarks(epoch=15, best_epoch=5)[0]
    )
