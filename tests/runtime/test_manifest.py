"""The manifest: round trip, hashes, and one clear line for everything that can be wrong with it."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from tiny_bundle import write_bundle

from edgefel.data.framing import Framing
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS
from edgefel.runtime.manifest import (
    MADE_FOR,
    OUTPUT_NAMES,
    PRECISIONS,
    BundleFile,
    Manifest,
    ModelInfo,
    describe_file,
    is_bundle,
    read_manifest,
    write_manifest,
)

HASH = hashlib.sha256(b"weights").hexdigest()


def manifest(**changes) -> Manifest:
    values = {
        "model": ModelInfo("arbex-nano", 3, 12345, 0.25, 128),
        "labels": ("neutral", "happiness", "sadness"),
        "preprocessing": Preprocessing(256, 224, 2),
        "files": (
            BundleFile("model.fp32.onnx", "onnx", "fp32", HASH, 7, parity={"probabilities": 1e-7}),
            BundleFile("model.fp32.engine", "engine", "fp32", HASH, 7, builder={"tensorrt": "11.4"}),
            BundleFile("model.int8-fp16.onnx", "onnx", "int8+fp16", HASH, 7),
        ),
        "source": {"checkpoint": "runs/x", "sha256": "ab"},
        "tools": {"edgefel": "0.1.0"},
    }
    return Manifest(**{**values, **changes})


def document() -> dict:
    return manifest().to_dict()


def test_round_trip(tmp_path):
    path = write_manifest(tmp_path, manifest())
    read = read_manifest(tmp_path)
    assert path == tmp_path / "manifest.json"
    assert read == manifest()
    assert read.folder == tmp_path
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def test_settings_of_the_network_are_kept_and_older_manifests_have_none(tmp_path):
    assert "config" not in document()["model"]
    model = ModelInfo(
        "arbex-nano", 3, 12345, 0.25, 128, config={"encoder": {"heads": [1, 1, 2]}, "head": None}
    )
    write_manifest(tmp_path, manifest(model=model))
    assert read_manifest(tmp_path).model == model


def test_what_is_on_disk(tmp_path):
    values = json.loads(write_manifest(tmp_path, manifest()).read_text())
    assert list(values) == [
        *("format", "version", "model", "labels", "input", "outputs"),
        *("preprocessing", "files", "source", "tools"),
    ]
    assert (values["format"], values["version"]) == ("edgefel-bundle", 1)
    assert values["input"] == {"name": "image", "dtype": "float32", "shape": ["N", 3, 112, 112]}
    assert values["outputs"] == list(OUTPUT_NAMES)
    assert values["files"][0] == {
        "name": "model.fp32.onnx",
        "kind": "onnx",
        "precision": "fp32",
        "sha256": HASH,
        "bytes": 7,
        "parity": {"probabilities": 1e-7},
        "builder": None,
    }


def test_find_and_with_file():
    old = manifest()
    assert old.find("fp32").name == "model.fp32.onnx"
    assert old.find("fp32", "engine").name == "model.fp32.engine"
    with pytest.raises(EdgefelError, match=r"no int8 onnx file.*fp32 \(onnx\), fp32 \(engine\), int8\+fp16"):
        old.find("int8")
    new = BundleFile("model.int8.onnx", "onnx", "int8", HASH, 7)
    assert old.with_file(new).files == (*old.files, new)
    changed = BundleFile("model.fp32.onnx", "onnx", "fp32", HASH, 8)
    assert old.with_file(changed).files == (changed, *old.files[1:])


def test_verify(tmp_path):
    (tmp_path / "model.fp32.onnx").write_bytes(b"weights")
    write_manifest(tmp_path, manifest())
    read = read_manifest(tmp_path)
    assert read.verify(read.files[0]) == tmp_path / "model.fp32.onnx"
    (tmp_path / "model.fp32.onnx").write_bytes(b"weightz")
    with pytest.raises(EdgefelError, match=r"model\.fp32\.onnx: SHA-256 differs .*--force"):
        read.verify(read.files[0])
    with pytest.raises(EdgefelError, match=r"model\.fp32\.engine: .*missing; export again"):
        read.verify(read.files[1])


def test_describe_file(tmp_path):
    (tmp_path / "model.fp16.onnx").write_bytes(b"weights")
    file = describe_file(tmp_path / "model.fp16.onnx", kind="onnx", precision="fp16", parity={"a": 1})
    assert file == BundleFile("model.fp16.onnx", "onnx", "fp16", HASH, 7, {"a": 1})


def check_refused(folder, pattern):
    with pytest.raises(EdgefelError, match=pattern) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_missing_folder_file_or_json(tmp_path):
    check_refused(tmp_path / "nowhere", "no such folder; give the folder that 'edgefel export' wrote")
    check_refused(tmp_path, r"no manifest\.json here; give the folder")
    (tmp_path / "manifest.json").write_text('{"format": "edgefel-bundle",\n "vers')
    check_refused(tmp_path, "not valid JSON")
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    check_refused(tmp_path, "not valid JSON")


def without(name):
    def change(values):
        del values[name]

    return change


def setting(*keys, value):
    def change(values):
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


BAD = {
    "another format": (setting("format", value="onnx"), "not a bundle manifest"),
    "another version": (setting("version", value=2), "version 2, and this edgefel reads version 1"),
    "no model": (without("model"), "manifest: lacks model"),
    "no files": (without("files"), "manifest: lacks files"),
    "no preprocessing": (without("preprocessing"), "manifest: lacks preprocessing"),
    "files no list": (setting("files", value={}), "files is an object, not a list"),
    "model half": (setting("model", value={"name": "x"}), r"manifest: lacks model\.num_classes"),
    "classes as text": (
        setting("model", "num_classes", value="3"),
        r'model\.num_classes is "3", not a whole number',
    ),
    "a flag for a number": (
        setting("model", "num_classes", value=True),
        "num_classes is true, not a whole number",
    ),
    "labels short": (setting("labels", value=["a", "b"]), "2 labels for a model of 3 classes"),
    "labels twice": (setting("labels", value=["a", "b", "a"]), "label 'a' occurs twice"),
    "labels numbers": (setting("labels", value=[1, 2, 3]), r"labels\[0\] is 1, not text"),
    "label of two lines": (setting("labels", value=["a", "b\nc", "d"]), r"'b\\nc' has a line break"),
    "label for a terminal": (
        setting("labels", value=["a", "\x1b[2J", "d"]),
        r"'\\x1b\[2J' has a line break or control",
    ),
    "label without a name": (setting("labels", value=["a", " ", "d"]), "label 1 is empty"),
    "label without an end": (setting("labels", value=["a", "b" * 101, "d"]), "has 101 characters"),
    "file of two lines": (setting("files", 0, "name", value="a\nb.onnx"), "has a line break"),
    "model for a terminal": (
        setting("model", "name", value="\x9b2J"),
        r"model name '\\x9b2J' has a line break",
    ),
    "preprocessing half": (setting("preprocessing", value={"resize": 256}), "preprocessing: missing crop"),
    "input of another size": (setting("input", "shape", value=["N", 3, 224, 224]), "input is .*expected"),
    "outputs short": (setting("outputs", value=["logits"]), r"outputs is \['logits'\], expected"),
    "file no object": (setting("files", 0, value="model.onnx"), r'files\[0\] is "model.onnx", not an object'),
    "file without hash": (
        lambda values: values["files"][1].pop("sha256"),
        r"manifest: lacks files\[1\]\.sha256",
    ),
    "hash short": (setting("files", 0, "sha256", value="abc"), "is not 64 lower-case hex digits"),
    "kind": (setting("files", 0, "kind", value="tflite"), "kind is 'tflite'; known are onnx, engine"),
    "precision": (setting("files", 0, "precision", value="fp4"), "precision is 'fp4'; known are fp32, fp16"),
    "parity": (setting("files", 0, "parity", value=3), r"files\[0\]\.parity is 3, not an object"),
    "file twice": (setting("files", 1, "name", value="model.fp32.onnx"), "model.fp32.onnx listed twice"),
    "file elsewhere": (setting("files", 0, "name", value="../model.onnx"), "lie directly in its folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_manifests(case, tmp_path):
    change, pattern = BAD[case]
    values = document()
    change(values)
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    check_refused(tmp_path, pattern)


def test_json_that_is_no_object(tmp_path):
    (tmp_path / "manifest.json").write_text("[1, 2]")
    check_refused(tmp_path, "not a bundle manifest")


def test_nan_in_parity_is_refused_and_nothing_is_written(tmp_path):
    broken = manifest(files=(BundleFile("m.onnx", "onnx", "fp32", HASH, 7, parity={"x": float("nan")}),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_manifest(tmp_path, broken)
    assert list(tmp_path.iterdir()) == []


def test_what_export_wrote_is_read_back(nano_bundle, tmp_path):
    read = read_manifest(nano_bundle)
    assert [file.precision for file in read.files] == ["fp32", "int8", "int8+fp16"]
    for file in read.files:
        assert read.verify(file).stat().st_size == file.bytes
    write_manifest(tmp_path, read)
    written = [json.loads((folder / "manifest.json").read_text()) for folder in (nano_bundle, tmp_path)]
    assert written[0] == written[1]


def test_the_framing_is_optional_and_checked(tmp_path):
    framing = Framing(0.39, 0.36, 0.03, 0.04, 128)
    values = json.loads(write_manifest(tmp_path, manifest(framing=framing)).read_text())
    assert values["framing"] == framing.to_dict()
    assert read_manifest(tmp_path).framing == framing
    assert "framing" not in document()
    for wrong in ({**framing.to_dict(), "eyes_down": 0.95}, {"eyes_down": 0.4}, [1], "level"):
        (tmp_path / "manifest.json").write_text(json.dumps(values | {"framing": wrong}))
        with pytest.raises(EdgefelError, match=r"manifest.json: .*framing.*export"):
            read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(values | {"framing": None}))
    assert read_manifest(tmp_path).framing is None


def test_what_is_a_bundle(tmp_path):
    path = write_manifest(tmp_path, manifest())
    assert is_bundle(tmp_path)
    path.write_text('{"format": "edgefel-bundle", "version": 99}')
    assert is_bundle(tmp_path)
    for text in ('{"format": "another"}', "[]", "{", ""):
        path.write_text(text)
        assert not is_bundle(tmp_path)
    assert not is_bundle(tmp_path / "none")


def test_a_file_says_which_backends_it_is_made_for(tmp_path):
    """In an older bundle, whose files do not, the precision says it."""
    path = tmp_path / "model.int8.onnx"
    path.write_bytes(b"model")
    older = describe_file(path, kind="onnx", precision="int8")
    assert "made_for" not in older.to_dict()
    assert older.backends == MADE_FOR["int8"] == ("onnxruntime",)
    said = describe_file(path, kind="onnx", precision="int8", made_for=("openvino",))
    assert said.backends == ("openvino",)
    folder = write_bundle(tmp_path / "bundle")
    read = read_manifest(folder)
    write_manifest(folder, read.with_file(dataclasses.replace(read.files[0], made_for=("openvino",))))
    assert read_manifest(folder).files[0].made_for == ("openvino",)
    assert set(MADE_FOR) == set(PRECISIONS)
    assert {name for names in MADE_FOR.values() for name in names} == set(BACKENDS)
