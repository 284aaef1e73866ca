"""The OpenAPI document: complete, and what the server does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from serve_process import running
from starlette.routing import Route
from tiny_bundle import write_bundle

from edgefel.serve.app import ROUTES
from edgefel.serve.images import FORMATS
from edgefel.serve.limits import Limits
from edgefel.serve.openapi import openapi_document

LABELS = ("happiness", "anger")


def document(locked: bool = True) -> dict[str, Any]:
    return openapi_document(LABELS, Limits(), locked=locked, cookie="edgefel-8000")


def test_every_route_is_described_and_no_other():
    routes = {
        (route.path, method.lower())
        for route in ROUTES
        if isinstance(route, Route)
        for method in route.methods
    }
    described = {(path, method) for path, methods in document()["paths"].items() for method in methods}
    assert {one for one in routes if one[1] != "head"} == described


def test_references_resolve_and_every_schema_is_used():
    text = json.dumps(document())
    names = set(document()["components"]["schemas"])
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == names


def test_operations_have_names_answers_and_errors():
    operations = [one for methods in document()["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    for one in operations:
        assert {"403", "405", "429"} <= set(one["responses"])
        assert any(status[0] == "2" for status in one["responses"])
        assert all(answer["description"] for answer in one["responses"].values())


def test_the_token_is_needed_where_there_is_one():
    def secured(locked: bool) -> set[str]:
        paths = document(locked)["paths"]
        return {path for path, methods in paths.items() for one in methods.values() if one.get("security")}

    assert secured(True) == {"/v1/faces", "/v1/model", "/v1/live.mjpg", "/metrics", "/logout"}
    assert secured(False) == set()


def test_labels_and_formats_are_those_of_the_server(client, session):
    served = client.get("/openapi.json").json()
    face = served["components"]["schemas"]["Face"]["properties"]
    assert face["label"]["enum"] == [*session.labels, "unsure"]
    kinds = served["paths"]["/v1/faces"]["post"]["requestBody"]["content"]
    assert set(FORMATS.values()) < set(kinds)


@pytest.mark.slow
def test_generated_requests_get_what_the_document_promises(tmp_path):
    """Some 200; 10,000 were run by hand (docs/serve.md)."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    # random bytes are no image, whatever the document calls them
    left_out = [positive_data_acceptance]
    quick = settings(
        max_examples=20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with running(write_bundle(tmp_path / "bundle")) as (port, _):
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        for operation in schema.get_all_operations():

            @quick
            @given(case=operation.ok().as_strategy())
            def check(case):
                case.call_and_validate(excluded_checks=left_out, timeout=30)

            check()
