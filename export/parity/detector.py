"""Whether a detector in fewer bits finds the faces that the FP32 file finds, and where it finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.runtime.yunet import Rows
from edgefel.text import counted

# A face is the same where the boxes overlap by this much, intersection over union
SAME = 0.5


@dataclass(frozen=True)
class DetectorLimits:
    """least_faces: that must have been compared. recall: of the FP32 file's faces. mean_iou: of their boxes. extra:
    most faces that the FP32 file does not find, as a share of those it finds."""

    least_faces: int = 20
    recall: float = 0.99
    mean_iou: float = 0.95
    extra: float = 0.02


@dataclass(frozen=True)
class DetectorParity:
    """Counts over all images. faces: that the FP32 file finds. found: of these. extra: others. mean_iou: of the boxes
    of `found`, intersection over union; 0 without any."""

    images: int
    faces: int
    found: int
    extra: int
    mean_iou: float

    @property
    def recall(self) -> float:
        """Share of the FP32 file's faces that are found; 0 without any."""
        return self.found / self.faces if self.faces else 0.0

    def reasons(self, limits: DetectorLimits) -> tuple[str, ...]:
        """What falls short of the limits, one line each; empty for a pass."""
        if self.faces < limits.least_faces:
            found = counted(self.faces, "face")
            return (f"{found} to compare is too few; give images with {limits.least_faces} or more",)
        said = []
        if self.recall < limits.recall:
            said.append(f"finds {self.recall:.1%} of the faces, below {limits.recall:.1%}")
        if self.mean_iou < limits.mean_iou:
            said.append(f"mean IoU of the boxes is {self.mean_iou:.3f}, below {limits.mean_iou:g}")
        if self.extra > limits.extra * self.faces:
            said.append(f"finds {counted(self.extra, 'face')} more than FP32, above {limits.extra:.0%}")
        return tuple(said)

    def to_dict(self, limits: DetectorLimits) -> dict[str, Any]:
        """Plain JSON values."""
        reasons = self.reasons(limits)
        values = asdict(self) | {"recall": round(self.recall, 4), "mean_iou": round(self.mean_iou, 4)}
        verdict = "fail" if reasons else "pass"
        return values | {"verdict": verdict, "reasons": list(reasons), "limits": asdict(limits)}


def compare_detectors(
    reference: Callable[[Image], Rows], other: Callable[[Image], Rows], images: Iterable[Image]
) -> DetectorParity:
    """Compares the rows (`edgefel.runtime.yunet.decode`) that both find in uint8 RGB images [H, W, 3]."""
    count = faces = extra = 0
    overlaps: list[float] = []
    for image in images:
        known, seen = reference(image), other(image)
        matched = match(known, seen)
        count, faces, extra = count + 1, faces + len(known), extra + len(seen) - len(matched)
        overlaps += matched
    mean = float(np.mean(overlaps)) if overlaps else 0.0
    return DetectorParity(count, faces, len(overlaps), extra, mean)


def match(known: Rows, seen: Rows) -> list[float]:
    """Intersection over union of each known box that is seen again; every seen box counts for one of them."""
    pairs = sorted(
        ((overlap(a, b), i, j) for i, a in enumerate(known) for j, b in enumerate(seen)), reverse=True
    )
    taken: tuple[set[int], set[int]] = set(), set()
    found = []
    for value, i, j in pairs:
        if value >= SAME and i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            found.append(value)
    return found


def overlap(a: Rows, b: Rows) -> float:
    """Intersection over union of two boxes, each x, y, width, height first."""
    across, down = (max(0.0, float(min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k]))) for k in (0, 1))
    common = across * down
    union = float(a[2] * a[3] + b[2] * b[3]) - common
    return common / union if union > 0 else 0.0
