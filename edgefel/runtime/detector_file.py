"""YuNet's ONNX file: where it is kept, and which one it is. Needs the standard library alone.

It is of OpenCV's model zoo, under the MIT licence:
https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.files.cache import data_folder
from edgefel.files.read import read_regular, reading
from edgefel.files.write import atomic_file, sha256

NAME = "face_detection_yunet_2026may.onnx"
SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
BYTES = 229_738


def detector_path() -> Path:
    """Where the file is kept: `edgefel` in the user's data folder. Raises EdgefelError without a home folder."""
    return data_folder() / NAME


def installed_detector() -> Path | None:
    """The file, if it was put there. Raises EdgefelError if it is not the published one."""
    try:
        path = detector_path()
    except EdgefelError:  # no home folder: nothing can be there
        return None
    if not path.is_file():
        return None
    if not is_published(path):
        raise EdgefelError(
            f"{path}: is not OpenCV's {NAME} (its SHA-256 differs); run 'edgefel detector get', or remove it"
        )
    return path


def is_published(path: Path) -> bool:
    """Whether it is the known file, by its hash."""
    return path.is_file() and sha256(path) == SHA256


def install_detector(source: Path) -> Path:
    """Copies a file that was downloaded by hand to its place, and returns that.

    Raises EdgefelError if it cannot be read or is not the published file.
    """
    with reading(source):
        data = read_regular(source)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise EdgefelError(
            f"{source}: is not OpenCV's {NAME} ({len(data)} bytes, and its SHA-256 differs); that one has {BYTES}"
        )
    path = detector_path()
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return path
