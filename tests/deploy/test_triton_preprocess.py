"""The repository's Python model, run with a stand-in for the module that the server gives it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_bundle
import triton_stand_in as stand_in
from google.protobuf import text_format
from google.protobuf.json_format import MessageToJson
from tritonclient.grpc.model_config_pb2 import ModelConfig

from edgefel.data.preprocessing import Preprocessing
from edgefel.deploy.triton_server import write_triton_repository
from edgefel.runtime.manifest import read_manifest, write_manifest

RECIPE = Preprocessing(
    resize=24, crop=16, stride=2, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3), resample="antialias"
)


def write_repository(folder: Path, recipe: Preprocessing = RECIPE, input_type: str = "float32") -> Path:
    bundle = tiny_bundle.write_bundle(folder / "bundle")
    manifest = dataclasses.replace(read_manifest(bundle), preprocessing=recipe, input_type=input_type)
    write_manifest(bundle, manifest)
    write_triton_repository(bundle, folder / "repository")
    return folder / "repository" / "edgefel_preprocess"


def server_arguments(model: Path) -> dict[str, str]:
    """The configuration as the server hands it on: JSON with the schema's names."""
    config = text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())
    return {"model_config": MessageToJson(config, preserving_proto_field_name=True)}


def load(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "1000000")
    spec = importlib.util.spec_from_file_location("served_model", model / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    served = module.TritonPythonModel()
    served.initialize(server_arguments(model))
    return served


def request(**tensors: np.ndarray) -> stand_in.InferenceRequest:
    return stand_in.InferenceRequest([stand_in.Tensor(name, values) for name, values in tensors.items()])


def encode(crops: Sequence[np.ndarray], suffix: str = ".png") -> np.ndarray:
    """Strings of a request: bytes [N, 1]."""
    contents = [cv2.imencode(suffix, cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes() for crop in crops]
    return np.array([[content] for content in contents], dtype=object)


def crops(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(sizes))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
def test_bit_for_bit_the_runtimes_preprocessing(tmp_path, monkeypatch, input_type):
    """One execution with requests of different sizes and kinds, as the server batches them."""
    served = load(write_repository(tmp_path, input_type=input_type), monkeypatch)
    single, same, mixed = crops((24, 24)), crops((50, 31), (50, 31)), crops((8, 8), (24, 100), (77, 63))
    jpeg = encode(crops((40, 40)), ".jpg")
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg[0, 0], np.uint8), 1), cv2.COLOR_BGR2RGB)
    requests = [
        request(faces=np.stack(single)),
        request(faces=np.stack(same)),
        request(encoded_faces=encode(mixed)),
        request(encoded_faces=jpeg),
    ]
    expected = RECIPE.pixel_batch if input_type == "uint8" else RECIPE.batch
    responses = served.execute(requests)
    for response, images in zip(responses, (single, same, mixed, [decoded]), strict=True):
        assert not response.has_error()
        (tensor,) = response.output_tensors
        assert tensor.name() == "image"
        assert tensor.as_numpy().dtype == input_type
        np.testing.assert_array_equal(tensor.as_numpy(), expected(images))


def test_a_request_that_cannot_be_answered_stops_no_other(tmp_path, monkeypatch):
    served = load(write_repository(tmp_path), monkeypatch)
    good = crops((24, 24), (24, 24))
    png = encode(good)[0, 0]
    requests = [
        request(faces=np.stack(good)),
        request(encoded_faces=np.array([[png], [b"no image"]], dtype=object)),
        request(encoded_faces=np.array([[b""]], dtype=object)),
        request(encoded_faces=np.array([[png[: len(png) // 2]]], dtype=object)),
        request(faces=np.zeros((1, 0, 4, 3), np.uint8)),
        request(),
        request(faces=np.stack(good), encoded_faces=encode(good)),
        request(faces=np.stack(good)),
    ]
    responses = served.execute(requests)
    assert [response.has_error() for response in responses] == [False, *[True] * 6, False]
    errors = [response.error for response in responses[1:-1]]
    assert {error.code() for error in errors} == {stand_in.TritonError.INVALID_ARG}
    messages = [error.message() for error in errors]
    assert messages[0] == (
        "encoded_faces[1]: 8 bytes, not an image that OpenCV reads; send a whole JPEG or PNG"
    )
    assert messages[1].startswith("encoded_faces[0]: 0 bytes")
    assert messages[2].startswith("encoded_faces[0]:")
    assert "shape (0, 4, 3)" in messages[3]
    assert messages[4] == "give either faces or encoded_faces, not neither"
    assert messages[5] == "give either faces or encoded_faces, not faces and encoded_faces"
    for response in (responses[0], responses[-1]):
        np.testing.assert_array_equal(response.output_tensors[0].as_numpy(), RECIPE.batch(good))


SERVER = """
import json, sys
from pathlib import Path
import numpy as np
import triton_python_backend_utils as backend
sys.path.append(sys.argv[1])
import model
served = model.TritonPythonModel()
served.initialize({"model_config": sys.argv[2]})
def ask(name, values):
    return served.execute([backend.InferenceRequest([backend.Tensor(name, values)])])[0]
image = ask("faces", np.arange(30 * 20 * 3, dtype=np.uint8).reshape(1, 30, 20, 3)).output_tensors[0].as_numpy()
import cv2, edgefel
huge = cv2.imencode(".png", np.zeros((8300, 8300), np.uint8))[1].tobytes()
refused = ask("encoded_faces", np.array([[huge]], dtype=object)).error
print(json.dumps({
    "edgefel": edgefel.__file__,
    "modules": sorted({"torch", "onnxruntime", "edgefel.files.write"} & set(sys.modules)),
    "image": image.tobytes().hex(),
    "refused": refused.message(),
}))
"""


def test_it_needs_numpy_and_opencv_and_no_edgefel(tmp_path):
    """In a process that cannot import edgefel, or what it depends on, from anywhere but the repository."""
    model = write_repository(tmp_path)
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "triton_python_backend_utils.py").write_text(Path(stand_in.__file__).read_text())
    site = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs", "cv2", "opencv_python_headless.libs"):
        if (site / name).exists():
            (packages / name).symlink_to(site / name)
    # -S leaves out site-packages, and with it the installed edgefel
    command = [sys.executable, "-S", "-c", SERVER, str(model / "1"), server_arguments(model)["model_config"]]
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    environment.pop("OPENCV_IO_MAX_IMAGE_PIXELS", None)
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert Path(found["edgefel"]) == model / "1" / "edgefel" / "__init__.py"
    assert found["modules"] == []
    crop = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)
    assert bytes.fromhex(found["image"]) == RECIPE.batch([crop]).tobytes()
    assert "OpenCV refuses (pixels <= CV_IO_MAX_IMAGE_PIXELS)" in found["refused"]
