"""Which faces are cut, and what a run leaves where something goes wrong."""

from __future__ import annotations

import cv2
import pytest
from data.preparing.photos import (
    SIZE,
    described,
    interrupt,
    journal,
    make_photos,
    run,
    tree,
    whole,
)
from streams import RED, SquareDetector, scene

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import open_dataset
from edgefel.errors import EdgefelError
from edgefel.files.resumable import partial_folder
from edgefel.runtime.faces import RuntimeFaces


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


def test_restart_discards(photos, tmp_path):
    interrupt(photos, tmp_path / "out", 16)
    seen = []
    run(photos, tmp_path / "out", restart=True, missing="center", progress=seen.append)
    assert sum(seen) == 40


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
