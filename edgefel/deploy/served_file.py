"""Which file of a bundle another server is given."""

from __future__ import annotations

from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.choice import best_file
from edgefel.runtime.manifest import PRECISIONS, BundleFile, Manifest


def choose_file(
    manifest: Manifest, precision: str | None, backend: str, kind: str = "onnx", *, force: bool = False
) -> BundleFile:
    """The file of that precision; without one, the best for the backend that the server runs it with, as
    `Session.open` chooses (edgefel.runtime.backends.choice).

    Raises EdgefelError listing what there is, or if all files of the kind failed their comparison with PyTorch.
    """
    if precision is not None and precision not in PRECISIONS:
        raise EdgefelError(f"precision {precision!r} is not known; choose one of: {', '.join(PRECISIONS)}")
    if precision is not None:
        return manifest.find(precision, kind)
    there = [file for file in manifest.files if file.kind == kind]
    if not there:
        raise EdgefelError(f"{manifest.folder}: no {kind} file in this bundle; export again")
    return best_file(manifest, there, backend, force=force)


def checked_path(manifest: Manifest, file: BundleFile, force: bool) -> Path:
    """Its path; raises EdgefelError for one that is missing and, unless `force`, for one that was changed since the
    export or failed its comparison with PyTorch."""
    if not force:
        manifest.check_verdict(file)
    return manifest.verify(file, force=force)
