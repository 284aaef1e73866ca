"""Labels of a set: the same bytes for any number of workers and interruptions; damage is counted, never fatal."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runtime.bulk.sets import encoded, make_folder, network, rows, run, tar_bytes, tree
from streams import write_video

from edgefel.errors import EdgefelError
from edgefel.files.resumable import partial_folder
from edgefel.runtime.bulk.work import Labeller
from edgefel.runtime.predict import predict_source
from edgefel.runtime.stream.sources import open_source
from edgefel.tasks.threads import Threads


def test_labels_are_those_of_predict(images, net, tmp_path):
    report = run(images, net, tmp_path / "out")
    expected = []
    with net.open() as model:
        predict_source(open_source(images), model, each=expected.append)
    found = [row for row in rows(tmp_path / "out") if row["error"] is None]
    assert [row["source"] for row in found] == [faces.source.removeprefix(f"{images}/") for faces in expected]
    for row, faces in zip(found, expected, strict=True):
        (face,) = faces
        assert (row["label"], row["face"], row["width"]) == (face.label, 0, face.size[0])
        # batches are other ones, since a part is not the whole set
        assert row["p_anger"] == pytest.approx(face.probabilities["anger"], abs=1e-6)
    assert (report["images"], report["faces"], report["unreadable"]) == (25, 24, 1)
    (broken,) = [row for row in rows(tmp_path / "out") if row["error"]]
    assert (broken["source"], broken["face"], broken["error"]) == (
        "1/004.png",
        None,
        "not an image that OpenCV can decode",
    )
    assert sum(report["labels"].values()) == 24
    assert report == json.loads((tmp_path / "out/label.json").read_text())


def test_the_number_of_workers_changes_nothing(images, net, tmp_path):
    for workers in (1, 4):
        run(images, net, tmp_path / f"out{workers}", workers=workers)
    assert tree(tmp_path / "out1") == tree(tmp_path / "out4")
    assert sorted(tree(tmp_path / "out1")) == ["label.json", *(f"part-{n:06}.parquet" for n in range(7))]


class Ended(EdgefelError):
    """Stands in for whatever ends a run."""


def interrupt(images, net, output, after, monkeypatch):
    """A run that ends when `after` more parts are labelled."""
    called, call = itertools.count(1), Labeller.__call__

    def ending(self, part, stop):
        if next(called) > after:
            raise Ended
        return call(self, part, stop)

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(Labeller, "__call__", ending)
        run(images, net, output, workers=1)


def test_an_interrupted_run_continues_to_the_same_bytes(images, net, tmp_path, monkeypatch):
    run(images, net, tmp_path / "once")
    out = tmp_path / "out"
    interrupt(images, net, out, 2, monkeypatch)
    interrupt(images, net, out, 2, monkeypatch)
    assert not out.exists()
    # a file that is cut off, and a line without its end
    folder = partial_folder(out)
    part = folder / "labels/part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-4])
    journal = folder / "journal"
    journal.write_bytes(journal.read_bytes()[:-3])
    seen = []
    run(images, net, out, begin=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 7)]
    assert tree(out) == tree(tmp_path / "once")
    assert not folder.exists()


def test_ctrl_c_keeps_finished_parts(images, net, tmp_path):
    ended = []

    def progress():
        ended.append(1)
        if len(ended) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, net, tmp_path / "out", workers=1, per_part=1, progress=progress)
    seen = []
    run(images, net, tmp_path / "out", per_part=1, begin=lambda done, total: seen.append(done))
    assert 3 <= seen[0] < 25


def test_unfinished_work_of_something_else_is_refused(images, net, tmp_path, monkeypatch):
    interrupt(images, net, tmp_path / "out", 2, monkeypatch)
    with pytest.raises(EdgefelError, match="unfinished run with parts 7, not 4"):
        run(images, net, tmp_path / "out", per_part=8)
    other = network(tmp_path / "other", min_quality=0.7)
    with pytest.raises(EdgefelError, match="with min_quality 0.5, not 0.7"):
        run(images, other, tmp_path / "out")
    (images / "0/new.png").write_bytes(encoded(3))
    with pytest.raises(EdgefelError, match="with other images"):
        run(images, net, tmp_path / "out")
    run(images, net, tmp_path / "out", restart=True)
    with pytest.raises(EdgefelError, match="not empty"):
        run(images, net, tmp_path / "out")
    with pytest.raises(EdgefelError, match="lies in the data set"):
        run(images, net, images / "out")


def test_shards_are_read_up_to_their_damage(net, tmp_path):
    root = tmp_path / "shards"
    root.mkdir()
    whole = tar_bytes(range(6))
    (root / "a.tar").write_bytes(whole)
    (root / "b.tar").write_bytes(whole[: len(whole) // 2])
    (root / "c.tar").write_bytes(b"no archive at all" * 40)
    pq.write_table(pa.table({"image": [encoded(n) for n in range(4)]}), root / "d.parquet")
    (root / "e.parquet").write_bytes((root / "d.parquet").read_bytes()[:-20])
    report = run(root, net, tmp_path / "out")
    named = {one["name"]: one["reason"] for one in report["broken"]}
    assert list(named) == ["b.tar", "c.tar", "e.parquet"]
    assert "cannot be read as a Parquet file" in named["e.parquet"]
    found = [row["source"] for row in rows(tmp_path / "out")]
    assert found[:6] == [f"a.tar/{n:03}.png" for n in range(6)]
    assert 0 < len([name for name in found if name.startswith("b.tar/")]) < 6
    assert [name for name in found if name.startswith("d.parquet/")] == [
        f"d.parquet/row-{n}" for n in range(4)
    ]
    # the same images give the same labels, wherever they lie
    labels = {row["source"].split("/")[1]: row["p_fear"] for row in rows(tmp_path / "out")}
    assert labels["000.png"] == pytest.approx(labels["row-0"], abs=1e-6)


def test_images_of_hugging_face_files_keep_their_paths(net, tmp_path):
    image = [{"bytes": encoded(1), "path": "x/1.png"}, {"bytes": None, "path": "x/2.png"}]
    pq.write_table(pa.table({"image": image}), tmp_path / "hf.parquet")
    report = run(tmp_path / "hf.parquet", net, tmp_path / "out")
    assert [(row["source"], row["error"]) for row in rows(tmp_path / "out")] == [
        ("hf.parquet/x/1.png", None),
        ("hf.parquet/x/2.png", "no bytes"),
    ]
    assert report["unreadable"] == 1


def test_a_repaired_shard_is_read_again(net, tmp_path, monkeypatch):
    root = tmp_path / "shards"
    root.mkdir()
    whole = tar_bytes(range(6))
    for name in "abc":
        (root / f"{name}.tar").write_bytes(whole)
    run(root, net, tmp_path / "once")
    # of the same size, since other shards would be other data
    (root / "a.tar").write_bytes(whole[:1024] + bytes([1]) * (len(whole) - 1024))
    interrupt(root, net, tmp_path / "out", 2, monkeypatch)
    (root / "a.tar").write_bytes(whole)
    assert run(root, net, tmp_path / "out")["broken"] == []
    assert tree(tmp_path / "out") == tree(tmp_path / "once")


def test_frames_of_videos_have_times(net, tmp_path):
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips/a.mp4", 5)
    (tmp_path / "clips/b.mp4").write_bytes(b"no video")
    report = run(tmp_path / "clips", network(tmp_path / "n", every=2), tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [(row["source"], row["frame"]) for row in found] == [("a.mp4", 0), ("a.mp4", 2), ("a.mp4", 4)]
    assert np.diff([row["time"] for row in found]).min() > 0
    assert [one["name"] for one in report["broken"]] == ["b.mp4"]


def test_nothing_readable_leaves_nothing(net, tmp_path):
    root = tmp_path / "bad"
    root.mkdir()
    (root / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(EdgefelError, match=r"none of its 0 images can be read; first: a.tar: "):
        run(root, net, tmp_path / "out")
    (root / "b.png").write_bytes(b"no image")
    with pytest.raises(
        EdgefelError, match=r"none of its 1 image can be read; first: b.png: not an image that OpenCV"
    ):
        run(root, net, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"bad", "bundle"}


def test_a_full_disk_keeps_what_is_done(images, net, tmp_path, monkeypatch):
    from edgefel.runtime.bulk import run as module

    written, real = itertools.count(), module.atomic_file

    def full(path):
        if next(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "atomic_file", full)
        with pytest.raises(EdgefelError, match="free disk space and give the same command again"):
            run(images, net, tmp_path / "out", workers=1)
    seen = []
    run(images, net, tmp_path / "out", begin=lambda done, total: seen.append(done))
    assert seen == [3]


def test_another_network_on_a_machine_is_refused(net, tmp_path):
    from dataclasses import replace

    with pytest.raises(EdgefelError, match="is another file on this machine"):
        replace(net, sha256="0" * 64).open()


def test_names_that_are_not_utf8(net, tmp_path):
    folder = make_folder(tmp_path / "set", 2)
    (folder / "0/000.png").rename(folder / "0/\udcff.png")
    run(folder, net, tmp_path / "out", runner=Threads(1))
    assert rows(tmp_path / "out")[0]["source"] == "0/\\xff.png"
