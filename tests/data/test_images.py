"""Images as cameras, phones, programs and accidents leave them."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.image_forms import FORMS, by_opencv, encoded, scene, sized
from PIL import Image, ImageOps

from edgefel.data import images
from edgefel.data.image_headers import read_header
from edgefel.data.images import (
    UnreadableImageError,
    decode_rgb,
    find_images,
    left_out_text,
    read_image_file,
    write_image,
)
from edgefel.errors import EdgefelError

WHERE = Path("a.png")


def turned(orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The scene stored so that its EXIF orientation makes it upright."""
    ways = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    image = Image.fromarray(scene())
    if orientation > 1:
        image = image.transpose(Image.Transpose(ways[orientation]))
    exif = Image.Exif()
    exif[0x112] = orientation
    return image, exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(kind, orientation):
    image, exif = turned(orientation)
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(_with(image, exif))), scene())
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    found = decode_rgb(encoded(image, kind, exif=exif, **options), WHERE)
    assert found.shape == scene().shape
    assert np.abs(found.astype(int) - scene()).mean() < 4


def _with(image: Image.Image, exif: Image.Exif) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, "PNG", exif=exif)))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_shows_the_same(form):
    data, wanted = FORMS[form]
    wanted = np.asarray(Image.fromarray(scene()).convert("L")) if wanted is None else wanted
    wanted = np.repeat(wanted[..., None], 3, axis=2) if wanted.ndim == 2 else wanted
    found = decode_rgb(data, WHERE)
    assert (found.dtype, found.shape) == (np.uint8, wanted.shape)
    assert np.abs(found.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[np.nan, 1.0]]), "not finite"),
        (np.array([[-3.0, 1.0]]), "from -3"),
        (np.array([[1e9]]), "1e\\+09"),
    ],
)
def test_real_numbers_that_are_no_image(values, said):
    pixels = np.resize(values, (8, 8)).astype(np.float32)
    with pytest.raises(UnreadableImageError, match=said):
        decode_rgb(by_opencv(".tif", pixels), WHERE)


@pytest.mark.parametrize("kind", sized(9, 9))
def test_a_bomb_is_known_by_its_header(kind, monkeypatch):
    data = sized(30000, 30000)[kind]
    assert len(data) < 2000
    assert (read_header(data).kind, read_header(data).width, read_header(data).height) == (kind, 30000, 30000)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(
        UnreadableImageError, match="30000x30000 pixels are more than 120000000; .*--max-pixels"
    ):
        decode_rgb(data, WHERE)


def test_the_limit_of_pixels_is_the_users(monkeypatch):
    data = by_opencv(".png", scene())
    monkeypatch.setenv("EDGEFEL_MAX_PIXELS", str(48 * 64))
    assert decode_rgb(data, WHERE).shape == (48, 64, 3)
    monkeypatch.setenv("EDGEFEL_MAX_PIXELS", str(48 * 64 - 1))
    with pytest.raises(UnreadableImageError, match="64x48 pixels are more than 3071"):
        decode_rgb(data, WHERE)
    monkeypatch.setenv("EDGEFEL_MAX_PIXELS", "many")
    with pytest.raises(EdgefelError, match="EDGEFEL_MAX_PIXELS is 'many'"):
        decode_rgb(data, WHERE)


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (1, 101)])
def test_a_line_is_no_image(shape):
    with pytest.raises(UnreadableImageError, match="are a line, not an image of a face"):
        decode_rgb(by_opencv(".png", np.zeros((*shape, 3), np.uint8)), WHERE)
    assert decode_rgb(by_opencv(".png", np.zeros((1, 100, 3), np.uint8)), WHERE).shape == (1, 100, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"x" * 100, "not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC file, which is not read here; convert it"),
        (b"\xff\x0a" + bytes(20), "a JPEG XL file, which is not read here"),
        (b"8BPS" + bytes(20), "a Photoshop file, which is not read here"),
        (by_opencv(".png", scene())[:200], "PNG file that is damaged"),
        (by_opencv(".jpg", scene())[:-20], "cut off"),
    ],
)
def test_what_is_no_whole_image_says_why(data, said):
    with pytest.raises(UnreadableImageError, match=said):
        decode_rgb(data, WHERE)


@pytest.fixture
def odd_files(tmp_path):
    """By name, what a read of each says."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket.jpg"))
        yield {
            "pipe.jpg": "is a named pipe, not a regular file",
            "folder.jpg": "is a folder, not a regular file",
            "dangling.jpg": "No such file",
            "loop.jpg": "symbolic links",
            "zero.jpg": "is a device, not a regular file",
            "socket.jpg": "is a socket, not a regular file",
        }


def test_only_regular_files_are_read(odd_files, tmp_path, monkeypatch):
    for name, said in odd_files.items():
        with pytest.raises(UnreadableImageError, match=said):
            read_image_file(tmp_path / name)
    monkeypatch.setattr(images, "MOST_BYTES", 1 << 20)
    with (tmp_path / "sparse.jpg").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(UnreadableImageError, match="has more than 1 MiB"):
        read_image_file(tmp_path / "sparse.jpg")
    with pytest.raises(UnreadableImageError, match="not a file name"):
        read_image_file(Path("a\0b"))


def test_a_folder_is_searched_for_what_is_read_and_counted_for_what_is_not(odd_files, tmp_path):
    for name in ("a.PNG", "b.heic", "in/c.HEIC", "in/d.jxl", "in/e.txt", ".hidden/f.png", "in/.g.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_images(tmp_path)
    names = sorted(file.relative_to(tmp_path).as_posix() for file in found.files)
    assert names == sorted(["a.PNG", *(name for name in odd_files if name != "folder.jpg")])
    assert found.left_out == {".heic": 2, ".jxl": 1}
    assert (
        left_out_text(found.left_out)
        == "left out 2 .heic, 1 .jxl: not read here; convert them to JPEG or PNG"
    )


def test_a_image_is_written_under_a_name_that_is_not_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    write_image(path, scene())
    assert np.array_equal(decode_rgb(read_image_file(path), path), scene())
    with pytest.raises(EdgefelError, match="OpenCV cannot write"):
        write_image(tmp_path / "a.xyz", scene())
