"""Which face of an image is taken, and that it is cut as the runtime cuts it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from streams import BLUE, GREEN, RED, SquareDetector, scene

from edgefel.data.preparing.faces import crop_face
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.faces import SyntheticFaces
from edgefel.runtime.alignment import align
from edgefel.runtime.eyes import EyeFinder, roll
from edgefel.runtime.faces import RuntimeFaces, make_detector

SIZE = 32


@pytest.fixture(scope="module")
def photo():
    """A rendered face in a wider image, tilted by 12 degrees."""
    faces = SyntheticFaces(FaceOptions(count=14, size=160, subjects=14, nuisance=0, pose=0.2))
    rgb = cv2.copyMakeBorder(faces.sample(7).image, 60, 60, 90, 90, cv2.BORDER_REPLICATE)
    matrix = cv2.getRotationMatrix2D((170, 140), 12, 1)
    return cv2.warpAffine(rgb, matrix, (340, 280), borderMode=cv2.BORDER_REPLICATE)


def taken(image, box=None, **options):
    return crop_face(image, box, RuntimeFaces(SquareDetector(), SIZE), **options)


def colour(crop):
    """Of the middle."""
    return tuple(crop.image[SIZE // 2, SIZE // 2].tolist())


def test_the_device_would_cut_the_same_face(photo):
    crop = crop_face(photo, None, RuntimeFaces(make_detector("haar"), 128))
    (face, *_) = make_detector("haar")(photo)
    assert face.eyes is not None
    levelled = Preprocessing(128, 112).resize_image(align(photo, face, 128))
    np.testing.assert_array_equal(crop.image, levelled)
    assert crop.found == "d"
    # it was turned: the plain square differs
    assert np.abs(crop.image.astype(int) - cv2.resize(face.crop(photo), (128, 128))).mean() > 5


def test_a_box_leads_to_the_levelled_face(photo):
    (face, *_) = make_detector("haar")(photo)
    box = (face.x + 5, face.y - 4, face.side, face.side + 10)
    crop = crop_face(photo, box, RuntimeFaces(make_detector("haar"), 128))
    assert crop.found == "d"
    tilted = crop_face(photo, box, RuntimeFaces(None, 128))
    assert tilted.found == "b"
    degrees = [
        roll(EyeFinder()(cv2.cvtColor(one.image, cv2.COLOR_RGB2GRAY), 0, 0, 128)) for one in (crop, tilted)
    ]
    assert abs(degrees[0]) < 4, degrees
    assert abs(degrees[1]) > 8, degrees


def test_the_largest_face_and_of_several_the_most_central():
    assert colour(taken(scene([(10, 10, 60, RED), (150, 90, 30, GREEN)]))) == RED
    assert colour(taken(scene([(5, 5, 60, RED), (130, 90, 50, GREEN), (250, 5, 60, BLUE)]))) == GREEN


def test_the_face_in_the_box_not_the_largest():
    image = scene([(10, 10, 90, RED), (200, 80, 40, GREEN), (250, 80, 40, BLUE)])
    crop = taken(image, (198, 76, 44, 50))
    assert (colour(crop), crop.found) == (GREEN, "d")
    assert (crop.image == GREEN).all()  # the detector's framing, not the box's


@pytest.mark.parametrize("box", [(60, 60, 100, 100), (0, 0, 30, 30)])
def test_what_does_not_fit_the_box_is_not_its_face(box):
    """A much smaller square in its middle, and a larger one that only begins in it."""
    crop = taken(scene([(100, 100, 20, RED), (24, 24, 60, GREEN)]), box)
    assert crop.found == "b"


def test_a_box_without_a_detection_is_squared_and_grown():
    image = scene([])
    image[100:140, 100:120] = RED
    image[100, 100:120] = 0  # two parts of 20 pixels are no face of 40
    image[120, 100:120] = 0
    whole = crop_face(image, (100, 100, 20, 40), RuntimeFaces(None, 40))
    assert whole.found == "b"
    np.testing.assert_array_equal(whole.image, image[100:140, 90:130])
    grown = crop_face(image, (100, 100, 20, 40), RuntimeFaces(None, 60), margin=0.25)
    np.testing.assert_array_equal(grown.image, image[90:150, 80:140])


def test_a_box_at_the_border_repeats_the_border():
    crop = crop_face(scene([(0, 0, 40, RED)]), (-20, -20, 40, 40), RuntimeFaces(None, SIZE))
    assert (crop.image == RED).all()


def test_no_face():
    image = scene([], (320, 240))
    image[:, 40:280] = 10  # too dark for the detector
    assert taken(image) is None
    crop = taken(image, center=True)
    assert crop.found == "c"
    assert (crop.image == 10).all()  # the centred square, no black from its sides


def test_images_that_are_faces_are_squared():
    image = scene([(40, 0, 240, BLUE)])
    crop = crop_face(image, None, RuntimeFaces(None, SIZE))
    assert crop.found == "w"
    assert (crop.image == BLUE).all()
    assert crop.image.shape == (SIZE, SIZE, 3)
