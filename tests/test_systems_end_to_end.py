"""Every system by the same commands: train, evaluate, export, build, parity, predict, bench; at nano size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shallow
from click.testing import CliRunner
from exported import HAS_TENSORRT

from edgefel.cli.main import main

pytestmark = pytest.mark.slow

SYSTEMS = {
    "apvit-nano": [],
    "apvit-nano+reliability": ["--criterion", "f-pdls", "--prior", "votes"],
    "arbex-nano+resizer": ["--criterion", "f-pdls"],
    "apvit-nano+resizer": ["--criterion", "pdls", "--model-set", "input_size=64"],
    "poster-v2-nano+resizer": ["--model-set", "input_size=48"],
}


def edgefel(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{arguments}: {result.output}"
    return result.stdout


@pytest.mark.parametrize("name", SYSTEMS)
def test_from_training_to_bench(name, faces_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--epochs", 1, "--per-class", 4, "--batch-size", 7, "--workers", 0, "-q"]
    few += shallow.APVIT if name.startswith("apvit") else shallow.PYRAMID
    edgefel("train", "--model", name, "--data", faces_folder, "-o", "run", *few, *SYSTEMS[name])

    scores = json.loads(edgefel("evaluate", "run", "--data", faces_folder, "--split", "test", "--json"))
    assert scores["model"] == name
    assert (scores["with_head"] is None) == (
        name.startswith(("apvit", "poster")) and "reliability" not in name
    )

    precisions = ["--fp32", "--fp16", "--int8", *(["--engine"] if HAS_TENSORRT else [])]
    brief = ["--per-class", 2, "--parity-images", 14, "--json"]
    edgefel("export", "run", "-o", "bundle", *precisions, "--data", faces_folder, *brief)
    manifest = json.loads(Path("bundle/manifest.json").read_text())
    files = {file["name"]: file for file in manifest["files"]}
    onnx = ["model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx", "model.int8-fp16.onnx"]
    assert set(onnx) <= set(files)
    if HAS_TENSORRT:
        assert {"model.fp32.engine", "model.fp16.engine", "model.int8-fp16.engine"} <= set(files)

    brief = ["--checkpoint", "run", "--images", 14, "--json"]
    gate = json.loads(edgefel("parity", "bundle", "--data", faces_folder, *brief))
    assert gate["files"]["model.fp32.onnx"]["top1_agreement"] == 1.0

    image = next((faces_folder / "images").rglob("*.png"))
    said = json.loads(edgefel("predict", "bundle", image, "--no-detect", "--json").splitlines()[0])
    assert said["faces"][0]["top_label"] in scores["labels"]

    brief = ["--quick", "--runs", 2, "--seconds", 0.01, "--threads", 1, "--no-memory", "--json"]
    assert name in edgefel("bench", "latency", "bundle", "--backend", "onnxruntime", *brief)
