"""Metrics of a classifier: accuracy, macro F1, recall, calibration, confusion matrix, spread of probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.errors import EdgefelError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Metrics:
    """Metrics of one set of predictions.

    accuracy: share of correct labels. macro_f1: mean F1 of the classes that occur in the data.
    recall: per class, None where the class does not occur. ece: see `expected_calibration_error`.
    confusion: [C][C] counts, true class by row, predicted by column.
    """

    accuracy: float
    macro_f1: float
    recall: tuple[float | None, ...]
    ece: float
    confusion: tuple[tuple[int, ...], ...]


def compute_metrics(probabilities: FloatArray, targets: IntArray) -> Metrics:
    """Metrics of `probabilities` [N, C] (rows sum to 1) against class indices `targets` [N].

    Raises EdgefelError for no images, and ValueError for shapes that do not fit.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

    if len(targets) == 0:
        raise EdgefelError("no images to evaluate: the split is empty or none of them can be read")
    if probabilities.ndim != 2 or len(probabilities) != len(targets):
        raise ValueError(f"probabilities {probabilities.shape} do not fit {len(targets)} targets")
    predicted = probabilities.argmax(1)
    classes = range(probabilities.shape[1])
    occurring = [c for c in classes if (targets == c).any()]
    recall = recall_score(targets, predicted, labels=list(classes), average=None, zero_division=0)
    confusion = confusion_matrix(targets, predicted, labels=list(classes))
    return Metrics(
        accuracy=float(accuracy_score(targets, predicted)),
        macro_f1=float(f1_score(targets, predicted, labels=occurring, average="macro", zero_division=0)),
        recall=tuple(float(recall[c]) if c in occurring else None for c in classes),
        ece=expected_calibration_error(probabilities, targets),
        confusion=tuple(map(tuple, confusion.tolist())),
    )


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose top probability lies in (low, high].

    confidence: mean top probability; accuracy: share of correct labels. Both None in an empty bin.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


def reliability_bins(
    probabilities: FloatArray, targets: IntArray, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """The bars of a reliability diagram: equal-width bins of the top probability of `probabilities` [N, C].

    Bin b holds ((b-1)/bins, b/bins] (Guo et al. 2017, arXiv 1706.04599, section 2; 15 bins as there).
    """
    top = probabilities.max(1).astype(np.float64)
    correct = (probabilities.argmax(1) == targets).astype(np.float64)
    index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sure = np.bincount(index, weights=top, minlength=bins)
    right = np.bincount(index, weights=correct, minlength=bins)
    found = []
    for b, count in enumerate(counts):
        means = (float(sure[b] / count), float(right[b] / count)) if count else (None, None)
        found.append(ReliabilityBin(b / bins, (b + 1) / bins, int(count), *means))
    return tuple(found)


def expected_calibration_error(probabilities: FloatArray, targets: IntArray, bins: int = 15) -> float:
    """ECE: `Σ_b |B_b|/N · |accuracy(B_b) - confidence(B_b)|` over the bins of `reliability_bins`.

    Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    return sum(
        part.images / len(targets) * abs(part.accuracy - part.confidence)
        for part in reliability_bins(probabilities, targets, bins)
        if part.accuracy is not None and part.confidence is not None
    )


SPREAD_DEFINITION = (
    "Per image: standard deviation (population), largest and smallest of its class probabilities, averaged over the "
    "images. Pooled: the same of all probabilities of all images at once."
)


@dataclass(frozen=True)
class Spread:
    """Spread of class probabilities. std, highest, lowest: of each image's, then the mean over the images.

    pooled_*: of all probabilities together. The pooled std is the per-image one if the images are alike, and
    never less, for every image has the same mean 1/C.
    """

    images: int
    std: float
    highest: float
    lowest: float
    pooled_std: float
    pooled_highest: float
    pooled_lowest: float


def spread(probabilities: FloatArray) -> Spread:
    """Of `probabilities` [N, C], N at least 1; by SPREAD_DEFINITION, since ARBEx (section 4.7.1) defines none."""
    return Spread(
        images=len(probabilities),
        std=float(probabilities.std(axis=1).mean()),
        highest=float(probabilities.max(axis=1).mean()),
        lowest=float(probabilities.min(axis=1).mean()),
        pooled_std=float(np.std(probabilities)),
        pooled_highest=float(probabilities.max()),
        pooled_lowest=float(probabilities.min()),
    )


@dataclass(frozen=True)
class Clustering:
    """The true classes as clusters. width: dimensions of the space they are judged in.

    davies_bouldin: mean over the classes of the worst ratio of spread to distance; lower is better (Davies & Bouldin
    1979). calinski_harabasz: variance between to variance within, each by its degrees of freedom; higher is better
    (Caliński & Harabasz 1974), and it grows with the number of images. Both with Euclidean distance.
    """

    width: int
    davies_bouldin: float
    calinski_harabasz: float

    def __str__(self) -> str:
        return (
            f"Davies-Bouldin {self.davies_bouldin:.3f} (lower is better), "
            f"Calinski-Harabasz {self.calinski_harabasz:.1f} (higher is better)"
        )


def judge_clusters(features: FloatArray | None, targets: IntArray) -> Clustering | None:
    """Of `features` [N, D] with classes `targets` [N]; None without features, unless 2 classes occur and one of them
    twice, or where the images of each class coincide and the ratios are not finite."""
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

    if features is None or not 2 <= len(np.unique(targets)) < len(targets):
        return None
    scores = [float(score(features, targets)) for score in (davies_bouldin_score, calinski_harabasz_score)]
    return Clustering(features.shape[1], *scores) if np.isfinite(scores).all() else None


def draw_stratified(targets: IntArray, count: int, seed: int = 0) -> NDArray[np.int64]:
    """At most `count` rows of `targets` [N], in order, each class with its share (largest remainders)."""
    if len(targets) <= count:
        return np.arange(len(targets), dtype=np.int64)
    rng = np.random.default_rng(seed)
    classes, sizes = np.unique(targets, return_counts=True)
    exact = sizes * count / len(targets)
    take = np.floor(exact).astype(int)
    take[np.argsort(take - exact, kind="stable")[: count - take.sum()]] += 1
    drawn = [
        rng.choice(np.flatnonzero(targets == number), size, replace=False)
        for number, size in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
