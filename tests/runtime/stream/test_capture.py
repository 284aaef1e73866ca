"""Videos, folders and images as sources, with real files; and what cannot be opened."""

from __future__ import annotations

import pytest
from streams import cut, write_video

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.capture import open_source


def test_what_cannot_be_opened_is_explained(tmp_path):
    with pytest.raises(EdgefelError, match="no such file or folder; give a camera"):
        open_source(str(tmp_path / "absent.mp4"))
    with pytest.raises(EdgefelError, match="no images in it"):
        open_source(str(tmp_path))
    broken = tmp_path / "broken.mp4"
    cut(write_video(broken, codec="mp4v"), 0.5)
    with pytest.raises(EdgefelError, match="cannot open this as a video"):
        open_source(str(broken))
    with pytest.raises(EdgefelError, match="unknown kind of address"):
        open_source("gopher://somewhere/else")
    with pytest.raises(EdgefelError, match="not a camera device|cannot be opened as a camera"):
        open_source("/dev/null")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("0", {"loop": True}, "is a camera, for which loop has no meaning"),
        ("csi", {"decoder": "opencv"}, "read by GStreamer alone"),
        ("rtsp://host/live", {"fps": 5.0}, "is a stream, for which fps has no meaning"),
        ("rtsp://me:secret@host/live", {"loop": True}, "rtsp://host/live: is a stream"),
        (".", {"size": (4, 4)}, "is images, for which size has no meaning"),
        (__file__, {"fps": 4.0}, "is a video, for which fps has no meaning"),
        ("0", {"size": (0, 480)}, "size is 0x480"),
        ("0", {"fps": 0.0}, "fps is 0"),
        ("0", {"patience": -1.0}, "patience is -1"),
    ],
)
def test_options_that_do_not_fit(source, options, message):
    with pytest.raises(EdgefelError, match=message):
        open_source(source, **options)


def test_a_url_that_is_none():
    with pytest.raises(EdgefelError, match="not a URL"):
        open_source("http://[::1")
