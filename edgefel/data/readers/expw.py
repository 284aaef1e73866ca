"""Reads ExpW, the expressions of faces in images of the web."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgefel.data.dataset import Box, FileStore, ImageDataset, SampleTable
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.base import group_codes, to_canonical
from edgefel.data.readers.search import find_file, find_folders, read_lines
from edgefel.errors import EdgefelError
from edgefel.files.read import open_text

_LIST = "label.lst"
# the archive makes `origin`, which lies in `image` where the set is kept as its web page shows it
_IMAGES = ("origin", "image", "images")
_COLUMNS = "image_name face_id_in_image top left right bottom confidence expression_label"


class ExpW:
    """`label.lst` and the images in `origin/`: one line for each face, with its box, and several faces in an image.

    The list may lie in `label/` and the images in `image/origin/`. A line is the image's name, the number of the
    face in it, the box (top, left, right, bottom, in pixels), the detector's confidence, and the expression. The set
    has no splits. Its images are named after the words they were searched by, which tell no person or source, so
    the faces of one image are a group.

    Zhang, Luo, Loy and Tang, "From Facial Expression Recognition to Interpersonal Relation Prediction", IJCV 2018
    (arXiv 1609.06426); http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html.
    """

    name = "expw"
    title = "ExpW: faces in images of the web (Zhang et al., IJCV 2018)"
    classes = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

    def recognizes(self, root: Path) -> bool:
        """Whether there is a `label.lst` with lines of ExpW's eight columns."""
        path = find_file(root, _LIST, depth=2)
        if path is None:
            return False
        try:
            with open_text(path, "replace") as stream:
                return _parse(stream.readline()) is not None
        except OSError:
            return False

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError without `label.lst` or a folder of images, and for a line that is malformed."""
        path = find_file(root, _LIST, depth=2)
        if path is None:
            raise EdgefelError(f"{root}: no {_LIST}; put ExpW's list of labels beside the images")
        folder = _image_folder(root)
        lines = read_lines(path)
        if not lines:
            raise EdgefelError(f"{path}: lists no faces; unpack the set again")
        names: list[str] = []
        boxes = np.empty((len(lines), 4), np.int32)
        numbers = np.empty(len(lines), np.int64)
        for row, line in enumerate(lines):
            parsed = _parse(line)
            if parsed is None:
                raise EdgefelError(
                    f"{path} line {row + 1}: not a face of ExpW ({line.strip()[:80]!r}); a line must be: {_COLUMNS}"
                )
            name, boxes[row], numbers[row] = parsed
            names.append(name)
        outside = np.flatnonzero((numbers < 0) | (numbers >= len(self.classes)))
        where = f"{path} line {outside[0] + 1}" if outside.size else str(path)
        label = to_canonical(numbers, self.classes, EXPRESSIONS_7, where)
        group, images = group_codes(names)
        table = SampleTable(FileStore(folder, names), label, group, images, "", box=boxes)
        return ImageDataset(root, EXPRESSIONS_7, table)


def _parse(line: str) -> tuple[str, Box, int] | None:
    """Name of the image, box (x, y, width, height) and number of the expression; None if malformed."""
    # from the right, since a name may hold spaces
    fields = line.strip().rsplit(maxsplit=7)
    if len(fields) != 8:
        return None
    try:
        face, top, left, right, bottom, number = (int(field) for field in (*fields[1:6], fields[7]))
        float(fields[6])
    except ValueError:
        return None
    too_large = any(abs(value) >= 2**30 for value in (face, top, left, right, bottom, number))
    if too_large or right <= left or bottom <= top:
        return None
    return fields[0], (left, top, right - left, bottom - top), number


def _image_folder(root: Path) -> Path:
    for name in _IMAGES:
        found = find_folders(root, (name,), depth=4)  # ExpW/data/image/origin
        if found:
            return found[0]
    raise EdgefelError(f"{root}: no folder origin with the images; unpack ExpW's origin archive into it")
