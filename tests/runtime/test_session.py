"""Sessions on a real ONNX file small enough to know its outputs."""

from __future__ import annotations

import os
import threading

import numpy as np
import onnx
import pytest
from tiny_bundle import EMBEDDING_DIM, PREPROCESSING, expected_outputs, tiny_model

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import OUTPUT_NAMES, describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Predictions, Session


def random_batch(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 14, 14)).astype(np.float32)


def random_crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return [np.tile(base[i], (20 + i, 24, 1)) for i in range(count)]


def assert_equal(first: Predictions, second: Predictions, tolerance: float = 1e-6) -> None:
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=tolerance, err_msg=name)


def test_outputs_are_those_of_the_network(bundle):
    batch = random_batch(5)
    with Session.open(bundle) as session:
        predictions = session.run(batch)
    assert predictions._fields == OUTPUT_NAMES
    for name, expected in expected_outputs(batch).items():
        values = getattr(predictions, name)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, atol=1e-5, err_msg=name)


def test_crops_are_preprocessed(bundle):
    crops = random_crops(3)
    with Session.open(bundle) as session:
        assert_equal(session(crops), session.run(PREPROCESSING.batch(crops)), 0)


def test_what_was_opened(bundle):
    with Session.open(bundle, backend="onnxruntime", threads=1, max_batch=3) as session:
        assert session.labels == EXPRESSIONS_7
        assert (session.precision, session.backend) == ("fp32", "onnxruntime")
        assert (session.threads, session.max_batch) == (1, 3)
    with Session.open(bundle) as session:
        assert session.threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_large_batches_are_split(bundle, count):
    batch = random_batch(count)
    with Session.open(bundle, max_batch=4) as split, Session.open(bundle, max_batch=64) as whole:
        sizes = record_batch_sizes(split)
        assert_equal(split.run(batch), whole.run(batch))
        assert max(sizes) <= 4
        assert sum(sizes) == count
        sizes.clear()
        assert_equal(split(random_crops(count)), whole(random_crops(count)))
        assert sum(sizes) == count
        assert max(sizes) <= 4


def record_batch_sizes(session: Session) -> list[int]:
    runner, sizes = session._runner, []

    class Recorder:
        def run(self, batch, record=None):
            sizes.append(len(batch))
            return runner.run(batch, record)

        def close(self):
            runner.close()

    session._runner = Recorder()
    return sizes


def test_a_prediction_does_not_depend_on_its_batch_mates(bundle):
    batch = random_batch(6)
    with Session.open(bundle) as session:
        together = session.run(batch)
        for i in range(len(batch)):
            alone = session.run(batch[i : i + 1])
            assert_equal(alone, Predictions(*(values[i : i + 1] for values in together)))


def test_an_empty_batch_gives_empty_predictions(bundle):
    with Session.open(bundle) as session:
        for predictions in (session([]), session.run(random_batch(0))):
            assert predictions.probabilities.shape == (0, 7)
            assert predictions.logits.shape == predictions.primary.shape == (0, 7)
            assert predictions.confidence.shape == (0,)
            assert predictions.embedding.shape == (0, EMBEDDING_DIM)


def test_strided_batches(bundle):
    wide = random_batch(8)
    with Session.open(bundle) as session:
        assert_equal(session.run(wide[::2]), session.run(wide[::2].copy()), 0)


def test_threads_may_share_a_session(bundle):
    batches = [random_batch(3, seed) for seed in range(8)]
    with Session.open(bundle, max_batch=2) as session:
        expected = [session.run(batch) for batch in batches]
        wrong: list[int] = []

        def work(number: int) -> None:
            for _ in range(20):
                predictions = session.run(batches[number])
                if not np.array_equal(predictions.logits, expected[number].logits):
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_closed_sessions_say_so(bundle):
    session = Session.open(bundle)
    session.warm_up(2)
    session.close()
    session.close()
    with pytest.raises(EdgefelError, match="the session is closed"):
        session.run(random_batch(1))


def test_the_default_is_the_best_for_the_backend_and_others_are_taken_on_request(make_bundle):
    bundle = make_bundle(precisions=("int8", "fp32", "fp16"))
    batch = random_batch(2)
    opened = {}
    for precision in (None, "fp32", "fp16", "int8"):
        with Session.open(bundle, precision, "onnxruntime") as session:
            assert session.precision == (precision or "fp32")
            opened[precision] = session.run(batch).logits
    np.testing.assert_array_equal(opened[None], opened["fp32"])
    assert not np.allclose(opened["int8"], opened["fp16"])


def test_the_only_precision_there_is_needs_no_asking(make_bundle):
    with Session.open(make_bundle(precisions=("fp16",))) as session:
        assert session.precision == "fp16"


def test_never_another_precision_than_asked_for(make_bundle):
    bundle = make_bundle(precisions=("fp16", "int8"))
    with pytest.raises(EdgefelError, match=r"no fp32 file .*model\.fp16\.onnx \(fp16\), model\.int8\.onnx"):
        Session.open(bundle, "fp32")
    with pytest.raises(EdgefelError, match="precision 'fp4' is not known; choose one of: fp32, fp16"):
        Session.open(bundle, "fp4")


def test_engines_are_not_given_to_onnxruntime(bundle):
    (bundle / "model.fp16.engine").write_bytes(b"engine")
    engine = describe_file(bundle / "model.fp16.engine", kind="engine", precision="fp16")
    write_manifest(bundle, read_manifest(bundle).with_file(engine))
    with pytest.raises(EdgefelError, match=r"no fp16 file for onnxruntime; .*model\.fp16\.engine"):
        Session.open(bundle, "fp16", "onnxruntime")
    with Session.open(bundle) as session:
        assert session.file.kind == "onnx"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backend": "tensorrt9"},
            "backend 'tensorrt9' is not known; choose one of: auto, tensorrt, onnxruntime-cuda",
        ),
        ({"threads": 0}, "threads is 0"),
        ({"max_batch": 0}, "max_batch is 0"),
    ],
    ids=["backend", "threads", "max_batch"],
)
def test_impossible_options(bundle, options, message):
    with pytest.raises(EdgefelError, match=message):
        Session.open(bundle, **options)


def test_a_changed_file_is_refused_unless_forced(bundle):
    onnx.save(tiny_model(seed=9), bundle / "model.fp32.onnx")
    with pytest.raises(EdgefelError, match=r"model\.fp32\.onnx: SHA-256 differs"):
        Session.open(bundle)
    with Session.open(bundle, force=True) as session:
        assert session.run(random_batch(1)).logits.shape == (1, 7)


def test_a_missing_file_cannot_be_forced(bundle):
    (bundle / "model.fp32.onnx").unlink()
    for force in (False, True):
        with pytest.raises(EdgefelError, match="it is missing; export again"):
            Session.open(bundle, force=force)


def test_a_file_that_is_no_model(bundle):
    (bundle / "model.fp32.onnx").write_bytes(b"not a model")
    with pytest.raises(EdgefelError, match="ONNX Runtime cannot load it") as caught:
        Session.open(bundle, backend="onnxruntime", force=True)
    assert "\n" not in str(caught.value)


def test_a_file_with_another_interface(make_bundle):
    with pytest.raises(EdgefelError, match=r"takes pixels and gives .* Export it again"):
        Session.open(make_bundle(input_name="pixels"))


def test_a_file_of_another_input_size(make_bundle):
    with (
        Session.open(make_bundle(size=16), backend="onnxruntime") as session,
        pytest.raises(EdgefelError, match=r"cannot run it on \[1, 3, 14, 14\]"),
    ):
        session.run(random_batch(1))


@pytest.mark.parametrize(
    "batch",
    [
        random_batch(1).astype(np.float64),
        random_batch(1)[0],
        random_batch(1)[:, :, :13],
        random_batch(1)[:, :2],
    ],
    ids=["float64", "one image", "height", "channels"],
)
def test_batches_of_another_kind(bundle, batch):
    with (
        Session.open(bundle) as session,
        pytest.raises(EdgefelError, match=r"expected float32 \[N, 3, 14, 14\]"),
    ):
        session.run(batch)


def test_outputs_that_are_not_finite_are_refused(bundle):
    batch = random_batch(2)
    batch[1, 0, 3, 3] = np.nan
    with Session.open(bundle) as session, pytest.raises(EdgefelError, match="logits is not finite"):
        session.run(batch)


def test_the_package_offers_the_session():
    import edgefel.runtime

    assert edgefel.runtime.Session is Session
    with pytest.raises(AttributeError, match="no attribute 'Sessions'"):
        _ = edgefel.runtime.Sessions
