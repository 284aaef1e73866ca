"""Schemas of answers, and answers."""

from __future__ import annotations

import pytest

from edgefel.serve.schemas import schemas


def check(schema: dict, value, names: dict, path: str = "") -> None:
    """A small validator for what `schemas` uses."""
    if "$ref" in schema:
        return check(names[schema["$ref"].rsplit("/", 1)[1]], value, names, path)
    if "anyOf" in schema:
        if value is None:
            assert {"type": "null"} in schema["anyOf"], path
            return None
        return check(schema["anyOf"][0], value, names, path)
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    assert isinstance(value, kinds[schema["type"]]), (path, value)
    assert "enum" not in schema or value in schema["enum"], path
    assert value >= schema["minimum"] if "minimum" in schema else True, path
    assert value <= schema["maximum"] if "maximum" in schema else True, path
    if isinstance(value, list):
        for number, item in enumerate(value):
            check(schema["items"], item, names, f"{path}[{number}]")
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        assert set(schema.get("required", ())) <= set(value), path
        for key, item in value.items():
            assert key in properties or more is not False, f"{path}.{key}"
            check(properties.get(key, more), item, names, f"{path}.{key}")
    return None


@pytest.fixture
def names(session):
    return schemas(session.labels)


def test_faces(client, photo, names):
    check(names["Faces"], client.post("/v1/faces", content=photo).json(), names)


def test_the_model(client, names):
    check(names["Model"], client.get("/v1/model").json(), names)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_status(client, names, path):
    check(names["Status"], client.get(path).json(), names)


def test_problems(client, names):
    check(names["Problem"], client.post("/v1/faces", files=[("a", b"x"), ("b", b"y")]).json(), names)


def test_the_validator_finds_what_is_missing_or_too_much(client, names):
    model = client.get("/v1/model").json()
    for wrong in (
        model | {"more": 1},
        {key: model[key] for key in model if key != "labels"},
        model | {"threads": "1"},
    ):
        with pytest.raises(AssertionError):
            check(names["Model"], wrong, names)
