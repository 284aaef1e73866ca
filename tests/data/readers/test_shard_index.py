"""The index of shards: made once, and what it refuses."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from data.readers.trees_webdataset import CLASSES, IMAGE, image, soft_and_box, write_tar, write_webdataset

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers import shard_index
from edgefel.data.readers.webdataset import WebDataset
from edgefel.errors import EdgefelError

pytestmark = pytest.mark.usefixtures("cache")


def test_the_index_is_made_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_webdataset(tmp_path / "set")
    first = WebDataset().read(tree.root)
    with monkeypatch.context() as patch:
        patch.setattr(shard_index, "_members", lambda shard: pytest.fail("the headers are read again"))
        second = WebDataset().read(tree.root)
    assert list(second.samples) != []
    for one, other in zip(first.samples, second.samples, strict=True):
        assert (one.path, one.label, one.group, one.split) == (
            other.path,
            other.label,
            other.group,
            other.split,
        )
        assert one.read() == other.read()
    # a shard that has changed, and an index that is damaged, are read again
    write_tar(tree.root / "train-000001.tar", [("a.png", image(7)), ("a.cls", b"fear")])
    assert len(list(cache.iterdir())) == 1
    changed = WebDataset().read(tree.root)
    assert [s.label for s in changed.samples if s.path.stem == "a"] == [EXPRESSIONS_7.index("fear")]
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert len(WebDataset().read(tree.root)) == len(first)


def test_it_reads_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "file"))
    assert len(WebDataset().read(write_webdataset(tmp_path / "set").root)) == 10


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([IMAGE], r"sample k: has no label; add k\.cls or k\.json"),
        ([IMAGE, ("k.pickle", b"x")], "sample k: has no label"),
        ([("k.cls", b"fear")], r"sample k: has a label but no image beside it \(jpeg, jpg, png, webp\)"),
        ([IMAGE, ("l.png", image(0)), ("k.cls", b"fear")], "sample k: has no label"),
        ([IMAGE, ("k.jpg", b""), ("k.cls", b"fear")], "two members for its image; keep one"),
        ([IMAGE, ("k.cls", b"boredom")], r"k\.cls: unknown label 'boredom'; the labels are"),
        ([IMAGE, ("k.cls", b"")], "unknown label ''"),
        ([IMAGE, ("k.cls", b"7")], r"k\.cls: class 7 is unknown; its classes are 0 to 6: surprise, fear"),
        ([IMAGE, ("k.cls", b"-1")], "class -1 is unknown"),
        ([IMAGE, ("k.cls", b"\xff")], r"k\.cls is not UTF-8 text"),
        ([IMAGE, ("k.cls", b"1" * 2_000_000)], "has 2000000 bytes, which is no label"),
        ([IMAGE, ("k.json", b"{")], r"k\.json: not valid JSON"),
        ([IMAGE, ("k.json", b"[]")], "not a JSON object"),
        ([IMAGE, ("k.json", b"{}")], 'has no "label"'),
        ([IMAGE, ("k.json", b'{"label": true}')], "unknown label True"),
        ([IMAGE, ("k.cls", b"fear"), ("k.json", b'{"label": 0}')], "says surprise, but the .cls file fear"),
        ([IMAGE, ("k.json", b'{"label": 0, "split": "dev"}')], "split 'dev' is unknown"),
        ([IMAGE, ("k.json", b'{"label": 0, "soft": [1]}')], "a list of 1 for 7 known classes"),
        ([IMAGE, ("k.json", b'{"label": 0, "soft": {"fear": 0.5}}')], "not a distribution"),
        ([IMAGE, ("k.json", b'{"label": 0, "soft": {"fear": 1.5, "joy": -0.5}}')], "not a distribution"),
        ([IMAGE, ("k.json", b'{"label": 0, "soft": {"bored": 1}}')], "unknown label 'bored'"),
        ([IMAGE, ("k.json", b'{"label": 0, "soft": {"fear": NaN}}')], "NaN is not a JSON number"),
        ([IMAGE, ("k.json", b'{"label": 0, "box": [1, 2, 3]}')], r"box \[1, 2, 3\] is not \[x, y"),
        ([IMAGE, ("k.json", b'{"label": 0, "box": [1, 2, 0, 3]}')], "has no area"),
        (
            [("j.png", b""), ("j.json", soft_and_box(0)), IMAGE, ("k.cls", b"fear")],
            "sample k: samples with soft and without it are mixed",
        ),
        ([("notes.txt", b"")], "1 shard and no labelled images in it"),
    ],
)
def test_what_a_sample_may_not_be(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/classes.txt").write_text("\n".join(CLASSES))
    write_tar(tmp_path / "set/0.tar", members)
    with pytest.raises(EdgefelError, match=message):
        WebDataset().read(tmp_path / "set")


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.size": str(1 << 60), "GNU.sparse.map": "0,0"},
        {"GNU.sparse.size": "8", "GNU.sparse.map": "none,at all"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "many"},
    ],
)
def test_a_member_may_not_claim_a_size_that_it_has_not(tmp_path: Path, headers: dict[str, str]) -> None:
    """Else an image of an exabyte is read when its turn comes in training."""
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set/0.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("k.png")
        member.pax_headers = headers
        archive.addfile(member)
        label = tarfile.TarInfo("k.cls")
        label.size = 4
        archive.addfile(label, io.BytesIO(b"fear"))
    with pytest.raises(EdgefelError, match=r"0\.tar: cannot be read as a tar archive \("):
        WebDataset().read(tmp_path / "set")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_no_images(tmp_path: Path, kind: bytes) -> None:
    """Nothing is unpacked, and nothing but the shard is read."""
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set/0.tar", "w") as archive:
        member = tarfile.TarInfo("../../k.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
        label = tarfile.TarInfo("../../k.cls")
        label.size = 4
        archive.addfile(label, io.BytesIO(b"fear"))
    with pytest.raises(EdgefelError, match="has a label but no image beside it"):
        WebDataset().read(tmp_path / "set")


def test_numbers_need_the_names_of_the_classes(tmp_path: Path) -> None:
    write_tar(tmp_path / "set/0.tar", [IMAGE, ("k.cls", b"0")])
    with pytest.raises(EdgefelError, match=r"class 0 is a number, .*put classes\.txt beside the shards"):
        WebDataset().read(tmp_path / "set")


# at a header of 512 bytes, in one, in an image, and before the mark of the end
@pytest.mark.parametrize("size", [0, 1024, 1300, 700, 2048])
def test_broken_archives(tmp_path: Path, size: int) -> None:
    shard = write_tar(tmp_path / "0.tar", [IMAGE, ("k.cls", b"fear")])
    assert len(WebDataset().read(shard)) == 1
    os.truncate(shard, size)
    with pytest.raises(EdgefelError, match=r"0\.tar: cannot be read as a tar archive"):
        WebDataset().read(shard)
