"""The node of docs/ros2.md, against stand-ins of ROS 2 (tests/ros2_stand_ins.py): images in, detections out."""

from __future__ import annotations

import array
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_runs import CLIP, NANO, wait_for
from ros2_stand_ins import Header, Image, Ros, Time

import edgefel
from edgefel.data.synthetic.video import SyntheticVideo

PAGE = (Path(__file__).parent.parent / "docs" / "ros2.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
ENCODINGS = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2, 0], "bgra8": [2, 1, 0, 0], "mono8": [1]}


def image(pixels: np.ndarray, encoding: str = "rgb8", number: int = 0, padding: int = 0) -> Image:
    """pixels: uint8 RGB [H, W, 3]."""
    channels = pixels[:, :, ENCODINGS[encoding]]
    height, width, count = channels.shape
    rows = np.pad(channels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    header = Header(stamp=Time(sec=number, nanosec=5), frame_id="camera")
    data = array.array("B", rows.tobytes())
    step = width * count + padding
    return Image(header=header, height=height, width=width, encoding=encoding, step=step, data=data)


Feed = Callable[[Any], Iterator[tuple[str, Image]]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[Feed], tuple[Any, Ros]]:
    """Runs the page's `main`; the node, which has ended, and the context."""

    def run(feed: Feed) -> tuple[Any, Ros]:
        ros = Ros({"bundle": str(NANO)}, feed)
        for name, module in ros.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        space: dict[str, Any] = {"__name__": "faces_node"}
        exec(compile(CODE, "docs/ros2.md", "exec"), space)
        before = threading.active_count()
        space["main"]()
        (node,) = ros.nodes
        assert node.destroyed
        assert not ros.running
        assert threading.active_count() == before
        return node, ros

    return run


def test_detections_of_a_video(start):
    video = SyntheticVideo(CLIP)
    frames = [video.frame(index) for index in range(5)]

    def feed(node: Any) -> Iterator[tuple[str, Image]]:
        for number, frame in enumerate(frames):
            yield "image", image(frame, "bgr8", number, padding=13)
            wait_for(lambda: len(node.sent["faces"].messages) == number + 1)  # noqa: B023
        raise KeyboardInterrupt

    node, _ = start(feed)
    messages = node.sent["faces"].messages
    assert [(message.header.stamp.sec, message.header.frame_id) for message in messages] == [
        (number, "camera") for number in range(5)
    ]
    # a person is known by the second frame
    assert [sorted(found.id for found in message.detections) for message in messages] == [
        [],
        *[["1", "2"]] * 4,
    ]
    with edgefel.load(NANO) as model:
        alone = model(frames[4], channels="rgb")
    boxes = {
        (face.box.x + face.box.side / 2, face.box.y + face.box.side / 2, face.box.side) for face in alone
    }
    last = messages[4].detections
    assert {
        (one.bbox.center.position.x, one.bbox.center.position.y, one.bbox.size_x) for one in last
    } == boxes
    for found in last:
        assert found.header is messages[4].header
        assert found.bbox.size_x == found.bbox.size_y
        scores = [result.hypothesis.score for result in found.results]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert {result.hypothesis.class_id for result in found.results} == set(model.labels)
    assert {one.results[0].hypothesis.class_id for one in last} == {"happiness", "surprise"}


@pytest.mark.parametrize("read", [True, False], ids=["dropped by the stream", "replaced in the topic"])
def test_images_that_come_too_fast(start, read):
    """Each result has the header of its own image, whichever were left out: the first is under way until all came."""
    frame = SyntheticVideo(CLIP).frame(0)[::2, ::2]
    count = 12
    came = threading.Event()

    def feed(node: Any) -> Iterator[tuple[str, Image]]:
        publish = node.sent["faces"].publish
        node.sent["faces"].publish = lambda sent: came.wait(60) and publish(sent)
        for number in range(count):
            yield "image", image(frame, number=number)
            if read:
                wait_for(lambda: node.images.waiting is None)
        came.set()
        wait_for(lambda: any(sent.header.stamp.sec == count - 1 for sent in node.sent["faces"].messages))
        raise KeyboardInterrupt

    node, _ = start(feed)
    stamps = [sent.header.stamp.sec for sent in node.sent["faces"].messages]
    assert stamps == sorted(set(stamps))
    assert len(stamps) < count
    assert not node.images.headers


def test_encodings(start):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    shown = {}

    def feed(node: Any) -> Iterator[tuple[str, Image]]:
        space = sys._getframe(2).f_globals  # the page's module, which calls `spin`
        for encoding in ENCODINGS:
            shown[encoding] = space["to_rgb"](image(pixels, encoding, padding=3))
        for _ in range(2):
            yield "image", Image(encoding="16UC1")
        raise KeyboardInterrupt

    node, _ = start(feed)
    for encoding, found in shown.items():
        wanted = pixels[:, :, [1, 1, 1]] if encoding == "mono8" else pixels
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, wanted, encoding)
    assert node.logger.lines == ["images in 16UC1 are left out"]


def test_a_node_that_cannot_label_ends(start, monkeypatch):
    hook = []
    monkeypatch.setattr(threading, "excepthook", lambda what: hook.append(str(what.exc_value)))

    def feed(node: Any) -> Iterator[tuple[str, Image]]:
        node.model.close()
        while True:
            yield "image", image(SyntheticVideo(CLIP).frame(0))

    start(feed)
    assert "is closed" in hook[0]


def test_style():
    pytest.importorskip("ruff", reason="ruff is not installed")
    rules = ("--select", "E,F,W,B,I,UP,SIM", "--line-length", "110", "--target-version", "py310")
    command = [sys.executable, "-m", "ruff", "check", "-q", *rules, "-"]
    result = subprocess.run(command, input=CODE, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
