"""Speed and accuracy of the files of a bundle, beside the PyTorch model that they were exported from."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
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
from edgefel.export.parity.gate import torch_threads
from edgefel.runtime.manifest import Manifest, read_manifest
from edgefel.runtime.session import Session
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint

REFERENCE = "PyTorch"
Run = Callable[[list[Image]], npt.NDArray[np.float32]]


def compare_bundle(
    checkpoint: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    dataset: ImageDataset,
    *,
    threads: int | None = None,
    min_runs: int = 50,
    max_seconds: float = 10.0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Labels all images with the checkpoint and each ONNX file of the bundle, then times them in turn at batch 1.

    threads: CPU threads of each; all cores by default. advance: called with (images done, images). Returns plain JSON
    values: images that were read and skipped, threads, timed_runs, classes (see `MatchedDataset.to_dict`), and files,
    the checkpoint first: file, precision, megabytes (10^6 bytes), ms_p50 of an image, accuracy of the corrected
    probabilities by the classes in common, agreement (share of images with PyTorch's label), deviation (largest
    difference of a probability from PyTorch's), note. Engines have their size only: running them needs a GPU. Raises
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
        runs |= _open_files(manifest, threads, opened)
        # labelling fills the cores with several runtimes at once; the timing after it has them one by one
        workers = max(1, (os.cpu_count() or 1) // threads)
        found = label_images(runs, matched.dataset, range(len(matched.dataset)), advance, workers=workers)
        calls = {name: partial(run, [found.image]) for name, run in runs.items()}
        timings = measure(calls, TimingPlan.of(min_runs, max_seconds / len(calls)))

    def line(file: str, precision: str, size: int, name: str | None, note: str = "") -> dict[str, Any]:
        numbers = dict.fromkeys(("ms_p50", "accuracy", "agreement", "deviation"))
        if name is not None:
            numbers = {"ms_p50": timings[name].p50, **_quality(found, matched.match, name)}
        return {"file": file, "precision": precision, "megabytes": size / 1e6, **numbers, "note": note}

    weights = (Path(loaded.path) / "model.safetensors").stat().st_size
    lines = [line(REFERENCE, "fp32", weights, REFERENCE)]
    for file in manifest.files:
        run = file.precision if file.kind == "onnx" else None
        refused = "refused by the gate" if file.verdict == "fail" else ""
        note = "built; running it needs a GPU" if run is None else refused
        lines.append(line(file.name, file.precision, file.bytes, run, note))
    return {
        "files": lines,
        "classes": matched.to_dict(),
        "images": len(found.targets),
        "skipped": found.skipped,
        "threads": threads,
        "timed_runs": timings[REFERENCE].runs,
    }


def _open_files(manifest: Manifest, threads: int, opened: ExitStack) -> dict[str, Run]:
    """The ONNX files in ONNX Runtime by precision; those that the gate refused too, which are said to be refused."""
    runs: dict[str, Run] = {}
    for file in manifest.files:
        if file.kind == "onnx":
            manifest.verify(file)
            session = Session.open(
                manifest.folder, file.precision, "onnxruntime", threads, force=True, advise=False
            )
            runs[file.precision] = partial(_probabilities, opened.enter_context(session))
    return runs


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
