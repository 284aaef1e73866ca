"""The same face found by a detector and given as a crop is given to the network alike: the committed bundle, drawn
faces, and the framing of its training data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.framing import measure_framing
from edgefel.data.open import open_dataset
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.runtime.alignment import HAAR_BOX, YUNET_BOX, FaceBox, misframed
from edgefel.runtime.faces import FaceDetector, HaarDetector, WholeImage, YuNetDetector, crop_detector
from edgefel.runtime.labelling import label_faces
from edgefel.runtime.manifest import Manifest, read_manifest
from edgefel.runtime.session import Session

BUNDLE = Path(__file__).parents[1] / "bundles" / "nano-synthetic"
SHARED_YUNET = Path(__file__).parents[3] / "shared" / "data" / "yunet.onnx"
needs_yunet = pytest.mark.skipif(
    not SHARED_YUNET.is_file(), reason="needs YuNet's file, ../shared/data/yunet.onnx"
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> list[np.ndarray]:
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    write_faces(folder, FaceOptions(count=56, size=144, subjects=28))
    dataset = open_dataset(folder)
    return [dataset.load(index) for index in range(len(dataset))]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The committed bundle with the framing of drawn faces."""
    folder = tmp_path_factory.mktemp("framed")
    write_faces(folder / "faces", FaceOptions(count=120, size=96, subjects=30, seed=5))
    found = measure_framing(open_dataset(folder / "faces"), crop_detector())
    shutil.copytree(BUNDLE, folder / "bundle")
    path = folder / "bundle" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"framing": found.framing.to_dict()}))
    return folder / "bundle"


@pytest.fixture(scope="module")
def session(bundle) -> Iterator[Session]:
    with Session.open(bundle, threads=1) as opened:
        yield opened


def pasted(face: np.ndarray, side: int) -> np.ndarray:
    margin = side // 2
    grown = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(grown, *(margin,) * 4, cv2.BORDER_REPLICATE)


def distributions(images: list[np.ndarray], detector: FaceDetector, session: Session) -> np.ndarray:
    """[N, C]; NaN where no face is found."""
    found = [label_faces(image, detector, session) for image in images]
    none = [np.nan] * len(session.labels)
    return np.array([list(faces[0].probabilities.values()) if faces else none for faces in found])


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Total variation distance of each pair of distributions of faces that both found."""
    both = ~np.isnan(first[:, 0] + second[:, 0])
    assert both.sum() >= 0.85 * len(first)
    return np.abs(first - second)[both].sum(axis=1) / 2


def test_a_bundle_without_a_framing_is_as_it_was(bundle):
    assert read_manifest(BUNDLE).framing is None
    assert read_manifest(bundle).framing is not None


def test_haar_and_the_crop_give_probabilities_within_the_stated_distance(faces, session):
    """docs/runtime.md: 0.12 on average, where the detector's own framing has more."""
    images = [pasted(face, 200) for face in faces]
    crops = distributions(faces, WholeImage(), session)
    with Session.open(BUNDLE, threads=1) as plain:
        before = distances(distributions(images, HaarDetector(0.2), plain), crops).mean()
    after = distances(distributions(images, HaarDetector(0.2), session), crops).mean()
    assert after < min(0.12, before)


@needs_yunet
def test_yunet_is_as_near(faces, session):
    images = [pasted(face, 200) for face in faces]
    crops = distributions(faces, WholeImage(), session)
    yunet = distributions(images, YuNetDetector(SHARED_YUNET), session)
    assert distances(yunet, crops).mean() < 0.12
    assert distances(yunet, distributions(images, HaarDetector(0.2), session)).mean() < 0.14


def eyes_in_boxes(detector: FaceDetector, faces: list[np.ndarray]) -> np.ndarray:
    """Where YuNet's landmarks are in the boxes of level faces, medians: (down, apart) in shares of the side."""
    yunet, found = YuNetDetector(SHARED_YUNET), []
    for face in faces:
        image = pasted(face, 200)
        seen, boxes = yunet(image), detector(image)
        if seen and boxes and seen[0].eyes is not None:
            (x0, y0), (x1, y1) = seen[0].eyes
            if abs(y1 - y0) < 0.15 * (x1 - x0):
                box = boxes[0]
                found.append((((y0 + y1 + 1) / 2 - box.y) / box.side, np.hypot(x1 - x0, y1 - y0) / box.side))
    assert len(found) > 30
    return np.median(found, axis=0)


@needs_yunet
def test_layouts_are_where_boxes_have_the_eyes(faces):
    """Drawn faces have other proportions than photographed ones, hence the tolerance."""
    for detector, layout in ((HaarDetector(0.2), HAAR_BOX), (YuNetDetector(SHARED_YUNET), YUNET_BOX)):
        assert eyes_in_boxes(detector, faces) == pytest.approx(
            (layout.eyes_down, layout.eyes_apart), abs=0.035
        )


def test_what_reaches_far_beyond_the_image_is_named(session, bundle):
    manifest: Manifest = read_manifest(bundle)
    image = np.zeros((100, 100, 3), np.uint8)
    assert misframed(image, FaceBox(80, 80, 60), manifest.framing) is not None
