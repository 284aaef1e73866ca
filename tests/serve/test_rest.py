"""Images in, faces out; the same faces as `edgefel predict --json`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from streams import BLUE, RED, SquareDetector, scene

from edgefel.data.images import decode_rgb
from edgefel.runtime.labelling import label_faces

JPEG = {"Content-Type": "image/jpeg"}


def encoded(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def test_an_image_has_the_faces_that_predict_finds(client, session, photo):
    answer = client.post("/v1/faces", content=photo, headers=JPEG)
    assert answer.status_code == 200
    (image,) = answer.json()["images"]
    assert (image["source"], image["width"], image["height"]) == ("body", 320, 240)
    faces = label_faces(decode_rgb(photo, Path("x")), SquareDetector(), session)
    expected = json.loads(json.dumps([face.to_dict() for face in faces]))
    assert len(expected) == 2
    assert [{key: face[key] for key in expected[0]} for face in image["faces"]] == expected
    assert [face["eyes"] for face in image["faces"]] == [None, None]
    assert {"wait", "decode", "detect", "inference", "total"} <= set(image["stages_ms"])


def test_the_parts_of_a_form_are_images_in_order(client, photo):
    other = encoded(scene([(100, 50, 90, BLUE)]), ".png")
    files = [("image", ("a.jpg", photo)), ("image", ("ä\n.png", other))]
    images = client.post("/v1/faces", files=files).json()["images"]
    assert [len(image["faces"]) for image in images] == [2, 1]
    assert images[0]["source"] == "a.jpg"
    assert "\n" not in images[1]["source"]
    assert images[1]["faces"][0]["box"] == {"x": 100, "y": 50, "width": 90, "height": 90}


def test_an_image_without_a_face_has_an_empty_list(client):
    answer = client.post("/v1/faces", content=encoded(scene([])))
    assert answer.json()["images"][0]["faces"] == []


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", None])
def test_the_format_is_that_of_the_bytes_whatever_their_type_says(client, suffix, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    answer = client.post("/v1/faces", content=encoded(scene([(20, 20, 60, RED)]), suffix), headers=headers)
    assert len(answer.json()["images"][0]["faces"]) == 1


@pytest.mark.parametrize(
    ("content", "headers", "status", "reason"),
    [
        (b"", JPEG, 400, "empty"),
        (b"hello", JPEG, 415, "unsupported-format"),
        (b"{}", {"Content-Type": "application/json"}, 415, "unsupported-media-type"),
        (b"II*\0" + b"\0" * 100, JPEG, 415, "unsupported-format"),
        (b"--x", {"Content-Type": "multipart/form-data"}, 400, "bad-form"),
        (b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "empty"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(client, content, headers, status, reason):
    answer = client.post("/v1/faces", content=content, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["reason"]) == (status, status, reason)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"]


def test_a_problem_of_a_batch_names_its_image(client, photo):
    answer = client.post("/v1/faces", files=[("image", photo), ("image", photo[:200])])
    assert answer.status_code in (415, 422)
    assert answer.json()["image"] == 1


def test_a_detector_that_fails_costs_one_answer(make_client, photo):
    class Broken:
        def __call__(self, image):
            if image.shape[0] == 48:
                raise RuntimeError("a mistake of the server")
            if image.shape[0] == 64:
                raise cv2.error("OpenCV does not like it")
            return []

    client = make_client(detector=Broken())
    answers = [
        client.post("/v1/faces", content=encoded(np.zeros((side, 64, 3), np.uint8))) for side in (48, 64, 80)
    ]
    assert [answer.status_code for answer in answers] == [500, 422, 200]
    assert answers[0].json()["reason"] == "server-error"


def test_the_model_is_described(client, session):
    model = client.get("/v1/model").json()
    assert model["labels"] == list(session.labels)
    assert (model["precision"], model["backend"], model["live"]) == ("fp32", "onnxruntime", None)
    assert model["token_needed"] is False


def test_health_and_readiness(make_client):
    client = make_client()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.app.state.service.worker.close()
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_metrics_are_those_of_the_telemetry(client, photo):
    client.post("/v1/faces", content=photo)
    text = client.get("/metrics").text
    assert 'edgefel_events_total{event="faces"} 2.0' in text
    assert 'edgefel_events_total{event="answers 2xx"} 1.0' in text
    assert 'edgefel_stage_seconds_count{stage="inference"} 1.0' in text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/faces", 405), ("GET", "/v2", 404)])
def test_wrong_addresses_and_methods_are_problems_too(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
