from __future__ import annotations

import io
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data.readers.trees_ferg import write_ferg
from data.readers.trees_webdataset import CLASSES, image, soft_and_box, write_tar, write_webdataset

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.readers import shard_index
from edgefel.data.readers.shard_writer import write_shards
from edgefel.data.readers.webdataset import WebDataset
from edgefel.errors import EdgefelError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


def key(sample: Sample, root: Path) -> str:
    member = sample.path.relative_to(root).as_posix().partition(".tar/")[2]
    return member.rpartition(".")[0]


def test_numbers_names_and_json(tmp_path: Path) -> None:
    tree = write_webdataset(tmp_path / "set")
    dataset = WebDataset().read(tree.root)
    assert dataset.labels == EXPRESSIONS_7
    found = {key(s, tree.root): (dataset.labels[s.label], s.split) for s in dataset.samples}
    assert found == tree.samples
    for index, sample in enumerate(dataset.samples):
        level = list(tree.samples).index(key(sample, tree.root))
        assert abs(int(dataset.load(index)[0, 0, 0]) - level) <= 2  # JPEG and WebP are lossy
        assert not sample.is_file
    groups = {key(s, tree.root): s.group for s in dataset.samples}
    assert groups["a"] == "train-000001.tar/a"
    assert groups["c"] == "7"
    assert "clip 1" in groups.values()


def test_one_shard_finds_the_classes_beside_it(tmp_path: Path) -> None:
    tree = write_webdataset(tmp_path / "set")
    dataset = WebDataset().read(tree.root / "train-000000.tar")
    assert [dataset.labels[s.label] for s in dataset.samples] == [v[0] for v in tree.samples.values()][:7]


@pytest.mark.parametrize(
    ("shard", "split"), [("valid/000.tar", "val"), ("validated-0.tar", ""), ("TEST.tar", "test")]
)
def test_splits_by_folder_and_by_name(tmp_path: Path, shard: str, split: str) -> None:
    write_tar(tmp_path / "set" / shard, [("a.png", image(0)), ("a.cls", b"fear")])
    for root in (tmp_path / "set", (tmp_path / "set" / shard).parent):
        assert [s.split for s in WebDataset().read(root).samples] == [split]


def test_dataset_json_gives_the_order_too(tmp_path: Path) -> None:
    shard = tmp_path / "train/0.tar"
    write_tar(shard, [("a.png", image(0)), ("a.cls", b"7")])
    (tmp_path / "dataset.json").write_text('{"labels": ["' + '","'.join(EXPRESSIONS_8[::-1]) + '"]}')
    for root in (tmp_path, tmp_path / "train", shard):
        dataset = WebDataset().read(root)
        assert dataset.labels == EXPRESSIONS_8
        assert dataset.labels[dataset.samples[0].label] == "neutral"


def test_soft_labels_and_boxes(tmp_path: Path) -> None:
    members = [m for n in (0, 1) for m in ((f"{n}.png", image(n)), (f"{n}.json", soft_and_box(n)))]
    dataset = WebDataset().read(write_tar(tmp_path / "0.tar", members))
    first, second = dataset.samples
    assert first.soft == pytest.approx([0.4 if name == "fear" else 0.1 for name in EXPRESSIONS_7])
    assert (first.box, second.box) == ((0, 1, 3, 4), (1, 1, 3, 4))
    assert dataset.load(0).shape == (4, 3, 3)


def test_what_is_recognized(tmp_path: Path) -> None:
    reader = WebDataset()
    tree = write_webdataset(tmp_path / "set")
    assert reader.recognizes(tree.root)
    assert reader.recognizes(tree.root / "train-000001.tar")
    assert not reader.recognizes(tree.root / "classes.txt")
    assert not reader.recognizes(tmp_path / "nowhere")
    assert not reader.recognizes(write_ferg(tmp_path / "ferg").root)
    write_tar(tmp_path / "packed/images.tar", [("images/a.png", image(0)), ("images/b.png", image(0))])
    assert not reader.recognizes(tmp_path / "packed")
    (tmp_path / "packed/images.tar").write_bytes(b"no archive")
    assert not reader.recognizes(tmp_path / "packed")


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


def test_threads_and_forked_processes_read_the_same(tmp_path: Path) -> None:
    dataset = WebDataset().read(write_webdataset(tmp_path / "set").root)
    wanted = [s.read() for s in dataset.samples]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: dataset.samples[n % 10].read(), range(200)))
    assert found == wanted * 20
    child = os.fork()
    if child == 0:
        os._exit(0 if [s.read() for s in dataset.samples] == wanted else 1)
    assert os.waitpid(child, 0)[1] == 0
    copy = pickle.loads(pickle.dumps(dataset))
    assert [s.read() for s in copy.samples] == wanted


def test_a_shard_that_got_shorter_is_an_unreadable_image(tmp_path: Path) -> None:
    tree = write_webdataset(tmp_path / "set")
    dataset = WebDataset().read(tree.root / "train-000001.tar")
    os.truncate(tree.root / "train-000001.tar", 520)
    with pytest.raises(UnreadableImageError, match=r"train-000001\.tar/a\.webp: .*ends before the image's"):
        dataset.load(0)


IMAGE = ("k.png", image(0))


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fear\nboredom\n", r"classes\.txt line 2: unknown label 'boredom'"),
        ("fear\njoy\nhappy\n", r"classes\.txt line 3: happiness is listed twice"),
        ("fear\njoy\n", r"classes\.txt: does not list neutral, sadness"),
    ],
)
def test_wrong_lists_of_classes(tmp_path: Path, text: str, message: str) -> None:
    write_tar(tmp_path / "set/0.tar", [IMAGE, ("k.cls", b"0")])
    (tmp_path / "set/classes.txt").write_text(text)
    with pytest.raises(EdgefelError, match=message):
        WebDataset().read(tmp_path / "set")
    (tmp_path / "set/classes.txt").unlink()
    (tmp_path / "set/dataset.json").write_text("[]")
    with pytest.raises(EdgefelError, match=r'dataset\.json: no list of names in "labels"'):
        WebDataset().read(tmp_path / "set")


# at a header of 512 bytes, in one, in an image, and before the mark of the end
@pytest.mark.parametrize("size", [0, 1024, 1300, 700, 2048])
def test_broken_archives(tmp_path: Path, size: int) -> None:
    shard = write_tar(tmp_path / "0.tar", [IMAGE, ("k.cls", b"fear")])
    assert len(WebDataset().read(shard)) == 1
    os.truncate(shard, size)
    with pytest.raises(EdgefelError, match=r"0\.tar: cannot be read as a tar archive"):
        WebDataset().read(shard)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match=r"no \.tar shards in it"):
        WebDataset().read(tmp_path)
    with pytest.raises(EdgefelError, match=r"cannot be listed \(No such file"):
        WebDataset().read(tmp_path / "nowhere")


def test_written_shards_say_the_same(tmp_path: Path) -> None:
    soft = tuple(1 / 7 for _ in EXPRESSIONS_7)
    samples = []
    for number in range(9):
        path = tmp_path / f"{number}.{('png', 'jpg', 'bmp')[number % 3]}"
        path.write_bytes(image(20 * number, path.suffix[1:]))
        split = ("train", "val", "")[number % 3]
        samples.append(Sample(path, number % 7, f"g{number // 2}", split, soft, (0, 0, 5, 4)))
    source = ImageDataset(tmp_path, EXPRESSIONS_7, tuple(samples))
    shards = write_shards(source, tmp_path / "train", per_shard=2)  # unsplit samples stay so in any folder
    assert [shard.name for shard in shards] == [
        f"{split}-{number:06d}.tar" for split in ("train", "val", "shard") for number in (0, 1)
    ]
    read = WebDataset().read(tmp_path / "train")
    wanted = [source.samples[i] for split in ("", "train", "val") for i in source.in_split(split)]
    for sample, other in zip(read.samples, wanted, strict=True):
        assert (sample.label, sample.group, sample.split, sample.box) == (
            other.label,
            other.group,
            other.split,
            other.box,
        )
        assert sample.soft == pytest.approx(soft)
        np.testing.assert_array_equal(sample.load(), other.load())
        if other.path.suffix != ".bmp":
            assert sample.read() == other.read()
    again = write_shards(source, tmp_path / "again", per_shard=2)
    assert [a.read_bytes() for a in again] == [b.read_bytes() for b in shards]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image(0))
    good = Sample(tmp_path / "a.png", 0, "g", "train")
    out = tmp_path / "out"

    def write(*samples: Sample, labels: tuple[str, ...] = EXPRESSIONS_7, per_shard: int = 5) -> None:
        write_shards(ImageDataset(tmp_path, labels, samples), out, per_shard=per_shard)

    with pytest.raises(EdgefelError, match="0 images per shard: give 1 or more"):
        write(good, per_shard=0)
    with pytest.raises(EdgefelError, match="labels fear are not the canonical 7 or 8"):
        write(good, labels=("fear",))
    with pytest.raises(EdgefelError, match="no images to write"):
        write()
    with pytest.raises(EdgefelError, match=r"a\.png: has no label"):
        write(Sample(tmp_path / "a.png", -1, "g", "train"))
    with pytest.raises(EdgefelError, match="boxes are mixed; write them apart"):
        write(good, Sample(tmp_path / "a.png", 0, "g", "train", None, (0, 0, 2, 2)))
    with pytest.raises(UnreadableImageError, match=r"gone\.png"):
        write(good, Sample(tmp_path / "gone.png", 0, "g", "train"))
    assert not out.exists()
    write(good)
    with pytest.raises(EdgefelError, match="the folder is not empty"):
        write(good)
