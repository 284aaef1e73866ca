"""Accuracy as published and without the images that have a copy in another split."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from data.readers.trees_fer_plus import write_disagreeing

from edgefel.cli.main import main
from edgefel.data.inspection.duplicates import Elsewhere
from edgefel.data.open import open_dataset
from edgefel.evaluation.copies import ALL_SPLITS, GIVEN, NO_OTHER, SWITCHED_OFF, judge_without_copies
from edgefel.evaluation.evaluate import evaluate, evaluate_with_evidence
from edgefel.evaluation.report import render

pytestmark = pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning")
LAYOUT = "fer-plus-7"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies") / "fer-plus"
    write_disagreeing(folder)
    return folder


def run(checkpoint, data, *arguments: object):
    words = [checkpoint, "--data", data, *arguments]
    return CliRunner().invoke(main, ["evaluate", *map(str, words)])


@pytest.fixture(scope="module")
def done(nano_checkpoint, faces):
    """Printed text, the evaluation as JSON has it, and the page without its figures."""
    options = ("--layout", LAYOUT, "--votes", "label.csv", "--workers", 0)
    result = run(nano_checkpoint, faces, *options)
    assert result.exit_code == 0, result.output
    evaluation, _ = evaluate_with_evidence(nano_checkpoint, faces, layout=f"{LAYOUT}:label.csv")
    return result.output, json.loads(json.dumps(evaluation.to_dict())), render(evaluation, ())


def test_both_accuracies_are_those_of_the_images(done, nano_checkpoint, faces):
    _, document, _ = done
    found = document["without_copies"]
    assert found["splits"] == ["train", "val"]
    assert (found["equal_files"], found["look_alikes"], found["images"]) == (1, 1, 5)
    data = open_dataset(faces, "test", f"{LAYOUT}:label.csv")
    left = [n for n, s in enumerate(data.samples) if s.path.name not in ("fer0000024.png", "fer0000026.png")]
    all_of_them, rest = evaluate(nano_checkpoint, data), evaluate(nano_checkpoint, data.subset(left))
    assert document["with_head"]["accuracy"] == all_of_them.final.accuracy
    assert found["as_published"]["images"] == all_of_them.images == 7
    assert found["as_published"]["value"] == pytest.approx(all_of_them.final.accuracy)
    assert found["accuracy"]["value"] == pytest.approx(rest.final.accuracy)
    assert found["accuracy"]["low"] < found["accuracy"]["value"] + 1e-9 <= found["accuracy"]["high"] + 1e-9
    assert found["with_head"]["macro_f1"] == pytest.approx(rest.final.macro_f1)
    assert found["without_head"]["accuracy"] == pytest.approx(rest.without_head.accuracy)


def test_text_and_page_say_both_and_name_the_votes(done):
    output, document, page = done
    assert document["votes"]["file"] == "label.csv"
    for text in (output, page):
        assert "votes of label.csv" in text
        assert "2 of the 7 images have one in train or val (1 an equal file, 1 one that looks alike)" in text
        assert "accuracy as published: " in text
        assert "of 7; without them: " in text
        assert "of 5" in text
    assert "accuracy without copies (5)" in output
    assert output.count("warning: ") == 1


def test_what_is_not_looked_for_is_said(nano_checkpoint, faces, tmp_path):
    off, _ = evaluate_with_evidence(nano_checkpoint, faces, "test", layout=LAYOUT, copies=False)
    everything, _ = evaluate_with_evidence(nano_checkpoint, faces, None, layout=LAYOUT)
    given = evaluate(nano_checkpoint, open_dataset(faces, "test", LAYOUT))
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/faces.csv").write_text(
        f"path,label,split\n{faces}/FER2013Test/fer0000024.png,neutral,test\n", encoding="utf-8"
    )
    alone, _ = evaluate_with_evidence(nano_checkpoint, tmp_path / "alone/faces.csv", "test")
    for found, why in ((off, SWITCHED_OFF), (everything, ALL_SPLITS), (given, GIVEN), (alone, NO_OTHER)):
        assert (found.without_copies, found.copies_unknown) == (None, why)
    result = run(nano_checkpoint, faces, "--layout", LAYOUT, "--no-copies", "--workers", 0)
    assert result.exit_code == 0, result.output
    assert f"copies in other splits: {SWITCHED_OFF}" in result.output


def test_nothing_is_judged_where_nothing_is_left():
    targets, probabilities = np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])
    every = Elsewhere(np.array([False, True, True]), np.array([False, False, False]))
    found = judge_without_copies(("train",), every.at(np.array([1, 2])), probabilities, None, targets)
    assert (found.images, found.accuracy, found.with_head, found.without_head) == (0, None, None, None)
    assert (found.as_published.hits, found.as_published.images) == (1, 2)
