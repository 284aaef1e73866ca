from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from data.readers.trees_ferg import write_ferg
from data.readers.trees_webdataset import IMAGE, image, soft_and_box, write_tar, write_webdataset

from edgefel.data.dataset import Sample
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.readers.webdataset import WebDataset
from edgefel.errors import EdgefelError

pytestmark = pytest.mark.usefixtures("cache")


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


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match=r"no \.tar shards in it"):
        WebDataset().read(tmp_path)
    with pytest.raises(EdgefelError, match=r"cannot be listed \(No such file"):
        WebDataset().read(tmp_path / "nowhere")
