"""ExpW: expressions of faces in images from the web."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgefel.data.dataset import Box, FileStore, ImageDataset
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.base import group_codes, numbered_dataset
from edgefel.data.readers.search import find_file, find_folders, read_lines
from edgefel.errors import EdgefelError
from edgefel.files.read import open_text

_LIST = "label.lst"
# the archive contains `origin`; the web page of the set shows it within `image`
_IMAGES = ("origin", "image", "images")
_COLUMNS = "image_name face_id_in_image top left right bottom confidence expression_label"


class ExpW:
    """`label.lst` and the images in `origin/`: one line for each face, with its box, and several faces in an image.

    The list may be in `label/` and the images in `image/origin/`. A line has the image's name, the number of the
    face in it, the box (top, left, right, bottom, in pixels), the detector's confidence, and the expression. The set
    has no splits. Images are named after their search words, which identify no person or source, so the faces of one
    image are a group.

    Zhang, Luo, Loy and Tang, "From Facial Expression Recognition to Interpersonal Relation Prediction", IJCV 2018
    (arXiv 1609.06426); http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html.
    """

    name = "expw"
    title = "ExpW: faces in images of the web (Zhang et al., IJCV 2018)"
    classes = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

    def recognizes(self, root: Path) -> bool:
        """Whether the first line of a `label.lst` has ExpW's eight columns."""
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
        folders = [folder for name in _IMAGES for folder in find_folders(root, (name,), depth=4)]
        if not folders:  # at the deepest, ExpW/data/image/origin
            raise EdgefelError(
                f"{root}: no folder origin with the images; unpack ExpW's origin archive into it"
            )
        lines = read_lines(path)
        if not lines:
            raise EdgefelError(f"{path}: lists no faces; unpack the set again")
        faces = [_parse(line) for line in lines]
        if None in faces:
            row = faces.index(None)
            raise EdgefelError(
                f"{path} line {row + 1}: not a face of ExpW ({lines[row].strip()[:80]!r}); a line must be: {_COLUMNS}"
            )
        names, boxes, numbers = zip(*filter(None, faces), strict=True)
        store, groups, box = FileStore(folders[0], names), group_codes(names), np.array(boxes, np.int32)

        def where(row: int) -> str:
            return f"{path} line {row + 1}"

        return numbered_dataset(
            root, EXPRESSIONS_7, store, numbers, self.classes, groups, where=where, box=box
        )


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
