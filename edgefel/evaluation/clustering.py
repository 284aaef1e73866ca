"""Separation of the classes in the network's features: clustering scores (ARBEx, section 4.7.2) and a t-SNE map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.evaluation.metrics import FloatArray, IntArray

# t-SNE of more takes minutes and shows no more
MOST_MAPPED = 3000
# below it there are no neighbourhoods to keep
LEAST_MAPPED = 10


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


def map_features(features: FloatArray, seed: int = 0) -> NDArray[np.float32]:
    """t-SNE of `features` [N, D] into the plane [N, 2], N at least LEAST_MAPPED, started from the principal axes.

    van der Maaten & Hinton 2008. Distances between groups on the map mean nothing; neighbourhoods do.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    mapper: Any = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(mapper.fit_transform(features), np.float32)
