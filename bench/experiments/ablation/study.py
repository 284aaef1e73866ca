"""Runs a study from faces to verdict. An interrupted study goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgefel.bench.experiments.ablation import table
from edgefel.bench.experiments.ablation.plan import Study, StudyRun, plan, pretraining
from edgefel.bench.experiments.ablation.plot import figure
from edgefel.bench.experiments.ablation.pool import Failure, Slot, Watcher, run_all, together
from edgefel.bench.experiments.ablation.verdict import Outcome, read_result
from edgefel.bench.experiments.ablation.worker import RUN
from edgefel.bench.results import Row, make_row
from edgefel.data.open import open_dataset
from edgefel.data.synthetic.write import write_faces
from edgefel.files.documents import check_shape, read_json
from edgefel.files.write import atomic_file, sole_user, write_json, write_text
from edgefel.models.checkpoint import save_part
from edgefel.text import counted
from edgefel.training.run_folder import RunFolder

FILES = ("rows.jsonl", "table.md", "verdict.json", "plot.png")


def run_study(
    study: Study,
    places: Sequence[Slot],
    watcher: Watcher,
    rendered: Callable[[int], None] = lambda count: None,
) -> tuple[Outcome, list[Failure]]:
    """Trains and judges what is missing, and writes FILES into FOLDER/EXPERIMENT, also when it is interrupted.

    rendered: told how many faces are newly drawn. Raises EdgefelError for settings that are not valid, data without the
    splits train and test, and where another process works in the same folder.
    """
    runs = plan(study)
    if study.data is not None:
        for split in ("train", "test"):
            open_dataset(study.data, split, layout=study.layout)
    busy = f"{study.folder}: another edgefel ablate works here; wait for it, or choose another folder with -o"
    with sole_user(study.folder, busy):
        for faces in (*study.faces, study.others):
            if faces is not None and not (target := study.faces_folder(faces)).exists():
                write_faces(target, faces, image_format="jpg", workers=len(places), progress=rendered)
        try:
            failures = _pretrain(study, places, watcher) or run_all(runs, places, watcher)
        finally:
            outcome = Outcome.read(study.experiment, runs)
            write_outcome(study, outcome, runs)
    return outcome, failures


def _pretrain(study: Study, places: Sequence[Slot], watcher: Watcher) -> list[Failure]:
    """Trains the streams that all runs start from, unless they exist, on all cores or a GPU."""
    run = pretraining(study)
    if run is None or all(path.is_dir() for path in run.streams):
        return []
    if failures := run_all([run], [together(places)], watcher):
        return failures
    checkpoint, _, _ = RunFolder(run.folder / RUN).load_last()
    for path in run.streams:
        prefix = f"encoder.{path.name}."
        weights = checkpoint.model.state_dict().items()
        part = {name: value for name, value in weights if name.startswith(prefix)}
        save_part(path, prefix.rstrip("."), part, {"from": "edgefel ablate"})
    return []


def about(study: Study, runs: Sequence[StudyRun] = ()) -> str:
    """What was trained on what, in a few words; of FER+ with the file of votes, as the runs' results name it."""
    if study.data is None:
        return f"{study.model} on {study.faces[0].count} synthetic faces"
    votes = {_votes(read_json(run.result)) for run in runs if run.result.is_file()}
    return ", ".join(filter(None, (f"{study.model} on {study.data.name}", *sorted(votes))))


def write_outcome(study: Study, outcome: Outcome, runs: Sequence[StudyRun]) -> None:
    """FILES, each atomically; nothing where there are no results."""
    if not outcome.variants:
        return
    folder = study.folder / study.experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    rows = (row.to_dict() for row in result_rows(study, runs))
    lines = [f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n" for row in rows]
    write_text(folder / "rows.jsonl", "".join(lines))
    write_text(folder / "table.md", table.markdown(outcome, f"Here: {about(study, runs)}."))
    write_json(folder / "verdict.json", table.to_dict(outcome))
    with atomic_file(folder / "plot.png") as temporary:
        figure(outcome, about(study, runs)).savefig(temporary, dpi=120, format="png")


def _votes(result: Mapping[str, Any]) -> str:
    return f"votes of {result['votes']}" if result.get("votes") else ""


def result_rows(study: Study, runs: Sequence[StudyRun]) -> list[Row]:
    """A row of kind "ablation" for each run with a result, on the machine that it ran on."""
    rows = []
    for run in runs:
        if not run.result.is_file():
            continue
        result = check_shape(read_result(run.result), {"environment": dict}, str(run.result))
        subject = {
            "model": run.config.model,
            "experiment": study.experiment.name,
            "variant": run.variant,
            "seed": run.seed,
            "recipe": study.recipe,
            **({"set": dict(study.changes)} if study.changes else {}),
        }
        apart = ("environment", "corrected", "primary", "skipped", "votes")
        measured = {name: value for name, value in result.items() if name not in apart}
        judged = {} if result["diverged"] else {"primary": result["primary"], **result["corrected"]}
        notes = ["diverged: weights or outputs are not finite"] if result["diverged"] else []
        if result.get("skipped"):
            notes.append(counted(result["skipped"], "unreadable image"))
        notes += filter(None, [_votes(result)])
        rows.append(make_row("ablation", subject, {**judged, **measured}, result["environment"], notes))
    return rows
