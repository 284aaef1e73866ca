"""Selects the files of a bundle for a device or another server, and writes the manifest that lists them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefel.deploy.archive import Entry
from edgefel.errors import EdgefelError
from edgefel.files.write import json_text
from edgefel.runtime.backends.choice import best_file
from edgefel.runtime.external_data import refuse_external_data
from edgefel.runtime.manifest import CARD_NAME, MANIFEST_NAME, PRECISIONS, BundleFile, Manifest

LABELS_NAME = "labels.txt"


@dataclass(frozen=True)
class ChosenFiles:
    """The manifest for the device, and a note on each file that was left out or has a warning."""

    manifest: Manifest
    notes: tuple[str, ...]

    @property
    def precisions(self) -> tuple[str, ...]:
        """Of the files, in the manifest's order."""
        return tuple(file.precision for file in self.manifest.files)

    @property
    def gpu_precision(self) -> str:
        """Default precision on a GPU, where an engine is built from it."""
        return self._best("tensorrt")

    @property
    def cpu_precision(self) -> str:
        """Default precision on a CPU."""
        return self._best("onnxruntime")

    def _best(self, backend: str) -> str:
        # files that failed are among them only where the user forced it
        return best_file(self.manifest, self.manifest.files, backend, force=True).precision


def choose_files(manifest: Manifest, precisions: Sequence[str] = (), *, force: bool = False) -> ChosenFiles:
    """The ONNX files of these precisions; without any, all that did not fail their comparison with PyTorch.

    Engines are left out: they run only on the machine that built them.
    Raises EdgefelError for a precision that the bundle lacks, a failed file that was requested without `force`, and
    a bundle with no usable file.
    """
    onnx = [file for file in manifest.files if file.kind == "onnx"]
    wanted = [manifest.find(precision) for precision in dict.fromkeys(precisions)]
    notes = []
    if wanted:
        if not force:
            for file in wanted:
                manifest.check_verdict(file)
        chosen = [file for file in onnx if file in wanted]
    else:
        chosen = [file for file in onnx if force or file.verdict != "fail"]
        notes += [
            f"{file.name} left out: it failed its comparison with PyTorch; --force takes it all the same"
            for file in onnx
            if file not in chosen
        ]
    if not chosen:
        raise EdgefelError(
            f"{manifest.folder}: no ONNX file that can be used; export again, or pass --force to take failed ones"
        )
    notes += [_verdict_note(file) for file in chosen if file.verdict in ("warn", "fail")]
    if engines := [file.name for file in manifest.files if file.kind == "engine"]:
        notes.append(f"{', '.join(engines)} left out: an engine belongs to the machine that built it")
    return ChosenFiles(dataclasses.replace(manifest, files=tuple(chosen)), tuple(notes))


def _verdict_note(file: BundleFile) -> str:
    reasons = "; ".join(str(reason) for reason in (file.parity or {}).get("reasons") or ())
    return f"{file.name}: verdict '{file.verdict}' of its comparison with PyTorch ({reasons or 'no reason given'})"


def choose_file(
    manifest: Manifest, precision: str | None, backend: str, kind: str = "onnx", *, force: bool = False
) -> BundleFile:
    """The file of that precision; without one, the best for the backend that the server runs it with, as
    `Session.open` chooses (edgefel.runtime.backends.choice). INT8 for TensorRT is INT8 over FP16 where the bundle
    has that.

    Raises EdgefelError listing what there is, if all files of the kind failed their comparison with PyTorch, and for
    INT8 that was exported for ONNX Runtime alone.
    """
    if precision is not None:
        if precision not in PRECISIONS:
            raise EdgefelError(
                f"precision {precision!r} is not known; choose one of: {', '.join(PRECISIONS)}"
            )
        file = manifest.find(precision, kind)
        if precision != "int8" or kind != "onnx" or backend in file.backends:
            return file
        there = [other for other in manifest.files if (other.kind, other.precision) == (kind, "int8+fp16")]
        if there and backend in there[0].backends:
            return there[0]
        # TensorRT takes that of an older edgefel, which has no `made_for`
        if backend == "tensorrt" and file.made_for is not None:
            raise EdgefelError(
                f"{manifest.folder}: {file.name} is for {', '.join(file.backends)}, not for {backend}; export again "
                "with 'edgefel export --int8', which writes model.int8-fp16.onnx too"
            )
        return file
    there = [file for file in manifest.files if file.kind == kind]
    if not there:
        raise EdgefelError(f"{manifest.folder}: no {kind} file in this bundle; export again")
    return best_file(manifest, there, backend, force=force)


def check_at_least(what: str, options: object, **least: int) -> None:
    """Raises EdgefelError for an option below its least value; None stands for a default."""
    for name, smallest in least.items():
        if (value := getattr(options, name)) is not None and value < smallest:
            raise EdgefelError(f"{what} {name} is {value}; give at least {smallest}")


def checked_path(manifest: Manifest, file: BundleFile, force: bool) -> Path:
    """Its path; raises EdgefelError for one that is missing and, unless `force`, for one that was changed since the
    export or failed its comparison with PyTorch."""
    if not force:
        manifest.check_verdict(file)
    return manifest.verify(file, force=force)


def manifest_bytes(manifest: Manifest) -> bytes:
    """manifest.json, byte for byte as `write_manifest` writes it."""
    return f"{json_text(manifest.to_dict(), indent=2)}\n".encode()


def labels_text(manifest: Manifest) -> str:
    """labels.txt: a line for each column of the outputs."""
    return "".join(f"{label}\n" for label in manifest.labels)


def model_entries(chosen: ChosenFiles) -> list[Entry]:
    """model/: the ONNX files, manifest.json, labels.txt with a line for each column of the outputs, and the model card
    if the bundle has one.

    Raises EdgefelError for a file that is missing, or not all of its model.
    """
    manifest = chosen.manifest
    entries = [
        Entry(f"model/{MANIFEST_NAME}", manifest_bytes(manifest)),
        Entry(f"model/{LABELS_NAME}", labels_text(manifest).encode()),
    ]
    if (card := manifest.folder / CARD_NAME).is_file():
        entries.append(Entry(f"model/{CARD_NAME}", card))
    for file in manifest.files:
        path = Path(manifest.folder) / file.name
        if not path.is_file():
            raise EdgefelError(f"{path}: the manifest lists this file, but it is missing; export again")
        refuse_external_data(path)
        entries.append(Entry(f"model/{file.name}", path, sha256=file.sha256))
    return entries
