"""Rows of images, told apart by their colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.inspection.contact_sheet import contact_sheet, dataset_sheet
from edgefel.errors import EdgefelError

RED, GREEN, BLUE, PAPER = (255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 250, 250)
SIDE, PITCH, GUTTER = 16, 20, 104  # pixels


def cell(sheet, row: int, column: int) -> tuple[int, ...]:
    """The colour in the middle of an image."""
    at = 4 + SIDE // 2
    return tuple(sheet[row * PITCH + at, GUTTER + column * PITCH + at].tolist())


def plain(colour, height: int = 20, width: int = 30):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.fixture
def faces(tmp_path) -> ImageDataset:
    """Of joy two images of person a, a file that is no image, and one of person b; of fear one image."""
    samples = []
    rows = ((1, "a", RED), (1, "a", GREEN), (1, "b", None), (1, "b", BLUE), (0, "c", GREEN))
    for number, (label, group, colour) in enumerate(rows):
        path = tmp_path / f"{number}.png"
        path.touch()
        if colour is not None:
            cv2.imwrite(str(path), plain(colour)[..., ::-1])
        samples.append(Sample(path, label, group, "train"))
    return ImageDataset(tmp_path, ("fear", "joy", "none"), tuple(samples))


def test_rows_are_labelled_and_images_cut_to_their_middle_square():
    wide = plain(RED, 10, 30)
    wide[:, 10:20] = BLUE
    sheet = contact_sheet([("one", [wide, plain(GREEN), plain(RED)]), ("two\nlines", [])], 2, SIDE)
    assert sheet.shape == (2 * PITCH + 4, GUTTER + 2 * PITCH + 4, 3)
    assert (sheet[4 : 4 + SIDE, GUTTER : GUTTER + SIDE] == BLUE).all()
    assert [cell(sheet, 0, 1), cell(sheet, 1, 0), cell(sheet, 1, 1)] == [GREEN, PAPER, PAPER]
    assert (sheet[:PITCH, :GUTTER] < 100).any()
    assert (sheet[PITCH:, :GUTTER] < 100).any()


def test_a_row_has_one_image_of_every_group_before_a_second_and_only_those_that_can_be_read(faces):
    sheet = dataset_sheet(faces, 3, SIDE)
    assert [cell(sheet, 0, column) for column in range(3)] == [GREEN, PAPER, PAPER]
    assert [cell(sheet, 1, column) for column in range(3)] == [RED, GREEN, BLUE]
    (faces.samples[2].path).write_bytes(faces.samples[3].path.read_bytes())
    assert [cell(dataset_sheet(faces, 3, SIDE), 1, column) for column in range(3)] == [RED, BLUE, GREEN]
    assert [cell(sheet, 2, column) for column in range(3)] == [PAPER] * 3


def test_without_a_readable_image_there_is_no_sheet(faces):
    with pytest.raises(EdgefelError, match="no image can be read"):
        dataset_sheet(faces.subset([2]), 3, SIDE)
