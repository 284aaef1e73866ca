"""Speed and accuracy of the files of a bundle, beside the PyTorch model that they were exported from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefel.bench.compare.accuracy import Labelled, label_images
from edgefel.bench.timer import TimingPlan, measure
from edgefel.data.dataset import ImageDataset
from edgefel.data.labels import LabelMatch
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.outputs import torch_threads
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint

REFERENCE = "PyTorch"
Run = Callable[[list[Image]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class FileResult:
    """One line of the comparison; None where something cannot be measured here.

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
    """Labels all images with the checkpoint and each ONNX file of the bundle, then times them in turn at batch 1.

    threads: CPU threads of each; all cores by default. advance: called with (images done, images). Engines
    are listed with their size only: running them needs a GPU. Accuracy is by the classes in common. Raises
    EdgefelError for a data set without a readable image, or that shares too few classes with the bundle.
    """
    from edgefel.models.checkpoint import load_checkpoint

    threads = threads or usable_cores()
    loaded, manifest = load_checkpoint(os.fspath(checkpoint)), read_manifest(bundle)
    if loaded.labels != manifest.labels:
        raise EdgefelError(
            f"{bundle}: names its outputs {', '.join(manifest.labels)}, the checkpoint {loaded.path} "
            f"{', '.join(loaded.labels)}; give the checkpoint that it was exported from"
        )
    matched = dataset.matched(manifest.labels)
    runs = {REFERENCE: _pytorch(loaded)}
    with ExitStack() as opened, torch_threads(threads):
        for file in (file for file in manifest.files if file.kind == "onnx"):
            manifest.verify(file)
            # a file that the gate refused is measured all the same, and said to be refused
            session = Session.open(bundle, file.precision, "onnxruntime", threads, force=True)
            runs[file.precision] = partial(_probabilities, opened.enter_context(session))
        # labelling fills the cores with several runtimes at once; the timing after it has them one by one
        workers = max(1, (os.cpu_count() or 1) // threads)
        found = label_images(runs, matched.dataset, range(len(matched.dataset)), advance, workers=workers)
        calls = {name: partial(run, [found.image]) for name, run in runs.items()}
        timings = measure(calls, TimingPlan.of(min_runs, max_seconds / len(calls)))

    def line(file: str, precision: str, size: int, name: str, note: str = "") -> FileResult:
        quality = _quality(found, matched.match, name)
        return FileResult(file, precision, size / 1e6, timings[name].p50, **quality, note=note)

    weights = (Path(loaded.path) / "model.safetensors").stat().st_size
    rows = [line(REFERENCE, "fp32", weights, REFERENCE)]
    for file in manifest.files:
        if file.kind == "onnx":
            note = "refused by the gate" if file.verdict == "fail" else ""
            rows.append(line(file.name, file.precision, file.bytes, file.precision, note))
        else:
            note = "built; running it needs a GPU"
            rows.append(FileResult(file.name, file.precision, file.bytes / 1e6, note=note))
    skipped, timed = tuple(found.skipped), timings[REFERENCE].runs
    return BundleResult(tuple(rows), matched.to_dict(), len(found.targets), skipped, threads, timed)


def _quality(found: Labelled, match: LabelMatch, name: str) -> dict[str, float]:
    """Accuracy by the common classes; agreement and deviation by all."""
    own, reference = found.probabilities[name], found.probabilities[REFERENCE]
    return {
        "accuracy": float(np.mean(match.restrict(own).argmax(axis=1) == np.asarray(found.targets))),
        "agreement": float(np.mean(own.argmax(axis=1) == reference.argmax(axis=1))),
        "deviation": float(np.abs(own - reference).max()),
    }


def _probabilities(session: Session, crops: list[Image]) -> npt.NDArray[np.float32]:
    return session(crops).probabilities


def _pytorch(loaded: Checkpoint) -> Run:
    import torch

    preprocessing = Preprocessing.from_dict(loaded.preprocessing)

    def run(crops: list[Image]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return loaded.model(torch.from_numpy(preprocessing.batch(crops))).probabilities.numpy()

    return run
