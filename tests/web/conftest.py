"""A page of `edgefel export --web`, and a browser."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import launching, serving
from small_web import small_web

from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_folder
from edgefel.web.folder import STATIC, WebOptions
from edgefel.web.onnxruntime_web import VERSION, WASM_PARTS, WEBGPU_PARTS, open_package

YUNET = Path(__file__).parents[3] / "shared" / "data" / "yunet.onnx"
# beside the other things that tests fetch once per machine
FETCHED = Path.home() / ".cache" / "edgefel-ci" / f"onnxruntime-web-{VERSION}"


@pytest.fixture(scope="session")
def package() -> Path:
    """The parts of onnxruntime-web that a page takes, fetched once per machine."""
    FETCHED.parent.mkdir(parents=True, exist_ok=True)
    with FETCHED.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not FETCHED.is_dir():
            try:
                with open_package(None) as part_of, atomic_folder(FETCHED) as folder:
                    (folder / "dist").mkdir()
                    for part in WASM_PARTS + WEBGPU_PARTS:
                        (folder / "dist" / part.source).write_bytes(part_of(part))
            except EdgefelError as error:
                pytest.skip(str(error))
    return FETCHED


@pytest.fixture(scope="session")
def yunet() -> Path:
    if not YUNET.is_file():
        pytest.skip("needs YuNet's file, ../shared/data/yunet.onnx")
    return YUNET


@pytest.fixture(scope="module")
def launch() -> Iterator[Any]:
    with launching() as start:
        yield start


@pytest.fixture(scope="module")
def page(launch: Any) -> Iterator[Any]:
    """An open page of the origin that has the scripts."""
    with serving(STATIC) as address:
        opened = launch().new_page()
        # a document of the same origin that runs nothing itself
        opened.goto(f"{address}runtime/pixels.js")
        yield opened


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebOptions:
    return small_web(tmp_path / "small", monkeypatch)
