"""A real tritonserver serves the repository as written, and tritonclient gets what a session gives.

Only the backend of the network is another, because the server here has none but Python: see `tritonserver.for_python`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bundle
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException
from tritonserver import TritonServer, edit, for_python, inputs

from edgefel.deploy.triton_server import TritonOptions, write_triton_repository
from edgefel.runtime.session import Session

# a model, a change of its configuration that the server has to refuse, and what it says then
CHANGED = {
    "shape": (
        "edgefel_model",
        r"dims: \[3, 14, 14\]",
        "dims: [3, 14, 15]",
        r"\('image', 'TYPE_FP32', \[3, 14, 15\]\)",
    ),
    "type": ("edgefel_model", "TYPE_FP32", "TYPE_FP16", r"\('image', 'TYPE_FP16', \[3, 14, 14\]\)"),
    "name": ("edgefel_model", '"probabilities"', '"probability"', r"\('probability', 'TYPE_FP32', \[7\]\)"),
    "scalar": ("edgefel_model", r"reshape \{\s*\}", "", r"\('confidence', 'TYPE_FP32', \[1\]\)"),
    "batch": (
        "edgefel_faces",
        "max_batch_size: 16",
        "max_batch_size: 17",
        "allows maximum batch size 17, but",
    ),
    "width": ("edgefel_faces", r"dims: \[7\]", "dims: [8]", r"tensor logits: inconsistent shape: \[-1,8\]"),
    "input": ("edgefel_faces", "TYPE_UINT8", "TYPE_FP32", "tensor faces: inconsistent data type: TYPE_FP32"),
    "map": ("edgefel_faces", '"preprocessed"', '"preprocesed"', "tensors, 'preprocessed', is not connected"),
    "step": (
        "edgefel_faces",
        '"edgefel_preprocess"',
        '"preprocess"',
        "not available or ambiguous: preprocess",
    ),
    # what the preprocessing returns is compared with what the network takes where an ensemble joins them
    "joined": (
        "edgefel_faces",
        '"edgefel_preprocess"',
        '"bytes"',
        "tensor preprocessed: inconsistent data type",
    ),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("float32") / "bundle")


@pytest.fixture(scope="module")
def server(
    bundle: Path, uint8_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """Repositories of two bundles, a network that waits for four images, and what is in CHANGED."""
    folder = tmp_path_factory.mktemp("repositories")
    kinds = {
        "edgefel": (bundle, {"preferred_batches": (4, 8)}),
        "uint8": (uint8_bundle, {"device": "cpu", "preprocess_instances": 1, "queue_delay_us": 0}),
        "waits": (bundle, {"max_batch": 4, "queue_delay_us": 20_000_000}),
    }
    for prefix, (source, options) in kinds.items():
        write_triton_repository(source, folder / prefix, TritonOptions(prefix=prefix, **options))
        for_python(folder / prefix)
    for model in ("preprocess", "faces", "encoded_faces"):
        shutil.rmtree(folder / "waits" / f"waits_{model}")
    (folder / "changed").mkdir()
    for case, (model, old, new, _) in CHANGED.items():
        edit(copy(folder / "edgefel" / model, folder / "changed", case), old, new)
    edit(
        copy(folder / "edgefel" / "edgefel_preprocess", folder / "changed", "bytes"),
        "TYPE_FP32",
        "TYPE_UINT8",
    )
    server = TritonServer([folder / name for name in (*kinds, "changed")], folder / "log")
    yield server
    server.close()


def copy(model: Path, folder: Path, name: str) -> Path:
    """Of a model, under another name."""
    made = Path(shutil.copytree(model, folder / name))
    edit(made, f'name: "{model.name}"', f'name: "{name}"')
    return made


def crops(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Smooth, so that a JPEG of them is much like them."""
    rng = np.random.default_rng(sum(map(sum, sizes)))
    small = [rng.integers(0, 256, (3, 3, 3), dtype=np.uint8) for _ in sizes]
    return [cv2.resize(image, (width, height)) for image, (height, width) in zip(small, sizes, strict=True)]


def png(images: list[np.ndarray]) -> np.ndarray:
    contents = [cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes() for image in images]
    return np.array([[content] for content in contents], dtype=object)


def check(answer: dict[str, np.ndarray], session: Session, images: list[np.ndarray]) -> None:
    """Every output is the session's; float32 rounds to 1e-7, and batches of other sizes may round in another way."""
    expected = session(images)
    assert set(answer) == set(session.manifest.outputs)
    for name, values in answer.items():
        wanted = getattr(expected, name)
        assert values.shape == (wanted.shape if wanted.ndim == 2 else (len(wanted), 1))
        np.testing.assert_allclose(values, wanted.reshape(values.shape), rtol=1e-5, atol=1e-6)


def test_which_models_are_served(server):
    """Those as written, and none of the changed ones."""
    models = {
        f"{prefix}_{model}"
        for prefix in ("edgefel", "uint8")
        for model in ("faces", "encoded_faces", "model")
    }
    assert server.ready() == models | {"edgefel_preprocess", "uint8_preprocess", "waits_model", "bytes"}


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_configuration_is_refused(server, case):
    message = CHANGED[case][-1]
    assert any(re.search(message, line) for line in server.said().splitlines())


@pytest.mark.parametrize("prefix", ["edgefel", "uint8"])
def test_a_sessions_outputs(server, bundle, uint8_bundle, prefix):
    """Requests of other sizes and kinds at a time, which the server batches."""
    same = crops((40, 30), (40, 30), (40, 30))
    mixed = crops((112, 112), (20, 33), (64, 48))
    requests = [({"faces": np.stack(same)}, same)]
    requests += [({"faces": image[None]}, [image]) for image in (*mixed, *crops((224, 200)))]
    with Session.open({"edgefel": bundle, "uint8": uint8_bundle}[prefix], backend="onnxruntime") as session:
        for answer, images in server.ask_together(f"{prefix}_faces", requests):
            check(answer, session, images)
        check(server.ask(f"{prefix}_encoded_faces", {"encoded_faces": png(mixed)}), session, mixed)


def test_the_largest_batch(server, bundle):
    images = crops(*[(20, 20 + number) for number in range(17)])
    with Session.open(bundle, backend="onnxruntime") as session:
        check(server.ask("edgefel_encoded_faces", {"encoded_faces": png(images[:16])}), session, images[:16])
    with pytest.raises(InferenceServerException, match="batch-size must be <= 16"):
        server.ask("edgefel_encoded_faces", {"encoded_faces": png(images)})


def test_requests_wait_for_a_full_batch(server):
    """Twenty seconds at the longest: the fourth ends the wait."""
    images = np.random.default_rng(0).random((4, 3, 14, 14), np.float32)
    server.ask_together("waits_model", [({"image": image[None]}, None) for image in images])
    (statistics,) = server.client.get_inference_statistics("waits_model").model_stats
    # warm-up of the network as written: one image, and the largest batch
    assert {entry.batch_size: entry.compute_infer.count for entry in statistics.batch_stats} == {1: 1, 4: 2}


def test_class_names(server, bundle):
    image = crops((40, 40))
    wanted = [grpc.InferRequestedOutput("probabilities", class_count=2)]
    result = server.client.infer("edgefel_faces", inputs({"faces": image[0][None]}), outputs=wanted)
    with Session.open(bundle, backend="onnxruntime") as session:
        (probabilities,) = session(image).probabilities
        best = [f"{number}:{session.labels[number]}" for number in np.argsort(-probabilities)[:2]]
    # "0.41:3:happiness"
    assert [text.decode().partition(":")[2] for text in result.as_numpy("probabilities")[0]] == best


def test_a_request_that_cannot_be_answered(server):
    (image,) = crops((40, 40))
    for model, tensors, message in (
        (
            "edgefel_encoded_faces",
            {"encoded_faces": np.array([[b"?"]], dtype=object)},
            "1 bytes, not an image",
        ),
        (
            "edgefel_faces",
            {"faces": image[None].astype(np.float32)},
            "data-type is 'FP32', but model 'edgefel_faces' expects 'UINT8'",
        ),
        ("edgefel_faces", {"faces": image[None, :, :, :1].copy()}, r"Expected \[-1,-1,-1,3\]"),
        ("edgefel_faces", {"image": image[None]}, "unexpected inference input 'image'"),
    ):
        with pytest.raises(InferenceServerException, match=message) as refused:
            server.ask(model, tensors)
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
