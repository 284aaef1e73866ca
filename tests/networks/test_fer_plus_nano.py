"""The network that comes with edgefel, on real faces: photographs of two people, and FER+ where it is at hand."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgefel.bench.experiments.framing import compare
from edgefel.data.images import read_rgb
from edgefel.data.open import open_dataset
from edgefel.runtime.faces import HaarDetector
from edgefel.runtime.labelling import label_faces
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.session import Session
from edgefel.runtime.shipped import FOLDER
from edgefel.runtime.yunet import YuNetDetector

SHARED = Path(__file__).parents[3] / "shared" / "data"
YUNET, FER_PLUS = SHARED / "yunet.onnx", SHARED / "fer-plus.zip"


def needed(file: Path) -> Path:
    if not file.is_file():
        pytest.skip(f"no {file.name} in ../shared/data")
    return file


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session.open(FOLDER, threads=1, backend="onnxruntime", precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="module")
def fer_plus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    with zipfile.ZipFile(needed(FER_PLUS)) as archive:
        # of the 28,000 images for training, which no test reads, a few
        names = [n for n in archive.namelist() if "/FER2013Train/" not in n or n.endswith((".csv", "00.png"))]
        archive.extractall(folder, names)
    return folder / "fer-plus"


def photograph(name: str) -> Path:
    if name == "grace_hopper":
        from matplotlib import cbook

        return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    skimage = pytest.importorskip("skimage", reason="has the photograph")
    return Path(skimage.__file__).parent / "data" / "astronaut.png"


def distance(first: LabelledFace, second: LabelledFace) -> float:
    """Total variation distance of their distributions."""
    return (
        sum(abs(first.probabilities[name] - second.probabilities[name]) for name in first.probabilities) / 2
    )


def test_every_file_passed_on_the_split_test():
    manifest = read_manifest(FOLDER)
    assert {file.precision for file in manifest.files} == {"fp32", "fp16", "int8", "int8+fp16"}
    for file in manifest.files:
        assert file.parity["images"] > 3000
        assert file.verdict in ("pass", "warn")
    assert (manifest.preprocessing.detail, manifest.preprocessing.colour) == (48, "grey")
    assert manifest.framing is not None


def test_its_card_is_that_of_the_docs():
    card = Path(__file__).parents[2] / "docs" / "model-card.md"
    assert (FOLDER / "model-card.md").read_text() == card.read_text()


@pytest.mark.parametrize(("name", "label"), [("grace_hopper", "neutral"), ("astronaut", "happiness")])
def test_both_detectors_find_and_frame_a_photograph_alike(session, name, label):
    image = read_rgb(photograph(name))
    (haar,) = label_faces(image, HaarDetector(), session)
    assert haar.label == label
    (yunet,) = label_faces(image, YuNetDetector(needed(YUNET)), session)
    assert yunet.label == label
    assert np.hypot(*np.subtract(haar.box.centre, yunet.box.centre)) < 0.15 * yunet.box.side
    assert distance(haar, yunet) < 0.15


@pytest.mark.slow
def test_a_face_has_its_probabilities_whatever_found_it(session, fer_plus):
    """Of at least 200 faces that both detectors find, and given as a crop."""
    dataset = open_dataset(fer_plus, "test")
    chosen = np.random.default_rng(0).permutation(len(dataset))[:280]
    faces = [dataset.load(int(index)) for index in chosen]
    targets = dataset.reordered(session.labels).targets()[chosen]
    detectors = {"haar": HaarDetector(0.3), "yunet": YuNetDetector(needed(YUNET))}
    found = compare(session, faces, detectors, targets)
    assert found["faces"] >= 200
    for pair in ("haar and crop", "yunet and crop", "haar and yunet"):
        assert found["after"][pair]["distance_mean"] < min(0.1, found["before"][pair]["distance_mean"])


@pytest.mark.slow
def test_its_accuracy_is_that_of_the_manifest(session, fer_plus):
    dataset = open_dataset(fer_plus, "test").reordered(session.labels)
    labels = [
        session([dataset.load(i) for i in range(start, min(start + 64, len(dataset)))]).probabilities.argmax(
            1
        )
        for start in range(0, len(dataset), 64)
    ]
    (parity,) = [file.parity for file in read_manifest(FOLDER).files if file.precision == "fp32"]
    right = (np.concatenate(labels) == dataset.targets()).mean()
    assert right == pytest.approx(parity["labels"]["accuracy"], abs=0.002)
