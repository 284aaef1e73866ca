"""The stages together, on a real (small) bundle: order, dropping, errors, ends, labels."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from fake_clock import Clock, Event
from streams import BLUE, GREEN, RED, ListSource, SquareDetector, moving, scene
from tiny_bundle import write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.session import Session
from edgefel.runtime.stream import pipeline
from edgefel.runtime.stream.pipeline import Stream, StreamOptions
from edgefel.runtime.telemetry.telemetry import Telemetry


def test_every_frame_comes_in_order_with_its_people(session):
    results = list(Stream(ListSource(moving(90)), SquareDetector(), session))
    assert [result.frame.index for result in results] == list(range(90))
    # a person has a number from the second frame on
    assert [[face.track for face in result.faces] for result in results] == [[], *[[1, 2]] * 89]
    assert results[-1].faces[0].age == pytest.approx(89 / 30)


def test_labels_are_those_of_the_session(session):
    image = scene([(20, 20, 60, RED), (20, 120, 60, BLUE)])
    expected = session([image[20:80, 20:80], image[120:180, 20:80]])
    options = StreamOptions(smoothing=0)
    *_, last = Stream(ListSource([image] * 3), SquareDetector(), session, options)
    for row, face in enumerate(last.faces):
        assert list(face.face.probabilities.values()) == pytest.approx(expected.probabilities[row], abs=1e-6)
        assert list(face.face.primary.values()) == pytest.approx(expected.primary[row], abs=1e-6)
        assert face.face.confidence == pytest.approx(expected.confidence[row], abs=1e-5)
        assert face.label == session.labels[expected.probabilities[row].argmax()]


def test_a_changed_face_changes_its_label_once_and_in_time(session):
    images = [scene([(20, 20, 60, RED if frame < 30 else BLUE)]) for frame in range(60)]
    labels = [
        result.faces[0].label
        for result in Stream(ListSource(images), SquareDetector(), session)
        if result.faces
    ]
    changes = [frame for frame in range(1, len(labels)) if labels[frame] != labels[frame - 1]]
    assert len(changes) == 1
    assert 29 <= changes[0] < 29 + 15


def test_a_line_tells_what_the_frame_alone_shows_beside_the_average(session):
    images = [scene([(20, 20, 60, RED if frame < 30 else BLUE)]) for frame in range(31)]
    *_, last = Stream(ListSource(images), SquareDetector(), session, StreamOptions(smoothing=5))
    (face,) = last.to_dict()["faces"]
    blue = session([np.full((60, 60, 3), BLUE, np.uint8)])
    assert face["raw_label"] == session.labels[blue.probabilities[0].argmax()] != face["label"]
    assert face["raw_probability"] == pytest.approx(blue.probabilities[0].max(), abs=1e-5)
    assert face["raw_confidence"] == pytest.approx(blue.confidence[0], abs=1e-5) != face["confidence"]


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


def test_policy_all_loses_nothing_of_a_live_source(session):
    source = ListSource(moving(40), live=True, fps=500)
    stream = Stream(source, SquareDetector(0.005), session, StreamOptions(policy="all"))
    assert len(list(stream)) == 40
    assert stream.dropped == 0


def test_a_file_under_latest_is_played_at_its_own_speed(session, monkeypatch):
    """Each frame is handed on at its own time, measured from the first."""
    clock = Clock()
    monkeypatch.setattr(pipeline, "time", clock)
    stream = Stream(ListSource(moving(30), fps=60), SquareDetector(), session, StreamOptions(policy="latest"))
    stream._stopping = event = Event(clock)
    results = list(stream)
    assert [100 + result.frame.time for result in results] == pytest.approx(
        [result.frame.captured for result in results]
    )
    assert event.waits == pytest.approx([0.0] + [1 / 60] * 29)
    assert len(results) + stream.dropped == 30


def test_nobody_and_forty_people(session):
    crowd = scene([(40 * (n % 8), 40 * (n // 8), 30, RED) for n in range(40)])
    images = [scene([]), crowd, crowd, scene([]), crowd]
    counts = [len(result.faces) for result in Stream(ListSource(images), SquareDetector(), session)]
    assert counts == [0, 0, 40, 0, 40]


def test_below_the_threshold_a_face_is_unsure(session):
    images = moving(5, (RED,))
    confidence = next(
        iter(list(Stream(ListSource(images), SquareDetector(), session))[-1].faces)
    ).face.confidence
    for threshold, sure in ((confidence - 0.01, True), (min(1.0, confidence + 0.01), False)):
        options = StreamOptions(min_confidence=threshold)
        (face,) = list(Stream(ListSource(images), SquareDetector(), session, options))[-1].faces
        assert face.sure is sure
        assert face.label == (face.face.top_label if sure else "unsure")
        assert face.to_dict()["label"] == face.label
        assert face.to_dict()["top_label"] == face.face.top_label


def test_below_the_least_quality_a_face_is_unsure(session):
    """By the average: a frame alone that is blurred changes no label."""
    sharp = patches(0)
    plain = sharp.copy()
    plain[40:120, 40:120] = 128
    source = ListSource([sharp] * 30 + [plain] + [sharp] * 5 + [plain] * 30)
    options = StreamOptions(min_quality=0.5, smoothing=0.2)
    results = list(Stream(source, PlaceDetector(), session, options))
    faces = [face for result in results for face in result.faces]
    assert [face.label == "unsure" for face in faces[:38]] == [False] * 38
    assert {face.label for face in faces[-20:]} == {"unsure"}
    document = faces[29].to_dict()
    assert document["quality"] > 0.5 > document["raw_quality"] == 0
    assert document["quality_parts"]["contrast"] == 0
    assert document["label"] == document["top_label"] == faces[29].face.top_label


def patches(seed: int) -> np.ndarray:
    """An image of random patches."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.kron(values, np.ones((40, 40, 1), np.uint8))


@pytest.mark.parametrize("every", [1, 100])
def test_a_cut_ends_all_tracks_and_what_was_averaged(session, every):
    """The person after it is at the same place, and the network's embedding does not tell who it is."""
    telemetry = Telemetry()
    options = StreamOptions(detect_every=every, smoothing=5)
    source = ListSource([patches(0)] * 6 + [patches(1)] * 6)
    detector = PlaceDetector()
    results = list(Stream(source, detector, session, options, telemetry))
    assert [result.to_dict()["cut"] for result in results] == [*[False] * 6, True, *[False] * 5]
    tracks = [[face.track for face in result.faces] for result in results]
    assert tracks == [[], *[[1]] * 5, [], *[[2]] * 5]
    assert telemetry.snapshot().counters["cuts"] == 1
    first = results[7].faces[0]
    assert first.age == pytest.approx(1 / 30)
    assert first.face.probabilities == pytest.approx(first.raw.probabilities, abs=1e-6)
    assert detector.whole == (12 if every == 1 else 2)


class PlaceDetector:
    """Finds a face at one place, whatever is there. whole: images that were searched as a whole."""

    whole = 0

    def __call__(self, image: np.ndarray) -> list[FaceBox]:
        self.whole += 1
        return self.near(image, [])

    def near(self, image: np.ndarray, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        return [FaceBox(40, 40, 80)]


def test_images_that_are_unrelated_have_no_cuts(session):
    options = StreamOptions(images=True)
    telemetry = Telemetry()
    source = ListSource([patches(seed) for seed in range(3)], names=True)
    assert not any(
        result.frame.cut for result in Stream(source, PlaceDetector(), session, options, telemetry)
    )
    assert telemetry.snapshot().counters["cuts"] == 0


def test_images_of_a_folder_show_other_people_each(session):
    same = scene([(20, 20, 60, RED)])
    options = StreamOptions(images=True)
    results = list(Stream(ListSource([same] * 3, names=True), SquareDetector(), session, options))
    assert [[face.track for face in result.faces] for result in results] == [[1], [2], [3]]
    assert results[1].to_dict()["source"] == "1.png"


def test_a_change_of_the_resolution_starts_a_whole_search(session):
    small = [scene([(20, 20, 60, RED)]) for _ in range(4)]
    large = [scene([(20, 20, 60, RED), (400, 300, 60, GREEN)], (640, 480)) for _ in range(4)]
    options = StreamOptions(detect_every=100)
    counts = [
        len(result.faces) for result in Stream(ListSource(small + large), SquareDetector(), session, options)
    ]
    assert counts == [0, 1, 1, 1, 1, 2, 2, 2]


@pytest.fixture
def no_cuts(monkeypatch):
    """Where all else is black, a square that appears from one frame to the next is as much as a cut."""
    monkeypatch.setattr(pipeline, "CutFinder", lambda: lambda image: False)


@pytest.mark.usefixtures("no_cuts")
def test_between_whole_searches_a_newcomer_is_found(session):
    images = [scene([(20, 20, 60, RED)])] * 3 + [scene([(20, 20, 60, RED), (200, 100, 60, GREEN)])] * 6
    options = StreamOptions(detect_every=100)
    counts = [len(result.faces) for result in Stream(ListSource(images), SquareDetector(), session, options)]
    assert counts == [0, 1, 1, 1, 2, 2, 2, 2, 2]


def test_every_stage_is_timed(session):
    telemetry = Telemetry()
    list(Stream(ListSource(moving(10)), SquareDetector(0.002), session, telemetry=telemetry))
    stages = telemetry.snapshot().stages
    assert {"capture", "detect", "align", "preprocess", "inference", "quality", "post", "total"} <= set(
        stages
    )
    assert stages["detect"].p50 >= 2
    assert telemetry.snapshot().counters["inferences"] == 20


@pytest.mark.parametrize(
    "options",
    [
        {"detect_every": 0},
        {"min_confidence": 1.5},
        {"min_quality": float("nan")},
        {"smoothing": -1},
        {"frames": 0},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"images": True, "detect_every": 2},
    ],
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


def test_under_latest_the_next_frame_is_the_newest_there_is(session):
    """However far the stages fall behind: a frame waits for the previous one, and not for all that came since."""

    class Camera(ListSource):
        """Gives out the frames that `come` releases."""

        changed, released, reads = threading.Condition(), 1, 0

        def read(self):
            with self.changed:
                self.reads += 1
                self.changed.notify_all()
                self.changed.wait_for(lambda: self._index < self.released)
            return super().read()

        def come(self, frames: int) -> None:
            """Releases so many, and waits until the last one lies in the queue."""
            with self.changed:
                self.released += frames
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.reads > min(self.released, self.frames))

    class Busy(SquareDetector):
        def __call__(self, image):
            source.come(4)
            return super().__call__(image)

    source = Camera(moving(21), live=True, fps=1e6)
    stream = Stream(source, Busy(), session)
    assert [result.frame.index for result in stream] == [0, 4, 8, 12, 16, 20]
    assert stream.dropped == 15


def test_waiting_for_its_time_is_no_latency_of_a_frame(session):
    stream = Stream(ListSource(moving(3), fps=2), SquareDetector(), session, StreamOptions(policy="latest"))
    assert max(result.latency for result in stream) < 0.4


@pytest.mark.usefixtures("no_cuts")
def test_rate_latency_and_age(session):
    images = moving(10, (RED,)) + moving(10)
    results = list(Stream(ListSource(images), SquareDetector(0.01), session))
    ready = [result.frame.captured + result.latency for result in results]
    assert results[0].fps == 0
    assert results[-1].fps == pytest.approx(19 / (ready[-1] - ready[0]))
    assert min(result.latency for result in results) >= 0.01
    assert results[-1].to_dict()["latency_ms"] == pytest.approx(1e3 * results[-1].latency, abs=0.006)
    # boxes of one side come in the order of their place, which has moved back for the first person
    assert sorted(face.age for face in results[-1].faces) == pytest.approx([9 / 30, 19 / 30])


def test_faces_that_are_not_confirmed_are_not_among_the_tracks(session):
    telemetry = Telemetry()
    list(Stream(ListSource(moving(1)), SquareDetector(), session, telemetry=telemetry))
    assert telemetry.snapshot().gauges == {"tracks": 0}


def test_the_average_decides_who_is_unsure(session):
    images = [scene([(20, 20, 60, RED if frame < 30 else BLUE)]) for frame in range(31)]

    def last_face(threshold: float):
        options = StreamOptions(smoothing=5, min_confidence=threshold)
        *_, last = Stream(ListSource(images), SquareDetector(), session, options)
        return last.faces[0]

    averaged, alone = last_face(0).face.confidence, last_face(0).raw.confidence
    assert abs(averaged - alone) > 0.01
    assert last_face((averaged + alone) / 2).sure is (averaged > alone)
