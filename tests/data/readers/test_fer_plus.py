from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from data.readers.trees_aff_wild2 import write_aff_wild2
from data.readers.trees_expw import faces_of_every_class, write_expw
from data.readers.trees_fer_plus import (
    FER_PLUS_CLASSES,
    SPLITS,
    Row,
    rows_of_every_class,
    write_disagreeing,
    write_fer_plus,
    write_fer_plus_folders,
    write_votes,
)

from edgefel.data.dataset import ImageDataset
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.open import by_other_votes, open_dataset
from edgefel.data.readers.fer_plus import FerPlus
from edgefel.errors import EdgefelError, EdgefelWarning


def found(dataset: ImageDataset) -> list[tuple[str, str, str]]:
    """Name, split and class of each sample, in order."""
    return [(s.path.name, s.split, dataset.labels[s.label]) for s in dataset.samples]


def expected(rows: list[Row]) -> list[tuple[str, str, str]]:
    """What is left of the rows."""
    return [(row.name, SPLITS[row.usage], row.expression) for row in rows if row.expression]


def test_the_majority_is_read_by_name(tmp_path: Path) -> None:
    rows = write_fer_plus(tmp_path)
    dataset = FerPlus().read(tmp_path)
    assert dataset.labels == EXPRESSIONS_8
    assert found(dataset) == expected(rows)
    assert {label for _, _, label in found(dataset)} == set(FER_PLUS_CLASSES)
    assert [sample.group for sample in dataset.samples] == [name for name, _, _ in expected(rows)]


def test_soft_labels_are_shares_of_the_votes_by_name(tmp_path: Path) -> None:
    write_fer_plus(tmp_path)
    dataset = FerPlus().read(tmp_path)
    soft = dataset.soft_targets()
    assert soft is not None
    for code, name in enumerate(FER_PLUS_CLASSES):
        # six votes, three for the next class, and a single one, which counts for nothing
        row = dict(zip(EXPRESSIONS_8, soft[code], strict=True))
        assert row.pop(name) == pytest.approx(6 / 9)
        assert row.pop(FER_PLUS_CLASSES[(code + 1) % 8]) == pytest.approx(3 / 9)
        assert set(row.values()) == {0}
    # neutral with six votes and two for "unknown", which is no expression
    assert soft[8].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert soft.dtype == np.float32


def test_images_are_the_pixels_of_their_row(tmp_path: Path) -> None:
    rows = {row.name: row for row in write_fer_plus(tmp_path)}
    dataset = pickle.loads(pickle.dumps(FerPlus().read(tmp_path)))  # as a process that loads images gets it
    for index, sample in enumerate(dataset.samples):
        pixels = rows[sample.path.name].pixels()
        assert np.array_equal(dataset.load(index), np.repeat(pixels[..., None], 3, axis=2))
        assert not sample.is_file


@pytest.mark.parametrize("box", [False, True])
def test_folders_of_images_hold_the_same_set(tmp_path: Path, box: bool) -> None:
    rows = write_fer_plus(tmp_path / "csv")
    write_fer_plus_folders(tmp_path / "folders/data", rows, box=box)
    assert FerPlus().recognizes(tmp_path / "folders")
    texts, files = FerPlus().read(tmp_path / "csv"), FerPlus().read(tmp_path / "folders")
    assert found(files) == found(texts)
    assert np.array_equal(files.soft_targets(), texts.soft_targets())
    for index in range(len(files)):
        assert np.array_equal(files.load(index), texts.load(index))
        assert files.samples[index].is_file


def test_folders_without_lists_use_the_votes_beside_them(tmp_path: Path) -> None:
    rows = write_fer_plus_folders(tmp_path / "images")
    write_votes(tmp_path, rows)
    for path in tmp_path.rglob("label.csv"):
        path.unlink()
    dataset = FerPlus().read(tmp_path)
    assert found(dataset) == expected(rows)
    assert dataset.load(0).shape == (48, 48, 3)


def test_windows_text_quotes_and_other_columns(tmp_path: Path) -> None:
    rows = write_fer_plus(tmp_path / "FERPlus")
    path = tmp_path / "FERPlus/fer2013.csv"
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    text = "\r\n".join(f'{usage},"{pixels}",{emotion}' for emotion, pixels, usage in lines)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    path.rename(path.with_name("FER2013.CSV"))
    votes = tmp_path / "FERPlus/fer2013new.csv"
    votes.write_bytes(b"\xef\xbb\xbf" + votes.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert FerPlus().recognizes(tmp_path)
    dataset = FerPlus().read(tmp_path)
    assert found(dataset) == expected(rows)
    assert np.array_equal(dataset.load(3)[..., 0], rows[3].pixels())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Image name,", "", "fer2013new.csv line 1: missing column image name; take it from"),
        ("unknown", "unsure", "line 1: missing column unknown"),
        ("Training,fer0000001", "Train,fer0000001", "line 3: usage 'Train' is unknown"),
        ("fer0000001.png,0,6", "fer0000001.png,0,x", "line 3: votes .* are not ten numbers"),
        ("fer0000001.png,0,6", "fer0000001.png,0,-6", "line 3: votes .* are not ten numbers"),
        ("fer0000001.png,0,6", "fer0000001.png,6", "line 3: 11 fields, not 12"),
        (
            "Training,fer0000002",
            "PublicTest,fer0000002",
            "fer2013.csv line 4: an image of train, but in .*fer2013new.csv it is one of val",
        ),
    ],
)
def test_malformed_votes_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_fer_plus(tmp_path)
    path = tmp_path / "fer2013new.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(EdgefelError, match=message):
        FerPlus().read(tmp_path)


def test_malformed_images_are_refused(tmp_path: Path) -> None:
    write_fer_plus(tmp_path)
    path = tmp_path / "fer2013.csv"
    header, first, second, *rest = path.read_text(encoding="utf-8").splitlines()

    def message_for(*lines: str) -> str:
        path.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(EdgefelError) as caught:
            FerPlus().read(tmp_path)
        return str(caught.value)

    short = second.replace(" ", "", 1)
    assert "fer2013.csv line 3: not an image of 48 x 48 pixels" in message_for(header, first, short, *rest)
    assert "line 3: not an image" in message_for(header, first, second + ",1", *rest)
    assert "line 1: no columns pixels and Usage" in message_for(first, second)
    assert "17 images, but" in message_for(header, first, second, *rest[:-1])
    assert "19 images, but" in message_for(header, first, second, *rest, rest[-1])
    unknown = second.replace("Training", "Testing")
    assert "line 3: usage 'Testing' is unknown" in message_for(header, first, unknown, *rest)


@pytest.mark.parametrize(("number", "reason"), [("256", "0 to 255"), ("x", "0 to 255"), ("", "2303 pixels")])
def test_wrong_pixels_are_named_when_they_are_loaded(tmp_path: Path, number: str, reason: str) -> None:
    """They are not turned into numbers while the set is read: that would take ten times as long."""
    rows = write_fer_plus(tmp_path)
    path = tmp_path / "fer2013.csv"
    header, first, *rest = path.read_text(encoding="utf-8").splitlines()
    pixels = first.split(",")[1].split(" ")
    changed = f"0,{' '.join([*pixels[:9], number, *pixels[10:]])},Training"
    path.write_text("\n".join([header, changed, *rest]), encoding="utf-8")
    dataset = FerPlus().read(tmp_path)
    with pytest.raises(UnreadableImageError, match=rf"{rows[0].name}: cannot be read \(.*{reason}"):
        dataset.load(0)
    assert dataset.load(1).shape == (48, 48, 3)


@pytest.mark.parametrize(
    "line", ["fer1.png,1,2,3", ",0,0,0,0,0,0,0,0,0,9", "a.png,1,1,1,1,1,1,1,1,1,1,1,1,1"]
)
def test_malformed_lists_of_folders_are_refused(tmp_path: Path, line: str) -> None:
    write_fer_plus_folders(tmp_path)
    with (tmp_path / "FER2013Valid/label.csv").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    with pytest.raises(EdgefelError, match=r"FER2013Valid/label.csv line 3: not a name and ten votes"):
        FerPlus().read(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        EdgefelError, match=r"no fer2013new.csv; take it from https://github.com/microsoft/FERPlus"
    ):
        FerPlus().read(tmp_path)
    rows = rows_of_every_class()
    votes = write_votes(tmp_path / "votes", rows)
    assert FerPlus().recognizes(tmp_path / "votes")
    with pytest.raises(EdgefelError, match=r"FER2013Train: no images; put fer2013.csv"):
        FerPlus().read(tmp_path / "votes")
    votes.write_text(votes.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
    with pytest.raises(EdgefelError, match="lists no images"):
        FerPlus().read(tmp_path / "votes")
    write_fer_plus(tmp_path / "vague", [row for row in rows if not row.expression])
    with pytest.raises(EdgefelError, match="no image whose votes have a majority"):
        FerPlus().read(tmp_path / "vague")
    write_fer_plus_folders(tmp_path / "folders", rows)
    (tmp_path / "folders/FER2013Valid/label.csv").unlink()
    with pytest.raises(EdgefelError, match=r"FER2013Valid: no label.csv"):
        FerPlus().read(tmp_path / "folders")
    write_fer_plus_folders(tmp_path / "folders", rows)
    for path in (tmp_path / "folders/FER2013Test").glob("*.png"):
        path.unlink()
    with pytest.raises(EdgefelError, match="FER2013Test: no images"):
        FerPlus().read(tmp_path / "folders")


def test_recognizes_no_other_set(tmp_path: Path) -> None:
    write_aff_wild2(tmp_path / "aff")
    write_expw(tmp_path / "expw", faces_of_every_class())
    write_fer_plus(tmp_path / "fer")
    (tmp_path / "fer/fer2013new.csv").rename(tmp_path / "labels.csv")  # FER-2013 alone is another set
    for name in ("aff", "expw", "fer", "labels.csv", "nowhere"):
        assert not FerPlus().recognizes(tmp_path / name), name


def class_of(dataset: ImageDataset, name: str) -> str:
    return next(label for found_name, _, label in found(dataset) if found_name == name)


@pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning")
def test_the_file_of_votes_is_a_choice_and_the_published_one_the_default(tmp_path: Path) -> None:
    write_disagreeing(tmp_path)
    published, labels = open_dataset(tmp_path), open_dataset(tmp_path, layout="fer-plus:label.csv")
    assert published.votes is not None
    assert labels.votes is not None
    assert (published.votes.file, labels.votes.file) == ("fer2013new.csv", "label.csv")
    assert class_of(published, "fer0000024.png") == "neutral"
    assert class_of(labels, "fer0000024.png") == "happiness"
    assert published.source == f"{tmp_path.name} (votes: fer2013new.csv)"
    other = by_other_votes(published)
    assert other is not None
    assert (other.votes, other.targets().tolist()) == (labels.votes, labels.targets().tolist())
    # what is derived of a set keeps it
    assert published.subset([1, 2]).relabelled(np.array([0, 1])).votes == published.votes


@pytest.mark.parametrize("file", ["fer2013new.csv", "label.csv"])
def test_where_the_two_files_disagree_is_counted_in_a_warning(tmp_path: Path, file: str) -> None:
    write_disagreeing(tmp_path)
    with pytest.warns(
        EdgefelWarning, match=f"{file}; .* differs in the votes of 3 of 32 images and in the class of 1"
    ):
        dataset = FerPlus(votes=file).read(tmp_path)
    assert dataset.votes is not None
    assert (dataset.votes.compared, dataset.votes.votes_differ, dataset.votes.class_differs) == (32, 3, 1)


def test_files_that_agree_warn_of_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_fer_plus_folders(tmp_path)
    write_votes(tmp_path, rows_of_every_class())
    dataset = FerPlus().read(tmp_path)
    assert dataset.votes is not None
    assert (dataset.votes.other, dataset.votes.votes_differ) == ("label.csv", 0)
    assert not recwarn.list


def test_label_csv_alone_is_read_and_said(tmp_path: Path) -> None:
    write_fer_plus_folders(tmp_path)
    with pytest.warns(EdgefelWarning, match=r"labels are those of label.csv, as there is no fer2013new.csv"):
        dataset = FerPlus().read(tmp_path)
    assert dataset.votes is not None
    assert (dataset.votes.file, dataset.votes.other) == ("label.csv", None)


@pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning")
def test_a_second_file_that_is_damaged_spoils_nothing_and_is_named(tmp_path: Path) -> None:
    write_disagreeing(tmp_path)
    (tmp_path / "FER2013Test/label.csv").write_text("fer0000024.png,many\n", encoding="utf-8")
    with pytest.warns(EdgefelWarning, match=r"cannot be compared with label.csv \(.*label.csv line 1"):
        dataset = FerPlus().read(tmp_path)
    assert len(dataset) == 32
    with pytest.raises(EdgefelError, match=r"label.csv line 1: not a name and ten votes"):
        FerPlus(votes="label.csv").read(tmp_path)


def test_a_file_that_is_asked_for_and_missing(tmp_path: Path) -> None:
    write_fer_plus(tmp_path / "csv")
    with pytest.raises(EdgefelError, match=r"csv: no label.csv of FER\+ in it; give --votes fer2013new.csv"):
        open_dataset(tmp_path / "csv", layout="fer-plus:label.csv")
    write_fer_plus_folders(tmp_path / "folders")
    with pytest.raises(
        EdgefelError, match=r"folders: no fer2013new.csv of FER\+ in it; give --votes label.csv"
    ):
        open_dataset(tmp_path / "folders", layout="fer-plus:fer2013new.csv")
    (tmp_path / "other").mkdir()
    with pytest.raises(EdgefelError, match=r"other: no label.csv of FER\+ in it; is it FER\+\?"):
        open_dataset(tmp_path / "other", layout="fer-plus:label.csv")
    with pytest.raises(EdgefelError, match=r"votes 'majority': choose one of fer2013new.csv, label.csv"):
        open_dataset(tmp_path / "csv", layout="fer-plus:majority")
    with pytest.raises(EdgefelError, match="layout 'raf-db:label.csv' is not known"):
        open_dataset(tmp_path / "csv", layout="raf-db:label.csv")


@pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning")
def test_seven_classes_are_the_same_without_contempt(tmp_path: Path) -> None:
    write_disagreeing(tmp_path)
    eight, seven = open_dataset(tmp_path), open_dataset(tmp_path, layout="fer-plus-7")
    assert seven.labels == EXPRESSIONS_7
    assert found(seven) == [one for one in found(eight) if one[2] != "contempt"]
    soft = seven.soft_targets()
    assert soft is not None
    assert soft.dtype == np.float32
    assert soft.shape == (28, 7)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    fear = [number for number, (_, _, label) in enumerate(found(seven)) if label == "fear"]
    # its two votes for contempt are gone
    assert (soft[fear, EXPRESSIONS_7.index("fear")] == 1).all()
    assert seven.votes is not None
    assert seven.votes.layout == "fer-plus-7:fer2013new.csv"
