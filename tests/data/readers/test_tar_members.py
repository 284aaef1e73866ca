"""Members of archives, whole and damaged; tests/data/readers/test_shard_index*.py test what is made of them."""

from __future__ import annotations

import io
import tarfile

import pytest

from edgefel.data.readers.tar_members import UNREADABLE, encoded_images, members, split_name


def archive(*files: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        folder = tarfile.TarInfo("a.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


FILES = (
    ("x/1.jpg", b"one"),
    ("x/1.json", b"{}"),
    ("x/2.seg.png", b"mask"),
    ("3.PNG", b"three" * 300),
    (".jpg", b""),
)


def test_images_are_given_in_order_with_their_bytes():
    assert list(encoded_images(io.BytesIO(archive(*FILES)))) == [
        ("x/1.jpg", b"one"),
        ("3.PNG", b"three" * 300),
    ]


def test_an_archive_that_ends_early_gives_what_stands_before():
    data = archive(*FILES)
    end = data.index(b"three") + 600
    found = []
    with pytest.raises(UNREADABLE, match="ends before the 1500 bytes of the member '3.PNG'"):
        found.extend(iter_into(found, encoded_images(io.BytesIO(data[:end]))))
    assert found == [("x/1.jpg", b"one")]


def iter_into(found, images):
    for image in images:
        found.append(image)
    return ()


@pytest.mark.parametrize("data", [b"", b"no archive" * 200, b"\x1f\x8b" + bytes(2000)])
def test_what_is_no_archive_is_refused(data):
    with pytest.raises(UNREADABLE):
        list(members(io.BytesIO(data)))


def test_a_broken_header_is_not_the_end():
    data = bytearray(archive(*FILES))
    at = data.index(b"x/2.seg.png")
    data[at + 148 : at + 156] = b"77777777"  # the checksum
    with pytest.raises(UNREADABLE, match="breaks off"):
        list(members(io.BytesIO(bytes(data))))


def test_names_are_split_at_the_first_dot():
    assert split_name("a/b.c/d.seg.PNG") == ("a/b.c/d", "seg.png")
    assert split_name("a/.hidden") == ("a/.hidden", "")
