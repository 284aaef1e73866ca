from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.evaluation.evaluate import evaluate, evaluate_with_evidence
from edgefel.evaluation.report import figure_names, write_evaluation
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.models.registry import build_model


def checkpoint(folder: Path, name: str = "arbex-nano", classes: int = 7) -> Path:
    torch.manual_seed(0)
    model = build_model(name, num_classes=classes)
    labels = EXPRESSIONS_7 if classes == 7 else EXPRESSIONS_8
    save_checkpoint(folder, model, labels, default_preprocessing(112).to_dict())
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """21 images of which two cannot be read."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split", "subject"))
        for i in range(21):
            cv2.imwrite(str(root / f"{i}.png"), rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
            writer.writerow((f"{i}.png", EXPRESSIONS_7[i % 7], "test", f"s{i % 3}"))
    (root / "4.png").write_bytes(b"not an image")
    (root / "20.png").unlink()
    return root


@pytest.fixture(scope="module")
def nano(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model") / "nano")


def test_numbers_equal_those_of_the_model_run_by_hand(nano, faces):
    result = evaluate(nano, faces)
    model = load_checkpoint(nano).model
    kept = [i for i in range(21) if i not in (4, 20)]
    images = [cv2.cvtColor(cv2.imread(str(faces / f"{i}.png")), cv2.COLOR_BGR2RGB) for i in kept]
    with torch.no_grad():
        out = model(torch.from_numpy(default_preprocessing(112).batch(images)))
    targets = np.array([i % 7 for i in kept])
    for metrics, probabilities in (
        (result.with_head, out.probabilities),
        (result.without_head, out.primary),
    ):
        predicted = probabilities.argmax(1).numpy()
        assert metrics.accuracy == pytest.approx((predicted == targets).mean())
        expected = np.zeros((7, 7), int)
        np.add.at(expected, (targets, predicted), 1)
        assert np.array_equal(metrics.confusion, expected)
    assert result.final is result.with_head
    assert result.with_head.ece != result.without_head.ece
    assert result.images == sum(result.counts) == 19
    assert [Path(p).name for p in result.skipped] == ["4.png", "20.png"]


def test_a_model_without_the_head_has_one_set_of_numbers(tmp_path, faces):
    result = evaluate(checkpoint(tmp_path / "p", "poster-v2-nano"), faces)
    assert result.with_head is None
    assert result.final is result.without_head


def test_a_model_without_the_classes_of_the_data_is_refused(tmp_path, faces):
    folder = checkpoint(tmp_path / "own", classes=7)
    description = json.loads((folder / "model.json").read_text())
    description["labels"] = ["calm", "fear", "b", "c", "d", "e", "f"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(EdgefelError, match="share fewer than two classes: the model's are calm, fear, b"):
        evaluate(folder, faces)


def test_a_missing_split_and_unreadable_images_only(nano, faces, tmp_path):
    with pytest.raises(EdgefelError, match="no images in the split 'val'"):
        evaluate(nano, faces, "val")
    for name in EXPRESSIONS_7:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    with pytest.raises(EdgefelError, match="none of the 7 images can be read"):
        evaluate(nano, tmp_path, None)


def test_written_files(nano, faces, tmp_path):
    result, evidence = evaluate_with_evidence(nano, faces)
    write_evaluation(tmp_path / "out", result, evidence)
    assert json.loads((tmp_path / "out/evaluation.json").read_text()) == json.loads(
        json.dumps(result.to_dict())
    )
    image = cv2.imread(str(tmp_path / "out/confusion.png"))
    assert image.shape[1] > 1.5 * image.shape[0] > 600
    assert image.std() > 20


def run(checkpoint, data, *arguments: object):
    words = [checkpoint, "--data", data, *arguments]
    return CliRunner().invoke(main, ["evaluate", *map(str, words)])


def test_coverage_is_printed_and_drawn(nano, faces, tmp_path):
    result = run(nano, faces, "--coverage", "--workers", 0, "-o", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "--min-confidence" in result.stdout
    document = json.loads((tmp_path / "report/evaluation.json").read_text())
    thresholds = document["coverage"]["thresholds"]
    assert thresholds[0]["accuracy"] == pytest.approx(document["with_head"]["accuracy"])
    image = cv2.imread(str(tmp_path / "report/coverage.png"))
    assert image.shape[1] > 2 * image.shape[0]
    assert image.std() > 10
    assert "--min-confidence" not in run(nano, faces, "--workers", 0).stdout


def test_command_prints_one_json_document(nano, faces, tmp_path):
    done = run(nano, faces, "--json", "--workers", 0, "-o", tmp_path / "report")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 19
    files = sorted(p.name for p in (tmp_path / "report").iterdir())
    assert files == sorted(["evaluation.json", "report.html", *(f"{name}.png" for name in figure_names())])


def test_command_prints_tables(nano, faces, tmp_path):
    done = run(nano, faces, "--workers", 0)
    assert done.exit_code == 0, done.output
    for text in ("without head", "with head", "macro F1", "ECE", "recall fear", "skipped 2", "4.png"):
        assert text in done.stdout
    done = run(checkpoint(tmp_path / "p", "poster-v2-nano"), faces, "--workers", 0)
    assert "no reliability head" in done.stdout
    assert "with head" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{none}", "{faces}"), "no such checkpoint"),
        (("{nano}", "{none}"), "no such folder"),
        (("{nano}", "{faces}", "--device", "cuda:77"), "is not available here"),
        (("{nano}", "{faces}", "-o", "{faces}"), "the folder is not empty"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(nano, faces, tmp_path, arguments, message):
    places = {"none": tmp_path / "none", "nano": nano, "faces": faces}
    done = run(*(argument.format(**places) for argument in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()
