"""Judges a checkpoint on a labelled data set, with and without the reliability head."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgefel.data.dataset import SPLITS, ImageDataset
from edgefel.data.inspection.duplicates import Elsewhere
from edgefel.data.labels import LabelMatch
from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import only_split, open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.votes import Votes
from edgefel.errors import EdgefelError
from edgefel.evaluation.attributes import attribute_columns, read_attributes
from edgefel.evaluation.clustering import Clustering, draw_stratified, judge_clusters
from edgefel.evaluation.copies import (
    ALL_SPLITS,
    GIVEN,
    SWITCHED_OFF,
    WithoutCopies,
    judge_without_copies,
    look_for_copies,
    other_splits,
)
from edgefel.evaluation.coverage import Coverage, compute_coverage
from edgefel.evaluation.groups import GROUP, Attribute, judge_attribute
from edgefel.evaluation.inference import Outputs, run_model
from edgefel.evaluation.metrics import (
    FloatArray,
    IntArray,
    Metrics,
    ReliabilityBin,
    compute_metrics,
    reliability_bins,
)
from edgefel.evaluation.stability import DEFINITION, Spread, spread
from edgefel.models.checkpoint import Checkpoint, load_checkpoint
from edgefel.models.network import FacialExpressionModel
from edgefel.text import counted

_BATCH = 64
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Evidence:
    """What an evaluation was made of, for its figures.

    outputs: with embeddings and logits, one row per readable image. targets: [N]. values: per attribute, the value
    of each image [N], "" where none is given. copies: which images of the data set have a copy in another split, of
    `splits`; or why that is not known.
    """

    dataset: ImageDataset
    outputs: Outputs
    targets: IntArray
    values: dict[str, tuple[str, ...]]
    copies: Elsewhere | str
    splits: tuple[str, ...]


def evaluate(
    checkpoint: str | os.PathLike[str] | Checkpoint,
    dataset: str | os.PathLike[str] | ImageDataset,
    split: str | None = "test",
    *,
    copies: bool = True,
    workers: int = 0,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Labels every readable image of a split with the checkpoint's own preprocessing, and counts.

    `split` None takes all images, and is ignored for an opened data set. copies: whether to look for the images'
    copies in other splits. `advance` is told how many images are done. Classes are matched by name; where one side
    has more of them, images of a class that the model lacks are left out, and the model is judged by its
    probabilities of the common classes (`ImageDataset.matched`). Raises EdgefelError if the checkpoint or data cannot
    be read, if they share too few classes, or if no image can be read.
    """
    return evaluate_with_evidence(
        checkpoint, dataset, split, copies=copies, workers=workers, device=device, advance=advance
    )[0]


def evaluate_with_evidence(
    checkpoint: str | os.PathLike[str] | Checkpoint,
    dataset: str | os.PathLike[str] | ImageDataset,
    split: str | None = "test",
    *,
    layout: str | None = None,
    by: Sequence[str] | None = None,
    copies: bool = True,
    workers: int = 0,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda count: None,
    compared: Callable[[int], None] = lambda count: None,
) -> tuple[Evaluation, Evidence]:
    """`evaluate`, and what `write_evaluation` needs for all figures.

    layout: see `open_dataset`. by: columns of the data set's CSV to judge groups by; None takes the known ones that are
    there (`attributes.KNOWN_COLUMNS`). copies: whether to look for the images' copies in other splits; `compared` is
    told how many images of all splits are done with. Raises EdgefelError for a column that is not there, too.
    """
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(Path(checkpoint))
    whole = dataset if isinstance(dataset, ImageDataset) else open_dataset(dataset, layout=layout)
    matched = (whole if whole is dataset or split is None else only_split(whole, split)).matched(
        loaded.labels
    )
    data = matched.dataset
    columns = attribute_columns(data, by)
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    source = ImageSource(data, preprocessing, workers=workers, cache_mb=0)
    outputs = run_model(
        loaded.model.to(device),
        source.readable(range(len(data)), _BATCH),
        preprocessing,
        len(loaded.labels),
        device,
        advance,
        features=True,
    )
    skipped = tuple(str(data.samples[index].path) for index in sorted(source.skipped))
    if len(outputs.indices) == 0:
        raise EdgefelError(
            f"{data.root}: none of the {counted(len(data), 'image')} can be read, e.g. {skipped[0]}; repair the files"
        )
    if not (np.isfinite(outputs.corrected).all() and np.isfinite(outputs.primary).all()):
        raise EdgefelError(
            f"{loaded.path}: its outputs are not finite, so its weights are damaged or training diverged; "
            "take an earlier checkpoint"
        )
    values = {GROUP: tuple(data.samples[int(index)].group for index in outputs.indices)}
    values |= read_attributes(data, columns, outputs.indices)
    name = "given" if isinstance(dataset, ImageDataset) else (split or "all")
    found: Elsewhere | str = SWITCHED_OFF
    if copies and name in SPLITS:
        found = look_for_copies(whole, name, max(workers, 1), compared)
    elif copies:
        found = GIVEN if name == "given" else ALL_SPLITS
    if isinstance(found, Elsewhere):
        found = Elsewhere(found.equal[matched.kept], found.alike[matched.kept])
    restricted = _restricted(outputs, matched.match)
    targets = data.targets()[outputs.indices]
    evidence = Evidence(data, restricted, targets, values, found, other_splits(whole, name))
    ignored = _ignored_predictions(outputs, matched.match)
    classes = {**matched.to_dict(), "predictions_ignored": ignored}
    notes = list(matched.notes())
    if ignored:
        notes.append(
            f"{ignored} of {len(outputs.indices)} predictions were of {', '.join(matched.match.only_model)}, and gave "
            "way to the most probable of the other classes"
        )
    return _judge(loaded, name, evidence, skipped, classes, tuple(notes)), evidence


def _ignored_predictions(outputs: Outputs, match: LabelMatch) -> int:
    """How many images the model would give a class that the data lacks."""
    return int((~np.isin(outputs.corrected.argmax(1), match.columns)).sum())


def _restricted(outputs: Outputs, match: LabelMatch) -> Outputs:
    """What the model says of the common classes."""
    logits = outputs.logits
    return replace(
        outputs,
        primary=match.restrict(outputs.primary),
        corrected=match.restrict(outputs.corrected),
        logits=None if logits is None else logits[:, list(match.columns)],
    )


def has_reliability_head(model: FacialExpressionModel) -> bool:
    """Whether anything corrects the primary distribution."""
    config = model.config.head
    return config is not None and (config.anchors_per_class > 0 or config.attentive)


def _judge(
    checkpoint: Checkpoint,
    split: str,
    evidence: Evidence,
    skipped: tuple[str, ...],
    classes: dict[str, Any],
    notes: tuple[str, ...],
) -> Evaluation:
    outputs, targets, labels = evidence.outputs, evidence.targets, evidence.dataset.labels
    corrected = outputs.corrected if has_reliability_head(checkpoint.model) else None
    counts = np.bincount(targets, minlength=len(labels))
    judged = {
        name: judge_attribute(name, values, outputs.corrected, targets, labels)
        for name, values in evidence.values.items()
    }
    return Evaluation(
        model=checkpoint.config.name,
        checkpoint=str(checkpoint.path),
        dataset=str(evidence.dataset.root),
        split=split,
        labels=labels,
        classes=classes,
        class_notes=notes,
        images=len(targets),
        counts=tuple(int(count) for count in counts),
        skipped=skipped,
        with_head=None if corrected is None else compute_metrics(corrected, targets),
        without_head=compute_metrics(outputs.primary, targets),
        coverage=compute_coverage(outputs.corrected, targets),
        reliability_with_head=None if corrected is None else reliability_bins(corrected, targets),
        reliability_without_head=reliability_bins(outputs.primary, targets),
        probabilities=_probabilities(outputs.primary, corrected, targets),
        embedding_clustering=_clustering(outputs.embeddings, targets),
        logits_clustering=_clustering(outputs.logits, targets),
        attributes=tuple(found for found in judged.values() if found is not None),
        not_compared=tuple(name for name, found in judged.items() if found is None),
        votes=evidence.dataset.votes,
        without_copies=None
        if isinstance(evidence.copies, str)
        else judge_without_copies(
            evidence.splits, evidence.copies, outputs.indices, outputs.primary, corrected, targets
        ),
        copies_unknown=evidence.copies if isinstance(evidence.copies, str) else "",
    )


def _clustering(features: FloatArray | None, targets: IntArray) -> Clustering | None:
    return None if features is None else judge_clusters(features, targets)


def _probabilities(primary: FloatArray, corrected: FloatArray | None, targets: IntArray) -> Probabilities:
    drawn = draw_stratified(targets, _DRAWN)
    return Probabilities(
        definition=DEFINITION,
        all_without_head=spread(primary),
        all_with_head=None if corrected is None else spread(corrected),
        drawn_without_head=spread(primary[drawn]),
        drawn_with_head=None if corrected is None else spread(corrected[drawn]),
    )
