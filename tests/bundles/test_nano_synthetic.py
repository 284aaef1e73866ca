"""The committed bundle is whole, names no machine, and knows drawn faces; level eyes help it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import HaarDetector, crops
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session

BUNDLE = Path(__file__).parent / "nano-synthetic"
# ten moments at which no expression changes
MOMENTS = (30, 200, 370, 520, 660, 790, 930, 1080, 1400, 1700)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session.open(BUNDLE, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def seen() -> list[tuple[np.ndarray, list[dict[str, object]]]]:
    video = SyntheticVideo(VideoOptions())
    return [(video.frame(index), video.faces(index)) for index in MOMENTS]


def labels(session: Session, faces: list[np.ndarray]) -> list[str]:
    return [session.labels[index] for index in session(faces).probabilities.argmax(axis=1)]


def test_it_is_whole_and_names_no_machine() -> None:
    manifest = read_manifest(BUNDLE)
    (file,) = manifest.files
    model = onnx.load(manifest.verify(file))
    assert file.verdict == "pass"
    assert file.parity["inputs"] == "faces"
    text = (BUNDLE / "manifest.json").read_text() + str(model.metadata_props) + model.doc_string
    text += "".join(node.doc_string + str(node.metadata_props) for node in model.graph.node)
    assert not [trace for trace in ("/tmp", "/work", "/home", "/root", "site-packages") if trace in text]
    assert {path.name for path in BUNDLE.iterdir()} == {"README.md", "manifest.json", file.name}


def test_it_labels_the_faces_that_the_detector_finds(session: Session, seen) -> None:
    detector = HaarDetector(0.2)
    for image, faces in seen:
        boxes = detector(image)
        assert len(boxes) == len(faces) == 3
        for box, label in zip(boxes, labels(session, crops(image, boxes)), strict=True):
            (face,) = [f for f in faces if np.hypot(*np.subtract(box.centre, f["centre"])) < 0.3 * f["side"]]
            assert label == face["label"]


def test_level_eyes_bring_rolled_faces_back(session: Session, seen) -> None:
    """Turned by 20 degrees, cut out around the known place, with the known eyes and without."""
    wanted, plain, level = [], [], []
    for image, faces in seen:
        for face in faces:
            matrix = cv2.getRotationMatrix2D(tuple(face["centre"]), -20, 1.0)
            turned = cv2.warpAffine(image, matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE)
            eyes = np.asarray(face["eyes"]) @ matrix[:, :2].T + matrix[:, 2]
            side = round(face["side"])
            corner = [round(value - side / 2) for value in face["centre"]]
            box = FaceBox(*corner, side, eyes=(tuple(eyes[0].tolist()), tuple(eyes[1].tolist())))
            plain.append(box.crop(turned))
            level += crops(turned, [box])
            wanted.append(face["label"])
    right = [np.mean(np.array(labels(session, cut)) == wanted) for cut in (plain, level)]
    assert right[1] >= 0.95
    assert right[1] >= right[0] + 0.1
