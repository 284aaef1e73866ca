"""Data sets at addresses: opened, prepared, inspected and evaluated as on a disk.

Tests of `edgefel.files.remote` label them.
"""

from __future__ import annotations

import csv
import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from data.preparing.photos import described, make_photos, run, tree, whole

from edgefel.cli.main import main
from edgefel.data.images import UnreadableImageError
from edgefel.data.inspection import scan
from edgefel.data.open import AT_ADDRESSES, LAYOUTS, open_dataset
from edgefel.data.readers import shard_index
from edgefel.data.readers.shard_writer import write_shards
from edgefel.errors import EdgefelError
from edgefel.files import read

COUNT = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("data") / "photos", COUNT)


def parquet_of(dataset, path):
    """A manifest that holds the images."""
    arrow = pytest.importorskip("pyarrow", reason="no pyarrow here")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {
            "image": sample.read(),
            "label": dataset.labels[sample.label],
            "split": sample.split,
            "group": sample.group,
            **{f"soft_{name}": share for name, share in zip(dataset.labels, sample.soft, strict=True)},
        }
        for sample in dataset.samples
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=5)


def check_same(there, here):
    assert there.labels == here.labels
    assert described(there) == described(here)
    assert [sample.read() for sample in there.samples] == [sample.read() for sample in here.samples]
    assert all(str(sample.path).startswith("s3://") for sample in there.samples)


def test_labels_csv(bucket, photos):
    check_same(open_dataset(bucket.upload(photos.root, "set")), photos)


def test_shards(bucket, photos, tmp_path):
    write_shards(photos, tmp_path / "shards", per_shard=5)
    address = bucket.upload(tmp_path / "shards", "shards")
    there, here = open_dataset(address), open_dataset(tmp_path / "shards")
    check_same(there, here)
    assert str(there.samples[0].path) == f"{address}/test-000000.tar/000000000.png"
    # as a task of a cluster gets it
    check_same(pickle.loads(pickle.dumps(there)), here)
    one = open_dataset(f"{address}/val-000000.tar")
    assert described(one) == described(here, here.in_split("val"))


def test_of_shards_that_are_known_only_images_are_fetched(bucket, photos, tmp_path, monkeypatch):
    write_shards(photos, tmp_path / "shards")
    address = bucket.upload(tmp_path / "shards", "shards")
    before = open_dataset(address)
    fetched, fetch = [], read.fetch_range

    def count(path, start, size):
        fetched.append((str(path), size))
        return fetch(path, start, size)

    monkeypatch.setattr(read, "fetch_range", count)
    monkeypatch.setattr(shard_index, "_build", lambda *found: pytest.fail("the index is read again"))
    sample = open_dataset(address).samples[3]
    assert sample.read() == before.samples[3].read()
    assert fetched[0] == (f"{address}/train-000000.tar", len(sample.read()))


def test_shards_that_are_replaced_are_read_again(bucket, photos, tmp_path):
    for count in (3, 4):  # all of them in train-000000.tar
        write_shards(photos.subset(range(count)), tmp_path / "shards", replace=True)
        address = bucket.upload(tmp_path / "shards", "shards")
        assert len(open_dataset(address)) == count


def test_parquet_with_images(bucket, photos, tmp_path):
    parquet_of(photos, tmp_path / "faces.parquet")
    bucket.put("faces.parquet", (tmp_path / "faces.parquet").read_bytes())
    check_same(open_dataset(bucket.address("faces.parquet")), photos)


def test_a_manifest_there_lists_addresses_and_one_here_does_not(bucket, photos, tmp_path):
    bucket.upload(photos.root, "set")
    rows = [["set/0.png", "fear"], [bucket.address("set/1.png"), "anger"]]
    for file in (tmp_path / "list.csv", tmp_path / "here.csv"):
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([["path", "label"], *rows])
    bucket.put("list.csv", (tmp_path / "list.csv").read_bytes())
    there, here = open_dataset(bucket.address("list.csv")), open_dataset(tmp_path / "here.csv")
    assert [sample.read() for sample in there.samples] == [sample.read() for sample in photos.samples[:2]]
    # nothing opens the network unasked
    with pytest.raises(UnreadableImageError, match="No such file"):
        here.samples[1].read()


def test_folders_of_classes(bucket, photos):
    for number, key in enumerate(("train/fear/0.png", "train/anger/1.png", "val/fear/2.png", "val/.x/3.png")):
        bucket.put(f"tree/{key}", photos.samples[number].read())
    found = open_dataset(bucket.address("tree"))
    names = [(found.labels[sample.label], sample.split) for sample in found.samples]
    assert names == [("anger", "train"), ("fear", "train"), ("fear", "val")]
    assert found.samples[0].read() == photos.samples[1].read()


def test_what_cannot_be_read_there_is_refused(bucket):
    bucket.put("other/video.mp4", b"x")
    for layout in LAYOUTS.keys() - AT_ADDRESSES:
        with pytest.raises(EdgefelError, match=rf"other: the layout {layout} is read from a disk only; copy"):
            open_dataset(bucket.address("other"), layout=layout)
    with pytest.raises(EdgefelError, match="other: no labelled set that can be read at an address"):
        open_dataset(bucket.address("other"))
    with pytest.raises(EdgefelError, match="gone: nothing is there"):
        open_dataset(bucket.address("gone"))


def test_an_image_that_is_gone_is_unreadable(bucket, photos, tmp_path):
    address = bucket.upload(photos.root, "set")
    dataset = open_dataset(address)
    bucket.client.delete_object(Bucket=bucket.name, Key="set/3.png")
    report = run(dataset, tmp_path / "out", whole)
    assert [one["path"] for one in report["unreadable"]] == ["3.png"]
    assert report["data"] == address


def test_faces_are_those_of_a_disk_and_a_run_continues(bucket, photos, tmp_path):
    address = bucket.upload(photos.root, "set")
    run(photos, tmp_path / "here", whole)

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(open_dataset(address), tmp_path / "there", whole, progress=stop)
    assert (tmp_path / ".there.partial").is_dir()
    run(open_dataset(address), tmp_path / "there", whole)
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def invoke(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_commands_find_what_they_find_on_a_disk(bucket, photos, tmp_path):
    address = bucket.upload(photos.root, "set")
    there, here = (invoke("data", "inspect", place, "--json") for place in (address, photos.root))
    assert json.loads(json.dumps(there).replace(address, str(photos.root))) == here
    report = invoke("data", "prepare", address, "-o", tmp_path / "faces", "--no-detect", "--json")
    assert (report["data"], report["faces"]) == (address, COUNT)
    sheets = []
    for place, name in ((address, "there.png"), (photos.root, "here.png")):
        arguments = ["data", "sheet", str(place), "-o", str(tmp_path / name), "--side", "16"]
        assert CliRunner().invoke(main, arguments).exit_code == 0
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1]


def test_evaluation_is_that_of_a_disk(bucket, nano_checkpoint, photos, tmp_path):
    rows = (photos.root / "labels.csv").read_text().splitlines()
    (tmp_path / "set").mkdir()
    for number, sample in enumerate(photos.samples):
        (tmp_path / f"set/{number}.png").write_bytes(sample.read())
    lines = [f"{row},{'glasses' if number else 'yes'}" for number, row in enumerate(rows)]
    (tmp_path / "set/labels.csv").write_text("\n".join([rows[0] + ",glasses", *lines[1:]]))
    address = bucket.upload(tmp_path / "set", "set")
    command = "evaluate", nano_checkpoint, "--split", "train", "--by", "glasses", "--json", "--data"
    there, here = invoke(*command, address), invoke(*command, tmp_path / "set")
    assert {**there, "dataset": ""} == {**here, "dataset": ""}
    assert np.isfinite(here["without_head"]["accuracy"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "prepare", "faces", "-o", "s3://b/out"),
        ("calibrate", "--data", "s3://b/x", "-o", "out"),
        ("ablate", "head", "--data", "s3://b/x"),
    ],
)
def test_other_places_are_on_a_disk(arguments):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "is an address, and this has to be on a disk; docs/addresses.md" in done.stderr
    assert done.stderr.count("\n") == 1


def test_training_reads_a_disk(tmp_path):
    done = CliRunner().invoke(main, ["train", "--data", "s3://b/x", "-o", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "edgefel data prepare s3://b/x -o faces" in done.stderr
    assert not (tmp_path / "run").exists()


def test_hashes_of_shards_are_kept(bucket, photos, tmp_path, monkeypatch):
    """`evaluate` looks for copies in all splits, each time."""
    write_shards(photos, tmp_path / "shards")
    address = bucket.upload(tmp_path / "shards", "shards")
    cache = scan.ScanCache(open_dataset(address).root)
    scan.scan_images(open_dataset(address), cache=cache)
    cache.save()
    monkeypatch.setattr(scan, "_open", lambda *image: pytest.fail("an image is opened again"))
    known = scan.scan_images(
        open_dataset(address), cache=scan.ScanCache(open_dataset(address).root), fresh=False
    )
    assert known.readable.all()
