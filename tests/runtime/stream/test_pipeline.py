"""The stages together, on a real (small) bundle: order, dropping, errors, ends, labels."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from streams import BLUE, GREEN, RED, ListSource, SquareDetector, picture
from tiny_bundle import write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.session import Session
from edgefel.runtime.stream.pipeline import Stream, StreamOptions
from edgefel.runtime.telemetry.telemetry import Telemetry


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = write_bundle(tmp_path_factory.mktemp("stream") / "bundle")
    with Session.open(folder, backend="onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


def moving(frames: int, colours=(RED, GREEN)) -> list[np.ndarray]:
    return [
        picture([(20 + frame, 20 + 100 * row, 60, colour) for row, colour in enumerate(colours)])
        for frame in range(frames)
    ]


def test_every_frame_comes_in_order_with_its_people(session):
    results = list(Stream(ListSource(moving(90)), SquareDetector(), session))
    assert [result.frame.index for result in results] == list(range(90))
    # a person has a number from the second frame on
    assert [[face.track for face in result.faces] for result in results] == [[], *[[1, 2]] * 89]
    assert results[-1].faces[0].age == pytest.approx(89 / 30)


def test_labels_are_those_of_the_session(session):
    image = picture([(20, 20, 60, RED), (20, 120, 60, BLUE)])
    expected = session([image[20:80, 20:80], image[120:180, 20:80]])
    options = StreamOptions(smoothing=0)
    *_, last = Stream(ListSource([image] * 3), SquareDetector(), session, options)
    for row, face in enumerate(last.faces):
        assert list(face.face.probabilities.values()) == pytest.approx(expected.probabilities[row], abs=1e-6)
        assert list(face.face.primary.values()) == pytest.approx(expected.primary[row], abs=1e-6)
        assert face.face.confidence == pytest.approx(expected.confidence[row], abs=1e-5)
        assert face.label == session.labels[expected.probabilities[row].argmax()]


def test_a_changed_face_changes_its_label_once_and_in_time(session):
    pictures = [picture([(20, 20, 60, RED if frame < 30 else BLUE)]) for frame in range(60)]
    labels = [
        result.faces[0].label
        for result in Stream(ListSource(pictures), SquareDetector(), session)
        if result.faces
    ]
    changes = [frame for frame in range(1, len(labels)) if labels[frame] != labels[frame - 1]]
    assert len(changes) == 1
    assert 29 <= changes[0] < 29 + 15


def test_too_slow_for_a_live_source_it_drops_frames_and_counts_them(session):
    telemetry = Telemetry()
    source = ListSource(moving(60), live=True, fps=120)
    stream = Stream(source, SquareDetector(0.05), session, telemetry=telemetry)
    assert stream.policy == "latest"
    results = list(stream)
    assert stream.dropped > 20
    assert len(results) + stream.dropped == 60
    indices = [result.frame.index for result in results]
    assert indices == sorted(set(indices))
    assert indices[-1] == 59
    counters = telemetry.snapshot().counters
    assert counters["dropped"] == stream.dropped
    assert counters["frames"] == len(results)


def test_what_it_gives_of_a_live_source_is_never_old(session):
    """A frame waits for at most the one before it: not for all that came since."""
    results = list(Stream(ListSource(moving(60), live=True, fps=120), SquareDetector(0.03), session))
    assert max(result.latency for result in results[2:]) < 0.25


def test_policy_all_loses_nothing_of_a_live_source(session):
    source = ListSource(moving(40), live=True, fps=500)
    stream = Stream(source, SquareDetector(0.005), session, StreamOptions(policy="all"))
    assert len(list(stream)) == 40
    assert stream.dropped == 0


def test_a_file_under_latest_is_played_at_its_own_speed(session):
    start = time.monotonic()
    stream = Stream(ListSource(moving(30), fps=60), SquareDetector(), session, StreamOptions(policy="latest"))
    results = list(stream)
    assert time.monotonic() - start >= 29 / 60 - 0.02
    assert len(results) + stream.dropped == 30


def test_a_source_that_dies_gives_its_last_frames_first(session):
    source = ListSource(moving(10), error=EdgefelError("camera 0: gone; plug it in"))
    seen = []
    with pytest.raises(EdgefelError, match="camera 0: gone"):
        for result in Stream(source, SquareDetector(), session):
            seen.append(result.frame.index)
    assert seen == list(range(10))


@pytest.mark.parametrize("broken", ["detector", "session"])
def test_an_error_in_a_stage_ends_the_run(session, broken, monkeypatch):
    def fail(*arguments):
        raise EdgefelError(f"the {broken} is broken")

    if broken == "session":
        monkeypatch.setattr(Session, "__call__", fail)
    detector = fail if broken == "detector" else SquareDetector()
    source = ListSource(moving(100))
    with pytest.raises(EdgefelError, match=f"the {broken} is broken"):
        list(Stream(source, detector, session))
    assert source.closed


def test_leaving_the_loop_ends_everything(session):
    source = ListSource(moving(1000))
    for result in Stream(source, SquareDetector(), session):
        if result.frame.index == 5:
            break
    del result
    assert source.closed


def test_stop_from_another_thread_gives_what_was_read(session):
    source = ListSource(moving(5000), live=True, fps=200)
    stream = Stream(source, SquareDetector(), session, StreamOptions(policy="all"))
    threading.Timer(0.3, stream.stop).start()
    results = list(stream)
    assert 5 < len(results) < 1000


def test_nobody_and_forty_people(session):
    crowd = picture([(40 * (n % 8), 40 * (n // 8), 30, RED) for n in range(40)])
    pictures = [picture([]), crowd, crowd, picture([]), crowd]
    counts = [len(result.faces) for result in Stream(ListSource(pictures), SquareDetector(), session)]
    assert counts == [0, 0, 40, 0, 40]


def test_below_the_threshold_a_face_is_unsure(session):
    pictures = moving(5, (RED,))
    confidence = next(
        iter(list(Stream(ListSource(pictures), SquareDetector(), session))[-1].faces)
    ).face.confidence
    for threshold, sure in ((confidence - 0.01, True), (min(1.0, confidence + 0.01), False)):
        options = StreamOptions(min_confidence=threshold)
        (face,) = list(Stream(ListSource(pictures), SquareDetector(), session, options))[-1].faces
        assert face.sure is sure
        assert face.label == (face.face.label if sure else "unsure")
        assert face.to_dict()["label"] == face.label
        assert face.to_dict()["top_label"] == face.face.label


@pytest.mark.parametrize(("limit", "expected"), [({"frames": 7}, 7), ({"seconds": 0.5}, 15)])
def test_it_stops_where_it_is_told(session, limit, expected):
    results = list(Stream(ListSource(moving(50)), SquareDetector(), session, StreamOptions(**limit)))
    assert len(results) == expected


def test_pictures_of_a_folder_show_other_people_each(session):
    same = picture([(20, 20, 60, RED)])
    options = StreamOptions(pictures=True)
    results = list(Stream(ListSource([same] * 3, names=True), SquareDetector(), session, options))
    assert [[face.track for face in result.faces] for result in results] == [[1], [2], [3]]
    assert results[1].to_dict()["source"] == "1.png"


def test_a_change_of_the_resolution_starts_a_whole_search(session):
    small = [picture([(20, 20, 60, RED)]) for _ in range(4)]
    large = [picture([(20, 20, 60, RED), (400, 300, 60, GREEN)], (640, 480)) for _ in range(4)]
    options = StreamOptions(detect_every=100)
    counts = [
        len(result.faces) for result in Stream(ListSource(small + large), SquareDetector(), session, options)
    ]
    assert counts == [0, 1, 1, 1, 1, 2, 2, 2]


def test_between_whole_searches_a_newcomer_is_not_seen(session):
    pictures = [picture([(20, 20, 60, RED)])] + [picture([(20, 20, 60, RED), (200, 100, 60, GREEN)])] * 9
    options = StreamOptions(detect_every=5)
    counts = [
        len(result.faces) for result in Stream(ListSource(pictures), SquareDetector(), session, options)
    ]
    assert counts == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_every_stage_is_timed(session):
    telemetry = Telemetry()
    list(Stream(ListSource(moving(10)), SquareDetector(0.002), session, telemetry=telemetry))
    stages = telemetry.snapshot().stages
    assert {"capture", "detect", "align", "preprocess", "inference", "post", "total"} <= set(stages)
    assert stages["detect"].p50 >= 2
    assert telemetry.snapshot().counters["inferences"] == 20


@pytest.mark.parametrize(
    "options",
    [{"detect_every": 0}, {"min_confidence": 1.5}, {"smoothing": -1}, {"frames": 0}, {"seconds": 0}],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(EdgefelError):
        StreamOptions(**options)


def test_a_bundle_without_the_primary_distribution_is_refused(tmp_path):
    import json

    folder = write_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["outputs"].remove("primary")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with (
        Session.open(folder, backend="onnxruntime") as opened,
        pytest.raises(EdgefelError, match="without the output primary"),
    ):
        Stream(ListSource([]), SquareDetector(), opened)
