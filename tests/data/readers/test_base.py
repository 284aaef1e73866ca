"""Steps that readers share."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from edgefel.data.dataset import FileStore
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.base import PackedNames, group_codes, numbered_dataset, own_groups
from edgefel.errors import EdgefelError


def test_packed_names() -> None:
    names = ["", "a/ä.png", "", "\udcff.png", "z"]
    packed = PackedNames.pack(names)
    assert list(packed) == names
    assert packed[-1] == "z"
    assert packed[1:4] == names[1:4]
    assert list(pickle.loads(pickle.dumps(packed))) == names
    assert list(PackedNames.pack([])) == []
    with pytest.raises(IndexError):
        packed[5]


def test_numbers_of_a_set_become_labels_in_the_canonical_order(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    store, classes = FileStore(tmp_path, names), ("anger", *EXPRESSIONS_7[:-1])
    grouped = numbered_dataset(
        tmp_path, EXPRESSIONS_7, store, [0, 1, 6], classes, group_codes(["x", "y", "x"]), ["train", "", "val"]
    )
    assert [EXPRESSIONS_7[label] for label in grouped.targets()] == ["anger", "neutral", classes[6]]
    assert [(sample.group, sample.split) for sample in grouped.samples] == [
        ("x", "train"),
        ("y", ""),
        ("x", "val"),
    ]
    box = np.ones((3, 4), np.int32)
    apart = numbered_dataset(
        tmp_path, EXPRESSIONS_7, store, [0, 0, 0], classes, own_groups(["a", "a", "b"]), box=box
    )
    assert apart.groups().tolist() == [0, 1, 2]
    assert apart.samples[2].box == (1, 1, 1, 1)
    with pytest.raises(EdgefelError, match="line 2: class 7 is unknown"):
        numbered_dataset(
            tmp_path,
            EXPRESSIONS_7,
            store,
            [7],
            classes,
            own_groups(["a"]),
            where=lambda row: f"labels line {row + 2}",
        )
