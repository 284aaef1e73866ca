"""What a study says of its runs: in a few words, and as result rows."""

from __future__ import annotations

import json
from pathlib import Path

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import Study, plan
from edgefel.bench.experiments.ablation.study import about, result_rows
from edgefel.bench.experiments.ablation.verdict import judgements


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
