"""Which versions a file and an installation need."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_bundle import tiny_model, write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.openvino_backend import OpenVinoBackend
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.requirements import (
    needed_for,
    numbers,
    older,
    oldest_versions,
    onnx_requirement,
    too_old,
)
from edgefel.runtime.session import Session


@pytest.mark.parametrize(
    ("ir", "opset", "quantized", "onnxruntime", "openvino"),
    [
        (9, 19, True, ">=1.17", ">=2025.3"),
        (9, 20, False, ">=1.17", ">=2025.3"),
        (10, 20, False, ">=1.18", ">=2025.3"),
        (11, 23, False, ">=1.23", ">=2026.2"),
        (11, 23, True, ">=1.24", ">=2026.2"),
    ],
)
def test_what_a_file_needs(ir, opset, quantized, onnxruntime, openvino):
    found = onnx_requirement(ir, opset, quantized=quantized)
    assert found == {"ir_version": ir, "opset": opset, "onnxruntime": onnxruntime, "openvino": openvino}


def test_a_manifest_keeps_it_and_an_older_one_has_none(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    assert manifest.files[0].requires is None
    assert "requires" not in manifest.to_dict()["files"][0]
    file = dataclasses.replace(manifest.files[0], requires=onnx_requirement(9, 20, quantized=False))
    write_manifest(folder, manifest.with_file(file))
    assert read_manifest(folder).files == (file,)
    assert too_old(file, "1.16.3").endswith("and here is 1.16.3; run: pip install 'onnxruntime>=1.17'")
    for version in ("1.17", "1.17.0", "1.100.0", ""):
        assert too_old(file, version) is None
    assert too_old(dataclasses.replace(file, requires=None), "1.0") is None


def test_openvino_that_is_older_than_the_file_needs(tmp_path):
    pytest.importorskip("openvino", reason="needs OpenVINO (extra openvino)")
    file = read_manifest(write_bundle(tmp_path / "bundle")).files[0]
    assert OpenVinoBackend.unavailable_reason(file) is None
    newer = dataclasses.replace(file, requires={"ir_version": 9, "opset": 20, "openvino": ">=9999.1"})
    assert "needs OpenVINO 9999.1 or later" in OpenVinoBackend.unavailable_reason(newer)


# the messages are those of ONNX Runtime 1.17.0
@pytest.mark.parametrize(
    ("message", "needed"),
    [
        ("Unsupported model IR version: 10, max supported IR version: 9", "onnxruntime>=1.18"),
        ("Unsupported model IR version: 11, max supported IR version: 9", "onnxruntime>=1.23"),
        (
            "ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. "
            "Opset 23 is under development and support for this is limited.",
            "onnxruntime>=1.23",
        ),
        ("Protobuf parsing failed.", None),
    ],
)
def test_what_a_refusal_asks_for(message, needed):
    assert needed_for(message) == needed


def test_a_file_that_is_too_new_says_what_to_install(tmp_path):
    """Of a bundle whose manifest does not say it: IR 99 is to this ONNX Runtime what IR 10 is to 1.17."""
    folder = write_bundle(tmp_path / "bundle")
    model = tiny_model()
    model.ir_version = 99
    (folder / "model.fp32.onnx").write_bytes(model.SerializeToString())
    file = describe_file(folder / "model.fp32.onnx", kind="onnx", precision="fp32")
    write_manifest(folder, read_manifest(folder).with_file(file))
    with pytest.raises(
        EdgefelError, match=r"Unsupported model IR version: 99.*run: pip install 'onnxruntime>="
    ):
        Session.open(folder, backend="onnxruntime")


def test_oldest_versions_of_packages():
    requires = [
        "numpy>=1.23",
        "opencv-python-headless<5,>=4.10",
        "pycuda>=2025.1.2; extra == 'jetson'",
        'torch>=2.9; extra == "train"',
        'ruff>=0.6; extra == "dev"',
        "tensorrt-rtx-cu13; extra == 'rtx'",
    ]
    assert oldest_versions(requires) == {
        "numpy": ("1.23", True),
        "opencv-python-headless": ("4.10", True),
        "pycuda": ("2025.1.2", False),
        "torch": ("2.9", False),
    }


def test_versions_as_numbers():
    assert numbers("10.3.0.30+cuda12") == (10, 3, 0, 30)
    assert numbers("1.17.0") == numbers("1.17") == (1, 17)
    assert older("1.16.3", "1.17")
    assert older("2025.1", "2025.1.2")
    assert not older("1.17.0", "1.17")
    assert not older("of unknown version", "1.17")
