"""Puts an existing bundle through the gate again, on a labelled data set, and marks its files with the verdicts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefel.calib.calibration_set import HELD_OUT, read_calibration_set
from edgefel.calib.images import ComparedImages, draw_unseen, load_images
from edgefel.data.dataset import ImageDataset, MatchedDataset
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.votes import Votes
from edgefel.errors import EdgefelError
from edgefel.export.parity.compare import Parity
from edgefel.export.parity.gate import Gate
from edgefel.export.parity.label_metrics import ClassParity
from edgefel.export.parity.limits import LIMITS, ParityLimits
from edgefel.export.record import CALIBRATION_NAME, tool_versions
from edgefel.files.write import sha256
from edgefel.progress import SILENT, Progress
from edgefel.report.figures import new_figure
from edgefel.runtime.manifest import BundleFile, Manifest, read_manifest, write_manifest
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint

MAX_IMAGES = 2000  # 400 MB of them at the size that a 224 model resizes to
_COLOURS = {
    "fp32": "#4c72b0",
    "fp16": "#55a868",
    "int8": "#c44e52",
    "int8+fp16": "#8172b2",
    "fp8": "#937860",
    "w8a16": "#da8bc3",
    "w4a16": "#ccb974",
}


@dataclass(frozen=True)
class BundleCheck:
    """What `check_bundle` found. labels: the classes that both the bundle and the data have, in the bundle's order;
    classes: whose they are, and what was left out for them. votes: of FER+, where the labels come from. files: file
    name -> its comparison, in the manifest's order. precisions: the same names -> precision. skipped: images that
    could not be read. left_out: images not compared on: "train", those of that split, and "calibration", those met in
    the draw that are, or are copies of, images that calibrated.
    """

    bundle: str
    checkpoint: str
    data: str
    votes: Votes | None
    split: str
    labels: tuple[str, ...]
    classes: Mapping[str, Any]
    images: int
    left_out: Mapping[str, int]
    skipped: tuple[str, ...]
    files: Mapping[str, Parity]
    precisions: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether a file failed."""
        return any(parity.verdict == "fail" for parity in self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {name: list(values[name]) for name in ("labels", "skipped", "warnings")}
        return {
            **values,
            **lists,
            "votes": None if self.votes is None else self.votes.to_dict(),
            "files": {name: parity.to_dict() for name, parity in self.files.items()},
            "refused": self.refused,
            "tools": tool_versions(),
        }


def check_bundle(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: str = "test",
    layout: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    precisions: Collection[str] = (),
    limits: Mapping[str, ParityLimits] = LIMITS,
    images: int = MAX_IMAGES,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> BundleCheck:
    """Compares the bundle's ONNX files with the checkpoint they came from and writes the verdicts into the manifest.

    split: "val", "test" or "all"; images of the split train, and those that calibration used, are left out of
    each. layout: as `open_dataset` takes it. checkpoint: where the manifest's own is no longer where it was.
    precisions: which files; all by default. images: how many images at most, drawn evenly from the classes.
    threads: of PyTorch and ONNX Runtime.

    The manifest changes only when everything has been compared. Raises EdgefelError for a bundle or data that
    cannot be used, other classes, a changed file, or a checkpoint with other weights.
    """
    manifest = read_manifest(bundle)
    files = _files(manifest, precisions)
    progress.start("load checkpoint")
    loaded = _checkpoint(manifest, checkpoint)
    matched = open_dataset(data, layout=layout).matched(manifest.labels)
    dataset = matched.dataset
    pool, untrained = _held_out(dataset, split)
    seen, warnings = _calibrated(manifest)
    chosen, passed = draw_unseen(dataset, pool, images, seed, seen)
    own = Preprocessing.from_dict(loaded.preprocessing)
    compared = load_images(
        dataset, chosen, manifest.labels, own, dataset.source, labelled=True, progress=progress
    )
    gate = Gate(loaded, compared, limits, seed=seed, threads=threads, progress=progress)
    results = {
        file.name: gate.judge(
            manifest.folder / file.name,
            file.precision,
            manifest.preprocessing,
            input_type=manifest.input_type,
            outputs=manifest.outputs,
        )
        for file in files
    }
    _mark(bundle, results, compared, split, matched)
    return BundleCheck(
        bundle=str(bundle),
        checkpoint=str(loaded.path),
        data=str(dataset.root),
        votes=dataset.votes,
        split=split,
        labels=tuple(manifest.labels[column] for column in sorted(matched.match.columns)),
        classes=matched.to_dict(),
        images=len(compared),
        left_out={"train": len(dataset) - untrained, "calibration": passed},
        skipped=compared.skipped,
        files=results,
        precisions={file.name: file.precision for file in files},
        warnings=(*matched.notes(), *warnings),
    )


def _files(manifest: Manifest, precisions: Collection[str]) -> list[BundleFile]:
    """The ONNX files to compare, each as the manifest promises it."""
    wanted = [manifest.find(precision) for precision in precisions]
    files = [file for file in manifest.files if file.kind == "onnx" and (not wanted or file in wanted)]
    if not files:
        raise EdgefelError(f"{manifest.folder}: holds no ONNX file to compare; export the checkpoint again")
    for file in files:
        manifest.verify(file)
    return files


def _checkpoint(manifest: Manifest, given: str | os.PathLike[str] | None) -> Checkpoint:
    """The checkpoint that the bundle was made from; its weights prove it."""
    from edgefel.models.checkpoint import WEIGHTS_FILE, load_checkpoint, resolve_checkpoint

    if given is None:
        noted = manifest.source.get("path")
        if not isinstance(noted, str) or not (manifest.folder / noted).exists():
            raise EdgefelError(
                f"{manifest.folder}: its checkpoint {noted or manifest.source.get('checkpoint')} is not there; "
                "say where it is with --checkpoint"
            )
        given = manifest.folder / noted
    folder = resolve_checkpoint(Path(given))
    weights = folder / WEIGHTS_FILE
    expected = manifest.source.get("sha256")
    if not weights.is_file() or sha256(weights) != expected:
        raise EdgefelError(
            f"{weights}: is not what {manifest.folder} was exported from (SHA-256 {str(expected)[:12]}...); "
            "give that checkpoint with --checkpoint, or export again"
        )
    loaded = load_checkpoint(folder)
    # the hash is of the weights alone: the same ones can have been imported again with other --labels
    if loaded.labels != manifest.labels:
        raise EdgefelError(
            f"{manifest.folder}: names its outputs {', '.join(manifest.labels)}, its checkpoint {loaded.path} "
            f"{', '.join(loaded.labels)}; export again"
        )
    return loaded


def _held_out(dataset: ImageDataset, split: str) -> tuple[Sequence[int], int]:
    """The images of `split` that are not of the split train, and how many are not in the whole data set."""
    splits = [sample.split for sample in dataset.samples]
    if split not in (*HELD_OUT, "all"):
        raise EdgefelError(f"split {split!r}: choose one of {', '.join(HELD_OUT)}, all")
    untrained = [i for i, name in enumerate(splits) if name != "train"]
    pool = [i for i in untrained if split in ("all", splits[i])]
    if not pool:
        held = ", ".join(sorted(set(splits) - {""})) or "no splits"
        raise EdgefelError(
            f"{dataset.root}: no images to compare on in {split!r} (it has {held}); choose another --split, "
            "or 'all' for every image that is not of the split train"
        )
    return pool, len(untrained)


def _calibrated(manifest: Manifest) -> tuple[set[str], tuple[str, ...]]:
    """Hashes of the images that calibrated, and a warning where they cannot be known."""
    file = manifest.folder / CALIBRATION_NAME
    if file.is_file():
        return {image.sha256 for image in read_calibration_set(file).images}, ()
    entries = [(entry.builder or {}).get("calibration") or {} for entry in manifest.files]
    if any("key" in entry for entry in entries):
        return set(), (f"{file} is missing: images that calibrated may be among those compared on",)
    return set(), ()


def _mark(
    bundle: str | os.PathLike[str],
    results: Mapping[str, Parity],
    compared: ComparedImages,
    split: str,
    matched: MatchedDataset,
) -> None:
    classes = {"classes": matched.to_dict()} if matched.notes() else {}
    # read again: an engine may have been added while the files were compared
    manifest = read_manifest(bundle)
    for file in manifest.files:
        if file.name in results:
            entry = {"inputs": compared.source, "split": split, **classes, **results[file.name].to_dict()}
            manifest = manifest.with_file(dataclasses.replace(file, parity=entry))
    write_manifest(bundle, manifest)


def recall_figure(check: BundleCheck) -> Any:
    """A matplotlib Figure: change of recall in points with its 95 % interval, a group per class, a colour per
    file; the dashed line is the limit, where there is one and the same. A hollow mark is of a class too small to judge.
    """
    figure = new_figure(2.2 + 1.25 * len(check.labels), 4.2)
    axis = figure.subplots()
    axis.axhline(0.0, color="0.4", linewidth=0.8)
    losses = (parity.limits.max_recall_loss for parity in check.files.values())
    limits = {loss for loss in losses if loss is not None}
    if len(limits) == 1:
        axis.axhline(-limits.pop(), color="0.4", linewidth=0.8, linestyle="--", label="limit")
    step = 0.8 / max(1, len(check.files))
    for number, (name, parity) in enumerate(check.files.items()):
        offset = step * (number - (len(check.files) - 1) / 2)
        precision = check.precisions[name]
        colour = _COLOURS[precision]
        axis.plot([], [], "o", color=colour, label=f"{precision} ({parity.verdict})")
        for position, row in enumerate(parity.labels.classes if parity.labels else ()):
            _mark_recall(
                axis, position + offset, row, colour, hollow=row.images < parity.limits.min_per_class
            )
    first = next(iter(check.files.values()))
    counts = {row.label: row.images for row in first.labels.classes} if first.labels else {}
    ticks = [f"{label}\n{counted(counts.get(label, 0), 'image')}" for label in check.labels]
    axis.set_xticks(range(len(check.labels)), ticks, fontsize=9)
    axis.set_ylabel("change of recall, points")
    axis.set_title(f"against PyTorch FP32: {counted(check.images, 'image')}, 95 % intervals", fontsize=10)
    axis.legend(fontsize=8, ncols=len(check.files) + 1, loc="best")
    return figure


def _mark_recall(axis: Any, x: float, row: ClassParity, colour: str, *, hollow: bool) -> None:
    if row.change is None or row.interval is None:
        return
    low, high = row.interval
    axis.plot([x, x], [low, high], color=colour, linewidth=1.5)
    axis.plot([x], [row.change], "o", color=colour, markerfacecolor="white" if hollow else colour)
