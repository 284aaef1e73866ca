"""Which file of a bundle another server is given."""

from __future__ import annotations

from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import PRECISIONS, BundleFile, Manifest

REFERENCE = "fp32"


def choose_file(manifest: Manifest, precision: str | None, kind: str = "onnx") -> BundleFile:
    """The file of that precision; without one, FP32, or the only one of this kind (as `Session.open`).

    Raises EdgefelError listing what there is.
    """
    if precision is not None and precision not in PRECISIONS:
        raise EdgefelError(f"precision {precision!r} is not known; choose one of: {', '.join(PRECISIONS)}")
    there = [file for file in manifest.files if file.kind == kind]
    if precision is None and REFERENCE not in [file.precision for file in there]:
        if len(there) == 1:
            return there[0]
        found = ", ".join(file.precision for file in there) or "none"
        raise EdgefelError(
            f"{manifest.folder}: neither an {REFERENCE} {kind} file nor a single other one ({found}); "
            "choose a precision, or export again"
        )
    return manifest.find(precision or REFERENCE, kind)


def checked_path(manifest: Manifest, file: BundleFile, force: bool) -> Path:
    """Its path; raises EdgefelError for one that is missing and, unless `force`, for one that was changed since the
    export or failed its comparison with PyTorch."""
    if not force:
        manifest.check_verdict(file)
    return manifest.verify(file, force=force)
