"""Evaluates a checkpoint on a labelled data set, with and without the reliability head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgefel.data.dataset import ImageDataset, MatchedDataset
from edgefel.data.open import only_split, open_dataset
from edgefel.data.votes import Votes
from edgefel.errors import EdgefelError
from edgefel.evaluation.copies import SWITCHED_OFF, WithoutCopies, find_copies, judge_without_copies
from edgefel.evaluation.coverage import Coverage, compute_coverage
from edgefel.evaluation.groups import GROUP, Attribute, attribute_columns, judge_attribute, read_attributes
from edgefel.evaluation.inference import Outputs
from edgefel.evaluation.metrics import (
    SPREAD_DEFINITION,
    Clustering,
    FloatArray,
    IntArray,
    Metrics,
    ReliabilityBin,
    Spread,
    compute_metrics,
    draw_stratified,
    judge_clusters,
    reliability_bins,
    spread,
)
from edgefel.evaluation.predicting import predict
from edgefel.evaluation.selection import Shown, find_images, rows_of
from edgefel.models.checkpoint import Checkpoint, load_checkpoint
from edgefel.progress import SILENT, Progress
from edgefel.tasks.runner import Runner
from edgefel.tasks.threads import Threads

# images of the papers' table of probabilities
_DRAWN = 60


@dataclass(frozen=True)
class Probabilities:
    """Spread of the class probabilities without and with the reliability head (None where there is none).

    all: of every image. drawn: of 60 images, drawn with the same share of every class, as many as in ARBEx 4.7.1.
    """

    definition: str
    all_without_head: Spread
    all_with_head: Spread | None
    drawn_without_head: Spread
    drawn_with_head: Spread | None


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    labels: the classes that both the model and the data have, in the data's order; all that follows is by them.
    classes: whose they are and what was left out for them; class_notes: the same in words, empty where both have the
    same classes. counts: images per class, in the order of `labels`. skipped: paths of unreadable images, which
    count nowhere. without_head judges the primary distribution, with_head the corrected one; with_head is None
    for a model without a reliability head, where there is nothing to compare. coverage: what abstaining would
    bring, of the distribution that the model predicts with. reliability_*: the bins of the ECE. clustering: of the
    true classes in the embedding and in the logits, None where they cannot be judged. attributes: accuracy by group
    and by what is known of the people, for what the model predicts; not_compared: attributes with nothing to compare.
    votes: of FER+, the file that the labels come from. without_copies: accuracy as published, and without the images
    that have a copy in another split; None where that is not known, and then copies_unknown says why.
    """

    model: str
    checkpoint: str
    dataset: str
    split: str
    labels: tuple[str, ...]
    classes: dict[str, Any]
    class_notes: tuple[str, ...]
    images: int
    counts: tuple[int, ...]
    skipped: tuple[str, ...]
    with_head: Metrics | None
    without_head: Metrics
    coverage: Coverage
    reliability_with_head: tuple[ReliabilityBin, ...] | None
    reliability_without_head: tuple[ReliabilityBin, ...]
    probabilities: Probabilities
    embedding_clustering: Clustering | None
    logits_clustering: Clustering | None
    attributes: tuple[Attribute, ...]
    not_compared: tuple[str, ...]
    votes: Votes | None
    without_copies: WithoutCopies | None
    copies_unknown: str

    @property
    def final(self) -> Metrics:
        """The metrics of what the model predicts: with the head where there is one."""
        return self.with_head or self.without_head

    @property
    def columns(self) -> dict[str, Metrics]:
        """The metrics by what they are of: "without head" and "with head", or "value" where there is no head."""
        if self.with_head is None:
            return {"value": self.without_head}
        return {"without head": self.without_head, "with head": self.with_head}

    @property
    def copies_lines(self) -> list[str]:
        """Accuracy as published and without copies; or why that is not known."""
        if self.without_copies is None:
            return [f"copies in other splits: {self.copies_unknown}"]
        return self.without_copies.lines(self.images)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """The predictions behind an evaluation, for its figures.

    outputs: with embeddings and logits, one row per readable image. targets: [N]. values: per attribute, the value
    of each image [N], "" where none is given. shown: the images that were asked for.
    """

    dataset: ImageDataset
    outputs: Outputs
    targets: IntArray
    values: dict[str, tuple[str, ...]]
    shown: tuple[Shown, ...] = ()


def evaluate(
    checkpoint: str | os.PathLike[str] | Checkpoint,
    dataset: str | os.PathLike[str] | ImageDataset,
    split: str | None = "test",
    **options: Any,
) -> Evaluation:
    """`evaluate_with_evidence`, with its options, without the evidence."""
    return evaluate_with_evidence(checkpoint, dataset, split, **options)[0]


def evaluate_with_evidence(
    checkpoint: str | os.PathLike[str] | Checkpoint,
    dataset: str | os.PathLike[str] | ImageDataset,
    split: str | None = "test",
    *,
    layout: str | None = None,
    by: Sequence[str] | None = None,
    show: Sequence[Path] = (),
    copies: bool = True,
    workers: int = 0,
    runner: Runner | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> tuple[Evaluation, Evidence]:
    """Labels every readable image of a split with the checkpoint's own preprocessing, and counts.

    `split` None takes all images, and is ignored for an opened data set. Classes are matched by name; where one side
    has more of them, images of a class that the model lacks are left out, and the model is judged by its probabilities
    of the common classes (`ImageDataset.matched`).

    layout: see `open_dataset`. by: columns of the data set's CSV to judge groups by; None takes the known ones that are
    there (`groups.KNOWN_COLUMNS`). show: images of the report (`find_images`). copies: whether to look for the images'
    copies in other splits. workers: threads that read. runner: of a cluster, whose machines read and predict instead.

    Returns the evaluation, and what `write_evaluation` needs for all figures. Raises EdgefelError if the checkpoint or
    data cannot be read, if they share too few classes, if no image can be read, or for a column, image or device that
    is not there.
    """
    check_device(device)
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(Path(checkpoint))
    whole = dataset if isinstance(dataset, ImageDataset) else open_dataset(dataset, layout=layout)
    judged = whole if whole is dataset or split is None else only_split(whole, split)
    matched = judged.matched(loaded.labels)
    data = matched.dataset
    columns, asked = attribute_columns(data, by), find_images(data, show)
    predicted, skipped = predict(loaded, data, workers, runner, device, progress)
    outputs, classes, notes = _in_common(matched, predicted)
    rows = outputs.indices
    values = {GROUP: tuple(data.samples[int(index)].group for index in rows)}
    values |= read_attributes(data, columns, rows)
    evidence = Evidence(data, outputs, data.targets()[rows], values, rows_of(outputs, data, asked))
    head = loaded.config.head
    corrects = head is not None and (head.anchors_per_class > 0 or head.attentive)
    corrected = outputs.corrected if corrects else None
    name = "given" if whole is dataset else (split or "all")
    found = find_copies(whole, name, runner or Threads(max(workers, 1)), progress) if copies else SWITCHED_OFF
    rest: WithoutCopies | None = None
    if not isinstance(found, str):
        others, elsewhere = found
        judging = elsewhere.at(matched.kept[rows]), outputs.primary, corrected, evidence.targets
        rest = judge_without_copies(others, *judging)
    evaluation = _judge(
        evidence,
        corrected,
        model=loaded.config.name,
        checkpoint=str(loaded.path),
        split=name,
        classes=classes,
        class_notes=notes,
        skipped=skipped,
        without_copies=rest,
        copies_unknown=found if isinstance(found, str) else "",
    )
    return evaluation, evidence


def check_device(device: torch.device | str) -> None:
    """Raises EdgefelError for a device that torch cannot use here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EdgefelError(f"device {device!r} is not available here ({reason}); try --device cpu") from None


def _in_common(
    matched: MatchedDataset, predicted: Outputs
) -> tuple[Outputs, dict[str, Any], tuple[str, ...]]:
    """The outputs for the common classes, and what was left out for them, as data and in words."""
    match, logits, notes = matched.match, predicted.logits, matched.notes()
    outputs = replace(
        predicted,
        primary=match.restrict(predicted.primary),
        corrected=match.restrict(predicted.corrected),
        logits=None if logits is None else logits[:, list(match.columns)],
    )
    ignored = int((~np.isin(predicted.corrected.argmax(1), match.columns)).sum())
    if ignored:
        said = f"{ignored} of {len(predicted.indices)} predictions were of {', '.join(match.only_model)}"
        notes = (*notes, f"{said}, and gave way to the most probable of the other classes")
    return outputs, {**matched.to_dict(), "predictions_ignored": ignored}, notes


def _judge(evidence: Evidence, corrected: FloatArray | None, **known: Any) -> Evaluation:
    """Counts. corrected: [N, C], None where no head corrects. known: the fields that need no counting."""
    data, outputs, targets = evidence.dataset, evidence.outputs, evidence.targets
    attributes = {
        name: judge_attribute(name, values, outputs.corrected, targets, data.labels)
        for name, values in evidence.values.items()
    }
    drawn = draw_stratified(targets, _DRAWN)
    return Evaluation(
        dataset=str(data.root),
        labels=data.labels,
        images=len(targets),
        counts=tuple(np.bincount(targets, minlength=len(data.labels)).tolist()),
        with_head=None if corrected is None else compute_metrics(corrected, targets),
        without_head=compute_metrics(outputs.primary, targets),
        coverage=compute_coverage(outputs.corrected, targets),
        reliability_with_head=None if corrected is None else reliability_bins(corrected, targets),
        reliability_without_head=reliability_bins(outputs.primary, targets),
        probabilities=Probabilities(
            definition=SPREAD_DEFINITION,
            all_without_head=spread(outputs.primary),
            all_with_head=None if corrected is None else spread(corrected),
            drawn_without_head=spread(outputs.primary[drawn]),
            drawn_with_head=None if corrected is None else spread(corrected[drawn]),
        ),
        embedding_clustering=judge_clusters(outputs.embeddings, targets),
        logits_clustering=judge_clusters(outputs.logits, targets),
        attributes=tuple(found for found in attributes.values() if found is not None),
        not_compared=tuple(name for name, found in attributes.items() if found is None),
        votes=data.votes,
        **known,
    )
