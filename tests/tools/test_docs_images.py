"""Images of the docs: a frame of a labelled stream, and what is said where no browser is."""

from __future__ import annotations

import cv2
from click.testing import CliRunner
from docs_images import main
from streams import RED, scene
from tiny_bundle import write_bundle


def draw(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_page_needs_a_browser(tmp_path):
    found = draw("page", "report.html", "--chromium", tmp_path / "none", "-o", tmp_path / "page.png")
    assert found.exit_code == 1
    assert "none: no such browser; on Debian: apt-get install chromium" in found.output
    assert not list(tmp_path.iterdir())


def test_a_frame_of_a_stream_with_what_was_measured(tmp_path):
    clip = tmp_path / "clip.avi"
    video = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for left in (20, 40, 60):
        video.write(cv2.cvtColor(scene([(left, 50, 60, RED)]), cv2.COLOR_RGB2BGR))
    video.release()
    bundle = write_bundle(tmp_path / "bundle")
    found = draw("stream", clip, bundle, "--frame", 1, "-o", tmp_path / "frame.jpg")
    assert found.exit_code == 0, found.output
    image = cv2.imread(str(tmp_path / "frame.jpg"))
    assert image.shape == (240, 320, 3)
    # the second frame: red from 40 to 100
    assert image[80, 50, 2] > 150
    assert image[80, 30].max() < 100
    assert image[80, 110].max() < 100
