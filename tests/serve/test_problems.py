"""Problem details."""

from __future__ import annotations

import json

from edgefel.serve.problems import MEDIA_TYPE, Problem, busy


def test_the_document_of_rfc_9457():
    response = Problem(422, "unreadable-image", "Broken.", image=3, retry_after=2, close=True).response()
    assert json.loads(response.body) == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "Broken.",
        "reason": "unreadable-image",
        "image": 3,
    }
    headers = response.headers
    assert (headers["content-type"], headers["retry-after"], headers["connection"]) == (
        MEDIA_TYPE,
        "2",
        "close",
    )


def test_without_an_image_there_is_no_number():
    assert "image" not in busy().to_dict()
    assert "Connection" not in busy().headers
    assert busy(close=True).headers["Connection"] == "close"
