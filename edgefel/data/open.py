"""Opens a data set of any layout."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from edgefel.data.dataset import SPLITS, ImageDataset
from edgefel.data.readers.aff_wild2 import AffWild2
from edgefel.data.readers.affectnet import AffectNet
from edgefel.data.readers.base import Reader
from edgefel.data.readers.expw import ExpW
from edgefel.data.readers.fer_plus import FerPlus
from edgefel.data.readers.ferg import Ferg
from edgefel.data.readers.folder import ImageFolder
from edgefel.data.readers.jaffe import Jaffe
from edgefel.data.readers.manifest import ManifestReader
from edgefel.data.readers.raf_db import RafDb
from edgefel.data.readers.webdataset import WebDataset
from edgefel.data.votes import layout_with_votes
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.remote import Address, as_path

# In order of precedence: of two readers of one layout, the one with more classes is first. The last reads any folder.
READERS: tuple[Reader, ...] = (
    RafDb(),
    AffectNet(),
    AffectNet(7),
    AffWild2(),
    AffWild2(other=False),
    FerPlus(),
    FerPlus(7),
    ExpW(),
    Jaffe(),
    Ferg(),
    ManifestReader(),
    WebDataset(),
    ImageFolder(),
)
LAYOUTS = {reader.name: reader for reader in READERS}
# those that take no search through folders and read no lists but their own
AT_ADDRESSES = ("manifest", "webdataset", "folder")


def open_dataset(
    path: str | os.PathLike[str], split: str | None = None, layout: str | None = None
) -> ImageDataset:
    """Opens a data set on a disk or at an address, such as s3://bucket/faces; its labels are in the canonical order.

    layout: name of a reader (LAYOUTS), by default the first that recognizes the set; that of FER+ may name its file of
    votes, as in "fer-plus:label.csv" (`layout_with_votes`). split: keeps one split. Images are not opened.
    Raises EdgefelError for a missing or empty data set, an unknown layout or label, an empty split, and a layout that
    is not among AT_ADDRESSES at an address.
    """
    root = as_path(path)
    if split is not None and split not in SPLITS:
        raise EdgefelError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
    named = None if layout is None else _named(layout)
    if isinstance(root, Address):
        return _open_address(root, split, named)
    if not root.exists():
        raise EdgefelError(f"{root}: no such folder or file; make one with: edgefel data synth -o {root}")
    reader = named or next((reader for reader in READERS if reader.recognizes(root)), READERS[-1])
    dataset = reader.read(root)
    return dataset if split is None else only_split(dataset, split)


def _open_address(root: Address, split: str | None, named: Reader | None) -> ImageDataset:
    if named is not None and named.name not in AT_ADDRESSES:
        raise EdgefelError(
            f"{root}: the layout {named.name} is read from a disk only; copy it to one, or write it as shards there "
            "and upload these: edgefel data prepare SET -o OUT --shards 10000"
        )
    if not root.exists():
        raise EdgefelError(f"{root}: nothing is there; is the address right?")
    readers = (LAYOUTS[name] for name in AT_ADDRESSES)
    reader = named or next((reader for reader in readers if reader.recognizes(root)), None)
    if reader is None:
        raise EdgefelError(
            f"{root}: no labelled set that can be read at an address: a CSV or Parquet manifest, WebDataset shards, "
            "labels.csv, or a folder for each class; copy other layouts to a disk"
        )
    dataset = reader.read(root)
    return dataset if split is None else only_split(dataset, split)


def only_split(dataset: ImageDataset, split: str) -> ImageDataset:
    """The samples of a split; raises EdgefelError if there are none."""
    chosen = dataset.in_split(split)
    if not chosen.size:
        found = [name for name in SPLITS if dataset.in_split(name).size]
        advice = f"divide it with: edgefel data prepare {dataset.root} -o OUT --splits 0.8,0.1,0.1"
        if found:
            advice = "name splits in labels.csv or sort the class folders into train/, val/ and test/"
        has = f"(it has {', '.join(found) or 'no splits'})"
        raise EdgefelError(f"{dataset.root}: no images in the split {split!r} {has}; {advice}")
    return dataset.subset(chosen)


def by_other_votes(dataset: ImageDataset) -> ImageDataset | None:
    """The images of FER+ with the labels of its other file of votes; None if there is none."""
    votes = dataset.votes
    if votes is None or votes.other is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgefelWarning)  # that the two differ was reported already
        layout = layout_with_votes(votes.layout.partition(":")[0], votes.other)
        return open_dataset(dataset.root, layout=layout)


def is_labelled(path: str | os.PathLike[str]) -> bool:
    """Whether a reader finds labels for the images at `path`."""
    return any(reader.recognizes(Path(path)) for reader in READERS)


def _named(layout: str) -> Reader:
    name, colon, votes = layout.partition(":")
    reader = LAYOUTS.get(name)
    if colon and isinstance(reader, FerPlus):
        return FerPlus(len(reader.classes), votes)
    if colon or reader is None:
        raise EdgefelError(f"layout {layout!r} is not known; choose one of: {', '.join(LAYOUTS)}")
    return reader
