"""Choice of calibration images: the same number of every class, and few of any one subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.text import counted

DEFAULT_PER_CLASS = 64
DEFAULT_GROUP_CAP = 32


class LabelledSample(Protocol):
    """Metadata of an image that is not opened."""

    @property
    def label(self) -> int: ...
    @property
    def group(self) -> str: ...
    @property
    def split(self) -> str: ...


class LabelledImages(Protocol):
    """A labelled image set: `edgefel.data.dataset.ImageDataset`, or synthetic faces."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def samples(self) -> Sequence[LabelledSample]: ...
    def load(self, index: int) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True)
class SampleChoice:
    """indices: into the data set, classes interleaved. counts: images per label. short: labels that have
    fewer than were asked for."""

    indices: tuple[int, ...]
    counts: dict[str, int]
    short: tuple[str, ...]


def balanced_samples(
    dataset: LabelledImages,
    per_class: int = DEFAULT_PER_CLASS,
    group_cap: int = DEFAULT_GROUP_CAP,
    seed: int = 0,
    *,
    among: Collection[int] | None = None,
) -> SampleChoice:
    """Draws `per_class` images of every class, at most `group_cap` from one group; same seed, same draw.

    Classes take turns, one image each, so that no class uses up a group that a later one needs. A class that
    is too small gives what it has and is listed in `short`. `among` limits the draw to those indices.

    Raises EdgefelError if a count is below 1 or fewer images than classes can be drawn.
    """
    if per_class < 1 or group_cap < 1:
        raise EdgefelError(f"per_class={per_class}, group_cap={group_cap}: both must be at least 1")
    queues = _shuffled_queues(dataset, seed, among)
    taken: Counter[str] = Counter()
    drawn: list[list[int]] = [[] for _ in dataset.labels]
    for turn in range(per_class):
        # every other turn runs backwards, so that the last class is not always the one to find a group full
        order = range(len(queues)) if turn % 2 == 0 else range(len(queues) - 1, -1, -1)
        for label in order:
            index = _next_allowed(queues[label], dataset, taken, group_cap)
            if index is not None:
                drawn[label].append(index)
    counts = {name: len(chosen) for name, chosen in zip(dataset.labels, drawn, strict=True)}
    total = sum(counts.values())
    if total < len(dataset.labels):
        raise EdgefelError(
            f"calibration: {counted(total, 'usable image')} for {counted(len(dataset.labels), 'class', 'classes')}; "
            "give at least one image per class"
        )
    indices = [chosen[i] for i in range(per_class) for chosen in drawn if i < len(chosen)]
    return SampleChoice(tuple(indices), counts, tuple(name for name in counts if counts[name] < per_class))


def unbalanced_samples(
    dataset: LabelledImages,
    count: int,
    group_cap: int = DEFAULT_GROUP_CAP,
    seed: int = 0,
    *,
    among: Collection[int] | None = None,
    one_class: bool = False,
) -> SampleChoice:
    """Draws `count` images whatever their class, at most `group_cap` from one group; same seed, same draw.

    What `balanced_samples` is compared with. one_class: from the most frequent class alone (the first of several
    equally frequent). Raises EdgefelError if a count is below 1 or there are too few.
    """
    if count < 1 or group_cap < 1:
        raise EdgefelError(f"count={count}, group_cap={group_cap}: both must be at least 1")
    indices = sorted(range(len(dataset.samples)) if among is None else set(among))
    pool, of = np.asarray(indices, dtype=np.int64), ""
    if one_class:
        labels = np.asarray([dataset.samples[i].label for i in indices], dtype=np.int64)
        most = int(np.bincount(labels, minlength=len(dataset.labels)).argmax())
        pool, of = pool[labels == most], f" of {dataset.labels[most]}"
    queue = np.random.default_rng(seed).permutation(pool).tolist()
    taken: Counter[str] = Counter()
    chosen: list[int] = []
    while len(chosen) < count:
        index = _next_allowed(queue, dataset, taken, group_cap)
        if index is None:
            raise EdgefelError(
                f"calibration: {counted(len(chosen), 'usable image')}{of} (at most {group_cap} of one subject "
                f"or video), and {count} are wanted; give more data or ask for fewer"
            )
        chosen.append(index)
    found = Counter(dataset.samples[i].label for i in chosen)
    return SampleChoice(tuple(chosen), {name: found[i] for i, name in enumerate(dataset.labels)}, ())


def _shuffled_queues(dataset: LabelledImages, seed: int, among: Collection[int] | None) -> list[list[int]]:
    """Per class, the indices in random order, the next one last."""
    labels = np.fromiter(
        (sample.label for sample in dataset.samples), dtype=np.int64, count=len(dataset.samples)
    )
    allowed = np.ones(len(labels), dtype=bool)
    if among is not None:
        allowed[:] = False
        allowed[list(among)] = True
    rng = np.random.default_rng(seed)
    return [
        [int(i) for i in rng.permutation(np.flatnonzero((labels == label) & allowed))]
        for label in range(len(dataset.labels))
    ]


def _next_allowed(
    queue: list[int], dataset: LabelledImages, taken: Counter[str], group_cap: int
) -> int | None:
    while queue:
        index = queue.pop()
        group = dataset.samples[index].group
        if taken[group] < group_cap:
            taken[group] += 1
            return index
    return None
