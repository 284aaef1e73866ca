"""Arrays of every form become uint8 RGB or a one-line error; files and bytes are read as by the command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgefel.data.images import UnreadableImageError, read_rgb
from edgefel.errors import EdgefelError
from edgefel.runtime.inputs import array_to_rgb, check_several, read_image, take_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)


def test_colour_in_both_orders():
    assert np.array_equal(array_to_rgb(RGB, "rgb"), RGB)
    assert np.array_equal(array_to_rgb(RGB[..., ::-1], "bgr"), RGB)
    assert np.array_equal(array_to_rgb(RGB, "bgr"), RGB[..., ::-1])


def test_alpha_is_ignored():
    alpha = RNG.integers(0, 256, (7, 11, 1), dtype=np.uint8)
    assert np.array_equal(array_to_rgb(np.dstack([RGB, alpha]), "rgb"), RGB)
    assert np.array_equal(array_to_rgb(np.dstack([RGB[..., ::-1], alpha]), "bgr"), RGB)


@pytest.mark.parametrize("channels", [None, "rgb", "bgr"])
def test_grey_needs_no_order(channels):
    grey = RGB[..., 0]
    expected = np.dstack([grey] * 3)
    assert np.array_equal(array_to_rgb(grey, channels), expected)
    assert np.array_equal(array_to_rgb(grey[..., None], channels), expected)


@pytest.mark.parametrize("shape", [(7, 11, 3), (7, 11, 4), (1, 1, 3)])
def test_colour_without_an_order_is_refused(shape):
    with pytest.raises(EdgefelError, match=r"^frame 3: a colour array can be RGB or BGR; add channels='bgr'"):
        array_to_rgb(np.zeros(shape, np.uint8), None, "frame 3")


@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4]))),
    st.tuples(*[st.sampled_from([1, 2, -1, -2])] * 2),
    st.booleans(),
)
def test_views_with_any_strides_are_the_same_as_copies(array, steps, swapped):
    view = array[:: steps[0], :: steps[1]]
    view = view.swapaxes(0, 1) if swapped else view
    before = view.copy()
    got = array_to_rgb(view, "bgr")
    assert np.array_equal(got, before[..., 2::-1])
    assert got.flags.c_contiguous
    assert got.dtype == np.uint8
    assert np.array_equal(view, before)
    view.flags.writeable = False
    assert np.array_equal(array_to_rgb(view, "bgr"), got)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_uint16_is_scaled_by_the_bits_that_it_uses(bits, order):
    deep = (RGB.astype(order) << (bits - 8)).astype(order)
    deep[0, 0] = ((1 << bits) - 1,) * 3
    expected = RGB.copy()
    expected[0, 0] = 255
    assert np.array_equal(array_to_rgb(deep, "rgb"), expected)


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_numbers_are_scaled_by_their_range(full, dtype):
    image = RGB.copy()
    image[0, 0] = 255
    real = (image / 255 * full).astype(dtype)
    assert np.array_equal(array_to_rgb(real, "rgb"), image)
    # an opaque alpha of 255 beside colours of 0 to 1 says nothing on their range
    assert np.array_equal(array_to_rgb(np.dstack([real, np.full((7, 11), 65535.0, dtype)]), "rgb"), image)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5, np.uint8), r"shape \(5,\); give \[H, W\]"),
        (np.zeros((), np.uint8), r"shape \(\);"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (np.zeros((4, 0), np.uint8), r"shape \(4, 0\)"),
        (np.zeros((3, 40, 50), np.uint8), r"shape \(3, 40, 50\); give \[H, W\], \[H, W, 3\]"),
        (np.zeros((40, 50, 2), np.uint8), r"shape \(40, 50, 2\)"),
        (np.zeros((2, 40, 50, 3), np.uint8), r"several images; give list\(array\)"),
        (np.zeros((4, 4, 3), np.int64), "an array of int64; give uint8"),
        (np.zeros((4, 4), bool), "an array of bool; give uint8"),
        (np.zeros((4, 4), complex), "an array of complex128; give uint8"),
        (np.full((4, 4), "a.jpg"), "an array of <U5; give uint8"),
        (np.full((4, 4), None), "an array of object; give uint8"),
        (np.full((4, 4), np.nan), "values that are not finite"),
        (np.full((4, 4), -0.5), "values from -0.5 to -0.5"),
        (np.full((1, 200), 7, np.uint8), "200x1 pixels are a line"),
    ],
)
def test_other_arrays_are_one_line(array, message):
    with pytest.raises(EdgefelError, match=message) as caught:
        array_to_rgb(array, "rgb")
    assert str(caught.value).startswith("image: ")
    assert "\n" not in str(caught.value)


def test_an_array_of_more_pixels_than_a_file_may_have(monkeypatch):
    monkeypatch.setenv("EDGEFEL_MAX_PIXELS", "76")
    with pytest.raises(UnreadableImageError, match="11x7 pixels are more than 76"):
        array_to_rgb(RGB, "rgb")


@pytest.mark.parametrize("channels", ["RGB", "gbr", "", 3])
def test_an_unknown_order(channels):
    with pytest.raises(EdgefelError, match=r"channels is .*; give 'rgb' or 'bgr'"):
        take_image("photo.jpg", channels, "image", copy=False)


@pytest.mark.parametrize("value", [None, 3, [1, 2], {"a": 1}, object()])
def test_what_is_no_image(value):
    with pytest.raises(EdgefelError, match=r"^image 2: a value of type \w+; give a path, bytes"):
        take_image(value, "rgb", "image 2", copy=False)
    if not isinstance(value, list | dict):
        with pytest.raises(EdgefelError, match=r"is no image"):
            check_several(value)


@pytest.mark.parametrize("one", ["photo.jpg", Path("photo.jpg"), b"\xff\xd8", RGB])
def test_one_image_is_not_several(one):
    with pytest.raises(EdgefelError, match="takes several images"):
        check_several(one)
    check_several([one])


def test_an_array_may_be_changed_after_it_was_taken():
    """A camera's loop fills the same array again, while the image still waits for its batch."""
    array = RGB.copy()
    taken = take_image(array, "rgb", "image", copy=True)
    alone = take_image(array, "rgb", "image", copy=False)
    assert np.shares_memory(alone.image, array)
    array[:] = 0
    assert np.array_equal(taken.image, RGB)


@pytest.fixture
def files(tmp_path):
    """One image in several formats, rotated by its EXIF orientation in one of them."""
    cv2.imwrite(str(tmp_path / "colour.png"), RGB[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), RGB[..., 0])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([RGB[..., ::-1], RGB[..., :1]]))
    cv2.imwrite(str(tmp_path / "deep.png"), RGB[..., ::-1].astype(np.uint16) * 257)
    done, data = cv2.imencode(".jpg", RGB[..., ::-1])
    assert done
    # an EXIF segment whose only entry is the orientation, 6: turn right
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\0\0MM\0*\0\0\0\x08\x00\x01" + entry + b"\0\0\0\0"
    jpeg = data.tobytes()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    return tmp_path


@pytest.mark.parametrize("name", ["colour.png", "grey.png", "alpha.png", "deep.png", "turned.jpg"])
def test_files_and_bytes_are_read_as_by_the_command_line(files, name):
    path = files / name
    expected = read_rgb(path)
    for given_as in (path, str(path)):
        read = read_image(take_image(given_as, None, "image", copy=False))
        assert read.name == str(path)
        assert np.array_equal(read.image, expected)
    encoded = read_image(take_image(path.read_bytes(), None, "image", copy=False))
    assert encoded.name is None
    assert np.array_equal(encoded.image, expected)
    if name == "turned.jpg":
        assert expected.shape == (11, 7, 3)
    else:
        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(take_image(array, "bgr", "image", copy=False).image, expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.jpg", r"absent\.jpg: cannot be read \(No such file or directory\)"),
        ("", r"is a folder|a folder"),
        ("folder", "folder: a folder, whose images are to be given"),
        ("clip.mp4", r"clip\.mp4: a video, which stream\(\) takes"),
        ("text.jpg", r"text\.jpg: not an image that OpenCV can decode"),
        ("a\0b.jpg", "is not a file name|cannot be read"),
    ],
)
def test_what_cannot_be_read_is_kept_as_its_error(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("clip.mp4").write_bytes(b"\0" * 64)
    Path("text.jpg").write_text("hello")
    read = read_image(take_image(name, None, "image", copy=False))
    assert read.image.size == 0
    with pytest.raises(UnreadableImageError, match=message):
        raise read.error
    assert "\n" not in str(read.error)


def test_bytes_that_are_no_image_go_by_the_name_that_they_are_given():
    assert str(read_image(b"", "image 4").error).startswith("image 4: the file is empty")
    assert str(read_image(b"nothing", "image 4").error).startswith("image 4: not an image")
