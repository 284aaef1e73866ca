"""Which reader opens what."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
from data.readers.trees_aff_wild2 import write_aff_wild2
from data.readers.trees_affectnet import write_affectnet, write_affectnet_npy
from data.readers.trees_expw import faces_of_every_class, write_expw
from data.readers.trees_fer_plus import write_fer_plus, write_fer_plus_folders
from data.readers.trees_ferg import write_ferg
from data.readers.trees_jaffe import write_jaffe
from data.readers.trees_raf_db import write_raf_db, write_sorted_raf_db
from data.readers.trees_webdataset import write_webdataset

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import LAYOUTS, READERS, open_dataset
from edgefel.errors import EdgefelError


@pytest.fixture
def folder(tmp_path):
    for split, name in (("train", "happy"), ("train", "sad"), ("test", "happy")):
        image = tmp_path / "faces" / split / name / "1.png"
        image.parent.mkdir(parents=True)
        cv2.imwrite(str(image), np.zeros((4, 4, 3), np.uint8))
    return tmp_path / "faces"


# of each published layout, and the readers that may claim it
TREES = {
    "raf-db": (write_raf_db, {"raf-db"}),
    "raf-db sorted": (write_sorted_raf_db, {"raf-db"}),
    "affectnet": (write_affectnet, {"affectnet", "affectnet-7"}),
    "affectnet npy": (write_affectnet_npy, {"affectnet", "affectnet-7"}),
    "aff-wild2": (write_aff_wild2, {"aff-wild2", "aff-wild2-7"}),
    "fer-plus": (write_fer_plus, {"fer-plus", "fer-plus-7"}),
    "fer-plus folders": (write_fer_plus_folders, {"fer-plus", "fer-plus-7"}),
    "expw": (functools.partial(write_expw, faces=faces_of_every_class(2)), {"expw"}),
    "jaffe": (write_jaffe, {"jaffe"}),
    "ferg": (write_ferg, {"ferg"}),
    "webdataset": (write_webdataset, {"webdataset"}),
}


@pytest.mark.parametrize("name", TREES)
def test_a_published_layout_is_claimed_by_its_reader_alone(tmp_path, name):
    write, readers = TREES[name]
    write(tmp_path / "set")
    assert {reader.name for reader in READERS if reader.recognizes(tmp_path / "set")} == readers
    dataset = open_dataset(tmp_path / "set")
    assert dataset.labels == LAYOUTS[name.split()[0]].read(tmp_path / "set").labels
    assert dataset.labels[:7] == EXPRESSIONS_7
    assert sorted(set(dataset.targets().tolist())) == list(range(len(dataset.labels)))


def test_names_of_layouts_are_different():
    assert len(LAYOUTS) == len(READERS)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_no_reader_is_upset_by_what_is_not_there(tmp_path, reader):
    assert not reader.recognizes(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"\xff\x00")
    assert not reader.recognizes(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert not reader.recognizes(tmp_path / "empty")


def test_a_split(folder):
    assert len(open_dataset(folder)) == 3
    train = open_dataset(folder, "train", layout="folder")
    assert [sample.split for sample in train.samples] == ["train", "train"]
    with pytest.raises(EdgefelError, match=r"no images in the split 'val' \(it has train, test\)"):
        open_dataset(folder, "val")


def test_an_unknown_layout_or_split(folder):
    with pytest.raises(EdgefelError, match="layout 'imagenet' is not known; choose one of: .*folder"):
        open_dataset(folder, layout="imagenet")
    with pytest.raises(EdgefelError, match="split 'dev': choose one of train, val, test"):
        open_dataset(folder, "dev")
    with pytest.raises(EdgefelError, match="no such folder"):
        open_dataset(folder / "missing")


@pytest.mark.parametrize("layout", [None, "folder"])
def test_an_archive_is_to_be_unpacked(tmp_path, layout):
    (tmp_path / "fer-plus.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(EdgefelError, match=r"fer-plus\.zip: is not a folder; unpack an archive first"):
        open_dataset(tmp_path / "fer-plus.zip", layout=layout)
