"""Every JSON file that edgefel reads, with each of its entries replaced by values of other types."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from bench_rows import environment
from safetensors.torch import load_file
from tiny_bundle import write_bundle

from edgefel.bench.results import make_row, read_results
from edgefel.calib.calibration_set import (
    CalibrationImage,
    CalibrationSet,
    LabelledBy,
    read_calibration_set,
    write_calibration_set,
)
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.models.registry import build_model
from edgefel.runtime.manifest import read_manifest
from edgefel.training.run_folder import RunFolder

VALUES = (None, True, 0, -1, 10**30, 1.5, "x", "", [], [[]], [1], [None], {}, {"x": 1})


def variants(document: Any, values: Sequence[Any] = VALUES) -> Iterator[Any]:
    """The document with one entry replaced or left out, for each entry and each of the values."""
    yield from values
    for place in list(_places(document, ())):
        for value in values:
            changed = copy.deepcopy(document)
            holder = changed
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = value
            yield changed
        changed = copy.deepcopy(document)
        holder = changed
        for key in place[:-1]:
            holder = holder[key]
        del holder[place[-1]]
        yield changed


def _places(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(min(len(value), 2))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield (*place, key)
        yield from _places(value[key], (*place, key))


def check(path: Path, read: Callable[[], object], values: Sequence[Any] = VALUES) -> None:
    """Reading every variant of the file raises nothing but EdgefelError, in one line that names the file."""
    text = path.read_text(encoding="utf-8")
    refused = tried = 0
    for variant in variants(json.loads(text), values):
        path.write_text(json.dumps(variant), encoding="utf-8")
        tried += 1
        try:
            read()
        except EdgefelError as error:
            refused += 1
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} {error}: {json.dumps(variant)[:2000]}") from error
        else:
            continue
        assert "\n" not in message
        assert path.parent.name in message
    path.write_text(text, encoding="utf-8")
    read()
    assert refused > tried / 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("types") / "checkpoint"
    torch.manual_seed(0)
    save_checkpoint(folder, build_model("arbex-nano"), EXPRESSIONS_7, default_preprocessing(112).to_dict())
    return folder


def test_bundle_manifest(tmp_path):
    write_bundle(tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["files"][0]["parity"] = {"verdict": "fail", "reasons": ["r"], "images": 3}
    document["files"][0]["builder"] = {"source": "a.onnx", "package": "tensorrt", "warnings": ["w"]}
    document["files"][0]["requires"] = {
        "ir_version": 9,
        "opset": 19,
        "onnxruntime": ">=1.17",
        "openvino": ">=2024.0",
    }
    path.write_text(json.dumps(document), encoding="utf-8")

    def read() -> None:
        manifest = read_manifest(path.parent)
        for file in manifest.files:
            manifest.judged(file)
            if file.verdict == "fail":
                with pytest.raises(EdgefelError, match="failed its comparison"):
                    manifest.check_verdict(file)

    check(path, read)


def test_model_json(checkpoint, monkeypatch):
    # of a description that can be right only the weights tell
    weights = load_file(checkpoint / "model.safetensors")
    monkeypatch.setattr("edgefel.models.checkpoint._read_weights", lambda folder: weights)
    # a network is built for each that may be right
    check(
        checkpoint / "model.json", lambda: load_checkpoint(checkpoint), (None, -1, 10**30, "x", [[]], [1, 2])
    )


@pytest.mark.parametrize("name", ["last.json", "best.json"])
def test_the_pointers_of_a_run(checkpoint, tmp_path, name):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / name
    path.write_text(json.dumps({"checkpoint": str(checkpoint), "step": 1, "epoch": 0}), encoding="utf-8")
    (tmp_path / "run" / "checkpoints").mkdir()
    for text in ("[]", "null", '{"checkpoint": 5}', "{}", "[" * 200_000):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(EdgefelError, match=name):
            load_checkpoint(tmp_path / "run")
        with pytest.raises(EdgefelError, match=name):
            RunFolder(tmp_path / "run").prune(1)


def test_training_state(checkpoint, tmp_path, monkeypatch):
    run = tmp_path / "run"
    folder = run / "checkpoints" / "step-000001"
    folder.mkdir(parents=True)
    (run / "last.json").write_text(json.dumps({"checkpoint": "checkpoints/step-000001"}))
    state = {"epoch": 0, "epoch_step": 0, "step": 1, "seconds": 1.0, "best": None, "finished": False}
    state |= {"best_epoch": 0, "lowest_loss": None, "since": {}}
    (folder / "training.safetensors").write_bytes(b"")
    (folder / "training.json").write_text(json.dumps(state | {"window": [1.0], "precision": {}}))
    monkeypatch.setattr("edgefel.training.run_folder.load_checkpoint", lambda folder: None)
    monkeypatch.setattr("edgefel.training.run_folder.load_file", lambda file: {})
    check(folder / "training.json", lambda: RunFolder(run).load_last())


def test_calibration_set(tmp_path):
    path = tmp_path / "set.json"
    images = tuple(
        CalibrationImage(f"{label}.png", label, label, "0" * 64, (0, 0, 4, 4)) for label in EXPRESSIONS_7
    )
    chosen = CalibrationSet(
        str(tmp_path),
        EXPRESSIONS_7,
        images,
        1,
        4,
        0,
        get_args(LabelledBy)[0],
        preprocessing=default_preprocessing(112).to_dict(),
    )
    write_calibration_set(path, chosen)
    check(path, lambda: read_calibration_set(path))


def test_result_rows_report_a_line_each(tmp_path):
    timing = dict.fromkeys(("p50", "p90", "p95", "p99", "mean", "min"), 2.0) | {
        "runs": 9,
        "p50_interval": [1.9, 2.1],
    }
    subject = {"model": "arbex", "precision": "fp32", "backend": "onnxruntime", "batch": 1}
    row = make_row("latency", subject, {"latency_ms": timing}, environment()).to_dict()
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(variant) for variant in variants(row)] + [
        "[" * 200_000,
        "9" * 5000,
        '{"a": NaN}',
        "\x00",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    loaded = read_results(path)
    assert len(loaded.rows) + len(loaded.problems) == len(lines)
    assert len(loaded.problems) > len(lines) / 5
    assert all(f"{path}, line " in problem and "\n" not in problem for problem in loaded.problems)
