"""The Python API on images: one, several, of every kind; errors, closing. tests/runtime/test_model_threads.py has the
rest, tests/test_api.py what is imported."""

from __future__ import annotations

import inspect
import json
from typing import Any

import cv2
import numpy as np
import pytest
from streams import BLUE, GREEN, RED, SquareDetector, scene
from tiny_bundle import write_bundle

import edgefel
from edgefel.cli.network import network_options
from edgefel.data.images import UnreadableImageError, read_rgb
from edgefel.runtime.faces import WholeImage
from edgefel.runtime.labelling import Thresholds, label_faces
from edgefel.runtime.model import Model, load
from edgefel.runtime.session import Session

SQUARES = [(20, 30, 60, RED), (120, 40, 50, GREEN), (220, 100, 40, BLUE)]


@pytest.fixture
def model(session):
    """Of a session that stays open."""
    return Model(session, SquareDetector)


@pytest.fixture
def photos(tmp_path):
    """Images with 3, 2, 1 and 0 faces."""
    paths = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), scene(SQUARES[number:])[..., ::-1])
        paths.append(path)
    return paths


def close_to(faces, others, tolerance=1e-6):
    """The same faces; probabilities may differ by the rounding of a batch of another size."""
    assert [face.box for face in faces] == [face.box for face in others]
    for face, other in zip(faces, others, strict=True):
        assert face.label == other.label
        assert face.quality == other.quality
        for values, rest in ((face.probabilities, other.probabilities), (face.primary, other.primary)):
            assert list(values) == list(rest)
            np.testing.assert_allclose([*values.values()], [*rest.values()], rtol=0, atol=tolerance)
    return True


def test_a_file_and_its_arrays_give_the_same(model, session, photos):
    expected = label_faces(read_rgb(photos[0]), SquareDetector(), session)
    faces = model(photos[0])
    assert faces.source == str(photos[0])
    assert list(faces) == list(model(str(photos[0]))) == expected
    bgr = cv2.imread(str(photos[0]))
    assert list(model(bgr, channels="bgr")) == expected
    assert list(model(bgr[..., ::-1], channels="rgb")) == expected
    assert list(model(photos[0].read_bytes())) == expected
    assert model(bgr, channels="bgr").source is None
    # the squares are red, green and blue: in the other order they are other faces
    assert [face.probabilities for face in model(bgr, channels="rgb")] != [
        face.probabilities for face in expected
    ]


def test_a_list_is_as_single_calls_in_order(model, photos):
    alone = [model(path) for path in photos]
    several = model(photos)
    assert [faces.source for faces in several] == [str(path) for path in photos]
    assert [len(faces) for faces in several] == [3, 2, 1, 0]
    assert all(close_to(*pair) for pair in zip(several, alone, strict=True))
    mixed = [photos[0], cv2.imread(str(photos[1])), photos[2].read_bytes(), str(photos[3])]
    for images in (mixed, tuple(mixed), (image for image in mixed)):
        assert all(close_to(*pair) for pair in zip(model(images, channels="bgr"), alone, strict=True))
    assert model([]) == []


def test_map_gives_results_before_it_has_read_everything(model, photos):
    read = []

    def images():
        for path in photos * 30:
            read.append(path)
            yield path

    results = model.map(images())
    assert read == []
    assert len(next(results)) == 3
    assert 0 < len(read) < 60
    results.close()


def test_an_array_that_is_filled_again_is_labelled_as_it_was(model):
    """As with `camera.read(frame)`: images wait for their batch while the next ones are taken."""
    frame = np.empty((240, 320, 3), np.uint8)

    def frames():
        for number in range(4):
            frame[:] = scene(SQUARES[number:])
            yield frame

    assert [len(faces) for faces in model(frames(), channels="rgb")] == [3, 2, 1, 0]


def test_arrays_are_not_changed(model, photos):
    bgr = cv2.imread(str(photos[0]))
    before = bgr.copy()
    bgr.flags.writeable = False
    model(bgr, channels="bgr")
    model([bgr, bgr], channels="rgb")
    assert np.array_equal(bgr, before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 3, 4), (90, 1), (2, 7, 1), (33, 17, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("detector", [SquareDetector, WholeImage])
def test_odd_shapes_are_labelled(session, shape, dtype, detector):
    image = np.full(shape, 1 if dtype is np.float32 else 200, dtype)
    (face,) = Model(session, detector)(image, channels="rgb")
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(face.confidence)


def test_colour_without_its_order_is_an_error_for_one_and_for_many(model, photos):
    colour = cv2.imread(str(photos[0]))
    with pytest.raises(edgefel.EdgefelError, match=r"^image: a colour array can be RGB or BGR"):
        model(colour)
    with pytest.raises(edgefel.EdgefelError, match=r"^image 1: a colour array can be RGB or BGR"):
        model([photos[0], colour])
    with pytest.raises(edgefel.EdgefelError, match=r"^image 1: a colour array can be RGB or BGR"):
        model([photos[0], colour], errors="keep")  # a mistake of the program, not of the image


def test_an_image_that_cannot_be_read_raises_or_is_kept(model, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:60])
    images = [photos[0], broken, np.full((4, 4), np.nan), photos[2], tmp_path / "absent.png"]
    with pytest.raises(UnreadableImageError, match=r"broken\.png: ") as caught:
        model(broken)
    assert "\n" not in str(caught.value)
    with pytest.raises(edgefel.EdgefelError, match=r"broken\.png: "):
        model(images)
    results = model(images, errors="keep")
    assert [len(faces) for faces in results] == [3, 0, 0, 1, 0]
    assert [faces.error is None for faces in results] == [True, False, False, True, False]
    assert str(results[1].error) == str(caught.value)
    assert str(results[2].error).startswith("image 2: holds values that are not finite")
    assert model(broken, errors="keep").error is not None
    results = model.map(images)
    assert len(next(results)) == 3
    with pytest.raises(UnreadableImageError):
        next(results)


def test_options_of_a_call_that_are_not_known(model, photos):
    with pytest.raises(edgefel.EdgefelError, match="errors is 'skip'; give 'raise' or 'keep'"):
        model(photos[0], errors="skip")
    with pytest.raises(edgefel.EdgefelError, match="errors is 'skip'"):
        model.map(photos, errors="skip")
    with pytest.raises(edgefel.EdgefelError, match=r"map\(\) takes several images"):
        model.map("photo.jpg")
    with pytest.raises(edgefel.EdgefelError, match="of type int is no image"):
        model(3)


def test_a_face_below_a_threshold_is_unsure(session, photos):
    sure = Model(session, SquareDetector)(photos[0])
    assert all(face.label == face.top_label for face in sure)
    middle = sorted(face.confidence for face in sure)[1]
    doubtful = Model(session, SquareDetector, Thresholds(min_confidence=middle))(photos[0])
    assert [face.label == "unsure" for face in doubtful] == [face.confidence < middle for face in sure]
    assert [face.top_label for face in doubtful] == [face.top_label for face in sure]
    strict = Model(session, SquareDetector, Thresholds(min_quality=1.0))(photos[0])
    assert {face.label for face in strict} == {"unsure"}


def test_faces_without_a_framing_are_not_misframed(model, photos):
    assert [face.misframed for face in model(photos[0])] == [None] * 3


def test_the_network_that_comes_with_edgefel_is_taken_without_a_bundle(shipped):
    with load(detector="none", threads=1, backend="onnxruntime") as model:
        assert model.session.manifest.folder == shipped
        assert repr(model) == "<Model fer-plus-nano: model.fp32.onnx by onnxruntime>"
        assert model.labels == model.session.labels
        (face,) = model(np.full((20, 30), 99, np.uint8))
        assert face.size == (30, 20)
    assert repr(model).endswith("by onnxruntime, closed>")


def test_an_installation_without_a_network(none_shipped):
    with pytest.raises(edgefel.EdgefelError, match="this installation holds no network"):
        load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "nvidia"}, "nvidia"),
        ({"precision": "int8"}, "no int8 file"),
        ({"threads": 0}, "threads is 0"),
        ({"detector": "mtcnn"}, "choose one of: haar, yunet, none"),
        ({"detector": "none", "detector_model": "x.onnx"}, "--detector-model"),
        ({"min_face": 2}, "smallest face 2"),
        ({"min_quality": float("nan")}, "min_quality is nan"),
        ({"min_confidence": -1}, "min_confidence is -1"),
    ],
)
def test_options_of_load_that_make_no_sense(bundle, options, message):
    with pytest.raises(edgefel.EdgefelError, match=message) as caught:
        load(bundle, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(edgefel.EdgefelError, match="edgefel export"):
        load(tmp_path)


def test_a_bundle_without_primary_is_refused_and_closed(tmp_path, monkeypatch):
    folder = write_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["outputs"].remove("primary")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    opened = []
    open_session = Session.open.__func__

    def noted(*given: Any, **named: Any) -> Session:
        opened.append(open_session(*given, **named))
        return opened[0]

    monkeypatch.setattr(Session, "open", classmethod(noted))
    with pytest.raises(edgefel.EdgefelError, match="without the output primary"):
        load(folder, backend="onnxruntime")
    assert opened[0].closed


def default_of(option):
    """None where click has none; its own mark for that depends on the version."""
    return option.to_info_dict()["default"]


def test_options_and_defaults_are_those_of_the_command_line():
    """`min_confidence` is an option of `run` alone; "none" is --no-detect."""
    import click

    from edgefel.cli.run import command

    @click.command()
    @network_options
    def options(network):
        """Those that both commands have."""

    parameters = inspect.signature(load).parameters
    given = {option.name: default_of(option) for option in options.params}
    given |= {option.name: default_of(option) for option in command.params if option.name == "min_confidence"}
    assert {name: parameter.default for name, parameter in parameters.items() if name != "bundle"} == given
    streamed = inspect.signature(Model.stream).parameters
    defaults = {option.name: default_of(option) for option in command.params if option.name in streamed}
    assert set(streamed) - set(defaults) == {"self", "telemetry"}
    defaults.pop("source")
    assert {name: streamed[name].default for name in defaults} == defaults


def test_a_closed_model_is_one_line(bundle, photos):
    model = load(bundle, detector="none", backend="onnxruntime")
    waiting = model.map(photos)
    stream = model.stream(photos[0])
    model.close()
    model.close()
    for call in (
        lambda: model(photos[0]),
        lambda: model(photos),
        lambda: model([]),
        lambda: model.map(photos),
        lambda: model.stream(photos[0]),
        lambda: next(waiting),
    ):
        with pytest.raises(edgefel.EdgefelError) as caught:
            call()
        assert str(caught.value) == f"{bundle}: the model is closed; load it again"
    with pytest.raises(edgefel.EdgefelError, match="the session is closed"):
        list(stream)
