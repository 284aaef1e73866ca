"""Images, folders, videos, and what is none of these."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from streams import all_frames

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.sources import open_source as open_images


@pytest.fixture
def video(tmp_path):
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(6):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    return file


def test_an_image_is_rgb(tmp_path):
    image = np.zeros((8, 9, 3), np.uint8)
    image[..., 2] = 255  # red in OpenCV's order
    cv2.imwrite(str(tmp_path / "red.png"), image)
    (only,) = open_images(tmp_path / "red.png").images()
    assert only.image[0, 0].tolist() == [255, 0, 0]
    assert only.frame is None


def test_a_folder_is_searched_in_order_and_unreadable_files_are_told(tmp_path):
    for name in ("b.png", "a/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "a" / "bad.png").write_bytes(b"\x89PNG")
    (tmp_path / "notes.txt").write_text("")
    skipped = []
    source = open_images(tmp_path)
    names = [image.name for image in source.images(lambda path, reason: skipped.append((path, reason)))]
    assert names == [str(tmp_path / "a/c.jpg"), str(tmp_path / "b.png")]
    assert skipped == [(tmp_path / "a/bad.png", "not an image that OpenCV can decode")]
    assert source.frames == 3


def test_a_video_has_frames_and_times(video):
    source = open_images(video)
    assert (source.kind, source.frames, source.fps) == ("video", 6, 10.0)
    images = list(source.images(every=2))
    assert [image.frame for image in images] == [0, 2, 4]
    assert [image.time for image in images] == [0.0, 0.2, 0.4]
    assert abs(int(images[1].image.mean()) - 80) < 4


def test_what_cannot_be_labelled_is_explained(tmp_path):
    with pytest.raises(EdgefelError, match="no such file or folder"):
        open_images(tmp_path / "absent.jpg")
    with pytest.raises(EdgefelError, match="no images in it"):
        open_images(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(EdgefelError, match="not a kind of file"):
        open_images(tmp_path / "notes.txt")
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(EdgefelError, match="cannot open this as a video"):
        open_images(tmp_path / "broken.mp4")


def jpeg(seed: int = 0) -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def test_a_cut_jpeg_is_unreadable_even_behind_a_whole_thumbnail(tmp_path):
    whole, thumbnail = jpeg(), jpeg(1)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    file = tmp_path / "image.jpg"
    for content in (whole, with_thumbnail, whole + b"trailing bytes"):
        file.write_bytes(content)
        (only,) = open_images(file).images()
        assert only.image.shape == (64, 64, 3)
    skipped: list[Path] = []
    for content in (whole[:-2], whole[:900], with_thumbnail[:-200], whole[:30], whole[:2], b""):
        file.write_bytes(content)
        assert not list(open_images(file).images(lambda path, reason: skipped.append(path)))
    assert skipped == [file] * 6


def test_hidden_files_and_folders_are_left_out(tmp_path):
    (tmp_path / ".cache").mkdir()
    for name in ("a.png", ".b.png", ".cache/c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    assert open_images(tmp_path).files == (tmp_path / "a.png",)


def test_a_folder_of_images(tmp_path):
    for name, value in (("b.png", 20), ("a.jpg", 90), ("d/c.png", 160)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((8, 9, 3), value, np.uint8))
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    source = open_source(str(tmp_path), fps=2)
    assert (source.live, source.frames, source.fps) == (False, 4, 2)
    frames = all_frames(source)
    assert [Path(frame.name).name for frame in frames] == ["a.jpg", "b.png", "c.png"]
    assert [(frame.index, frame.time) for frame in frames] == [(0, 0.0), (1, 0.5), (3, 1.5)]
    assert [int(frame.image.mean()) for frame in frames] == [90, 20, 160]
    assert source.counts.unreadable == 1
    assert source.skipped == [str(tmp_path / "bad.png")]


def test_a_looped_folder_and_a_single_image(tmp_path):
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 9, 3), 100 * number, np.uint8))
    source = open_source(str(tmp_path), loop=True)
    frames = [source.read() for _ in range(5)]
    assert [(frame.index, frame.time, int(frame.image.mean())) for frame in frames] == [
        (0, 0.0, 0),
        (1, 1.0, 100),
        (2, 2.0, 0),
        (3, 3.0, 100),
        (4, 4.0, 0),
    ]
    assert len(all_frames(open_source(str(tmp_path / "1.png")))) == 1


@pytest.mark.parametrize("loop", [False, True])
def test_a_folder_of_which_nothing_can_be_read(tmp_path, loop):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(EdgefelError, match="nothing in it can be read"):
        open_source(str(tmp_path), loop=loop).read()


def test_a_looped_folder_whose_images_vanish_ends(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    source = open_source(str(tmp_path), loop=True)
    assert [source.read().index for _ in range(3)] == [0, 1, 2]
    (tmp_path / "1.png").unlink()
    with pytest.raises(EdgefelError, match="nothing in it can be read"):
        source.read()
