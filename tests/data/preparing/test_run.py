"""Prepared data sets: what is written, from what layouts, and going on with unfinished work."""

from __future__ import annotations

import csv
import itertools
import json
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from streams import BLUE, RED, SquareDetector, scene

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.open import open_dataset
from edgefel.data.preparing.plan import PrepareOptions
from edgefel.data.preparing.run import partial_folder, prepare
from edgefel.data.readers.shard_writer import write_shards
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import RuntimeFaces

SIZE = 24


def squares():
    return RuntimeFaces(SquareDetector(), SIZE)


def whole():
    return RuntimeFaces(None, SIZE)


def run(dataset, output, tools=squares, workers=2, restart=False, progress=lambda done: None, **options):
    options = PrepareOptions(size=SIZE, image_format="png", **options)
    return prepare(dataset, output, tools, options, workers=workers, restart=restart, progress=progress)


def make_photos(root: Path, count: int = 40, splits: bool = True) -> ImageDataset:
    """A folder of images with a square each, its size that of the number, and every tenth without one."""
    root.mkdir()
    rows = []
    for number in range(count):
        labelled = [(20 + number, 30, 30 + number, RED)] if number % 10 != 9 else []
        cv2.imwrite(str(root / f"{number}.png"), scene(labelled, (160, 120))[..., ::-1])
        split = ("train", "train", "val", "test")[number // 2 % 4] if splits else ""
        soft = [0.1 if at != number % 7 else 0.4 for at in range(7)]
        rows.append([f"{number}.png", EXPRESSIONS_7[number % 7], split, f"p{number // 2}", *soft])
    with (root / "labels.csv").open("w", newline="") as stream:
        soft_names = [f"soft_{name}" for name in EXPRESSIONS_7]
        csv.writer(stream).writerows([["path", "label", "split", "subject", *soft_names], *rows])
    return open_dataset(root)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "prepare.json"
    }


def described(dataset: ImageDataset, indices=None):
    """Label, group, split and soft label of every sample, by name."""
    chosen = range(len(dataset)) if indices is None else indices
    samples = [dataset.samples[int(index)] for index in chosen]
    return [(dataset.labels[s.label], s.group, s.split, np.float32(s.soft).tolist()) for s in samples]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def once(photos, tmp_path_factory):
    """What an uninterrupted run gives."""
    output = tmp_path_factory.mktemp("out") / "faces"
    run(photos, output, workers=1)
    return tree(output)


FACES = [number for number in range(40) if number % 10 != 9]


def test_what_is_written_is_the_same_data_set(photos, tmp_path):
    report = run(photos, tmp_path / "out")
    prepared = open_dataset(tmp_path / "out")
    assert prepared.labels == photos.labels
    assert described(prepared) == described(photos, FACES)
    assert report["faces"] == 36
    assert report["no_face"] == ["9.png", "19.png", "29.png", "39.png"]
    assert report == json.loads((tmp_path / "out/prepare.json").read_text())
    for sample in prepared.samples:
        assert (sample.load() == RED).all()
        relative = sample.path.relative_to(tmp_path / "out")
        assert relative.parts[:2] == (sample.split, prepared.labels[sample.label])
    with (tmp_path / "out/labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["source"] for row in rows] == [f"{number}.png" for number in FACES]
    assert {row["face"] for row in rows} == {"detected"}
    assert not partial_folder(tmp_path / "out").exists()
    # as a manifest, which holds a million rows as columns, it is the same
    assert described(open_dataset(tmp_path / "out/labels.csv")) == described(photos, FACES)


def test_shards_are_the_same_data_set(photos, tmp_path):
    report = run(photos, tmp_path / "out", per_shard=10)
    prepared = open_dataset(tmp_path / "out", layout="webdataset")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.txt",
        "prepare.json",
        *(f"{name}.tar" for name in ("test-000000", "train-000000", "train-000001", "val-000000")),
    ]
    assert sorted(described(prepared)) == sorted(described(photos, FACES))
    assert all((sample.load() == RED).all() for sample in prepared.samples)
    assert report["per_split"] == {"train": 18, "val": 9, "test": 9}
    assert not partial_folder(tmp_path / "out").exists()


def test_boxes_and_archives(tmp_path):
    """Two faces of one image, told apart by their boxes alone, out of shards."""
    file = tmp_path / "two.png"
    cv2.imwrite(str(file), scene([(20, 20, 40, RED), (150, 100, 60, BLUE)])[..., ::-1])
    samples = (
        Sample(file, 1, "two", "train", None, (18, 18, 44, 44)),
        Sample(file, 2, "two", "train", None, (140, 95, 70, 70)),
        Sample(file, 3, "two", "val", None, (90, 20, 20, 20)),
    )
    write_shards(ImageDataset(tmp_path, EXPRESSIONS_8, samples), tmp_path / "shards")
    dataset = open_dataset(tmp_path / "shards")
    report = run(dataset, tmp_path / "out")
    prepared = open_dataset(tmp_path / "out")
    colours = [tuple(sample.load()[SIZE // 2, SIZE // 2].tolist()) for sample in prepared.samples]
    assert colours == [RED, BLUE, (0, 0, 0)]
    assert report["found"] == {"detected": 2, "box": 1, "center": 0, "whole": 0}
    assert report["groups"] == 1
    # eight labels, although no face shows contempt
    assert prepared.labels == EXPRESSIONS_8
    with (tmp_path / "out/labels.csv").open() as stream:
        assert [row["source"] for row in csv.DictReader(stream)] == [
            "train-000000.tar/000000000.png",
            "train-000000.tar/000000001.png",
            "val-000000.tar/000000000.png",
        ]


def test_boxes_that_are_no_part_of_the_image(tmp_path):
    """A box of a billion pixels would not fit in memory."""
    file = tmp_path / "data/one.png"
    file.parent.mkdir()
    cv2.imwrite(str(file), scene([(20, 20, 40, RED)])[..., ::-1])
    boxes = [(320, 0, 30, 30), (0, -30, 30, 30), (0, 0, 2**30, 2**30), (300, 220, 600, 600)]
    samples = tuple(Sample(file, 1, str(box), "train", None, box) for box in boxes)
    report = run(ImageDataset(file.parent, EXPRESSIONS_7, samples), tmp_path / "out")
    assert report["faces"] == 1
    assert [one["reason"] for one in report["unreadable"]] == [
        f"its box {box} is no part of its 320x240 pixels" for box in boxes[:3]
    ]


def test_missing_faces_by_the_centre_and_images_that_are_faces(photos, tmp_path):
    assert run(photos, tmp_path / "center", missing="center")["found"]["center"] == 4
    report = run(photos, tmp_path / "whole", whole)
    assert report["found"] == {"detected": 0, "box": 0, "center": 0, "whole": 40}
    assert described(open_dataset(tmp_path / "whole")) == described(photos)


def test_groups_are_dealt_to_splits(tmp_path):
    dataset = make_photos(tmp_path / "photos", splits=False)
    report = run(dataset, tmp_path / "out", whole, shares=(0.6, 0.2, 0.2), seed=3)
    prepared = open_dataset(tmp_path / "out")
    splits: dict[str, set[str]] = {}
    for sample in prepared.samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert len(splits) == 20
    assert all(len(names) == 1 for names in splits.values())
    assert report["per_split"] == {"train": 24, "val": 8, "test": 8}
    assert [d[:2] for d in described(prepared)] == [d[:2] for d in described(dataset)]


def test_a_set_with_splits_keeps_them(photos, tmp_path):
    with pytest.raises(EdgefelError, match=r"has splits of its own \(train, val, test\)"):
        run(photos, tmp_path / "out", shares=(0.8, 0.1, 0.1))
    assert list(tmp_path.iterdir()) == []


def test_unreadable_images_are_named_and_tried_again(tmp_path):
    dataset = make_photos(tmp_path / "photos", 12)
    good = (tmp_path / "photos/3.png").read_bytes()
    (tmp_path / "photos/3.png").write_bytes(b"no image")
    (tmp_path / "photos/5.png").unlink()
    report = run(dataset, tmp_path / "out")
    assert report["faces"] == 9
    assert report["unreadable"] == [
        {"path": "3.png", "reason": "not an image that OpenCV can decode"},
        {"path": "5.png", "reason": "cannot be read (No such file or directory)"},
    ]
    assert described(open_dataset(tmp_path / "out")) == described(dataset, [0, 1, 2, 4, 6, 7, 8, 10, 11])

    interrupt(dataset, tmp_path / "again", 8, workers=1)
    (tmp_path / "photos/3.png").write_bytes(good)
    report = run(dataset, tmp_path / "again")
    assert [one["path"] for one in report["unreadable"]] == ["5.png"]


def test_nothing_readable_or_no_face_at_all(photos, tmp_path):
    dataset = make_photos(tmp_path / "photos", 3)
    for number in range(3):
        (tmp_path / f"photos/{number}.png").write_bytes(b"")
    with pytest.raises(EdgefelError, match=r"none of its 3 images can be read \(0.png: the file is empty"):
        run(dataset, tmp_path / "out")
    with pytest.raises(EdgefelError, match="no face was found in any of its 2 readable images"):
        run(photos.subset([9, 19]), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


class Ended(EdgefelError):
    """Stands in for whatever ends a run."""


def interrupt(dataset, output, after, workers=2, **options):
    """A run that ends when `after` more images have been searched."""
    searched = itertools.count(1)

    class Ending(SquareDetector):
        def __call__(self, image):
            if next(searched) > after:
                raise Ended
            return super().__call__(image)

    with pytest.raises(Ended):
        run(dataset, output, lambda: RuntimeFaces(Ending(), SIZE), workers, **options)
    assert not output.exists()


def journal(output: Path) -> Path:
    return partial_folder(output) / "journal"


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_going_on_gives_the_same_bytes(photos, once, tmp_path, before, after):
    output = tmp_path / "out"
    interrupt(photos, output, 8, before)
    interrupt(photos, output, 16, before)
    seen = []
    run(photos, output, workers=after, progress=seen.append)
    assert sum(seen) == 40 - 24
    assert tree(output) == once


def test_what_a_crash_leaves_is_done_again(photos, once, tmp_path):
    """A last line without its end, a face that was entered and is not there, one that is cut off, one that changed."""
    output = tmp_path / "out"
    interrupt(photos, output, 24)
    lines = journal(output).read_bytes().splitlines()
    faces = sorted((partial_folder(output) / "faces").rglob("*.png"))
    faces[0].unlink()
    faces[1].write_bytes(faces[1].read_bytes()[:-3])
    faces[2].write_bytes(b"")
    journal(output).write_bytes(b"\n".join(lines)[:-2])
    run(photos, output)
    assert tree(output) == once


def test_a_face_that_is_no_result_any_more_goes(photos, tmp_path):
    """Killed between writing a face and entering it, and then the image breaks."""
    dataset = make_photos(tmp_path / "photos", 12)
    interrupt(dataset, tmp_path / "out", 8, workers=1)
    stray = partial_folder(tmp_path / "out") / "faces/test/anger/0000006.png"
    lines = [line for line in journal(tmp_path / "out").read_bytes().splitlines() if line[:2] != b"6 "]
    journal(tmp_path / "out").write_bytes(b"\n".join(lines) + b"\n")
    assert stray.is_file()
    (tmp_path / "photos/6.png").write_bytes(b"")
    run(dataset, tmp_path / "out")
    assert not (tmp_path / "out/test/anger").exists()


def test_unfinished_work_of_something_else_is_refused(photos, once, tmp_path):
    output = tmp_path / "out"
    interrupt(photos, output, 8)
    with pytest.raises(EdgefelError, match="unfinished run with missing skip, not center"):
        run(photos, output, missing="center")
    with pytest.raises(EdgefelError, match="unfinished run with images 40, not 20"):
        run(photos.subset(range(20)), output)
    relabelled = ImageDataset(photos.root, photos.labels, tuple(reversed(photos.samples)))
    with pytest.raises(EdgefelError, match="with other images, labels or splits"):
        run(relabelled, output)
    moved = make_photos(tmp_path / "photos")
    with pytest.raises(EdgefelError, match=f"not {tmp_path}/photos; finish that"):
        run(moved, output)
    run(photos, output)  # refusing has harmed nothing
    assert tree(output) == once


def test_restart_discards(photos, tmp_path):
    interrupt(photos, tmp_path / "out", 16)
    seen = []
    run(photos, tmp_path / "out", restart=True, missing="center", progress=seen.append)
    assert sum(seen) == 40


def test_a_second_run_at_once_is_refused(photos, tmp_path):
    refused = []

    def progress(done):
        for restart in (False, True):
            with pytest.raises(EdgefelError, match="another run is working there"):
                run(photos, tmp_path / "out", restart=restart)
            refused.append(restart)

    run(photos, tmp_path / "out", progress=progress)
    assert set(refused) == {False, True}


def test_what_was_put_in_the_outputs_place_meanwhile_is_left(photos, tmp_path):
    out = tmp_path / "out"

    def progress(done):
        out.mkdir(exist_ok=True)
        (out / "precious.txt").write_text("mine")

    with pytest.raises(EdgefelError, match=r"left as it is; the finished folder is .*out\.finished$"):
        run(photos, out, progress=progress)
    assert [path.name for path in out.iterdir()] == ["precious.txt"]
    once = tmp_path / "once"
    run(photos, once)
    assert tree(tmp_path / "out.finished") == tree(once)


def test_what_a_run_left_that_was_killed_with_its_output_in_place_is_swept(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("edgefel.data.preparing.run.shutil.rmtree", lambda *arguments, **options: None)
        run(photos, out)
    assert partial_folder(out).is_dir()
    once = tree(out)
    with pytest.raises(EdgefelError, match="not empty"):
        run(photos, out)
    assert not partial_folder(out).exists()
    assert tree(out) == once


def test_a_journal_that_is_none(photos, tmp_path):
    work = partial_folder(tmp_path / "out")
    for text in ("shopping list\n", '{"format": 1}\n'):
        work.mkdir(exist_ok=True)
        (work / "journal").write_text(text)
        with pytest.raises(EdgefelError, match="is no journal of this version"):
            run(photos, tmp_path / "out")
    interrupt(photos, tmp_path / "other", 8)
    with journal(tmp_path / "other").open("a") as stream:
        stream.write("99 d 12\n")
    with pytest.raises(EdgefelError, match="begin anew with --restart"):
        run(photos, tmp_path / "other")
    (work / "journal").unlink()
    (work / "precious").write_text("")
    with pytest.raises(EdgefelError, match="it is not this command's"):
        run(photos, tmp_path / "out", restart=True)
    assert (work / "precious").is_file()


LIMITED = """
import resource, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from edgefel.runtime.faces import RuntimeFaces
from edgefel.data.open import open_dataset
from edgefel.data.preparing.run import prepare
from edgefel.data.preparing.plan import PrepareOptions
from edgefel.errors import EdgefelError
from streams import SquareDetector

resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
options = PrepareOptions(size={size}, image_format="png")
try:
    prepare(open_dataset(sys.argv[1]), sys.argv[2], lambda: RuntimeFaces(SquareDetector(), {size}), options)
except EdgefelError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_keeps_what_is_done(photos, once, tmp_path):
    """The journal cannot grow beyond some byte in the middle of a line."""
    output = tmp_path / "out"
    interrupt(photos, output, 8, workers=1)
    limit = journal(output).stat().st_size + 61  # four to seven lines, and a part of one
    code = LIMITED.format(tests=str(Path(__file__).parents[2]), limit=limit, size=SIZE)
    command = [sys.executable, "-c", code, str(photos.root), str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stdout.count("\n") == 1
    assert (
        "cannot be written (File too large); free disk space and give the same command again" in result.stdout
    )
    assert journal(output).stat().st_size == limit
    kept = journal(output).read_bytes()
    assert not kept.endswith(b"\n")
    seen = []
    run(photos, output, progress=seen.append)
    assert sum(seen) == 40 - (kept.count(b"\n") - 1) < 32
    assert tree(output) == once
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit


def test_the_output_is_not_a_part_of_the_data(photos, tmp_path):
    for output in (photos.root / "out", photos.root):
        with pytest.raises(EdgefelError, match="lies in the data set|is not empty"):
            run(photos, output)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("")
    with pytest.raises(EdgefelError, match="the folder is not empty"):
        run(photos, tmp_path / "taken")
    (tmp_path / "empty").mkdir()
    assert run(photos, tmp_path / "empty")["faces"] == 36


def test_a_broken_detector_leaves_nothing(photos, tmp_path):
    def broken():
        raise EdgefelError("no such detector")

    with pytest.raises(EdgefelError, match="no such detector"):
        run(photos, tmp_path / "out", broken)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_a_thread_ends_the_run(photos, tmp_path):
    class Failing(SquareDetector):
        def __call__(self, image):
            if super().__call__(image) and self.calls > 5:
                raise EdgefelError("the detector's model is broken")
            return []

    with pytest.raises(EdgefelError, match="the detector's model is broken"):
        run(photos, tmp_path / "out", lambda: RuntimeFaces(Failing(), SIZE))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 8}, "give a side of 16 to 4096"),
        ({"image_format": "bmp"}, "choose one of jpg, png"),
        ({"missing": "guess"}, "choose one of skip, center"),
        ({"margin": float("nan")}, "give a share of the box's side"),
        ({"per_shard": 0}, "give 1 or more"),
        ({"shares": (0.5, 0.6, 0.1)}, "add up to 1"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(EdgefelError, match=message):
        PrepareOptions(**options)


def test_unlabelled_images_are_refused(photos, tmp_path):
    samples = (*photos.samples[:2], Sample(photos.samples[2].path, -1, "x", "train", None))
    with pytest.raises(EdgefelError, match="2.png: has no label"):
        run(ImageDataset(photos.root, photos.labels, samples), tmp_path / "out")
