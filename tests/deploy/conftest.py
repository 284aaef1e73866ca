"""Folders that more than one test of edgefel.deploy needs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx
import pytest
from tiny_bundle import PREPROCESSING, write_bundle

from edgefel.export.onnx.inputs import uint8_input
from edgefel.export.onnx.passes import keep_outputs
from edgefel.files.write import sha256
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest


@pytest.fixture
def kernel_folder(tmp_path: Path) -> Path:
    """A folder as `edgefel kernels compile --model tiny` writes it, with one kernel for two targets."""
    folder = tmp_path / "compiled"
    rows = []
    for arch in ("sm_87", "sm_110"):
        place = folder / arch
        place.mkdir(parents=True)
        (place / "balance.cubin").write_bytes(f"code for {arch}".encode())
        (place / "balance.ptx").write_text(f"text for {arch}")
        description = {
            "name": "balance",
            "arch": arch,
            "entry": "forward_kernel",
            "arguments": [{"name": "e_ptr", "type": "fp32", "kind": "pointer"}],
            "grid": {"x": {"programs_per_image": 26}, "y": 1, "z": 1},
            "block": {"x": 128, "y": 1, "z": 1},
            "dynamic_shared_bytes": 12288,
            "cubin_sha256": sha256(place / "balance.cubin"),
        }
        (place / "balance.json").write_text(json.dumps(description))
        rows.append({"name": "balance", "arch": arch})
    (folder / "left-over.txt").write_text("not of the kernels")
    index = {"format": "edgefel-kernels", "version": 1, "model": "tiny", "kernels": rows}
    (folder / "kernels.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def bundle(tmp_path) -> Path:
    """FP32 passed, FP16 warned, INT8 failed; an engine of FP32; files that are for people alone."""
    folder = write_bundle(tmp_path / "bundle", ("fp32", "fp16", "int8"))
    manifest = read_manifest(folder)
    verdicts = {"fp32": "pass", "fp16": "warn", "int8": "fail"}
    files = [
        dataclasses.replace(
            file, parity={"verdict": verdicts[file.precision], "reasons": [f"as {file.precision} does"]}
        )
        for file in manifest.files
    ]
    (folder / "model.fp32.engine").write_bytes(b"of another machine")
    files.append(describe_file(folder / "model.fp32.engine", kind="engine", precision="fp32"))
    (folder / "calibration.json").write_text("{}")
    write_manifest(folder, dataclasses.replace(manifest, files=tuple(files)))
    return folder


@pytest.fixture(scope="module")
def uint8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One FP32 file that takes bytes and has two outputs."""
    folder = write_bundle(tmp_path_factory.mktemp("uint8") / "bundle")
    path = folder / "model.fp32.onnx"
    model, _ = keep_outputs(onnx.load(path), ("probabilities", "confidence"))
    onnx.save(uint8_input(model, PREPROCESSING)[0], path)
    changes = {"input_type": "uint8", "outputs": ("probabilities", "confidence")}
    files = (describe_file(path, kind="onnx", precision="fp32"),)
    write_manifest(folder, dataclasses.replace(read_manifest(folder), files=files, **changes))
    return folder
