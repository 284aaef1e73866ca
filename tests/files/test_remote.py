"""Files at addresses: a real S3 server on the loopback interface, read by range."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from runtime.bulk.sets import encoded, make_folder, network, rows, run, tar_bytes, tree

from edgefel.data.readers.tar_members import encoded_images
from edgefel.errors import EdgefelError
from edgefel.files.read import open_binary, read_range, read_regular
from edgefel.files.remote import as_path, is_address, joined, list_address, list_folder, state_of
from edgefel.runtime.bulk.plan import plan_labelling


def test_labels_are_those_of_a_local_folder(bucket, tmp_path):
    root = make_folder(tmp_path / "set", 9)
    (root / "shards").mkdir()
    (root / "shards/a.tar").write_bytes(tar_bytes(range(5)))
    (root / "shards/b.tar").write_bytes(tar_bytes(range(5))[:4000])
    net = network(tmp_path)
    here = run(root, net, tmp_path / "here")
    there = run(bucket.upload(root, "set"), net, tmp_path / "there")
    assert {**there, "source": ""} == {**here, "source": ""}
    files = tree(tmp_path / "here"), tree(tmp_path / "there")
    for one in files:
        del one["label.json"]  # the source is in it
    assert files[0] == files[1]


def test_a_manifest_may_lie_there_and_list_addresses(bucket, tmp_path):
    for name in ("m/1.png", "other/2.png"):
        bucket.put(name, encoded(1))
    text = f"path\n1.png\n{bucket.address('other/2.png')}\ngone.png\n"
    bucket.put("m/list.csv", text.encode())
    report = run(bucket.address("m/list.csv"), network(tmp_path), tmp_path / "out")
    assert (report["images"], report["unreadable"]) == (3, 1)
    one, two, gone = rows(tmp_path / "out")
    assert one["p_fear"] == two["p_fear"]
    assert gone["error"].startswith("cannot be read (")


def test_shards_are_read_by_range(bucket, monkeypatch):
    """Of 40 MB only the first blocks are fetched for the first image."""
    import s3fs

    bucket.put("large.tar", tar_bytes([1]) + bytes(40 << 20))
    fetched, fetch = [], s3fs.S3File._fetch_range
    monkeypatch.setattr(
        s3fs.S3File, "_fetch_range", lambda self, a, b: fetched.append(b - a) or fetch(self, a, b)
    )
    with open_binary(bucket.address("large.tar")) as stream:
        name, data = next(encoded_images(stream))
    assert (name, data) == ("001.png", encoded(1))
    assert 0 < sum(fetched) <= 17 << 20


def test_sizes_are_limited_and_what_is_missing_is_named(bucket):
    bucket.put("ten", b"0123456789")
    ten = bucket.address("ten")
    assert read_regular(ten, 10) == b"0123456789"
    assert read_range(ten, 3, 4) == b"3456"
    assert read_range(ten, 8, 4) == b"89"
    with pytest.raises(OSError, match="has more than 0 MiB"):
        read_regular(ten, 9)
    with pytest.raises(OSError, match="does not exist"):
        read_regular(bucket.address("gone"), 9)
    assert list_address(ten) == [("", 10)]
    with pytest.raises(EdgefelError, match=f"{bucket.address('nothing')}: nothing is there"):
        plan_labelling(bucket.address("nothing"))
    with pytest.raises(EdgefelError, match="s3://no-such-bucket/x: "):
        plan_labelling("s3://no-such-bucket/x")
    with pytest.raises(EdgefelError, match="nope://x"):
        list_address("nope://x")


def test_an_address_is_asked_like_a_path(bucket):
    bucket.put("a/1.tar", b"x")
    folder = as_path(bucket.address("a/"))
    file = folder / "1.tar"
    assert str(file) == bucket.address("a/1.tar")
    assert (file.name, file.suffix, file.parent) == ("1.tar", ".tar", folder)
    assert (file.is_file(), file.is_dir(), file.exists()) == (True, False, True)
    assert (folder.is_file(), folder.is_dir(), folder.exists()) == (False, True, True)
    assert not (folder / "2.tar").exists()
    assert file.absolute() is file.resolve() is file
    assert pickle.loads(pickle.dumps(file)) == file
    assert list_folder(folder) == (["1.tar"], [])
    assert list_folder(folder.parent) == ([], ["a"])


def test_a_file_that_is_replaced_has_another_state(bucket):
    bucket.put("x", b"one")
    before = state_of(bucket.address("x"))
    assert state_of(bucket.address("x")) == before
    bucket.put("x", b"two")
    assert state_of(bucket.address("x")) != before


def test_a_server_that_cannot_be_reached_is_named(monkeypatch):
    pytest.importorskip("fsspec", reason="no fsspec here")
    monkeypatch.setattr(
        "fsspec.core.url_to_fs", lambda place, **options: (_Unreachable(), place.removeprefix("s3://"))
    )
    with pytest.raises(EdgefelError, match=r"s3://b/x: cannot be reached \(no route\)"):
        as_path("s3://b/x").exists()
    with pytest.raises(EdgefelError, match=r"s3://b/x: cannot be listed \(no route\)"):
        list_folder("s3://b/x")


class _Unreachable:
    def info(self, path):
        raise type("EndpointConnectionError", (Exception,), {"__module__": "botocore.exceptions"})("no route")

    def ls(self, path, detail):
        self.info(path)


def test_names_are_joined_as_places_need():
    assert is_address("s3://b/x")
    assert not is_address("/b/x")
    assert joined("s3://b/x/", "y.png") == "s3://b/x/y.png"
    assert joined("s3://b/x", "gs://c/y.png") == "gs://c/y.png"
    assert joined("/b", "c/y.png") == "/b/c/y.png"
    assert joined("/b", "/c/y.png") == "/c/y.png"
    # a list that lies elsewhere names no files of this machine
    assert joined("s3://b", "/c/y.png") == "s3://b/c/y.png"
    assert str(as_path("memory://a/../b")) == "memory://a/../b"
    assert as_path("file:///tmp/x") == Path("/tmp/x")
    assert type(as_path("/tmp/x")) is type(Path("/tmp/x"))


def test_local_files_need_no_package(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert read_range(tmp_path / "x", 1, 5) == b"bc"
    with open_binary(str(tmp_path / "x")) as stream:
        stream.seek(1)
        assert stream.read(1) == b"b"
