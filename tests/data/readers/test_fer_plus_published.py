"""FER+ as it is published: the counts of the benchmark, and what its two files of votes say of each other."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset
from edgefel.data.inspection.duplicates import CopyCounts, ImageColumns, find_copies
from edgefel.data.inspection.perceptual_hash import FINE_WORDS
from edgefel.data.inspection.scan import Scan
from edgefel.data.open import open_dataset

ARCHIVE = Path(__file__).parents[4] / "shared/data/fer-plus.zip"

pytestmark = [
    pytest.mark.skipif(
        not ARCHIVE.is_file(), reason=f"FER+ is not in {ARCHIVE}; it is not a part of the project"
    ),
    pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning"),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """The lists and one image of each folder, and the hash of every image by name, read from the archive.

    The archive's checksums would not do: a PNG ends with the checksum of its data, so that those of different images
    are equal.
    """
    root = tmp_path_factory.mktemp("fer-plus")
    told: dict[str, bytes] = {}
    begun: set[str] = set()
    with zipfile.ZipFile(ARCHIVE) as archive:
        for member in archive.infolist():
            folder, _, name = member.filename.rpartition("/")
            if name.lower().endswith(".png"):
                told[name] = hashlib.sha256(archive.read(member)).digest()
                if folder in begun:
                    continue
                begun.add(folder)
            archive.extract(member, root)
    return root, told


def copies(dataset: ImageDataset, told: dict[str, bytes]) -> CopyCounts:
    numbers: dict[bytes, int] = {}
    content = [numbers.setdefault(told[sample.path.name], len(numbers)) for sample in dataset.samples]
    count = len(dataset)
    nothing = np.zeros(count, np.bool_)
    scan = Scan(
        np.full((count, 2), 48, np.int32),
        np.array(content, np.int64),
        np.zeros(count, np.uint64),
        np.zeros((count, FINE_WORDS), np.uint64),
        nothing,
        nothing,
        {},
    )
    return find_copies(ImageColumns.of(dataset), scan, 0)


@pytest.mark.parametrize(
    ("layout", "counts", "across", "contradicting"),
    [
        (None, (25060, 3199, 3153), 502, 0),
        ("fer-plus:label.csv", (25045, 3191, 3137), 457, 117),
        ("fer-plus-7", (24941, 3186, 3137), 497, 0),
    ],
)
def test_counts_disagreement_and_copies_by_each_file(published, layout, counts, across, contradicting):
    root, told = published
    dataset = open_dataset(root, layout=layout)
    assert tuple(len(dataset.in_split(split)) for split in ("train", "val", "test")) == counts
    votes = dataset.votes
    assert votes is not None
    assert (votes.compared, votes.votes_differ, votes.class_differs) == (35710, 1602, 119)
    found = copies(dataset, told)
    assert found.across_splits == across
    assert found.contradicting == contradicting
