"""What a check of a bundle compares on and reports; whole checks are in tests/cli/test_parity.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.errors import EdgefelError
from edgefel.export.parity.check import BundleCheck, _held_out, recall_figure
from edgefel.export.parity.compare import compare
from edgefel.export.parity.limits import ParityLimits

LABELS = ("neutral", "happiness", "sadness")


def dataset(*splits: str) -> ImageDataset:
    samples = tuple(Sample(Path(f"{i}.png"), i % 3, str(i), split) for i, split in enumerate(splits))
    return ImageDataset(Path("faces"), LABELS, samples)


def check(**changes: object) -> BundleCheck:
    """40 images of two classes and 5 of the third; the second file takes 20 of class 1 for class 0."""
    targets = np.repeat([0, 1, 2], [40, 40, 5])
    right = np.eye(3, dtype=np.float32)[targets] * np.float32(0.8) + np.float32(0.2 / 3)
    wrong = right.copy()
    wrong[40:60] = right[0]
    outputs = [{"logits": p, "primary": p, "probabilities": p} for p in (right, right, wrong)]
    limits = ParityLimits(max_recall_loss=1.5, min_images=10)
    options = {"targets": targets, "labels": LABELS, "outputs": tuple(outputs[0])}
    files = {
        f"model.{name}.onnx": compare(outputs[0], one, limits, **options)
        for name, one in zip(("fp16", "int8"), outputs[1:], strict=True)
    }
    values = {
        "bundle": "bundle",
        "checkpoint": "run",
        "data": "faces",
        "votes": None,
        "split": "test",
        "labels": LABELS,
        "classes": {},
        "images": 85,
        "left_out": {"train": 3, "calibration": 1},
        "skipped": ("a.png",),
        "files": files,
        "precisions": {name: name.split(".")[1] for name in files},
        "warnings": (),
    }
    return BundleCheck(**{**values, **changes})


@pytest.mark.parametrize(("split", "expected"), [("val", [1]), ("test", [2, 4]), ("all", [1, 2, 4, 5])])
def test_images_of_the_split_train_are_never_compared_on(split, expected):
    pool, untrained = _held_out(dataset("train", "val", "test", "train", "test", ""), split)
    assert (list(pool), untrained) == (expected, 4)


def test_a_split_without_images_is_refused_with_what_there_is():
    with pytest.raises(EdgefelError, match=r"no images to compare on in 'test' \(it has train, val\)"):
        _held_out(dataset("train", "val"), "test")
    with pytest.raises(EdgefelError, match="no images to compare on in 'val' .it has no splits"):
        _held_out(dataset("", ""), "val")
    with pytest.raises(EdgefelError, match="split 'train': choose one of val, test, all"):
        _held_out(dataset("train"), "train")


def test_the_report_is_plain_json_and_says_whether_a_file_failed():
    found = check()
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["labels"] == list(LABELS)
    assert plain["left_out"] == {"train": 3, "calibration": 1}
    assert {name: row["verdict"] for name, row in plain["files"].items()} == {
        "model.fp16.onnx": "warn",
        "model.int8.onnx": "fail",
    }
    assert (found.refused, plain["refused"]) == (True, True)
    first = {"model.fp16.onnx": found.files["model.fp16.onnx"]}
    assert not check(files=first).refused


def test_the_figure_marks_every_class_of_every_file_and_those_that_are_too_small():
    pytest.importorskip("matplotlib", reason="draws a figure")
    axis = recall_figure(check()).axes[0]
    marks = [line for line in axis.get_lines() if line.get_marker() == "o" and len(line.get_xdata())]
    assert [round(float(line.get_ydata()[0]), 6) for line in marks] == [0, 0, 0, 0, -50, 0]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False, False, True] * 2
    assert [text.get_text() for text in axis.get_xticklabels()] == [
        "neutral\n40 images",
        "happiness\n40 images",
        "sadness\n5 images",
    ]
    dashed = [line for line in axis.get_lines() if line.get_linestyle() == "--"]
    assert [float(line.get_ydata()[0]) for line in dashed] == [-1.5]
