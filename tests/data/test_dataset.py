"""Samples as objects and as columns say the same; images come from files and from stores."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.dataset import UNLABELLED, FileStore, ImageDataset, Sample, SampleTable
from edgefel.data.images import UnreadableImageError

LABELS = ("neutral", "happiness", "sadness")
COUNT = 12


class Memory:
    """Images in memory: number n is all of the grey n."""

    def path(self, index: int) -> Path:
        return Path("archive.tar") / f"{index}.png"

    def read(self, index: int) -> bytes:
        if index == 7:
            raise OSError("a broken\nmember")
        return cv2.imencode(".png", np.full((4, 6, 3), index, np.uint8))[1].tobytes()


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    soft = generator.random((COUNT, 3), np.float32)
    return SampleTable(
        Memory(),
        np.arange(COUNT) % 3,
        np.arange(COUNT) // 4,
        ("anna", "ben", "carl"),
        ["train", "val", "", "test"] * 3,
        soft=soft / soft.sum(1, keepdims=True),
    )


@pytest.fixture(params=["columns", "objects"])
def dataset(request, table):
    samples = table if request.param == "columns" else tuple(table)
    return ImageDataset(Path("archive.tar"), LABELS, samples)


def test_a_row_is_a_sample(table):
    sample = table[5]
    assert (sample.label, sample.group, sample.split) == (2, "ben", "val")
    assert sample.path == Path("archive.tar/5.png")
    assert sample.soft == pytest.approx(table.soft[5])
    assert table[-1] == table[COUNT - 1]
    with pytest.raises(IndexError):
        table[COUNT]
    assert [one.path for one in table[2:4]] == [table[2].path, table[3].path]


def test_columns_and_objects_say_the_same(dataset):
    assert dataset.targets().tolist() == [0, 1, 2] * 4
    assert dataset.groups().tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.in_split("val").tolist() == [1, 5, 9]
    assert dataset.in_split("").tolist() == [2, 6, 10]
    assert dataset.soft_targets() == pytest.approx(np.array([sample.soft for sample in dataset.samples]))


def test_a_subset_keeps_what_belongs_to_a_sample(dataset):
    chosen = dataset.subset([9, 0, 4])
    assert [sample.path.name for sample in chosen.samples] == ["9.png", "0.png", "4.png"]
    assert [sample.group for sample in chosen.samples] == ["carl", "anna", "ben"]
    assert chosen.targets().tolist() == [0, 0, 1]
    assert chosen.load(0)[0, 0].tolist() == [9, 9, 9]
    again = chosen.subset(np.array([2]))
    assert again.samples[0].soft == dataset.samples[4].soft
    assert again.load(0)[0, 0].tolist() == [4, 4, 4]


def test_a_member_that_cannot_be_read_is_named(dataset):
    with pytest.raises(UnreadableImageError, match=r"archive.tar/7.png: cannot be read \(a broken member\)"):
        dataset.load(7)


def test_no_soft_labels_where_one_has_none(table):
    samples = (*tuple(table), Sample(Path("x.png"), 0, "x", ""))
    assert ImageDataset(Path(), LABELS, samples).soft_targets() is None


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"columns of lengths \[3, 2, 3, 3\]"):
        SampleTable(Memory(), np.zeros(3), np.zeros(2), ("a",), "train")


def test_files_are_files(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((3, 5, 3), (1, 2, 3), np.uint8))
    table = SampleTable(FileStore(tmp_path, ["a.png", "b.png"]), [0, UNLABELLED], [0, 0], ("g",), "train")
    sample = table[0]
    assert sample.is_file
    assert sample == Sample(tmp_path / "a.png", 0, "g", "train")
    assert sample.load()[0, 0].tolist() == [3, 2, 1]
    with pytest.raises(UnreadableImageError, match=r"b.png: cannot be read \(No such file"):
        table[1].load()


@pytest.mark.parametrize(
    ("box", "shape", "first"),
    [((2, 1, 3, 2), (2, 3), 8), ((-1, -1, 3, 3), (2, 2), 0), ((4, 3, 9, 9), (1, 2), 22)],
)
def test_a_box_is_cut_out_as_far_as_it_lies_in_the_image(tmp_path, box, shape, first):
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    sample = Sample(tmp_path / "a.png", 0, "", "", box=box)
    assert not sample.is_file
    face = sample.load()
    assert face.shape == (*shape, 3)
    assert face[0, 0].tolist() == [first] * 3


def test_a_box_outside_is_unreadable(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 6), np.uint8))
    with pytest.raises(
        UnreadableImageError, match=r"its box \(6, 0, 2, 2\) lies outside of its \(6, 4\) pixels"
    ):
        Sample(tmp_path / "a.png", 0, "", "", box=(6, 0, 2, 2)).load()


def test_boxes_travel_with_rows():
    table = SampleTable(
        Memory(), [0, 0], [0, 0], ("g",), "", box=np.array([[0, 0, 2, 2], [1, 1, 2, 2]], np.int32)
    )
    assert table.subset(np.array([1]))[0].box == (1, 1, 2, 2)
    assert not table[0].is_file
