"""Accuracy as published, and without the judged images that have a copy in another split."""

from __future__ import annotations

from dataclasses import dataclass

from edgefel.data.dataset import SPLITS, ImageDataset
from edgefel.data.inspection.duplicates import Elsewhere, copies_elsewhere
from edgefel.evaluation.groups import Share, wilson
from edgefel.evaluation.metrics import FloatArray, IntArray, Metrics, compute_metrics
from edgefel.progress import SILENT, Progress
from edgefel.tasks.runner import Runner
from edgefel.text import counted

SWITCHED_OFF = "not looked for: switched off"
ALL_SPLITS = "not looked for: all splits are judged together"
NO_OTHER = "none: the data set has no other split"
GIVEN = "not looked for: the images were given, not the data set they are of"


@dataclass(frozen=True)
class WithoutCopies:
    """What is left of the judged images without those that have a copy in another split.

    splits: the others. equal_files, look_alikes: images with an equal file there, and of the rest those with one that
    looks alike (`find_elsewhere`). images: left. as_published: accuracy on all images; accuracy: on those left, by
    what the model predicts, as with_head and without_head are; these are None where no image is left, and with_head
    where there is no head.
    """

    splits: tuple[str, ...]
    equal_files: int
    look_alikes: int
    images: int
    as_published: Share
    accuracy: Share | None
    with_head: Metrics | None
    without_head: Metrics | None

    def lines(self, judged: int) -> list[str]:
        """Accuracy as published and without copies, with counts and 95 % intervals; judged: number of all images."""
        where = " or ".join(self.splits)
        gone = self.equal_files + self.look_alikes
        if not gone:
            return [f"copies: none of {counted(judged, 'image')} has one in {where}"]
        found = (
            f"copies: {gone} of the {counted(judged, 'image')} {'has' if gone == 1 else 'have'} one in {where} "
            f"({self.equal_files} an equal file, {self.look_alikes} one that looks alike)"
        )
        if self.accuracy is None:
            return [f"{found}; without them no image is left"]
        return [
            found,
            f"accuracy as published: {_said(self.as_published)}; without them: {_said(self.accuracy)}",
        ]


def find_copies(
    whole: ImageDataset, split: str, runner: Runner, progress: Progress = SILENT
) -> tuple[tuple[str, ...], Elsewhere] | str:
    """The other splits that hold images, and which images of this one, in its order, have a copy there; or why that
    is not known.

    split: "all" where all are judged together, "given" where `whole` is not a whole data set.
    """
    if split not in SPLITS:
        return GIVEN if split == "given" else ALL_SPLITS
    others = tuple(name for name in SPLITS if name != split and whole.in_split(name).size)
    if not others:
        return NO_OTHER
    progress.start("looking for copies in other splits (--no-copies does not)")
    found = copies_elsewhere(whole, runner=runner, progress=progress.advance)
    return others, found.at(whole.in_split(split))


def judge_without_copies(
    splits: tuple[str, ...],
    found: Elsewhere,
    primary: FloatArray,
    corrected: FloatArray | None,
    targets: IntArray,
) -> WithoutCopies:
    """primary, corrected: [N, C] of the judged images; corrected is None where no head corrects. targets: [N]."""
    left = ~found.any
    final = primary if corrected is None else corrected
    hits = final.argmax(1) == targets

    def judged(probabilities: FloatArray | None) -> Metrics | None:
        if probabilities is None or not left.any():
            return None
        return compute_metrics(probabilities[left], targets[left])

    return WithoutCopies(
        splits=splits,
        equal_files=int(found.equal.sum()),
        look_alikes=int(found.alike.sum()),
        images=int(left.sum()),
        as_published=wilson(int(hits.sum()), len(hits)),
        accuracy=wilson(int(hits[left].sum()), int(left.sum())) if left.any() else None,
        with_head=judged(corrected),
        without_head=judged(primary),
    )


def _said(share: Share) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of {share.images}"
