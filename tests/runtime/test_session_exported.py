"""Sessions over a really exported bundle."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.confidence import entropy_confidence
from edgefel.runtime.session import Session


@pytest.fixture(scope="module")
def session(nano_bundle):
    with Session.open(nano_bundle, threads=1, max_batch=4) as opened:
        yield opened


def crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (100 + 3 * i, 90 + i, 3), dtype=np.uint8) for i in range(count)]


def test_predictions_are_those_of_the_file(session, nano_bundle):
    batch = session.manifest.preprocessing.batch(crops(3))
    direct = onnxruntime.InferenceSession(nano_bundle / "model.fp32.onnx")
    names = [output.name for output in direct.get_outputs()]
    expected = dict(zip(names, direct.run(None, {"image": batch}), strict=True))
    for predictions in (session.run(batch), session(crops(3))):
        for name, values in predictions._asdict().items():
            np.testing.assert_allclose(values, expected[name], atol=1e-6, err_msg=name)


def test_many_crops_are_split_and_none_gives_none(session):
    together = session(crops(11))
    alone = [session([crop]) for crop in crops(11)]
    for name, values in together._asdict().items():
        stacked = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_allclose(values, stacked, atol=1e-6, err_msg=name)
    empty = session([])
    assert empty.probabilities.shape == (0, 7)
    assert empty.confidence.shape == (0,)


def test_mirror_averages_an_image_and_its_mirror_image(session, nano_bundle):
    batch = session.manifest.preprocessing.batch(crops(5))
    mirrored = np.ascontiguousarray(batch[..., ::-1])
    spent = []
    with Session.open(nano_bundle, threads=1, max_batch=4, mirror=True) as both:
        means = both.run(batch, lambda stage, seconds: spent.append(stage))
        assert both.mirror
        assert both.notes[0] == "each image and its mirror image, averaged"
        np.testing.assert_allclose(both.run(mirrored).logits, means.logits, atol=1e-5)
        np.testing.assert_array_equal(both(crops(5)).logits, means.logits)
        assert both([]).probabilities.shape == (0, 7)
    assert spent == ["inference", "inference"]  # of batches of 4 and 1, not of each run
    one, other = session.run(batch), session.run(mirrored)
    assert np.abs(one.logits - other.logits).max() > 0.01
    for name, values in means._asdict().items():
        expected = (getattr(one, name) + getattr(other, name)) / 2
        if name == "confidence":
            expected = entropy_confidence(means.probabilities)
        np.testing.assert_allclose(values, expected, atol=1e-5, err_msg=name)
        assert values.dtype == np.float32


def test_threads_may_share_a_session(session):
    expected = session(crops(5)).probabilities
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: session(crops(5)).probabilities, range(8)):
            np.testing.assert_allclose(result, expected, atol=1e-6)


def test_the_precision_is_what_was_asked_for(nano_bundle):
    with Session.open(nano_bundle) as default, Session.open(nano_bundle, "int8") as int8:
        assert (default.precision, int8.precision) == ("fp32", "int8")
        assert default.backend == int8.backend
        assert not np.array_equal(default(crops(2)).logits, int8(crops(2)).logits)
    with pytest.raises(EdgefelError, match="no fp16 file"):
        Session.open(nano_bundle, "fp16")
    with pytest.raises(EdgefelError, match="not known"):
        Session.open(nano_bundle, "fp4")
    with pytest.raises(EdgefelError, match="backend 'tpu' is not known"):
        Session.open(nano_bundle, backend="tpu")


def test_a_changed_file_is_refused_unless_forced(nano_bundle, tmp_path):
    bundle = shutil.copytree(nano_bundle, tmp_path / "bundle")
    document = json.loads((bundle / "manifest.json").read_text())
    document["files"][0]["sha256"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EdgefelError, match="model.fp32.onnx"):
        Session.open(bundle)
    with Session.open(bundle, force=True) as session:
        assert session(crops(1)).probabilities.shape == (1, 7)


def test_broken_files_are_explained(nano_bundle, tmp_path):
    bundle = shutil.copytree(nano_bundle, tmp_path / "bundle")
    (bundle / "model.fp32.onnx").write_bytes(b"nothing")
    with pytest.raises(EdgefelError, match="ONNX Runtime cannot load it"):
        Session.open(bundle, backend="onnxruntime", force=True)
    (bundle / "model.fp32.onnx").unlink()
    with pytest.raises(EdgefelError, match="model.fp32.onnx"):
        Session.open(bundle)


def test_wrong_batches_and_closed_sessions(nano_bundle, session):
    with pytest.raises(EdgefelError, match="expected float32"):
        session.run(np.zeros((1, 3, 64, 64), np.float32))
    with pytest.raises(EdgefelError, match="expected float32"):
        session.run(np.zeros((1, 3, 112, 112), np.float64))
    closed = Session.open(nano_bundle)
    closed.close()
    closed.close()
    with pytest.raises(EdgefelError, match="closed"):
        closed(crops(1))
