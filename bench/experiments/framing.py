"""Whether the same face gets the same label whatever found it, and whether turned faces are brought level.

    python -m edgefel.bench.experiments.framing BUNDLE fer-plus --yunet yunet.onnx > docs/results/framing.json

Images of the split test are pasted, enlarged, into a grey canvas, where both detectors look for them. The labels of
those that both find are compared with those of the images given as crops, with and without the bundle's framing. Then
the canvases are turned about their middle, and what YuNet says of the roll is compared with the truth: the face's own,
as read when it stands upright, and the degrees of the turn. All of it runs in one process, alternately.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.bench.command import run_bench, versions
from edgefel.data.dataset import ImageDataset
from edgefel.data.open import open_dataset
from edgefel.errors import EdgefelError
from edgefel.evaluation.metrics import compute_metrics
from edgefel.runtime.alignment import FaceBox, align
from edgefel.runtime.eyes import roll
from edgefel.runtime.faces import FaceDetector, HaarDetector
from edgefel.runtime.levelling import LevelDetector
from edgefel.runtime.session import Session
from edgefel.runtime.yunet import YuNetDetector

Pixels = NDArray[np.uint8]
SIDE, MARGIN, GREY = 192, 96, 128  # pixels of a face and of its canvas
DEGREES = (0, 10, 20, 30, 40, 50, 60)
TURNED_SIDES, OWN_SIDE = (110, 200), 240


def canvas(face: Pixels, side: int = SIDE, margin: int = MARGIN) -> Pixels:
    """A face of this side in the middle of a grey square."""
    resized = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(
        cv2.copyMakeBorder(resized, *(margin,) * 4, cv2.BORDER_CONSTANT, value=(GREY,) * 3), np.uint8
    )


def turned(image: Pixels, degrees: float) -> Pixels:
    """The image turned clockwise about its middle."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def central(found: Iterable[FaceBox], image: Pixels, side: int) -> FaceBox | None:
    """The face in the middle of a canvas, of about this side."""
    middle = (image.shape[1] / 2, image.shape[0] / 2)
    near = [
        box
        for box in found
        if math.dist(box.centre, middle) < 0.4 * side and 0.5 * side < box.side < 1.6 * side
    ]
    return min(near, key=lambda box: math.dist(box.centre, middle), default=None)


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> dict[str, float]:
    """Of two sets of distributions [N, C]: the share of equal labels, and total variation distances."""
    distances = np.abs(first - second).sum(axis=1) / 2
    return {
        "same_label": round(float((first.argmax(1) == second.argmax(1)).mean()), 4),
        "distance_mean": round(float(distances.mean()), 4),
        "distance_p90": round(float(np.percentile(distances, 90)), 4),
    }


def compare(
    session: Session,
    faces: Sequence[Pixels],
    detectors: dict[str, FaceDetector],
    targets: NDArray[np.int64],
    both: Session | None = None,
) -> dict[str, Any]:
    """Agreement of crops, Haar and YuNet, without framing ("before") and with it ("after"), over the faces that both
    find; with it also by `both` ("mirrored"), a session of the same file that averages mirror images."""
    framing, size = session.manifest.framing, session.manifest.preprocessing.resize
    boxes: dict[str, list[list[FaceBox | None]]] = {"before": [], "after": []}
    canvases = [canvas(face) for face in faces]
    for image in canvases:
        for when, rows in boxes.items():
            used = [one if when == "before" else LevelDetector(one) for one in detectors.values()]
            rows.append([central(detector(image), image, SIDE) for detector in used])
    kept = [i for i in range(len(faces)) if all(None not in rows[i] for rows in boxes.values())]
    truth = targets[kept]
    document: dict[str, Any] = {"images": len(faces), "faces": len(kept), "accuracy": {}}
    ways = {"before": (session, boxes["before"], None), "after": (session, boxes["after"], framing)}
    if both is not None:
        ways["mirrored"] = (both, boxes["after"], framing)
    for when, (network, rows, framed) in ways.items():
        shown = {"crop": network([faces[i] for i in kept]).probabilities}
        for column, name in enumerate(detectors):
            crops = [
                align(canvases[i], box, size, framed) for i in kept if (box := rows[i][column]) is not None
            ]
            shown[name] = network(crops).probabilities
        for name, values in shown.items():
            document["accuracy"][f"{name}, {when}"] = round(float((values.argmax(1) == truth).mean()), 4)
        first, second = detectors
        pairs = {(first, "crop"), (second, "crop"), (first, second)}
        document[when] = {f"{a} and {b}": agreement(shown[a], shown[b]) for a, b in sorted(pairs)}
        labels = np.stack([values.argmax(1) for values in shown.values()])
        document[when]["all three"] = round(float((labels == labels[0]).all(axis=0).mean()), 4)
    return document


def judge(session: Session, dataset: ImageDataset) -> dict[str, float]:
    """Accuracy and macro F1 on the crops of a split."""
    wanted = dataset.reordered(session.labels)
    parts = (range(start, min(start + 64, len(wanted))) for start in range(0, len(wanted), 64))
    shown = np.concatenate([session([wanted.load(i) for i in part]).probabilities for part in parts])
    metrics = compute_metrics(shown, wanted.targets())
    return {"accuracy": round(metrics.accuracy, 4), "macro_f1": round(metrics.macro_f1, 4)}


def turn(
    faces: Sequence[Pixels], detector: FaceDetector, session: Session, side: int
) -> list[dict[str, Any]]:
    """By degrees: faces found, rest of the roll, labels equal to the given crop's, milliseconds; before and after."""
    level, haar = LevelDetector(detector, copies=True), HaarDetector(0.2)
    framing, size = session.manifest.framing, session.manifest.preprocessing.resize
    known = []
    for face in faces:
        large = canvas(
            face, OWN_SIDE, OWN_SIDE * 3 // 4
        )  # landmarks of smaller faces do not tell their own roll
        upright = central(detector(large), large, OWN_SIDE)
        if upright is not None and upright.eyes is not None and abs(roll(upright.eyes)) < 10:
            known.append((canvas(face, side, side * 3 // 4), roll(upright.eyes), face))
    labels = session([face for _, _, face in known]).probabilities.argmax(1)
    rows = []
    for degrees in DEGREES:
        rest: dict[str, list[float]] = {"before": [], "after": []}
        same: dict[str, list[bool]] = {"before": [], "after": []}
        took: dict[str, list[float]] = {"before": [], "after": []}
        by_haar = 0
        for (image, own, _), label in zip(known, labels.tolist(), strict=True):
            for way in (1, -1) if degrees else (1,):
                view = turned(image, way * degrees)
                by_haar += central(haar(view), view, side) is not None
                for when, used in (("before", detector), ("after", level)):
                    began = time.perf_counter()
                    box = central(used(view), view, side)
                    took[when].append(time.perf_counter() - began)
                    if box is None or box.landmarks is None:
                        continue
                    rest[when].append(abs(roll((box.landmarks[0], box.landmarks[1])) - own - way * degrees))
                    crop = align(view, box, size, framing if when == "after" else None)
                    same[when].append(int(session([crop]).probabilities.argmax()) == label)
        row: dict[str, Any] = {
            "degrees": degrees,
            "side": side,
            "shown": len(took["before"]),
            "haar": by_haar,
        }
        for when in rest:
            row[when] = {
                "found": len(rest[when]),
                "rest_median": round(float(np.median(rest[when])), 1) if rest[when] else None,
                "rest_p90": round(float(np.percentile(rest[when], 90)), 1) if rest[when] else None,
                "same_label": round(float(np.mean(same[when])), 4) if same[when] else None,
                "ms": round(1e3 * float(np.median(took[when])), 2),
            }
        rows.append(row)
    return rows


def measure(bundle: str, data: str, yunet: str, faces: int, turned: int) -> dict[str, Any]:
    """The document of the results."""
    cv2.setNumThreads(1)
    dataset = open_dataset(data, "test")
    chosen = np.random.default_rng(0).permutation(len(dataset))[:faces]
    images = [dataset.load(int(index)) for index in chosen]
    detector = YuNetDetector(yunet)
    with Session.open(bundle, threads=1) as session, Session.open(bundle, threads=1, mirror=True) as both:
        if session.manifest.framing is None:
            raise EdgefelError(f"{bundle}: has no framing; train and export again")
        targets = dataset.reordered(session.labels).targets()[chosen]
        detectors: dict[str, FaceDetector] = {"haar": HaarDetector(0.3), "yunet": detector}
        compared = compare(session, images, detectors, targets, both)
        rows = [row for side in TURNED_SIDES for row in turn(images[:turned], detector, session, side)]
        return {
            "command": shlex.join(["python", "-m", "edgefel.bench.experiments.framing", *sys.argv[1:]]),
            "versions": versions(numpy=np) | {"opencv": cv2.__version__},
            "framing": session.manifest.framing.to_dict(),
            "agreement": compared,
            "test": {
                "images": len(dataset),
                "plain": judge(session, dataset),
                "mirrored": judge(both, dataset),
            },
            "turned": rows,
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("data")
    parser.add_argument("--yunet", required=True, help="YuNet's ONNX file")
    parser.add_argument("--faces", type=int, default=280, help="images to compare labels of [%(default)s]")
    parser.add_argument("--turned", type=int, default=40, help="images to turn [%(default)s]")
    sys.exit(run_bench(parser, measure))
