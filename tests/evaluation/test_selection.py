"""The images of a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.errors import EdgefelError
from edgefel.evaluation.inference import Outputs
from edgefel.evaluation.selection import (
    CORRECTED,
    SPOILED,
    SURE,
    UNSURE,
    choose_images,
    find_images,
    rows_of,
)


def test_the_images_that_are_chosen():
    """Row 0 put right, 1 put right by more, 2 spoiled, 3 sure, 4 undecided."""
    primary = np.array([[0.45, 0.55], [0.2, 0.8], [0.6, 0.4], [0.99, 0.01], [0.5, 0.5]])
    corrected = np.array([[0.55, 0.45], [0.7, 0.3], [0.4, 0.6], [0.99, 0.01], [0.5, 0.5]])
    outputs, targets = Outputs(np.arange(5), primary, corrected), np.zeros(5, int)
    chosen = choose_images(outputs, targets, 4, head=True)
    assert [(one.row, one.why) for one in chosen] == [(1, CORRECTED), (2, SPOILED), (3, SURE), (4, UNSURE)]
    assert len(choose_images(outputs, targets, 12, head=True)) == 5
    assert {one.why for one in choose_images(outputs, targets, 4, head=False)} == {SURE, UNSURE}


def test_images_that_are_asked_for(tmp_path):
    names = ("a.png", "sub/b.png", "c.png", "d.png")
    listed = ImageDataset(
        tmp_path, ("fear",), tuple(Sample(tmp_path / name, 0, name, "test") for name in names)
    )
    assert find_images(listed, [Path("sub/b.png"), listed.root / "a.png", Path("b.png")]) == (1, 0)
    with pytest.raises(EdgefelError, match=r"z.png: none of the 4 images"):
        find_images(listed, [Path("z.png")])
    with pytest.raises(EdgefelError, match=r"\.png: none"):
        find_images(listed, [Path(".png")])
    outputs = Outputs(np.array([0, 2]), np.eye(2), np.eye(2))
    assert [one.row for one in rows_of(outputs, listed, [2])] == [1]
    with pytest.raises(EdgefelError, match="b.png: cannot be read"):
        rows_of(outputs, listed, [1])
