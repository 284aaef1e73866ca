"""The application as a whole: errors of every kind have one form."""

from __future__ import annotations

import pytest

from edgefel.serve.app import ROUTES


@pytest.mark.parametrize("path", [route.path for route in ROUTES if "{" not in route.path])
@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused_with_the_right_ones(client, method, path):
    answer = client.request(method, path)
    if answer.status_code != 404:  # a WebSocket's address
        assert (answer.status_code, answer.json()["reason"]) == (405, "method-not-allowed")
        assert {"GET", "POST"} & set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("path", ["/v1/", "/v1/faces/", "/v1/stream", "/v1/live", "/%2e%2e", "/%00"])
def test_other_addresses_are_problems(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
