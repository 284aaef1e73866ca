"""What images hash to is kept between runs, and forgotten where the image is another one."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from data.readers.trees_webdataset import write_webdataset

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.inspection import scan as scanning
from edgefel.data.inspection.scan import NO_KEY, Scan, ScanCache, image_keys, scan_images
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import open_dataset
from edgefel.errors import EdgefelWarning
from edgefel.files.cache import VARIABLE

LONG_AGO = 10**9


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def faces(tmp_path) -> ImageDataset:
    """Eight images, the last two equal and flat."""
    rng = np.random.default_rng(0)
    for number in range(8):
        image = (
            np.full((40, 50, 3), 7, np.uint8) if number > 5 else rng.integers(0, 256, (40, 50, 3), np.uint8)
        )
        write(tmp_path / f"{number}.png", image)
    samples = [
        Sample(tmp_path / f"{n}.png", 0, str(n), "train", box=(1, 2, 30, 30) if n == 3 else None)
        for n in range(8)
    ]
    return ImageDataset(tmp_path, EXPRESSIONS_7, tuple(samples))


def write(path, image, when=LONG_AGO):
    cv2.imwrite(str(path), image)
    os.utime(path, (when, when))


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """Indices of the images that are opened."""
    indices: list[int] = []
    real = scanning._open

    def count(dataset, index):
        indices.append(index)
        return real(dataset, index)

    monkeypatch.setattr(scanning, "_open", count)
    return indices


def scanned(dataset: ImageDataset, **options) -> Scan:
    cache = ScanCache(dataset.root)
    found = scan_images(dataset, cache=cache, fresh=False, **options)
    cache.save()
    return found


def columns(scan: Scan):
    return [getattr(scan, name).tolist() for name in ("size", "content", "coarse", "fine", "grey", "hashed")]


def test_the_second_time_nothing_is_opened_and_the_result_is_the_same(faces, opened):
    done: list[int] = []
    first = scanned(faces, progress=done.append)
    assert sorted(opened) == list(range(8))
    opened.clear()
    again = scanned(faces, progress=done.append)
    assert opened == []
    assert columns(again) == columns(first) == columns(scan_images(faces))
    assert first.content.tolist() == [0, 1, 2, 3, 4, 5, 6, 6]
    assert sum(done) == 16


def test_a_image_that_changed_is_opened_again(faces, opened):
    scanned(faces)
    opened.clear()
    write(faces.samples[2].path, np.zeros((40, 50, 3), np.uint8), LONG_AGO + 1)
    faces.samples[4].path.unlink()
    found = scanned(faces)
    assert sorted(opened) == [2, 4]
    assert list(found.unreadable) == [4]
    assert not found.hashed[2]
    # another box is another face
    other = ImageDataset(
        faces.root, faces.labels, (Sample(faces.samples[3].path, 0, "3", "train", box=(0, 0, 9, 9)),)
    )
    assert scanned(other).size.tolist() == [[9, 9]]


def test_a_subset_adds_to_what_is_known(faces, opened):
    scanned(faces.subset([0, 1]))
    scanned(faces.subset([0, 5]))
    opened.clear()
    scanned(faces)
    assert sorted(opened) == [2, 3, 4, 6, 7]


def test_entries_of_images_that_are_gone_do_not_pile_up(faces, opened, tmp_path):
    for time in range(5):
        for sample in faces.samples:
            os.utime(sample.path, (LONG_AGO + time, LONG_AGO + time))
        scanned(faces)
    (file,) = (tmp_path / "cache/scans").iterdir()
    assert len(np.load(file)) <= 2 * len(faces)
    opened.clear()
    scanned(faces)
    assert opened == []


def test_all_are_opened_where_that_is_the_point(faces, opened):
    scanned(faces)
    opened.clear()
    scan_images(faces, cache=ScanCache(faces.root))
    assert sorted(opened) == list(range(8))


def test_a_file_that_has_only_just_been_written_is_not_kept(faces):
    faces.samples[1].path.touch()
    keys = image_keys(faces)
    assert (keys == NO_KEY).tolist() == [number == 1 for number in range(8)]
    assert len(set(keys.tolist())) == 8


def test_members_of_archives_are_known_by_their_archive(tmp_path, opened):
    write_webdataset(tmp_path / "shards")
    for shard in (tmp_path / "shards").rglob("*.tar"):
        os.utime(shard, (LONG_AGO, LONG_AGO))
    dataset = open_dataset(tmp_path / "shards")
    scanned(dataset)
    opened.clear()
    scanned(dataset)
    assert opened == []
    for shard in (tmp_path / "shards").rglob("*.tar"):
        os.utime(shard, (LONG_AGO + 5, LONG_AGO + 5))
    scanned(dataset)
    assert sorted(opened) == list(range(len(dataset)))


def test_a_damaged_cache_is_said_and_written_anew(faces, opened, tmp_path):
    scanned(faces)
    (file,) = (tmp_path / "cache/scans").iterdir()
    for damage in (b"", b"no array", file.read_bytes()[:-7]):
        file.write_bytes(damage)
        opened.clear()
        with pytest.warns(EdgefelWarning, match="not taken from the cache"):
            scanned(faces)
        assert sorted(opened) == list(range(8))
        opened.clear()
        scanned(faces)
        assert opened == []


def test_a_cache_that_cannot_be_written_is_said(faces, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.warns(EdgefelWarning, match="cannot make the cache folder"):
        assert scanned(faces).readable.all()
