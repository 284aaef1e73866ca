from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from data.readers.trees_aff_wild2 import AFF_WILD2_CLASSES, HEADER_7, VIDEOS, Video, write_aff_wild2
from data.readers.trees_expw import faces_of_every_class, write_expw
from data.readers.trees_fer_plus import write_fer_plus

from edgefel.data.dataset import ImageDataset, SampleTable
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.aff_wild2 import AffWild2, FrameNames
from edgefel.errors import EdgefelError


def found(dataset: ImageDataset) -> list[tuple[str, str, str, str]]:
    """Video, split, file name and class of each sample."""
    return [(s.group, s.split, s.path.name, dataset.labels[s.label]) for s in dataset.samples]


def expected(*, other: bool = True) -> list[tuple[str, str, str, str]]:
    """What the tree of `write_aff_wild2` holds."""
    return [(v.name, v.split, name, label) for v in VIDEOS for name, label in v.read(other=other)]


def test_every_class_is_read_by_name(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path)
    dataset = AffWild2().read(tmp_path)
    assert dataset.labels == (*EXPRESSIONS_7, "other")
    assert found(dataset) == expected()
    assert {label for _, _, _, label in found(dataset)} == set(AFF_WILD2_CLASSES)


def test_other_is_left_out_of_seven_classes(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path)
    dataset = AffWild2(other=False).read(tmp_path)
    assert dataset.labels == EXPRESSIONS_7
    assert found(dataset) == expected(other=False)


def test_a_frame_is_the_image_of_its_number(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path)
    dataset = AffWild2().read(tmp_path)
    for index, sample in enumerate(dataset.samples):
        assert np.abs(dataset.load(index).astype(int) - 10 * int(sample.path.stem)).max() <= 2
        assert sample.is_file


@pytest.mark.parametrize(
    ("labels", "train", "images"),
    [
        ("6th ABAW Annotations/EXPR_Recognition_Challenge", "Train_Set", "batch1/cropped_aligned"),
        (
            "3rd ABAW Annotations/Third ABAW Annotations/EXPR_Classification_Challenge",
            "Train_Set",
            "cropped_aligned/cropped_aligned",
        ),
        ("annotations/EXPR_Set", "Training_Set", "cropped_images_aligned/cropped_aligned"),
        ("annotations/expr_set", "train_set", "Cropped_Aligned"),
    ],
)
def test_other_editions_and_places(tmp_path: Path, labels: str, train: str, images: str) -> None:
    write_aff_wild2(tmp_path, labels=labels, train=train, images=images)
    assert AffWild2().recognizes(tmp_path)
    dataset = AffWild2().read(tmp_path)
    assert found(dataset) == expected()
    assert dataset.load(0).shape == (8, 8, 3)


def test_the_header_decides_the_classes(tmp_path: Path) -> None:
    videos = (Video("a", "train", ("anger", "surprise", "fear")),)
    write_aff_wild2(tmp_path / "2020", videos, header=HEADER_7, labels="EXPR_Set", train="Training_Set")
    dataset = AffWild2().read(tmp_path / "2020")
    assert dataset.labels == EXPRESSIONS_7
    assert [label for *_, label in found(dataset)] == ["anger", "surprise", "fear"]
    write_aff_wild2(
        tmp_path / "other", videos, header="Fear,Surprise,Anger,Disgust,Sadness,Neutral,Happiness"
    )
    assert [label for *_, label in found(AffWild2().read(tmp_path / "other"))] == [
        "anger",
        "surprise",
        "fear",
    ]


def test_videos_that_were_added_later_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path)
    later = tmp_path / "batch2/cropped_aligned_new_50_vids"
    later.mkdir(parents=True)
    (tmp_path / "cropped_aligned/video59_left").rename(later / "video59_left")
    dataset = AffWild2().read(tmp_path)
    assert found(dataset) == expected()
    (sample,) = (s for s in dataset.samples if s.group == "video59_left")
    assert sample.path == later / "video59_left/00002.jpg"
    assert sample.load().shape == (8, 8, 3)


def test_windows_text(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    (tmp_path / "EXPR_Classification_Challenge/Train_Set/._1-30-1280x720.txt").write_bytes(b"\0\xff")
    assert found(AffWild2().read(tmp_path)) == expected()


def test_more_frames_than_labels_and_names_that_are_no_frames(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path)
    for name in ("00012.jpg", "99999.jpg", "10.jpg", "thumb.jpg", "00009.png", ".DS_Store"):
        (tmp_path / "cropped_aligned/1-30-1280x720" / name).write_bytes(b"x")
    assert found(AffWild2().read(tmp_path)) == expected()


def test_frames_of_a_missing_folder_stay_and_are_unreadable(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path)
    folder = tmp_path / "cropped_aligned/video59_left"
    (folder / "00001.jpg").unlink()
    (folder / "00002.jpg").unlink()
    folder.rmdir()
    dataset = AffWild2().read(tmp_path)
    assert found(dataset) == expected()
    index = [sample.group for sample in dataset.samples].index("video59_left")
    with pytest.raises(UnreadableImageError, match=r"cropped_aligned/video59_left/00002.jpg"):
        dataset.load(index)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Neutral,Anger,Disgust"], "a.txt line 1: 'Neutral,Anger,Disgust' does not name the seven"),
        ([], "a.txt line 1: '' does not name"),
        ([HEADER_7.replace("Fear", "Boredom"), "1"], "line 1: .* does not name"),
        ([HEADER_7.replace("Fear", "Anger"), "1"], "line 1: .* does not name"),
        (["valence,arousal", "0.1,0.2"], "line 1: .* does not name"),
        ([HEADER_7, "1", "7"], "a.txt line 3: class 7 is unknown; its classes are 0 to 6"),
        ([HEADER_7, "-2"], "a.txt line 2: class -2 is unknown"),
        ([HEADER_7, "1", "", "1"], "a.txt line 3: '' is not the number of a class"),
        ([HEADER_7, "1", "1.0"], "a.txt line 3: '1.0' is not the number of a class"),
        ([HEADER_7, "1" * 30], "a.txt line 2: '1{30}' is not the number of a class"),
    ],
)
def test_malformed_labels_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    write_aff_wild2(tmp_path, (Video("a", "train", ("anger",)),))
    path = tmp_path / "EXPR_Classification_Challenge/Train_Set/a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(EdgefelError, match=message):
        AffWild2().read(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match="no folder EXPR_Classification_Challenge with Train_Set"):
        AffWild2().read(tmp_path)
    write_aff_wild2(tmp_path / "a", images="somewhere")
    with pytest.raises(EdgefelError, match="no folder cropped_aligned; unpack"):
        AffWild2().read(tmp_path / "a")
    (tmp_path / "a/cropped_aligned").mkdir()
    with pytest.raises(
        EdgefelError, match=r"no image of an annotated frame, such as 1-30-1280x720/00001.jpg"
    ):
        AffWild2().read(tmp_path / "a")
    write_aff_wild2(tmp_path / "b", (Video("v", "train", ("", "")),))
    with pytest.raises(EdgefelError, match="no image of an annotated frame"):
        AffWild2().read(tmp_path / "b")
    (tmp_path / "b/EXPR_Classification_Challenge/Train_Set/v.txt").unlink()
    with pytest.raises(EdgefelError, match="no files of labels in its splits"):
        AffWild2().read(tmp_path / "b")


def test_what_could_mean_two_things_is_refused(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path / "a", labels="3rd/EXPR_Classification_Challenge")
    write_aff_wild2(tmp_path / "a", labels="6th/EXPR_Recognition_Challenge")
    with pytest.raises(EdgefelError, match="labels of several editions"):
        AffWild2().read(tmp_path / "a")
    write_aff_wild2(tmp_path / "b", (Video("v", "train", ("fear",)), Video("v", "val", ("fear",))))
    with pytest.raises(EdgefelError, match="the same video as .*Train_Set"):
        AffWild2().read(tmp_path / "b")


def test_recognizes_no_other_set(tmp_path: Path) -> None:
    write_fer_plus(tmp_path / "fer")
    write_expw(tmp_path / "expw", faces_of_every_class())
    write_aff_wild2(tmp_path / "valence", labels="VA_Estimation_Challenge")
    (tmp_path / "empty/EXPR_Set").mkdir(parents=True)
    for name in ("fer", "expw", "valence", "empty", "fer/fer2013new.csv", "nowhere"):
        assert not AffWild2().recognizes(tmp_path / name), name


def test_names_of_frames_are_made_of_numbers() -> None:
    names = FrameNames(["a", "b/c"], np.array([0, 1, 1], np.int32), np.array([7, 99999, 123456], np.int32))
    assert list(names) == ["a/00007.jpg", "b/c/99999.jpg", "b/c/123456.jpg"]
    assert list(names[1:]) == ["b/c/99999.jpg", "b/c/123456.jpg"]
    assert names[-1] == "b/c/123456.jpg"


def test_a_frame_takes_few_bytes(tmp_path: Path) -> None:
    """Millions of frames must fit into the memory of a machine that trains, also as copies for its processes."""
    frames = 2_000
    write_aff_wild2(tmp_path, (Video("v", "train", ("fear",)),))
    labels = tmp_path / "EXPR_Classification_Challenge/Train_Set/v.txt"
    labels.write_text(HEADER_7 + "\n3" * frames, encoding="utf-8")
    for number in range(2, frames + 1):
        os.link(tmp_path / "cropped_aligned/v/00001.jpg", tmp_path / f"cropped_aligned/v/{number:05d}.jpg")
    dataset = AffWild2().read(tmp_path)
    assert isinstance(dataset.samples, SampleTable)
    assert len(dataset) == frames
    assert len(pickle.dumps(dataset)) < 30 * frames
