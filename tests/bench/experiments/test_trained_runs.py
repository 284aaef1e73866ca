"""What runs came to: from their folders to the document, and its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefel.bench.experiments import trained_runs as bench
from edgefel.data.open import open_dataset
from edgefel.errors import EdgefelError
from edgefel.evaluation.evaluate import evaluate
from edgefel.files.write import write_json
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.training.config import TrainConfig
from edgefel.training.run_folder import RunFolder

METRICS = """epoch,step,seconds,loss,accuracy,val_accuracy,val_macro_f1,val_primary_accuracy
1,20,9.0,2.0,0.2,,,
1,40,20.0,1.5,0.3,0.4,0.25,0.3
2,80,41.5,1.0,0.5,0.6,0.5,0.7
"""


@pytest.fixture(scope="module")
def run(nano_checkpoint, tmp_path_factory) -> Path:
    """The folder of a run whose best checkpoint has random weights."""
    folder = tmp_path_factory.mktemp("runs") / "faces-3"
    known = load_checkpoint(nano_checkpoint)
    config = TrainConfig.from_dict({"model": "arbex-nano", "data": "faces", "seed": 3, "epochs": 2}, "test")
    RunFolder(folder).create(config)
    target = folder / "checkpoints" / "step-000080"
    save_checkpoint(target, known.model, known.labels, known.preprocessing, {"training": {"epoch": 2}})
    write_json(folder / "best.json", {"checkpoint": "checkpoints/step-000080"})
    (folder / "metrics.csv").write_text(METRICS)
    return folder


@pytest.fixture(scope="module")
def document(run, faces_folder) -> dict:
    return json.loads(json.dumps(bench.measure([run], faces_folder, None)))


def test_a_run_is_judged_as_evaluate_judges_it(document, run, faces_folder):
    (found,) = document["runs"]
    expected = evaluate(run, faces_folder)
    assert found["as published"]["accuracy"] == expected.with_head.accuracy
    assert found["as published"]["confusion"] == [list(row) for row in expected.with_head.confusion]
    assert found["without head"]["macro_f1"] == expected.without_head.macro_f1
    assert found["without copies"]["accuracy"] == expected.without_copies.with_head.accuracy
    assert found["images"] == len(open_dataset(faces_folder, "test"))
    identity = [
        found[name] for name in ("run", "model", "seed", "epochs", "precision", "best_epoch", "teacher")
    ]
    assert identity == ["faces-3", "arbex-nano", 3, 2, "32-true", 2, None]
    assert document["command"].endswith(" runs/faces-3 --data FER+")


def test_the_curve_has_a_point_for_each_validation(document):
    (found,) = document["runs"]
    assert [row["epoch"] for row in found["curve"]] == [1, 2]
    assert found["curve"][1] == {
        "epoch": 2,
        "seconds": 41.5,
        "loss": 1.0,
        "accuracy": 0.5,
        "val_accuracy": 0.6,
        "val_primary_accuracy": 0.7,
        "val_macro_f1": 0.5,
    }


def test_without_data_there_are_only_curves(run, document):
    (found,) = bench.measure([run], None, None)["runs"]
    assert found["curve"] == document["runs"][0]["curve"]
    assert "images" not in found


def test_runs_of_earlier_results_come_first_and_are_not_there_twice(run, document, tmp_path):
    earlier = {**document["runs"][0], "run": "faces-2", "seed": 2}
    write_json(tmp_path / "earlier.json", {**document, "runs": [{**earlier, "run": run.name}, earlier]})
    found = bench.measure([run], None, None, tmp_path / "earlier.json")
    assert [one["run"] for one in found["runs"]] == ["faces-2", run.name]
    assert found["runs"][0] == earlier
    assert found["runs"][1]["seed"] == 3
    assert found["command"].endswith(" runs/faces-2 runs/faces-3")


def test_figures(document):
    taught = {**document["runs"][0], "seed": 1, "teacher": "full"}
    axis = bench.curves_figure({"runs": [*document["runs"], taught]}).axes[0]
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["arbex-nano, seed 3", "arbex-nano, taught by full, seed 1"]
    first, second = axis.get_lines()
    assert list(first.get_ydata()) == [40, 60]
    assert first.get_color() != second.get_color()
    axis = bench.confusion_figure(document["runs"][0]).axes[0]
    counts = [int(text.get_text()) for text in axis.texts]
    assert sum(counts) == document["runs"][0]["images"]


def test_what_is_no_run(faces_folder, nano_checkpoint):
    with pytest.raises(EdgefelError, match="not a training run"):
        bench.measure([nano_checkpoint], faces_folder, None)
