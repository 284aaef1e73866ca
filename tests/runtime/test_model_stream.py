"""`model.stream`: frames with tracked faces, from files, folders and sources that are open; what it refuses."""

from __future__ import annotations

import copy
import json
import re
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from streams import GREEN, RED, ListSource, SquareDetector, moving, scene

import edgefel
from edgefel.data.framing import Framing
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.labelling import Thresholds
from edgefel.runtime.model import Model
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.pipeline import Stream
from edgefel.runtime.telemetry.telemetry import Telemetry


@pytest.fixture
def model(session):
    return Model(session, SquareDetector)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """20 frames with two moving squares, without losses."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 20.0, (320, 240))
    for image in moving(20):
        writer.write(image[..., ::-1])
    writer.release()
    return path


def test_frames_of_a_video_with_tracked_faces(model, clip, session):
    frames = list(model.stream(clip))
    assert [frame.index for frame in frames] == list(range(20))
    assert frames[4].time == pytest.approx(0.2)
    assert {len(frame.faces) for frame in frames[5:]} == {2}
    assert {face.track for frame in frames for face in frame.faces} == {1, 2}
    assert np.abs(frames[7].image.astype(int) - moving(20)[7]).max() <= 2
    expected = list(Stream(open_source(str(clip)), SquareDetector(), session))
    for frame, other in zip(frames, expected, strict=True):
        assert [face.to_dict() for face in frame.faces] == [face.to_dict() for face in other.faces]
    json.dumps([frame.to_dict() for frame in frames])


def test_every_kind_of_source_that_run_takes(model, clip, tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), scene([(20, 20, 60, RED)])[..., ::-1])
    assert len(list(model.stream(str(clip), frames=4))) == 4
    assert len(list(model.stream(clip, seconds=0.25))) == 5
    # images are not each other's neighbours, unless a rate says so
    for fps, tracks in ((None, {1, 2, 3}), (5, {1})):
        frames = list(model.stream(tmp_path, fps=fps))
        assert {face.track for frame in frames for face in frame.faces} == tracks
    with pytest.raises(edgefel.EdgefelError, match="faces of one image are not near"):
        model.stream(tmp_path, detect_every=2)
    assert len(list(model.stream(ListSource(moving(6))))) == 6
    assert len(list(model.stream(tmp_path / "0.png"))) == 1


def test_a_camera_is_its_number_or_name(model):
    for source in (97, "97"):
        with pytest.raises(edgefel.EdgefelError, match=r"/dev/video97: no such device"):
            model.stream(source)


def test_thresholds_and_options_reach_the_stream(session, clip):
    strict = Model(session, SquareDetector, Thresholds(min_confidence=1.0))
    *_, last = strict.stream(clip, smoothing=0)
    assert [face.label for face in last.faces] == ["unsure", "unsure"]
    assert last.faces[0].probabilities == last.faces[0].raw.probabilities
    assert last.faces[0].top_label in session.labels
    assert Model(session, SquareDetector).stream(ListSource([]), policy="latest").policy == "latest"
    telemetry = Telemetry()
    list(strict.stream(clip, telemetry=telemetry))
    assert telemetry.snapshot().counters["frames"] == 20


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("", {}, "is empty"),
        ("absent.mp4", {}, "absent.mp4: no such file or folder"),
        ("ftp://here/x", {}, "unknown kind of address"),
        (None, {}, "a value of type NoneType is no source"),
        (np.zeros((4, 4)), {}, "a value of type ndarray is no source"),
        (ListSource([]), {"fps": 3}, "memory: is open already"),
        ("{clip}", {"size": (3, 4)}, "for which size has no meaning"),
        ("{clip}", {"smoothing": -1}, "smoothing of -1 seconds"),
        ("{clip}", {"detect_every": 0}, "detect_every is 0"),
        ("{clip}", {"frames": 0}, "frames is 0"),
        ("{clip}", {"policy": "newest"}, "policy 'newest' is not known; choose one of: auto, latest, all"),
        ("{clip}", {"fps": 0}, "fps is 0"),
    ],
)
def test_what_is_refused_is_one_line(model, clip, source, options, message):
    source = clip if isinstance(source, str) and source == "{clip}" else source
    with pytest.raises(edgefel.EdgefelError, match=re.escape(message)) as caught:
        model.stream(source, **options)
    assert "\n" not in str(caught.value)


def test_a_source_that_is_not_streamed_is_closed(model):
    source = ListSource(moving(3))
    with pytest.raises(edgefel.EdgefelError):
        model.stream(source, smoothing=-1)
    assert source.closed
    source = ListSource(moving(3))
    with model.stream(source):
        assert not source.closed
    assert source.closed


def test_leaving_the_loop_ends_the_stages(model):
    source = ListSource(moving(50))
    before = threading.active_count()
    with model.stream(source) as stream:
        for frame in stream:
            if frame.index == 3:
                break
    assert source.closed
    assert threading.active_count() == before
    with pytest.raises(edgefel.EdgefelError, match="a stream runs once"):
        next(iter(stream))


def test_a_face_that_cannot_be_framed_says_why_in_images_and_streams(session):
    """At the corner, where most of the frame lies beyond the image; one person beside it is framed."""

    def detect(image):
        return [FaceBox(-50, -50, 100, 1.0), FaceBox(150, 90, 60, 1.0)]

    framed = copy.copy(session)
    framed.manifest = replace(session.manifest, framing=Framing(0.4, 0.35, 0.02, 0.02, 100))
    model = Model(framed, lambda: detect)
    image = scene([(0, 0, 50, RED), (150, 90, 60, GREEN)])
    expected = ["a frame that reaches far beyond the image", None]
    assert [face.misframed for face in model(image, channels="rgb")] == expected
    with pytest.warns(edgefel.EdgefelWarning, match="memory: a face with a frame that reaches far beyond"):
        *_, last = model.stream(ListSource([image] * 5))
    assert [face.misframed for face in last.faces] == expected
    assert [face.raw.misframed for face in last.faces] == expected


def test_a_stream_has_a_detector_of_its_own(session):
    made = []

    def make():
        made.append(SquareDetector(0.01))
        return made[-1]

    model = Model(session, make)
    with model.stream(ListSource(moving(30, (RED, GREEN)))) as stream:
        for frame in stream:
            if frame.index == 5:
                image = frame.image
                break
    assert len(made) == 1
    assert len(model(image, channels="rgb")) == 2
    assert len(made) == 2
