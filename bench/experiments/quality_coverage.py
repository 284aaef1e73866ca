"""Accuracy against coverage when faces of low quality are left out: degraded copies of the faces of a data set.

    python -m edgefel.bench.experiments.quality_coverage runs/nano --data fer-plus > docs/results/quality.json

Every face is judged as it is and in each way of DEGRADATIONS. What is kept of the accuracy is counted from that of
guessing the most frequent class, which is what a network does with a face that it cannot read. A threshold is chosen
on the split val: from there on, faces of each quality keep KEPT of the accuracy of faces as they are. What reaches a
threshold is shown for the runtime's default.
With --detector-model, YuNet's file, faces as they are also by their yaw.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edgefel.bench.command import run_bench, versions
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.gate import torch_threads
from edgefel.models.checkpoint import Checkpoint, load_checkpoint
from edgefel.report.figures import new_figure
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.confidence import entropy_confidence
from edgefel.runtime.quality import DEFAULT_LEAST, Quality, face_quality, yaw
from edgefel.runtime.yunet import YuNetDetector
from edgefel.text import counted

KEPT = 0.5
STEP = 0.1  # smaller ones hold too few faces to tell
BATCH = 64
# a face of the data set is one crop, without landmarks
PARTS = ("size", "contrast", "sharpness", "noise", "exposure")

Degrade = Callable[[Image, np.random.Generator], Image]
Floats = NDArray[np.float64]


def _small(side: int, image: Image, rng: np.random.Generator) -> Image:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _blurred(sigma: float, image: Image, rng: np.random.Generator) -> Image:
    """sigma: in 48ths of the side."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * min(image.shape[:2]) / 48), np.uint8)


def _scaled(gain: float, middle: float, noise: float, image: Image, rng: np.random.Generator) -> Image:
    """The distance from `middle` times `gain`, and grey noise."""
    grain = rng.normal(0, noise, image.shape[:2])[..., None] if noise else 0.0
    return np.rint((image - middle) * gain + middle + grain).clip(0, 255).astype(np.uint8)


WHOLE = "as it is"
DEGRADATIONS: dict[str, Degrade] = {
    WHOLE: lambda image, rng: image,
    **{f"{side} pixels": partial(_small, side) for side in (32, 24, 16, 12, 8)},
    **{f"blurred by {sigma:g} of 48 pixels": partial(_blurred, sigma) for sigma in (1, 1.5, 2, 3, 4)},
    **{f"contrast x {gain:g}": partial(_scaled, gain, 128.0, 0.0) for gain in (0.3, 0.15, 0.08, 0.04)},
    **{f"brightness x {gain:g}": partial(_scaled, gain, 0.0, 0.0) for gain in (0.3, 0.15, 0.08, 0.04)},
    **{f"brightness x {gain:g}, burnt": partial(_scaled, gain, 0.0, 0.0) for gain in (1.5, 2.0, 3.0)},
    **{f"noise of {noise:g}": partial(_scaled, 1.0, 0.0, noise) for noise in (10.0, 25.0, 50.0, 80.0)},
    "brightness x 0.15, noise of 5": partial(_scaled, 0.15, 0.0, 5.0),
}


@dataclass(frozen=True)
class Judged:
    """Of N faces in one way: whether the label is right, the network's confidence, and the qualities."""

    right: NDArray[np.bool_]
    confidence: Floats
    qualities: tuple[Quality, ...]

    @property
    def overall(self) -> Floats:
        """The quality of each [N]."""
        return np.array([quality.overall for quality in self.qualities])

    @property
    def product(self) -> Floats:
        """The product of the parts [N]."""
        return np.array([np.prod([getattr(one, part) for part in PARTS]) for one in self.qualities])


def judge(
    checkpoint: Checkpoint, images: Sequence[Image], targets: NDArray[np.int64], degrade: Degrade, seed: int
) -> Judged:
    """Labels degraded copies. targets: by the checkpoint's labels [N]."""
    preprocessing = Preprocessing.from_dict(checkpoint.preprocessing)
    rng = np.random.default_rng(seed)
    copies = [degrade(image, rng) for image in images]
    probabilities = []
    with torch.inference_mode():
        for start in range(0, len(copies), BATCH):
            batch = torch.from_numpy(preprocessing.batch(copies[start : start + BATCH]))
            probabilities.append(checkpoint.model(batch).probabilities.double().numpy())
    shares = np.concatenate(probabilities)
    boxes = [FaceBox(0, 0, min(copy.shape[:2])) for copy in copies]
    size = preprocessing.output_size
    qualities = tuple(face_quality(copy, box, size) for copy, box in zip(copies, boxes, strict=True))
    return Judged(shares.argmax(1) == targets, entropy_confidence(shares), qualities)


def choose(judged: Mapping[str, Judged], guess: float) -> float:
    """The least threshold, a multiple of STEP, from which on the faces of each STEP of quality keep KEPT.

    guess: accuracy of guessing.
    """
    overall, right = _joined(judged, lambda one: one.overall)
    wanted = guess + KEPT * (float(judged[WHOLE].right.mean()) - guess)
    for step in reversed(range(round(1 / STEP))):
        low, high = STEP * step - 1e-9, STEP * (step + 1) - 1e-9
        inside = (overall >= low) & ((overall < high) | (high > 0.99))
        if inside.sum() >= 50 and right[inside].mean() < wanted:
            return round(STEP * (step + 1), 2)
    return 0.0


def curve(scores: Floats, right: NDArray[np.bool_], points: int = 40) -> list[tuple[float, float]]:
    """(coverage, accuracy) of the best by score; faces of equal score are in as their mean."""
    _, group = np.unique(-scores, return_inverse=True)
    mean = np.bincount(group, right) / np.bincount(group)
    hits = np.cumsum(mean[np.sort(group)])
    kept = np.unique(np.linspace(1, len(scores), points).round().astype(int))
    return [(round(float(k / len(scores)), 4), round(float(hits[k - 1] / k), 4)) for k in kept]


def _joined(
    judged: Mapping[str, Judged], score: Callable[[Judged], Floats]
) -> tuple[Floats, NDArray[np.bool_]]:
    ways = judged.values()
    return np.concatenate([score(one) for one in ways]), np.concatenate([one.right for one in ways])


def report(judged: Mapping[str, Judged], guess: float, threshold: float) -> dict[str, Any]:
    """Of one split: rows by way, and curves of accuracy over coverage with all ways together."""
    rows, best = [], float(judged[WHOLE].right.mean())
    for way, one in judged.items():
        accuracy = float(one.right.mean())
        rows.append(
            {
                "way": way,
                "accuracy": round(accuracy, 4),
                "kept": round((accuracy - guess) / (best - guess), 3),
                "confidence": round(float(one.confidence.mean()), 3),
                "quality": round(float(one.overall.mean()), 3),
                "sure": round(float((one.overall >= threshold).mean()), 4),
                "parts": {
                    part: round(float(np.mean([getattr(q, part) for q in one.qualities])), 3)
                    for part in PARTS
                },
            }
        )
    scores = {
        "quality": lambda one: one.overall,
        "product of the parts": lambda one: one.product,
        "confidence": lambda one: one.confidence,
    }
    overall, right = _joined(judged, lambda one: one.overall)
    sure = overall >= threshold
    return {
        "faces": len(judged[WHOLE].right),
        "guess": round(guess, 4),
        "ways": rows,
        "together": {
            "accuracy": round(float(right.mean()), 4),
            "sure": round(float(sure.mean()), 4),
            "accuracy_sure": round(float(right[sure].mean()), 4) if sure.any() else None,
            "accuracy_unsure": round(float(right[~sure].mean()), 4) if not sure.all() else None,
        },
        "curves": {name: curve(*_joined(judged, score)) for name, score in scores.items()},
        "by_quality": _by_quality(overall, right),
    }


def _by_quality(overall: Floats, right: NDArray[np.bool_]) -> list[dict[str, float]]:
    steps = np.minimum((overall / STEP + 1e-9).astype(int), round(1 / STEP) - 1)
    return [
        {
            "from": round(STEP * step, 2),
            "faces": int((steps == step).sum()),
            "accuracy": round(float(right[steps == step].mean()), 4),
        }
        for step in np.unique(steps).tolist()
    ]


def _faces(
    checkpoint: Checkpoint, data: Path, split: str, count: int | None = None, seed: int = 0
) -> tuple[list[Image], NDArray[np.int64]]:
    """Images of a split and their classes by the checkpoint's labels; `count` of them, drawn at random, or all."""
    dataset = open_dataset(data, split)
    if missing := [label for label in dataset.labels if label not in checkpoint.labels]:
        raise EdgefelError(f"{data}: class {missing[0]} is not one of the checkpoint's; give one of its data")
    order = np.array([checkpoint.labels.index(label) for label in dataset.labels])
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:count]
    return [dataset.load(int(index)) for index in drawn], order[dataset.targets()[drawn]]


def judge_split(
    checkpoint: Checkpoint, data: Path, split: str, count: int, seed: int
) -> tuple[dict[str, Judged], float]:
    """Every way on `count` faces of a split, drawn at random, and the accuracy of guessing."""
    images, targets = _faces(checkpoint, data, split, count, seed)
    judged = {}
    for way, degrade in DEGRADATIONS.items():
        judged[way] = judge(checkpoint, images, targets, degrade, seed)
        print(f"\r{split}: {way:40s}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return judged, float(np.bincount(targets).max() / len(targets))


def by_yaw(checkpoint: Checkpoint, data: Path, model: Path) -> list[dict[str, Any]]:
    """Accuracy by yaw of all faces of val and test as they are; None: the detector finds none."""
    detector = YuNetDetector(model, score=0.5)
    steps, right, classes = [], [], []
    for split in ("val", "test"):
        images, targets = _faces(checkpoint, data, split)
        right.append(judge(checkpoint, images, targets, DEGRADATIONS[WHOLE], 0).right)
        classes.append(targets)
        for image in images:
            # as large and with as much around it as the detector knows faces
            large = cv2.resize(image, (192, 192), interpolation=cv2.INTER_CUBIC)
            framed = cv2.copyMakeBorder(large, 64, 64, 64, 64, cv2.BORDER_REPLICATE)
            found = detector(np.asarray(framed, np.uint8))
            turn = abs(yaw(found[0].landmarks)) if found and found[0].landmarks else -1.0
            steps.append(min(int(turn // 10), 6) if turn >= 0 else -1)
    rows, all_steps = [], np.array(steps)
    for step in np.unique(all_steps).tolist():
        here = all_steps == step
        counts = np.bincount(np.concatenate(classes)[here])
        rows.append(
            {
                "yaw": None if step < 0 else 10 * step,
                "faces": int(here.sum()),
                "accuracy": round(float(np.concatenate(right)[here].mean()), 4),
                "guess": round(float(counts.max() / counts.sum()), 4),
            }
        )
    return rows


def document(
    checkpoint: Path, data: Path, images: int, seed: int, detector_model: Path | None
) -> dict[str, Any]:
    """Everything that the result file says."""
    with torch_threads(1):
        loaded = load_checkpoint(checkpoint)
        val, test = (judge_split(loaded, data, split, images, seed) for split in ("val", "test"))
        turned = [] if detector_model is None else by_yaw(loaded, data, detector_model)
    chosen = choose(*val)
    command = "python -m edgefel.bench.experiments.quality_coverage"
    more = "" if detector_model is None else f" --detector-model {detector_model.name}"
    return {
        "bench": "quality",
        "command": f"{command} {checkpoint.name} --data {data.name} --images {images} --seed {seed}{more}",
        "versions": versions(cv2=cv2, numpy=np, torch=torch),
        "checkpoint": loaded.path.name,
        "kept": KEPT,
        "chosen": chosen,
        "default": DEFAULT_LEAST,
        "val": report(*val, DEFAULT_LEAST),
        "test": report(*test, DEFAULT_LEAST),
        "yaw": turned,
    }


def figure(result: Mapping[str, Any]) -> Any:
    """Accuracy over coverage, and over quality, on test."""
    drawn = new_figure(10.5, 4.2)
    left, right = drawn.subplots(1, 2, sharey=True)
    test = result["test"]
    for name, points in test["curves"].items():
        left.plot(
            *zip(*((100 * coverage, 100 * accuracy) for coverage, accuracy in points), strict=True),
            label=name,
        )
    left.set_xlabel("coverage in %")
    left.set_ylabel("accuracy in %")
    left.legend(fontsize=8)
    bars = [(row["from"] + STEP / 2, 100 * row["accuracy"]) for row in test["by_quality"]]
    right.bar(*zip(*bars, strict=True), width=0.9 * STEP)
    right.axvline(result["chosen"], color="black", linestyle=":")
    right.set_xlabel("quality")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    drawn.suptitle(
        f"{counted(test['faces'], 'face')} as they are and degraded in {len(test['ways']) - 1} ways"
    )
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint, or run of edgefel train")
    parser.add_argument("--data", type=Path, required=True, help="data set with the splits val and test")
    parser.add_argument("--images", type=int, default=1000, help="faces of each split [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and the noise [%(default)s]")
    parser.add_argument("--detector-model", type=Path, help="YuNet's ONNX file: adds the accuracy by yaw")
    sys.exit(run_bench(parser, document))
