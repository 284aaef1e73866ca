"""Runs a study from faces to verdict: what is done stays done, whatever ends it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgefel.bench.ablation import table
from edgefel.bench.ablation.plan import Run, Study, plan, pretraining
from edgefel.bench.ablation.plot import figure
from edgefel.bench.ablation.pool import Failure, Slot, Watcher, run_all, together
from edgefel.bench.ablation.verdict import Outcome, read_result
from edgefel.bench.ablation.worker import RUN
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

    `rendered` is told how many faces are newly drawn. Raises EdgefelError for settings and data that cannot be used,
    and where another process works in the same folder.
    """
    runs = plan(study)
    check_data(study)
    busy = f"{study.folder}: another edgefel ablate works here; wait for it, or choose another folder with -o"
    with sole_user(study.folder, busy):
        render_faces(study, len(places), rendered)
        try:
            failures = _pretrain(study, places, watcher)
            if not failures:
                failures = run_all(runs, places, watcher)
        finally:
            outcome = Outcome.read(study.experiment, runs)
            write_outcome(study, outcome, runs)
    return outcome, failures


def _pretrain(study: Study, places: Sequence[Slot], watcher: Watcher) -> list[Failure]:
    """Trains the streams that all runs start from, unless they are there: alone, on everything that there is."""
    run = pretraining(study)
    if run is None or all(path.is_dir() for path in run.streams):
        return []
    if failures := run_all([run], [together(places)], watcher):
        return failures
    checkpoint, _, _ = RunFolder(run.folder / RUN).load_last()
    for path in run.streams:
        weights = checkpoint.model.state_dict()
        prefix = f"encoder.{path.name}."
        part = {name: value for name, value in weights.items() if name.startswith(prefix)}
        save_part(path, prefix.rstrip("."), part, {"from": "edgefel ablate"})
    return []


def check_data(study: Study) -> None:
    """Raises EdgefelError unless given data have the splits train and test."""
    if study.data is not None:
        for split in ("train", "test"):
            open_dataset(study.data, split, layout=study.layout)


def render_faces(study: Study, workers: int, rendered: Callable[[int], None]) -> None:
    """The recipe's faces, unless they are there."""
    for faces in (*study.faces, study.others):
        if faces is not None and not study.faces_folder(faces).exists():
            folder = study.faces_folder(faces)
            write_faces(folder, faces, image_format="jpg", workers=workers, progress=rendered)


def about(study: Study, runs: Sequence[Run] = ()) -> str:
    """What was trained on what, in a few words; of FER+ with the file of votes, as the runs' results name it."""
    if study.data is not None:
        voted = (_votes(read_json(run.result)) for run in runs if run.result.is_file())
        return ", ".join(filter(None, (f"{study.model} on {study.data.name}", *sorted(set(voted)))))
    return f"{study.model} on {study.faces[0].count} synthetic faces"


def write_outcome(study: Study, outcome: Outcome, runs: Sequence[Run]) -> None:
    """FILES, each atomically; nothing where there are no results."""
    if not outcome.variants:
        return
    folder = study.folder / study.experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row.to_dict() for row in result_rows(study, runs)]
    write_text(folder / "rows.jsonl", "".join(_line(line) for line in lines))
    write_text(folder / "table.md", table.markdown(outcome, f"Here: {about(study, runs)}."))
    write_json(folder / "verdict.json", table.to_dict(outcome))
    with atomic_file(folder / "plot.png") as temporary:
        figure(outcome, about(study, runs)).savefig(temporary, dpi=120, format="png")


def _votes(result: Mapping[str, Any]) -> str:
    return f"votes of {result['votes']}" if result.get("votes") else ""


def _line(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def result_rows(study: Study, runs: Sequence[Run]) -> list[Row]:
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
        measured = {
            name: value
            for name, value in result.items()
            if name not in ("environment", "corrected", "primary", "skipped", "votes")
        }
        judged = {} if result["diverged"] else {"primary": result["primary"], **result["corrected"]}
        notes = ["diverged: weights or outputs are not finite"] if result["diverged"] else []
        if result.get("skipped"):
            notes.append(f"{counted(result['skipped'], 'unreadable image')}")
        if result.get("votes"):
            notes.append(_votes(result))
        row = make_row("ablation", subject, {**judged, **measured}, result["environment"], notes)
        rows.append(row)
    return rows
