from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.dataset import FileStore, ImageDataset, Sample, SampleTable
from edgefel.data.inspection.scan import scan_images
from edgefel.errors import EdgefelError
from edgefel.tasks.threads import Threads


def image(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def dataset(
    folder: Path, names: list[str], box: list[tuple[int, int, int, int]] | None = None
) -> ImageDataset:
    count = len(names)
    boxes = None if box is None else np.array(box, np.int32)
    table = SampleTable(FileStore(folder, names), [0] * count, [0] * count, ["g"], "train", box=boxes)
    return ImageDataset(folder, ("neutral",), table)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_known_of_each_image(tmp_path, workers):
    cv2.imwrite(str(tmp_path / "a.png"), image(0))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    cv2.imwrite(str(tmp_path / "c.jpg"), image(0))
    cv2.imwrite(str(tmp_path / "grey.jpg"), cv2.cvtColor(image(1, 50, 40), cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((32, 32, 3), 9, np.uint8))
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").touch()
    names = ["a.png", "b.png", "c.jpg", "grey.jpg", "flat.png", "text.jpg", "empty.png", "missing.png"]
    done: list[int] = []
    scan = scan_images(dataset(tmp_path, names), runner=Threads(workers), progress=done.append)
    assert sum(done) == len(names)
    assert scan.size[:5].tolist() == [[80, 60], [80, 60], [80, 60], [40, 50], [32, 32]]
    assert scan.content[0] == scan.content[1] != scan.content[2]
    assert scan.coarse[0] == scan.coarse[1]
    assert scan.grey.tolist() == [False, False, False, True, True, False, False, False]
    assert scan.flat.tolist() == [False] * 4 + [True] + [False] * 3
    assert scan.readable.tolist() == [True] * 5 + [False] * 3
    assert scan.unreadable == {
        5: "not an image that OpenCV can decode",
        6: "the file is empty",
        7: "cannot be read (No such file or directory)",
    }


def test_more_images_than_threads_take_at_once_stay_in_order(tmp_path):
    for index in range(7):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image(index, 40 + index, 50))
    scan = scan_images(dataset(tmp_path, [f"{index % 7}.png" for index in range(700)]), runner=Threads(3))
    assert scan.size[:, 1].tolist() == [40 + index % 7 for index in range(700)]
    assert scan.content.tolist() == [index % 7 for index in range(700)]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_image_that_is_cut_off_is_told(tmp_path, suffix):
    data = cv2.imencode(f".{suffix}", image(2, 200, 200))[1].tobytes()
    (tmp_path / f"whole.{suffix}").write_bytes(data)
    (tmp_path / f"padded.{suffix}").write_bytes(data + bytes(100))
    (tmp_path / f"cut.{suffix}").write_bytes(data[: len(data) * 3 // 4])
    names = [f"{name}.{suffix}" for name in ("whole", "padded", "cut")]
    assert list(scan_images(dataset(tmp_path, names)).unreadable) == [2]


def test_a_jpeg_that_goes_on_with_zeros_is_told(tmp_path):
    """As after a crash: the file has its length, and nothing in it from somewhere on; OpenCV decodes it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "zeros.jpg").write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert cv2.imread(str(tmp_path / "zeros.jpg")) is not None
    assert list(scan_images(dataset(tmp_path, ["zeros.jpg"])).unreadable) == [0]


def test_a_thumbnail_does_not_hide_that_the_image_is_cut_off(tmp_path):
    data = cv2.imencode(".jpg", image(3, 200, 200))[1].tobytes()
    thumbnail = cv2.imencode(".jpg", image(3, 20, 20))[1].tobytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    (tmp_path / "whole.jpg").write_bytes(data[:2] + segment + data[2:])
    (tmp_path / "cut.jpg").write_bytes(data[:2] + segment + data[2:-400])
    assert list(scan_images(dataset(tmp_path, ["whole.jpg", "cut.jpg"])).unreadable) == [1]


def test_faces_of_one_image_are_no_copies_of_each_other(tmp_path):
    cv2.imwrite(str(tmp_path / "people.png"), image(4, 120, 160))
    boxes = [(0, 0, 60, 70), (80, 10, 60, 60), (0, 0, 60, 70), (500, 0, 9, 9)]
    people = dataset(tmp_path, ["people.png"] * 4, boxes)
    scan = scan_images(people)
    assert people.boxed().all()
    assert scan.size.tolist() == [[60, 70], [60, 60], [60, 70], [0, 0]]
    assert scan.content[0] == scan.content[2] != scan.content[1]
    assert scan.coarse[0] != scan.coarse[1]
    assert "lies outside" in scan.unreadable[3]


def test_a_image_too_large_for_opencv_is_unreadable(tmp_path):
    header = b"P6\n50000 50000\n255\n"
    (tmp_path / "huge.ppm").write_bytes(header + bytes(64))
    samples = (Sample(tmp_path / "huge.ppm", 0, "g", ""),)
    scan = scan_images(ImageDataset(tmp_path, ("neutral",), samples))
    assert list(scan.unreadable) == [0]
    assert "\n" not in scan.unreadable[0]


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(EdgefelError, match="0 workers"):
        scan_images(dataset(tmp_path, []), runner=Threads(0))
