"""The folder of an evaluation; tests/cli/test_evaluate.py opens its page in a browser."""

from __future__ import annotations

import json

import pytest

from edgefel.evaluation.evaluate import evaluate, evaluate_with_evidence
from edgefel.evaluation.report import render, write_evaluation

FIGURES = ("confusion", "distributions", "reliability", "coverage", "embedding", "groups")


def test_the_folder_holds_the_numbers_the_page_and_every_figure(evaluated, nano_checkpoint, faces):
    _, report = evaluated
    files = {path.name for path in report.iterdir()}
    assert files == {"evaluation.json", "report.html", *(f"{name}.png" for name in FIGURES)}
    document = json.loads((report / "evaluation.json").read_text())
    assert document == json.loads(json.dumps(evaluate(nano_checkpoint, faces).to_dict()))
    assert document["coverage"]["thresholds"][0]["accuracy"] == pytest.approx(
        document["with_head"]["accuracy"]
    )


def test_without_images_to_show_the_page_says_so_and_lists_what_was_skipped(headless, faces, tmp_path):
    evaluation, evidence = evaluate_with_evidence(headless, faces)
    write_evaluation(tmp_path / "out", evaluation, evidence, grid=0)
    assert not (tmp_path / "out/distributions.png").exists()
    page = (tmp_path / "out/report.html").read_text()
    assert "No images were to be shown." in page
    assert "skipped: " in page
    assert "The model has no reliability head" in render(evaluation, ())
