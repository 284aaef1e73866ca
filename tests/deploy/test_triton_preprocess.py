"""The repository's Python model in a real tritonserver, whose environment has NumPy and OpenCV and no edgefel."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest
import tiny_bundle
from tritonclient.utils import InferenceServerException
from tritonserver import TritonServer, executable, outputs

from edgefel.data.preprocessing import Preprocessing
from edgefel.deploy.triton_server import TritonOptions, write_triton_repository
from edgefel.runtime.manifest import read_manifest, write_manifest

RECIPE = Preprocessing(
    resize=24, crop=16, stride=2, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3), resample="antialias"
)
TYPES = ("float32", "uint8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Models `float32_preprocess` and `uint8_preprocess`."""
    folder = tmp_path_factory.mktemp("preprocess")
    models = folder / "models"
    models.mkdir()
    for input_type in TYPES:
        bundle = tiny_bundle.write_bundle(folder / input_type)
        manifest = dataclasses.replace(read_manifest(bundle), preprocessing=RECIPE, input_type=input_type)
        write_manifest(bundle, manifest)
        options = TritonOptions(prefix=input_type, preprocess_instances=1)
        write_triton_repository(bundle, folder / "repository" / input_type, options)
        name = f"{input_type}_preprocess"
        (folder / "repository" / input_type / name).rename(models / name)
    server = TritonServer([models], folder / "log")
    yield server
    server.close()


def encode(crops: Sequence[np.ndarray], suffix: str = ".png") -> np.ndarray:
    """Strings of a request: bytes [N, 1]."""
    contents = [cv2.imencode(suffix, cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes() for crop in crops]
    return strings(*contents)


def strings(*contents: bytes) -> np.ndarray:
    return np.array([[content] for content in contents], dtype=object)


def crops(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(sizes))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("input_type", TYPES)
def test_bit_for_bit_the_runtimes_preprocessing(server, input_type):
    """Requests of different sizes and kinds at a time, which the server batches."""
    single, same, mixed = crops((24, 24)), crops((50, 31), (50, 31)), crops((8, 8), (24, 100), (77, 63))
    jpeg = encode(crops((40, 40)), ".jpg")
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg[0, 0], np.uint8), 1), cv2.COLOR_BGR2RGB)
    requests = [
        ({"faces": np.stack(single)}, single),
        ({"faces": np.stack(same)}, same),
        ({"encoded_faces": encode(mixed)}, mixed),
        ({"encoded_faces": jpeg}, [decoded]),
    ]
    expected = RECIPE.pixel_batch if input_type == "uint8" else RECIPE.batch
    for tensors, images in server.ask_together(f"{input_type}_preprocess", requests):
        assert set(tensors) == {"image"}
        assert tensors["image"].dtype == input_type
        np.testing.assert_array_equal(tensors["image"], expected(images))


def test_a_request_that_cannot_be_answered_stops_no_other(server):
    good = crops((24, 24), (24, 24))
    png = encode(good)[0, 0]
    huge = cv2.imencode(".png", np.zeros((8300, 8300), np.uint8))[1].tobytes()
    bad = [
        (
            {"encoded_faces": strings(png, b"no image")},
            "encoded_faces[1]: 8 bytes, not an image that OpenCV reads; send",
        ),
        ({"encoded_faces": strings(b"")}, "encoded_faces[0]: 0 bytes"),
        ({"encoded_faces": strings(png[: len(png) // 2])}, "encoded_faces[0]:"),
        ({"encoded_faces": strings(huge)}, "OpenCV refuses (pixels <= CV_IO_MAX_IMAGE_PIXELS)"),
        ({"faces": np.zeros((1, 0, 4, 3), np.uint8)}, "shape (0, 4, 3)"),
        (
            {"faces": np.stack(good), "encoded_faces": strings(png, png)},
            "give faces or encoded_faces, one of the two",
        ),
    ]
    asked = [({"faces": np.stack(good)}, None), *bad, ({"faces": np.stack(good)}, None)]
    results = [(server.start("float32_preprocess", tensors), message) for tensors, message in asked]
    for waiting, message in results:
        if message is None:
            np.testing.assert_array_equal(outputs(waiting.result())["image"], RECIPE.batch(good))
            continue
        with pytest.raises(InferenceServerException) as refused:
            waiting.result()
        assert message in refused.value.message()
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_its_environment_has_no_edgefel(server):
    """What the tests above computed was therefore the repository's copy."""
    python = executable().with_name("python")
    names = ("numpy", "cv2", "edgefel", "torch")
    code = f"import importlib.util as u; print([bool(u.find_spec(name)) for name in {names}])"
    result = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[True, True, False, False]"
