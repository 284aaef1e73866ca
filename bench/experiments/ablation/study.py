"""Runs a study from faces to verdict. An interrupted study goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from edgefel.bench.experiments.ablation import report
from edgefel.bench.experiments.ablation.experiment import Experiment, merged
from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import Study, StudyRun, backbones, plan, pretraining
from edgefel.bench.experiments.ablation.pool import RUN, Slot, run_all
from edgefel.bench.experiments.ablation.verdict import Judgement, Outcome, judgements
from edgefel.bench.results import Row, make_row
from edgefel.data.open import open_dataset
from edgefel.data.synthetic.write import write_faces
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_file, json_text, sole_user, write_json, write_text
from edgefel.models.checkpoint import load_checkpoint, save_part
from edgefel.models.registry import build_model
from edgefel.text import counted
from edgefel.training.run_folder import RunFolder


def experiment_for(name: str, data: Path | None, layout: str | None) -> Experiment:
    """The experiment as it is on rendered faces, on a data set, or on one whose training images have votes."""
    usual = EXPERIMENTS[name]
    if data is None:
        return usual
    if usual.on_votes and open_dataset(data, "train", layout=layout).soft_targets() is not None:
        return usual.on_votes
    return usual.on_data or usual


def run_study(
    study: Study,
    places: Sequence[Slot],
    watch: Callable[[StudyRun, int | None], None],
    rendered: Callable[[int], None],
    train: Callable[[Sequence[StudyRun]], list[tuple[StudyRun, str]]] | None = None,
) -> tuple[Outcome, list[tuple[StudyRun, str]]]:
    """Trains and judges what is missing; writes the files of `write_outcome`, also when it is interrupted.

    watch: see `run_all`. rendered: takes how many faces were drawn since its last call. train: trains the runs of the
    table and returns those that failed, instead of `run_all` at these places. Raises EdgefelError for
    settings that are not valid, data without the splits train and test, and where another process works in the same
    folder.
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
            train = train or partial(run_all, places=places, watch=watch)
            failures = _pretrain(study, places, watch) or train(runs)
        finally:
            outcome = write_outcome(study, judgements(runs))
    return outcome, failures


def _pretrain(
    study: Study, places: Sequence[Slot], watch: Callable[[StudyRun, int | None], None]
) -> list[tuple[StudyRun, str]]:
    """Writes the streams that all runs start from, unless they exist; trains them first, on all cores or a GPU, where
    none are given."""
    folder = study.streams_folder
    if folder is None or all((folder / name).is_dir() for name in backbones(study.model)):
        return []
    if study.streams is not None:
        checkpoint = load_checkpoint(study.streams)
        _check_fits(study, checkpoint.model.state_dict())
    else:
        run = pretraining(study)
        assert run is not None
        whole = replace(places[0], threads=sum(slot.threads for slot in places))
        if failures := run_all([run], [whole], watch):
            return failures
        checkpoint, _, _ = RunFolder(run.folder / RUN).load_last()
    weights = checkpoint.model.state_dict()
    for name in backbones(checkpoint.model.config.name):
        part = {key: value for key, value in weights.items() if key.startswith(f"encoder.{name}.")}
        save_part(folder / name, f"encoder.{name}", part, {"from": "edgefel ablate"})
    return []


def _check_fits(study: Study, weights: Mapping[str, Tensor]) -> None:
    """Raises EdgefelError where the model of a study cannot start from streams of these weights."""
    changes = merged({}, study.encoder_changes).get("model_settings", {})
    with torch.device("meta"):
        own = build_model(study.model, num_classes=2, **changes).state_dict()
    prefixes = tuple(f"encoder.{name}." for name in backbones(study.model))
    for key, value in own.items():
        if key.startswith(prefixes) and (key not in weights or weights[key].shape != value.shape):
            raise EdgefelError(
                f"{study.streams}: its streams do not fit {study.model} ({key}); give one of that size"
            )


def about(study: Study, judged: Sequence[Judgement] = ()) -> str:
    """What was trained on what, in a few words; of FER+ with the file of votes, as the runs' results name it."""
    if study.data is None:
        return f"{study.model} on {study.faces[0].count} synthetic faces"
    votes = sorted({f"votes of {file}" for _, result in judged if (file := result.get("votes"))})
    return ", ".join((f"{study.model} on {study.data.name}", *votes))


def write_outcome(study: Study, judged: Sequence[Judgement]) -> Outcome:
    """rows.jsonl, table.md, verdict.json, plot.png in FOLDER/EXPERIMENT, each atomically; none without results."""
    outcome = Outcome.of(study.experiment, ((run.variant, run.seed, result) for run, result in judged))
    if not judged:
        return outcome
    folder = study.folder / study.experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{json_text(row.to_dict())}\n" for row in result_rows(study, judged)]
    write_text(folder / "rows.jsonl", "".join(lines))
    write_text(folder / "table.md", report.markdown(outcome, f"Here: {about(study, judged)}."))
    write_json(folder / "verdict.json", report.to_dict(outcome))
    with atomic_file(folder / "plot.png") as temporary:
        report.figure(outcome, about(study, judged)).savefig(temporary, dpi=120, format="png")
    return outcome


def result_rows(study: Study, judged: Sequence[Judgement]) -> list[Row]:
    """A row of kind "ablation" for each run with a result, on the machine that it ran on."""
    rows = []
    for run, result in judged:
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
        scores = {} if result["diverged"] else {"primary": result["primary"], **result["corrected"]}
        notes = ["diverged: weights or outputs are not finite"] if result["diverged"] else []
        if result.get("stopped_early"):
            notes.append(f"stopped early, after {counted(result['epochs'], 'epoch')}; its best checkpoint")
        if result.get("skipped"):
            notes.append(counted(result["skipped"], "unreadable image"))
        if result.get("votes"):
            notes.append(f"votes of {result['votes']}")
        rows.append(make_row("ablation", subject, {**scores, **measured}, result["environment"], notes))
    return rows
