from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.dataset import UNLABELLED
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8, canonical_label, expression_labels
from edgefel.data.open import is_labelled, open_dataset
from edgefel.data.readers.folder import open_unlabelled
from edgefel.errors import EdgefelError


def write_image(path: Path, rgb: tuple[int, int, int] = (200, 100, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((9, 7, 3), rgb[::-1], np.uint8))


def write_csv(root: Path, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root


def test_csv_gives_labels_groups_splits_and_soft_labels(tmp_path: Path) -> None:
    soft = ",".join(f"soft_{name}" for name in EXPRESSIONS_7)
    write_csv(
        tmp_path,
        f"path,label,split,subject,{soft},extra\n"
        "a/x.png,happiness,train,s1,0.25,0.75,0,0,0,0,0,ignored\n"
        "a/y.png,anger,test,,0,0,0,0,0,0,1,ignored\n",
    )
    write_image(tmp_path / "a/x.png")
    dataset = open_dataset(tmp_path)
    assert dataset.labels == EXPRESSIONS_7
    assert len(dataset) == 2
    first, second = dataset.samples
    assert (first.label, first.group, first.split) == (1, "s1", "train")
    assert first.soft == (0.25, 0.75, 0, 0, 0, 0, 0)
    assert (second.label, second.group, second.split) == (6, "a/y.png", "test")
    image = dataset.load(0)
    assert image.shape == (9, 7, 3)
    assert image.dtype == np.uint8
    assert tuple(image[0, 0]) == (200, 100, 50)  # RGB, not OpenCV's BGR
    assert [s.path.name for s in open_dataset(tmp_path, "test").samples] == ["y.png"]


def test_csv_of_people_lacks_cells_and_has_columns_of_its_own(tmp_path: Path) -> None:
    root = write_csv(
        tmp_path,
        "path,label,split,subject,x,y,width,height,group\n"
        " a b.png ,joy,Train,s1,left,,,,g\n"
        "c.png,fear\n"
        "\n"
        "d.png,sad,valid, s1 ,1,2,3,4,h,surplus\n",
    )
    dataset = open_dataset(root)
    assert [(s.path.name, dataset.labels[s.label], s.split, s.group, s.box) for s in dataset.samples] == [
        ("a b.png", "happiness", "train", "s1", None),
        ("c.png", "fear", "", "c.png", None),
        ("d.png", "sadness", "val", "s1", None),
    ]
    assert dataset.groups().tolist() == [0, 1, 0]


def test_contempt_makes_eight_labels(tmp_path: Path) -> None:
    root = write_csv(tmp_path, "path,label,split,subject\nx.png,Contempt,train,s\n")
    assert open_dataset(root).labels == EXPRESSIONS_8


def test_dataset_json_may_name_eight_labels_before_contempt_occurs(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,label,split,subject\nx.png,fear,train,s\n")
    (tmp_path / "dataset.json").write_text('{"labels": ["' + '","'.join(EXPRESSIONS_8) + '"]}')
    assert open_dataset(tmp_path).labels == EXPRESSIONS_8


def test_listed_classes_may_have_any_order(tmp_path: Path) -> None:
    """Images are of named classes here: the order of a list means nothing."""
    write_csv(tmp_path, "path,label,split,subject\nx.png,fear,train,s\n")
    (tmp_path / "dataset.json").write_text('{"labels": ["' + '","'.join(EXPRESSIONS_8[::-1]) + '"]}')
    dataset = open_dataset(tmp_path)
    assert dataset.labels == EXPRESSIONS_8
    assert dataset.targets().tolist() == [EXPRESSIONS_8.index("fear")]
    for listed in ('["fear", "fear"]', '["fear", "joy"]', '"fear"', '["calm"]'):
        (tmp_path / "dataset.json").write_text(f'{{"labels": {listed}}}')
        with pytest.raises(EdgefelError, match=r"dataset.json: the label"):
            open_dataset(tmp_path)


def test_plain_tree(tmp_path: Path) -> None:
    write_image(tmp_path / "happy/2.png")
    write_image(tmp_path / "happy/1.PNG")
    write_image(tmp_path / "Sadness/3.jpg")
    (tmp_path / "happy/notes.txt").write_text("not an image")
    dataset = open_dataset(tmp_path)
    found = {(s.path.relative_to(tmp_path).as_posix(), dataset.labels[s.label]) for s in dataset.samples}
    assert found == {("happy/1.PNG", "happiness"), ("happy/2.png", "happiness"), ("Sadness/3.jpg", "sadness")}
    assert len({s.group for s in dataset.samples}) == 3
    assert {s.split for s in dataset.samples} == {""}
    with pytest.raises(EdgefelError, match="has no splits"):
        open_dataset(tmp_path, "val")


def test_tree_with_split_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "train/fear/a.png")
    write_image(tmp_path / "valid/fear/b.png")
    assert [s.path.name for s in open_dataset(tmp_path, "val").samples] == ["b.png"]
    with pytest.raises(EdgefelError, match=r"'test' \(it has train, val\)"):
        open_dataset(tmp_path, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nx.png,fear\n", "missing columns split, subject"),
        ("", "missing columns path, label, split, subject"),
        ("path,label,split,subject\n", "lists no images"),
        ("path,label,split,subject\nx.png,boredom,train,s\n", "line 2: unknown label 'boredom'"),
        ("path,label,split,subject\nx.png,,train,s\n", "line 2: unknown label ''"),
        ("path,label,split,subject\n,fear,train,s\n", "line 2: the path is empty"),
        ("path,label,split,subject\nx.png,fear,training,s\n", "split 'training' is unknown"),
        ("path,label,split,subject,soft_boredom\nx.png,fear,train,s,1\n", "soft_boredom"),
        ("path,label,split,subject,soft_fear\nx.png,fear,train,s,1\n", "lacks soft_neutral"),
    ],
)
def test_broken_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EdgefelError, match=message):
        open_dataset(write_csv(tmp_path, text))


@pytest.mark.parametrize(
    "values", ["0.5,0.4,0,0,0,0,0", "1.5,-0.5,0,0,0,0,0", "nan,1,0,0,0,0,0", "x,1,0,0,0,0,0"]
)
def test_soft_labels_must_be_a_distribution(tmp_path: Path, values: str) -> None:
    soft = ",".join(f"soft_{name}" for name in EXPRESSIONS_7)
    with pytest.raises(EdgefelError, match=r"line 2: .*soft_"):
        open_dataset(write_csv(tmp_path, f"path,label,split,subject,{soft}\nx.png,fear,train,s,{values}\n"))


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(EdgefelError, match="no images in class folders"):
        open_dataset(tmp_path)
    with pytest.raises(EdgefelError, match="choose one of train, val, test"):
        open_dataset(tmp_path, "validation")


def test_unknown_class_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "boredom/1.png")
    with pytest.raises(EdgefelError, match="unknown label 'boredom'"):
        open_dataset(tmp_path)


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    write_csv(
        tmp_path,
        "path,label,split,subject\ngone.png,fear,train,s\nempty.png,fear,train,s\nbad.png,fear,train,s\n",
    )
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "bad.png").write_bytes(b"this is text")
    dataset = open_dataset(tmp_path)
    for index, name in enumerate(["gone.png", "empty.png", "bad.png"]):
        with pytest.raises(UnreadableImageError, match=name) as caught:
            dataset.load(index)
        assert caught.value.path == tmp_path / name


def test_canonical_labels() -> None:
    assert expression_labels(7) == EXPRESSIONS_7
    assert expression_labels(8) == EXPRESSIONS_8
    with pytest.raises(EdgefelError, match="7 or 8"):
        expression_labels(6)
    assert canonical_label(" Angry ") == "anger"
    assert canonical_label("boredom") is None


def test_images_without_labels_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in (
        "top.png",
        "clips/a/1.JPG",
        "clips/a/2.png",
        "clips/b/1.png",
        ".cache/x.png",
        "clips/.x/y.png",
    ):
        write_image(tmp_path / name)
    (tmp_path / "clips/notes.txt").write_text("not an image")
    dataset = open_unlabelled(tmp_path)
    assert {(s.path.relative_to(tmp_path).as_posix(), s.group) for s in dataset.samples} == {
        ("top.png", "top.png"),
        ("clips/a/1.JPG", "clips/a"),
        ("clips/a/2.png", "clips/a"),
        ("clips/b/1.png", "clips/b"),
    }
    assert dataset.labels == ()
    assert {(s.label, s.split) for s in dataset.samples} == {(UNLABELLED, "")}


def test_splits_of_images_without_labels(tmp_path: Path) -> None:
    for name in ("train/clip/1.png", "train/2.png", "test/3.png", "4.png"):
        write_image(tmp_path / name)
    assert {(s.group, s.split) for s in open_unlabelled(tmp_path).samples} == {
        ("train/clip", "train"),
        ("train/2.png", "train"),
        ("test/3.png", "test"),
        ("4.png", ""),
    }


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match="no images in it"):
        open_unlabelled(tmp_path)
    with pytest.raises(EdgefelError, match="no such folder"):
        open_unlabelled(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "labelled"),
    [("happy/1.png", True), ("train/fear/1.png", True), ("clip/1.png", False), ("train/clip/1.png", False)],
)
def test_what_counts_as_labelled(tmp_path: Path, name: str, labelled: bool) -> None:
    write_image(tmp_path / "d" / name)
    assert is_labelled(tmp_path / "d") is labelled
    write_csv(tmp_path / "d", "")
    assert is_labelled(tmp_path / "d")
    assert not is_labelled(tmp_path / "nowhere")
