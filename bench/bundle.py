"""How fast and how right the files of a bundle are, next to the PyTorch model they came from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.bench.timer import Plan, measure
from edgefel.data.dataset import ImageDataset, UnreadableImageError
from edgefel.data.labels import LabelMatch
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.outputs import torch_threads
from edgefel.runtime.manifest import BundleFile, read_manifest
from edgefel.runtime.session import Session
from edgefel.workers import usable_cores

BATCH = 16
REFERENCE = "PyTorch"


@dataclass(frozen=True)
class FileResult:
    """One line of the comparison; None is what cannot be measured here.

    megabytes: 10^6 bytes. ms_p50: median milliseconds per image at batch 1. accuracy: of the corrected
    probabilities. agreement: share of images with the reference's label. deviation: largest absolute
    difference of a probability from the reference's.
    """

    file: str
    precision: str
    megabytes: float
    ms_p50: float | None = None
    accuracy: float | None = None
    agreement: float | None = None
    deviation: float | None = None
    note: str = ""


@dataclass(frozen=True)
class BundleResult:
    """All lines, the reference first, and what they were measured on. classes: see `MatchedDataset.to_dict`."""

    files: tuple[FileResult, ...]
    classes: dict[str, Any]
    images: int
    skipped: tuple[str, ...]
    threads: int
    timed_runs: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def compare_bundle(
    checkpoint: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    dataset: ImageDataset,
    *,
    threads: int | None = None,
    min_runs: int = 50,
    max_seconds: float = 10.0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> BundleResult:
    """Labels every image of `dataset` with the checkpoint and with each ONNX file of the bundle, then times
    all of them in turn (A B A B) at batch 1.

    threads: CPU threads for each of them; all cores by default. advance: told (images done, images).
    Engines are listed with their size only: running them needs a GPU.
    Classes are matched by name, as `ImageDataset.matched` does; accuracy is by the common ones.
    Raises EdgefelError for a data set without a readable image, or that shares too few classes with the bundle.
    """
    import torch

    from edgefel.models.checkpoint import load_checkpoint

    threads = threads or usable_cores()
    loaded = load_checkpoint(os.fspath(checkpoint))
    manifest = read_manifest(bundle)
    if loaded.labels != manifest.labels:
        raise EdgefelError(
            f"{bundle}: names its outputs {', '.join(manifest.labels)}, the checkpoint {loaded.path} "
            f"{', '.join(loaded.labels)}; give the checkpoint that it was exported from"
        )
    matched = dataset.matched(manifest.labels)
    dataset, match = matched.dataset, matched.match
    onnx_files = [file for file in manifest.files if file.kind == "onnx"]
    for file in onnx_files:
        manifest.verify(file)
    sessions = {
        # a file that the gate refused is measured all the same, and said to be refused
        file.precision: Session.open(bundle, file.precision, "onnxruntime", threads, force=True)
        for file in onnx_files
    }
    reference_preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    probabilities: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in (REFERENCE, *sessions)}
    targets: list[int] = []
    skipped: list[str] = []

    def run_reference(crops: list[Image]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            batch = torch.from_numpy(reference_preprocessing.batch(crops))
            return loaded.model(batch).probabilities.numpy()

    def label(name: str, crops: list[Image]) -> None:
        found = run_reference(crops) if name == REFERENCE else sessions[name](crops).probabilities
        probabilities[name].append(found.astype(np.float64))

    # labelling fills the cores with several runtimes at once; the timing after it has them one by one
    with torch_threads(threads), ThreadPoolExecutor(max(1, usable_cores() // threads)) as pool:
        for labels, crops, done in _batches(dataset, skipped):
            list(pool.map(lambda name, crops=crops: label(name, crops), probabilities))
            targets += labels
            advance(done, len(dataset))
        if not targets:
            raise EdgefelError(f"{dataset.root}: no image can be read, so nothing was compared")
        crop = crops[:1]
        callables: dict[str, Callable[[], Any]] = {REFERENCE: lambda: run_reference(crop)}
        callables |= {name: _bound(session, crop) for name, session in sessions.items()}
        timings = measure(callables, Plan.of(min_runs, max_seconds / len(callables)))
    merged = {name: np.concatenate(parts) for name, parts in probabilities.items()}
    weights = Path(loaded.path) / "model.safetensors"
    reference = FileResult(
        REFERENCE,
        "fp32",
        weights.stat().st_size / 1e6,
        timings[REFERENCE].p50,
        *_scores(merged[REFERENCE], merged[REFERENCE], targets, match),
    )
    rows = [reference]
    for file in manifest.files:
        if file.kind == "onnx":
            scores = _scores(merged[file.precision], merged[REFERENCE], targets, match)
            p50 = timings[file.precision].p50
            note = "refused by the gate" if file.verdict == "fail" else ""
            rows.append(FileResult(file.name, file.precision, file.bytes / 1e6, p50, *scores, note))
        else:
            rows.append(_engine_row(file))
    for session in sessions.values():
        session.close()
    runs = timings[REFERENCE].runs
    return BundleResult(tuple(rows), matched.to_dict(), len(targets), tuple(skipped), threads, runs)


def _engine_row(file: BundleFile) -> FileResult:
    return FileResult(file.name, file.precision, file.bytes / 1e6, note="built; running it needs a GPU")


def _bound(session: Session, crops: list[Image]) -> Callable[[], Any]:
    return lambda: session(crops)


def _batches(dataset: ImageDataset, skipped: list[str]) -> Iterator[tuple[list[int], list[Image], int]]:
    """Labels and crops in batches, and how many images are done; unreadable ones go to `skipped`."""
    labels: list[int] = []
    crops: list[Image] = []
    for index, sample in enumerate(dataset.samples):
        try:
            crops.append(dataset.load(index))
            labels.append(sample.label)
        except UnreadableImageError:
            skipped.append(str(sample.path))
        if crops and (len(crops) == BATCH or index == len(dataset) - 1):
            yield labels, crops, index + 1
            labels, crops = [], []
    if crops:
        yield labels, crops, len(dataset)


def _scores(
    probabilities: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
    targets: list[int],
    match: LabelMatch,
) -> tuple[float, float, float]:
    """Accuracy by the common classes; agreement and deviation by all."""
    return (
        float(np.mean(match.restrict(probabilities).argmax(axis=1) == np.asarray(targets))),
        float(np.mean(probabilities.argmax(axis=1) == reference.argmax(axis=1))),
        float(np.abs(probabilities - reference).max()),
    )
