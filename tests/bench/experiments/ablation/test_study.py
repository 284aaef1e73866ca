"""What a study says of its runs: in a few words, and as result rows."""

from __future__ import annotations

import json
from pathlib import Path

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import Study, plan
from edgefel.bench.experiments.ablation.study import about, result_rows, write_outcome
from edgefel.bench.experiments.ablation.verdict import judgements
from edgefel.bench.results import read_results


def test_the_file_of_votes_goes_to_every_run_and_into_the_outcome(tmp_path):
    study = Study(
        EXPERIMENTS["head"], tmp_path, data=Path("fer-plus"), layout="fer-plus:label.csv", seeds=(0,)
    )
    runs = plan(study)
    assert {run.config.full_layout for run in runs} == {"fer-plus:label.csv"}
    assert about(study) == f"{study.model} on fer-plus"
    runs[0].folder.mkdir(parents=True)
    result = {"diverged": True, "votes": "label.csv", "environment": {"device": "a CPU"}}
    runs[0].result.write_text(json.dumps(result), encoding="utf-8")
    judged = judgements(runs)
    assert about(study, judged) == f"{study.model} on fer-plus, votes of label.csv"
    (row,) = result_rows(study, judged)
    assert "votes of label.csv" in row.notes


def test_an_outcome_is_written_beside_the_runs_and_none_without_results(tmp_path):
    study = Study(EXPERIMENTS["head"], tmp_path, seeds=(0,))
    write_outcome(study, [])
    assert not list(tmp_path.iterdir())
    run, *_ = plan(study)
    scores = {"accuracy": 0.5, "macro_f1": 0.4, "ece": 0.1}
    result = {
        "diverged": False,
        "corrected": scores,
        "primary": scores,
        "skipped": 2,
        "environment": {"device": "a"},
    }
    outcome = write_outcome(study, [(run, result)])
    assert outcome.mean("none", "accuracy").mean == 0.5
    assert {path.name for path in (tmp_path / "head").iterdir()} == {
        *("rows.jsonl", "table.md", "verdict.json", "plot.png")
    }
    loaded = read_results(tmp_path / "head" / "rows.jsonl")
    assert not loaded.problems
    (row,) = loaded.rows
    assert (row.subject["variant"], row.metrics["accuracy"], row.device) == ("none", 0.5, "a")
    assert row.notes == ("2 unreadable images",)
