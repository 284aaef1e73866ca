"""The folder, whose parts of ONNX Runtime are no real ones here."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from tiny_bundle import rewritten, write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import read_manifest, write_manifest
from edgefel.serve.page import SHARED
from edgefel.serve.page import STATIC as SERVED
from edgefel.web import contract
from edgefel.web.folder import STATIC, WebOptions, page_policy, write_web_folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = write_bundle(tmp_path / "tiny", ("fp32", "int8"))
    (folder / "model-card.md").write_text("# Tiny\n")
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def exported(folder: Path) -> dict:
    text = (folder / "files.js").read_text()
    assert text.startswith("self.EXPORTED = ")
    return json.loads(text.removeprefix("self.EXPORTED = ").rstrip(";\n"))


def test_the_folder_holds_what_the_page_needs(bundle, small, tmp_path):
    page = tmp_path / "page"
    files = write_web_folder(bundle, page, small)
    assert {file.relative_to(page).as_posix() for file in files} == names(page)
    assert files == sorted(files)
    own = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert own | {f"page/{name}" for name in SHARED} <= names(page)
    for name in SHARED:
        assert (page / "page" / name).read_bytes() == (SERVED / name).read_bytes()
    assert (page / "models" / "network.onnx").read_bytes() == (bundle / "model.fp32.onnx").read_bytes()
    assert (page / "models" / "detector.onnx").read_bytes() == small.detector_model.read_bytes()
    assert (page / "onnxruntime-web" / "ort.webgpu.min.js").read_bytes() == b"no ort.webgpu.min.mjs"
    assert (page / "model-card.md").read_text() == "# Tiny\n"
    document = json.loads((page / "contract.json").read_text())
    assert document["name"] == "tiny"
    image = cv2.imread(str(page / "check.png"))[..., ::-1]
    assert (image == contract.check_image()).all()


def test_the_service_worker_is_told_of_every_file(bundle, small, tmp_path):
    write_web_folder(bundle, tmp_path / "page", small)
    about = exported(tmp_path / "page")
    told = {*about["files"], *about["parts"]}
    left = names(tmp_path / "page") - told
    assert left == {"service-worker.js", "files.js", "LICENSES.txt", "model-card.md"}
    assert all(name.startswith("onnxruntime-web/") for name in about["parts"])
    assert len(about["parts"]) == 6
    assert about["headers"]["Content-Security-Policy"] == page_policy()


def test_the_same_input_gives_the_same_bytes_and_another_one_another_version(bundle, small, tmp_path):
    pages = [tmp_path / name for name in ("first", "second", "other")]
    for page, options in zip(pages, (small, small, replace(small, precision="int8")), strict=True):
        write_web_folder(bundle, page, options)
    first, second, other = pages
    assert names(first) == names(second)
    for name in names(first):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert exported(first)["version"] != exported(other)["version"]


def test_int8_comes_without_what_webgpu_needs(bundle, small, tmp_path):
    write_web_folder(bundle, tmp_path / "page", replace(small, precision="int8"))
    assert (tmp_path / "page/models/network.onnx").read_bytes() == (bundle / "model.int8.onnx").read_bytes()
    vendored = {path.name for path in (tmp_path / "page" / "onnxruntime-web").iterdir()}
    assert vendored == {"ort.wasm.min.js", "ort-wasm-simd-threaded.js", "ort-wasm-simd-threaded.wasm"}
    document = json.loads((tmp_path / "page" / "contract.json").read_text())
    assert not document["webgpu"]
    assert document["network"]["tolerance"] == 0.1


def failing(bundle: Path, small: WebOptions) -> tuple[Path, WebOptions]:
    manifest = read_manifest(bundle)
    parity = {"verdict": "fail", "reasons": ["recall of fear falls by 9 points"]}
    write_manifest(bundle, manifest.with_file(replace(manifest.find("int8"), parity=parity)))
    return bundle, replace(small, precision="int8")


def changed(bundle: Path, small: WebOptions) -> tuple[Path, WebOptions]:
    with (bundle / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"x")
    return bundle, small


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            failing,
            r"model\.int8\.onnx failed its comparison with PyTorch \(recall of fear falls by 9 points\)",
        ),
        (changed, r"model\.fp32\.onnx: SHA-256 differs from the manifest's"),
        (lambda bundle, small: (bundle / "none", small), "no such folder"),
        (lambda bundle, small: (bundle, replace(small, detector_model=None)), "run 'edgefel detector get'"),
        (lambda bundle, small: (bundle, replace(small, detector_model=bundle / "x.onnx")), "no such file"),
        (
            lambda bundle, small: (bundle, replace(small, detector_model=bundle / "model.fp32.onnx")),
            "no YuNet in onnxruntime: it has no output",
        ),
        (
            lambda bundle, small: (bundle, replace(small, onnxruntime_web=bundle)),
            "has no dist/ort.wasm.min.mjs",
        ),
        (
            lambda bundle, small: (
                rewritten(bundle.parent / "fewer", outputs=("probabilities", "confidence")),
                small,
            ),
            "exported without the output primary",
        ),
    ],
)
def test_bad_input_writes_nothing(bundle, small, tmp_path, spoil, message):
    source, options = spoil(bundle, small)
    with pytest.raises(EdgefelError, match=message) as caught:
        write_web_folder(source, tmp_path / "page", options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page").exists()


def test_a_folder_that_exists_is_replaced_only_when_asked(bundle, small, tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("mine")
    with pytest.raises(EdgefelError, match="the folder is not empty"):
        write_web_folder(bundle, tmp_path / "page", small)
    assert names(tmp_path / "page") == {"mine.txt"}
    write_web_folder(bundle, tmp_path / "page", replace(small, replace=True))
    assert "index.html" in names(tmp_path / "page")
    assert "mine.txt" not in names(tmp_path / "page")


def test_other_precisions_are_refused():
    with pytest.raises(EdgefelError, match="precision 'fp16': a browser runs fp32 and int8"):
        WebOptions("fp16")


def scripts() -> dict[str, str]:
    """Everything that is text in the page, by its name in the folder."""
    found = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.is_file()}
    found |= {f"page/{name}": SERVED / name for name in SHARED}
    return {name: path.read_text() for name, path in found.items()}


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_code():
    page = scripts()["index.html"]
    assert not re.findall(r"<script>|<style|\son\w+=|\sstyle=", page)
    assert "'unsafe-inline'" not in page
    for name, text in scripts().items():
        for address in re.findall(r"https?://[^\s\"'<>)]+", text):
            assert address.startswith(
                ("http://www.w3.org/2000/svg", "http://localhost", "http://127.0.0.1")
            ), name
    for path in re.findall(r"(?:src|href)=\"([^\"#]+)\"", page):
        assert path in scripts()
    for name, text in scripts().items():
        for other in re.findall(r"from \"\./([\w.-]+)\"", text):
            assert f"{Path(name).parent.as_posix()}/{other}" in scripts(), name


def test_elements_that_scripts_ask_for_are_in_the_page():
    ids = set(re.findall(r"id=\"([\w-]+)\"", scripts()["index.html"]))
    # of the server's page alone, where a call of `watch` or a device's camera makes it seen
    for name, text in scripts().items():
        asked = set(re.findall(r"(?:byId|getElementById)\(\"([\w-]+)\"\)", text)) - {"has-device"}
        assert asked <= ids, (name, asked - ids)
