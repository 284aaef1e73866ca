from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import cv2
import pytest

from edgefel.data.open import open_dataset
from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.data.synthetic.write import write_faces
from edgefel.errors import EdgefelError

OPTIONS = FaceOptions(count=70, size=48, classes=8, subjects=10, label_noise=0.2, seed=9)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    done: list[int] = []
    summary = write_faces(tmp_path / "faces", OPTIONS, progress=done.append)
    assert sum(done) == 70
    assert json.loads((tmp_path / "faces/dataset.json").read_text()) == json.loads(json.dumps(summary))
    assert summary["images"] == sum(summary["per_class"].values()) == sum(summary["per_split"].values()) == 70
    faces = SyntheticFaces(OPTIONS)
    dataset = open_dataset(tmp_path / "faces")
    assert dataset.labels == faces.labels
    for index in (0, 33, 69):
        face, sample = faces.sample(index), dataset.samples[index]
        assert (dataset.load(index) == face.image).all()
        assert (sample.label, sample.split, sample.group) == (face.label, face.split, f"s{face.subject:04d}")
        assert sample.soft == pytest.approx(face.soft, abs=1e-4)
    with (tmp_path / "faces/labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    wrong = [row for row in rows if row["label"] != row["true_label"]]
    assert len(wrong) == summary["relabelled"] > 0
    for index, row in enumerate(rows):
        who = faces.identity(faces.plan(index).subject)
        least, most = {"light": (0, 1 / 3), "medium": (1 / 3, 2 / 3), "dark": (2 / 3, 1)}[row["skin_tone"]]
        assert least <= who.tone <= most
        assert row["glasses"] == ("no" if who.glasses == "none" else "yes")
        assert float(row["au_12"]) == pytest.approx(faces.plan(index).action_units.get(12, 0.0), abs=1e-4)
    assert {row["skin_tone"] for row in rows} == {"light", "medium", "dark"}
    assert {row["glasses"] for row in rows} == {"yes", "no"}
    sheet = cv2.imread(str(tmp_path / "faces/contact_sheet.png"))
    assert sheet.shape[0] > 8 * 112


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    write_faces(tmp_path / "one", OPTIONS, workers=1)
    write_faces(tmp_path / "three", OPTIONS, workers=3)
    assert digests(tmp_path / "one") == digests(tmp_path / "three")


def test_jpeg(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", FaceOptions(count=3, size=40), image_format="jpg")
    assert sorted(p.name for p in (tmp_path / "faces/images").iterdir())[0] == "000000.jpg"
    assert open_dataset(tmp_path / "faces").load(2).shape == (40, 40, 3)


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("keep me")
    with pytest.raises(EdgefelError, match="not empty"):
        write_faces(tmp_path / "full", OPTIONS)
    with pytest.raises(EdgefelError, match="choose one of png, jpg"):
        write_faces(tmp_path / "new", OPTIONS, image_format="gif")
    with pytest.raises(EdgefelError, match="at least 1"):
        write_faces(tmp_path / "new", OPTIONS, workers=0)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_faces(tmp_path / "faces", OPTIONS, progress=stop)
    assert list(tmp_path.iterdir()) == []
