"""Published checkpoints the whole way: `edgefel import`, `edgefel export --fp32`, ONNX Runtime, and from the bytes of
images to logits by every command."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from published_weights import golden, golden_input, state_dict

from edgefel.cli.main import main
from edgefel.data.labels import expression_labels
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.evaluation.evaluate import evaluate_with_evidence
from edgefel.export.bundle import ExportOptions, export_bundle
from edgefel.models.checkpoint import load_checkpoint
from edgefel.models.published_layouts import PREPROCESSING
from edgefel.runtime.session import Session

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def pillow(data: bytes, side: int) -> np.ndarray:
    """uint8 RGB [side, side, 3]: torchvision's Resize((side, side)) of an opened image."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((side, side), PIL.Image.Resampling.BILINEAR))


def mmcv(data: bytes, side: int) -> np.ndarray:
    """uint8 RGB [side, side, 3]: mmcls' LoadImageFromFile and Resize(size=side)."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(bgr, (side, side), interpolation=cv2.INTER_LINEAR)[..., ::-1]


# what each release does with an image before its network, written out again
PIXELS = {
    "poster-v2": lambda data: pillow(data, 224),
    "apvit": lambda data: mmcv(data, 112),
    "arbex": lambda data: pillow(data, 256)[16:240, 16:240],
}


def tensor(pixels: np.ndarray) -> np.ndarray:
    """float64 [3, H, W]."""
    return ((pixels / 255.0 - MEAN) / STD).transpose(2, 0, 1)


def encoded(format: str, size: tuple[int, int], number: int) -> bytes:
    """A rendered face in a file of that format, of any sides."""
    face = SyntheticFaces(FaceOptions(count=14, size=400)).sample(number).image
    stream = io.BytesIO()
    PIL.Image.fromarray(face).resize(size).save(stream, format)
    return stream.getvalue()


# smaller and larger than the networks' inputs, not square, and APViT's own aligned_224
IMAGES = {
    "0.png": encoded("PNG", (100, 100), 0),
    "1.png": encoded("PNG", (301, 277), 1),
    "2.jpg": encoded("JPEG", (224, 224), 2),
    "3.jpg": encoded("JPEG", (390, 400), 3),
}


@pytest.mark.parametrize("layout", PIXELS)
@pytest.mark.parametrize("name", IMAGES)
def test_imported_networks_get_the_pixels_that_they_were_tested_with(layout, name):
    ours = PREPROCESSING[layout]
    image = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(IMAGES[name], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    expected = tensor(PIXELS[layout](IMAGES[name]))
    np.testing.assert_allclose(ours.to_tensor(image), expected, atol=1e-5, rtol=0)
    assert Preprocessing.from_dict(json.loads(json.dumps(ours.to_dict()))) == ours


def imported(folder: Path, name: str, layout: str) -> Path:
    files = []
    for part, tensors in state_dict(name).items():
        files.append(folder / f"{part or layout}.pth")
        torch.save(tensors["anchors"] if part == "anchors" else {"state_dict": tensors}, files[-1])
    # the classes' order does not matter to logits; canonical can be judged on any data
    arguments = ["import", *files, "--layout", layout, "--labels", "canonical", "-o", folder / "checkpoint"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return folder / "checkpoint"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layout", "side"),
    [("poster_v2_7cls", "poster-v2", 224), ("arbex", "arbex", 224), ("apvit", "apvit", 112)],
)
def test_the_exported_file_matches_the_published_network(name, layout, side, tmp_path):
    checkpoint = imported(tmp_path, name, layout)
    export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(parity_images=1))
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "model.fp32.onnx")
    images = golden_input(side=side).numpy()
    values = session.run(None, {"image": images})
    outputs = dict(zip((output.name for output in session.get_outputs()), values, strict=True))
    expected = golden(name.removesuffix("_7cls"))
    for output in ("logits", "embedding"):
        np.testing.assert_allclose(outputs[output], expected[output], atol=1e-4, rtol=0, err_msg=output)
    for row in range(2):  # a prediction does not depend on its batch-mates
        alone = session.run(None, {"image": images[row : row + 1]})
        for together, single in zip(values, alone, strict=True):
            np.testing.assert_allclose(together[row : row + 1], single, atol=1e-6, rtol=0)
    from_bytes_to_logits(checkpoint, tmp_path / "bundle", layout, tmp_path / "data")


def from_bytes_to_logits(checkpoint: Path, bundle: Path, layout: str, data: Path) -> None:
    """Sessions, `predict` and `evaluate` give for files what the network gives for the release's own tensors."""
    model = load_checkpoint(checkpoint).model
    labels = expression_labels(model.config.num_classes)
    batch = np.stack([tensor(PIXELS[layout](content)) for content in IMAGES.values()])
    with torch.no_grad():
        out = model(torch.from_numpy(batch.astype(np.float32)))
    logits, probabilities = out.logits.numpy(), out.probabilities.numpy()

    for label in labels:
        (data / "test" / label).mkdir(parents=True)
    files = []
    # the last class too: with an image of contempt a folder has eight
    for (name, content), label in zip(IMAGES.items(), (*labels[:3], labels[-1]), strict=True):
        files.append(data / "test" / label / name)
        files[-1].write_bytes(content)
    images = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
    with Session.open(bundle, threads=1) as session:
        np.testing.assert_allclose(session(images).logits, logits, atol=1e-4, rtol=0)

    result = CliRunner().invoke(main, ["predict", str(bundle), str(data), "--no-detect", "--json"])
    assert result.exit_code == 0, result.output
    rows = {Path(row["source"]): row["faces"] for row in map(json.loads, result.stdout.splitlines())}
    assert set(rows) == set(files)
    for file, expected in zip(files, probabilities, strict=True):
        (face,) = rows[file]
        ours = [face["probabilities"][label] for label in labels]
        np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)

    _, evidence = evaluate_with_evidence(checkpoint, data)
    order = [evidence.dataset.samples[int(index)].path.name for index in evidence.outputs.indices]
    rows = [list(IMAGES).index(name) for name in order]
    np.testing.assert_allclose(evidence.outputs.logits, logits[rows], atol=1e-4, rtol=0)
