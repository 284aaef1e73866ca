"""A small bundle with a real ONNX file, made without training or exporting anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_bundle import write_bundle

from edgefel.runtime.session import Session


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """`write_bundle` into this test's own folder."""
    return lambda **options: write_bundle(tmp_path / "bundle", **options)


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle()


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The tiny bundle in ONNX Runtime."""
    bundle = write_bundle(tmp_path_factory.mktemp("tiny") / "bundle")
    with Session.open(bundle, backend="onnxruntime") as opened:
        yield opened
