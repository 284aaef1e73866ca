"""A source's images are labelled and saved, and what is there is kept. tests/cli/test_predict.py tests the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from streams import BLUE, RED, SquareDetector, scene, write_video

from edgefel.errors import EdgefelError
from edgefel.runtime.faces import WholeImage
from edgefel.runtime.labelling import Thresholds
from edgefel.runtime.model import Model
from edgefel.runtime.predict import check_save, predict_source
from edgefel.runtime.stream.sources import open_source


@pytest.fixture
def photos(tmp_path):
    """Two faces, none, and a broken file."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, squares in (("more/two.png", [(20, 30, 60, RED), (220, 100, 40, BLUE)]), ("none.png", [])):
        cv2.imwrite(str(folder / name), cv2.cvtColor(scene(squares), cv2.COLOR_RGB2BGR))
    (folder / "broken.png").write_bytes(b"")
    return folder


def test_results_come_in_order_and_the_totals_add_up(photos, session):
    results, advances = [], []
    summary = predict_source(
        open_source(photos),
        Model(session, SquareDetector),
        each=results.append,
        advance=lambda: advances.append(1),
    )
    assert [(result.source.removeprefix(f"{photos}/"), len(result.faces)) for result in results] == [
        ("more/two.png", 2),
        ("none.png", 0),
    ]
    assert (summary.images, summary.faces, summary.without_face, len(advances)) == (2, 2, 1, 3)
    assert len(summary.unreadable) == 1
    assert summary.unreadable[0].path == photos / "broken.png"
    assert summary.saved == []


@pytest.fixture
def album(tmp_path):
    """Twelve images with 0 to 4 faces, and a broken one after every third."""
    folder = tmp_path / "album"
    folder.mkdir()
    squares = [
        (x, y, 30 + 4 * x // 70, colour)
        for x, y, colour in ((5, 10, RED), (75, 90, BLUE), (150, 20, RED), (230, 100, BLUE))
    ]
    for number in range(12):
        image = cv2.cvtColor(scene(squares[: (3 * number) % 5]), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{number:02}.png"), image)
        if number % 3 == 2:
            (folder / f"{number:02}-broken.png").write_bytes(b"\x89PNG")
    return folder


def test_what_was_reported_and_saved_before_an_interruption_stays(album, session, tmp_path):
    results = []

    def each(result):
        results.append(Path(result.source).name)
        if len(results) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_source(open_source(album), Model(session, SquareDetector), save=tmp_path / "out", each=each)
    assert (
        sorted(path.name for path in (tmp_path / "out").iterdir())
        == results
        == [f"{n:02}.png" for n in range(5)]
    )


def test_faces_of_low_quality_are_counted_by_what_is_wrong(session, tmp_path):
    rng = np.random.default_rng(0)
    image = np.zeros((240, 320, 3), np.uint8)
    texture = 130 + 7 * cv2.GaussianBlur(rng.normal(0, 30, (60, 60)), (0, 0), 1.5)
    for place, side in ((20, 60), (200, 8)):
        face = cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA).clip(30, 250)
        image[20 : 20 + side, place : place + side] = face[..., None]
    image[150:210, 200:260] = 100
    cv2.imwrite(str(tmp_path / "a.png"), image)
    results = []
    source = open_source(tmp_path / "a.png")
    strict = Model(session, SquareDetector, Thresholds(min_quality=0.5))
    summary = predict_source(source, strict, each=results.append)
    assert summary.faces == 3
    assert summary.unsure == {"size": 1, "contrast": 1}
    faces = {face.box.side: face for face in results[0] if face.box.x != 200 or face.box.y < 100}
    assert (faces[60].sure, faces[8].sure) == (True, False)
    document = faces[8].to_dict()
    assert (document["label"], document["top_label"]) == ("unsure", faces[8].top_label)
    assert document["quality"] == document["quality_parts"]["size"] == 0
    every = predict_source(source, Model(session, SquareDetector))
    assert not every.unsure


def test_saved_images_keep_their_names_in_folders(photos, session, tmp_path):
    summary = predict_source(open_source(photos), Model(session, SquareDetector), save=tmp_path / "out")
    saved = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert saved == [tmp_path / "out/more/two.png", tmp_path / "out/none.png"]
    assert sorted(summary.saved) == [str(path) for path in saved]
    assert (cv2.imread(str(saved[0])) != cv2.imread(str(photos / "more/two.png"))).any()


def test_every_nth_frame_of_a_video_with_its_time(session, tmp_path):
    results = []
    source = open_source(write_video(tmp_path / "clip.avi", count=10, fps=20))
    summary = predict_source(
        source, Model(session, WholeImage), every=3, save=tmp_path / "out", each=results.append
    )
    assert [(result.frame, result.time) for result in results] == [(0, 0.0), (3, 0.15), (6, 0.3), (9, 0.45)]
    assert results[1].to_dict() | {"faces": []} == {
        "source": str(tmp_path / "clip.avi"),
        "frame": 3,
        "time": 0.15,
        "faces": [],
    }
    assert summary.saved == [str(tmp_path / "out/clip.mp4")]
    assert cv2.VideoCapture(summary.saved[0]).get(cv2.CAP_PROP_FRAME_COUNT) == 4


def test_a_source_of_which_nothing_can_be_read(photos, session, tmp_path):
    """Each file is named once, with what is wrong with it."""
    broken = photos / "broken.png"
    with pytest.raises(EdgefelError) as caught:
        predict_source(open_source(broken), Model(session, SquareDetector))
    reason = str(caught.value).removeprefix(f"{broken}: ")
    assert "broken.png" not in reason
    assert reason.endswith("; replace it or leave it out")
    folder = tmp_path / "only broken"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(broken, folder / name)
    with pytest.raises(EdgefelError) as caught:
        predict_source(open_source(folder), Model(session, SquareDetector))
    first = f"{folder / 'a.png'}: {reason}"
    assert str(caught.value) == f"{folder}: none of its 2 images can be read; first: {first}"


def test_a_file_that_appears_while_images_are_labelled_is_kept(photos, session, tmp_path):
    out = tmp_path / "out"

    def appear(result):
        if not (out / "none.png").exists():
            (out / "none.png").write_text("precious")

    with pytest.raises(EdgefelError, match=r"none\.png: appeared meanwhile"):
        predict_source(open_source(photos), Model(session, SquareDetector), save=out, each=appear)
    assert (out / "none.png").read_text() == "precious"
    summary = predict_source(open_source(photos), Model(session, SquareDetector), save=out, overwrite=True)
    assert str(out / "none.png") in summary.saved
    assert (out / "none.png").read_bytes() != b"precious"


def test_an_error_in_the_middle_of_a_video_leaves_no_file(session, tmp_path):
    def stop(result):
        if result.frame == 5:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        predict_source(
            open_source(write_video(tmp_path / "clip.avi")),
            Model(session, WholeImage),
            save=tmp_path / "out",
            each=stop,
        )
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["clip.avi"]


@pytest.mark.parametrize(
    ("save", "message"),
    [
        ("photos/none.png", "exists and is not a folder"),
        ("labelled.jpg", "--save takes a folder"),
        ("photos/out", "lies in the source"),
        ("there", r"none\.png: exists; .*--overwrite"),
    ],
)
def test_folders_that_cannot_take_the_images(photos, tmp_path, save, message):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/none.png").write_text("precious")
    with pytest.raises(EdgefelError, match=message):
        check_save(open_source(photos), tmp_path / save, overwrite=False)


def test_the_source_itself_is_never_overwritten(photos, tmp_path):
    for file in (photos / "none.png", write_video(tmp_path / "clip.mp4", codec="mp4v")):
        with pytest.raises(EdgefelError, match="would overwrite the (image|video) itself"):
            check_save(open_source(file), file.parent, overwrite=True)
