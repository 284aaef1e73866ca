"""An inspection as text and as plots."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.inspection.inspect import Inspection, inspect_dataset
from edgefel.data.inspection.report import balance_figure, facts, findings, pairs_sheet


def image(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Inspection:
    """An image in train; its copy under another label and a darker one in test, by the same person; an empty file."""
    root = tmp_path_factory.mktemp("faces")
    cv2.imwrite(str(root / "first.png"), image(0))
    (root / "copy.png").write_bytes((root / "first.png").read_bytes())
    cv2.imwrite(str(root / "dark.png"), cv2.convertScaleAbs(image(0), alpha=0.8))
    (root / "empty.png").touch()
    rows = (
        ("first", 0, "a", "train"),
        ("copy", 1, "a", "test"),
        ("dark", 0, "b", "test"),
        ("empty", 0, "c", ""),
    )
    samples = (Sample(root / f"{name}.png", label, group, split) for name, label, group, split in rows)
    return inspect_dataset(ImageDataset(root, ("fear", "joy"), tuple(samples)))


def test_facts_are_the_counts(found):
    text = "\n".join(facts(found))
    for line in (
        "groups: 3, of 1 to 2 images, median 1; 1 in more than one split",
        "soft labels: no; boxes: no",
        "shorter side: 90 to 90 pixels, median 90; 3 faces smaller than 112\n  64-95: 3",
        "grey: 0; of one colour: 0; unreadable: 1",
        "copies: 1 file is there more than once, 1 superfluous; 1 across splits, 1 under different labels",
        "look alike (up to 4 of 64 bits): 2 pairs; 1 across splits, 1 under different labels; 0 more inside",
    ):
        assert line in text


def test_findings_are_named(found):
    root = found.dataset.root
    lines = findings(found)
    assert f"unreadable: {root}/empty.png: the file is empty" in lines
    assert "group in several splits: a: train 1, test 1" in lines
    assert f"copies: {root}/first.png (train, fear) = {root}/copy.png (test, joy)" in lines
    assert sum(line.startswith("look alike: ") for line in lines) == 2


def test_bars_are_the_counts_of_classes_by_split(found):
    (axis,) = balance_figure(found).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["fear", "joy"]
    assert [text.get_text() for text in axis.texts] == ["3\n75.0%", "1\n25.0%"]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axis.containers}
    assert heights == {"train": [1, 0], "test": [1, 1], "no split": [1, 0]}


def test_pairs_are_side_by_side_in_a_sheet(found):
    sheet = pairs_sheet(found, side=32)
    assert sheet.shape == (2 * 36 + 4, 250 + 2 * 36 + 4, 3)
    left, right = sheet[4:36, 250:282], sheet[4:36, 286:318]
    assert left.std() > 10
    assert right.std() > 10
    assert pairs_sheet(inspect_dataset(found.dataset.subset([0, 3]))) is None
