"""Archives and folders: the same bytes for the same contents, whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from edgefel.deploy.archive import Entry, check_output, is_safe, top_folder, write
from edgefel.errors import EdgefelError
from edgefel.progress import Progress

ENTRIES = [
    Entry("run.sh", b"#!/bin/sh\n", executable=True),
    Entry("model/labels.txt", b"neutral\n"),
    Entry("a.txt", b""),
]


@pytest.mark.parametrize("name", ["edge.tar", "edge.tar.gz", "edge.tgz"])
def test_an_archive_has_the_same_bytes_twice(tmp_path, name):
    first, second = tmp_path / "1" / name, tmp_path / "2" / name
    write(ENTRIES, first, {"name": "edge"})
    write(list(reversed(ENTRIES)), second, {"name": "edge"})
    assert first.read_bytes() == second.read_bytes()
    assert (first.read_bytes()[:2] == b"\x1f\x8b") == (name != "edge.tar")


def test_members_are_sorted_with_the_index_last_and_carry_nothing_of_this_machine(tmp_path):
    write(ENTRIES, tmp_path / "edge.tar", {"name": "edge"})
    with tarfile.open(tmp_path / "edge.tar") as tar:
        members = tar.getmembers()
        index = json.load(tar.extractfile("edge/index.json"))
    assert [member.name for member in members] == [
        "edge",
        "edge/a.txt",
        "edge/model",
        "edge/model/labels.txt",
        "edge/run.sh",
        "edge/index.json",
    ]
    assert {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in members} == {
        (0, 0, "", "", 315532800)
    }
    modes = {member.name: member.mode for member in members if member.isfile()}
    assert modes.pop("edge/run.sh") == 0o755
    assert set(modes.values()) == {0o644}
    assert index["format"] == "edgefel-deploy"
    assert index["name"] == "edge"
    assert index["files"]["model/labels.txt"] == {
        "bytes": 8,
        "sha256": hashlib.sha256(b"neutral\n").hexdigest(),
    }
    assert list(index["files"]) == ["a.txt", "model/labels.txt", "run.sh"]


def test_the_time_comes_from_source_date_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write(ENTRIES, tmp_path / "edge.tar", {})
    with tarfile.open(tmp_path / "edge.tar") as tar:
        assert {member.mtime for member in tar.getmembers()} == {1700000000}


@pytest.mark.parametrize("value", ["yesterday", "-1", "1.5", "99999999999"])
def test_a_senseless_source_date_epoch_is_named(tmp_path, monkeypatch, value):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(EdgefelError, match="SOURCE_DATE_EPOCH is"):
        write(ENTRIES, tmp_path / "edge.tar", {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_the_same_files(tmp_path):
    written = write(ENTRIES, tmp_path / "edge", {"name": "edge"})
    assert [file.path for file in written] == ["a.txt", "model/labels.txt", "run.sh", "index.json"]
    for file in written:
        path = tmp_path / "edge" / file.path
        assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (
            file.size,
            file.sha256,
        )
        assert os.access(path, os.X_OK) == (file.path == "run.sh") or os.name == "nt"


@pytest.mark.parametrize("output", ["edge.tar", "edge.tar.gz", "edge"])
def test_a_file_of_another_hash_leaves_nothing_behind(tmp_path, output):
    entry = Entry("model/x.onnx", tmp_path / "x.onnx", sha256="0" * 64)
    (tmp_path / "x.onnx").write_bytes(b"changed")
    with pytest.raises(EdgefelError, match=r"x\.onnx: its SHA-256 is not the expected one"):
        write([*ENTRIES, entry], tmp_path / "out" / output, {})
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_is_taken_is_replaced_only_when_asked(tmp_path):
    output = tmp_path / "edge.tar"
    output.write_text("precious")
    with pytest.raises(EdgefelError, match="exists already; pass --overwrite"):
        write(ENTRIES, output, {})
    assert output.read_text() == "precious"
    write(ENTRIES, output, {}, overwrite=True)
    assert tarfile.is_tarfile(output)


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(EdgefelError, match="not empty" if not overwrite else "so it is not replaced"):
            write(ENTRIES, folder, {}, overwrite=overwrite)
    assert (folder / "holiday.jpg").read_text() == "precious"
    write(ENTRIES, tmp_path / "edge", {})
    write(ENTRIES[:1], tmp_path / "edge", {}, overwrite=True)
    assert {path.name for path in (tmp_path / "edge").iterdir()} == {"index.json", "run.sh"}


def test_a_folder_where_an_archive_should_go_is_refused(tmp_path):
    (tmp_path / "edge.tar").mkdir()
    with pytest.raises(EdgefelError, match="exists and is not a file"):
        check_output(tmp_path / "edge.tar", overwrite=True)


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("model/a.onnx", True),
        ("..a/b", True),
        ("/etc/passwd", False),
        ("../a", False),
        ("a/../../b", False),
        ("a//b", False),
        ("a\\b", False),
        ("", False),
        (".", False),
    ],
)
def test_paths_that_leave_the_folder(path, safe):
    assert is_safe(path) is safe
    if not safe:
        with pytest.raises(ValueError, match="path: expected one inside the folder"):
            Entry(path, b"")


@pytest.mark.parametrize("name", ["edge.zip", "edge.tar.xz", "edge.tar.bz2", "edge.TAR", "edge.gz"])
def test_an_archive_of_another_kind_is_refused(name):
    with pytest.raises(
        EdgefelError, match=r"this kind of archive is not written; name it \.tar, \.tar\.gz, \.tgz"
    ):
        top_folder(Path(name))


def test_the_folder_inside_has_the_name_of_the_output():
    assert [
        top_folder(Path(name)) for name in ("a/edge.tar", "edge.tar.gz", "edge.tgz", "edge", "v1.2.tar")
    ] == [
        "edge",
        "edge",
        "edge",
        "edge",
        "v1.2",
    ]
    for name in (".tar", "..", "-rf.tar"):
        with pytest.raises(EdgefelError, match="has no name for the folder inside"):
            top_folder(Path(name))


@pytest.mark.parametrize(("name", "kept"), [("edge.tar", "edge.finished.tar"), ("edge", "edge.finished")])
def test_what_was_put_there_meanwhile_is_left_and_the_work_is_kept(tmp_path, name, kept):
    output = tmp_path / name

    class Meanwhile(Progress):
        def advance(self, units: int = 1) -> None:
            place = output if name.endswith(".tar") else output / "precious"
            place.parent.mkdir(exist_ok=True)
            place.write_text("mine")

    with pytest.raises(EdgefelError, match=rf"left as it is.*{kept}"):
        write(ENTRIES, output, {"name": "edge"}, progress=Meanwhile())
    assert (output if output.is_file() else output / "precious").read_text() == "mine"
    assert (tmp_path / kept).exists()
