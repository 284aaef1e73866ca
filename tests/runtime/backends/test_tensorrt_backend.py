"""The TensorRT backend over real pycuda, the driver of tests/cuda_driver, and fake_tensorrt.py, whose engines are ONNX
files.

This shows the order of copies, runs and waits, padding, splitting, which graph is captured and replayed, that contexts
are pushed and popped in pairs, and that memory is freed. It says nothing of real engines, GPUs or speed;
tests/gpu/test_tensorrt_backend.py does, on a machine with a GPU.
"""

from __future__ import annotations

import gc
import logging
import threading

import numpy as np
import onnx
import pytest
from engine_files import add_engine, assert_nothing_is_left, assert_right, random_batch
from tiny_bundle import PREPROCESSING, expected_outputs, tiny_model, write_bundle

from edgefel.errors import EdgefelError
from edgefel.export.onnx.inputs import uint8_input
from edgefel.runtime.backends import tensorrt_backend
from edgefel.runtime.manifest import Manifest, describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session


@pytest.mark.parametrize("unified", [False, True], ids=["card", "Jetson"])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 11])
def test_outputs_are_those_of_the_network(engine_bundle, install, unified, count):
    machine = install(unified=unified)
    with Session.open(engine_bundle, max_batch=64) as session:
        assert (session.backend, session.file.name, session.max_batch) == ("tensorrt", "model.fp32.engine", 4)
        for seed in range(3):  # plain, then captured, then another batch through the graph
            batch = random_batch(count, seed)
            assert_right(session.run(batch), batch)
        assert session.notes == ()
    assert_nothing_is_left(machine)


def test_what_is_larger_than_the_profile_is_split_by_the_backend_too(engine_bundle, install):
    install()
    with Session.open(engine_bundle, backend="tensorrt") as session:
        batch = random_batch(9)
        outputs = session._runner.run(batch)
        np.testing.assert_allclose(outputs["logits"], expected_outputs(batch)["logits"], atol=1e-5)
        assert outputs["confidence"].shape == (9,)


def test_what_is_smaller_than_the_profile_is_padded_with_zeros(engine_bundle, install):
    install(profiles=((3, 3, 4),))
    with Session.open(engine_bundle) as session:
        full, batch = random_batch(4, 5), random_batch(1)
        assert_right(session.run(full), full)
        assert_right(session.run(batch), batch)
        (image,) = [b.host for b in session._runner._buffers.values() if b.host.ndim == 4]
        assert not image[1:3].any()
        assert np.array_equal(image[3], full[3])


def test_each_batch_size_has_a_context_and_a_graph_from_its_second_call_on(engine_bundle, install):
    machine = install()
    with Session.open(engine_bundle, backend="tensorrt") as session:
        for count in (1, 2, 1, 2, 1, 1):
            batch = random_batch(count, count)
            assert_right(session.run(batch), batch)
        # threads sleep while they wait, and no other stream waits for this one
        assert machine.live("sleeping events") == machine.live("events") == 4
        assert machine.live("non-blocking streams") == machine.live("streams") == 1
        # a plain run and a capture for each of the two sizes; all other runs are replays
        assert machine.enqueued == 4
        assert machine.calls("cuStreamBeginCapture_v2") == 2
        assert machine.calls("cuGraphLaunch") == 4
        assert (machine.live("graphs"), machine.live("execs")) == (0, 2)
    assert_nothing_is_left(machine)


def test_contexts_that_were_not_used_for_longest_make_room(engine_bundle, install, monkeypatch):
    monkeypatch.setattr(tensorrt_backend, "_CONTEXTS", 2)
    machine = install()
    with Session.open(engine_bundle) as session:
        for count in (1, 2, 1, 3, 1, 2):
            batch = random_batch(count, count)
            assert_right(session.run(batch), batch)
            assert machine.live("execs") <= 2
        # 1 stayed all the time; 2 was made, made room for 3, and was made again
        assert machine.calls("cuStreamBeginCapture_v2") == 4


@pytest.mark.parametrize(
    "where", ["cuStreamBeginCapture_v2", "enqueue", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_a_refused_capture_is_said_once_and_runs_go_on_plainly(engine_bundle, install, caplog, where):
    machine = install()
    if where == "enqueue":
        machine.refuses_capture = True
    else:
        machine.fail(where, 900)
    with caplog.at_level(logging.WARNING, "edgefel.runtime"), Session.open(engine_bundle) as session:
        for count in (1, 2, 1, 2):
            batch = random_batch(count, count)
            assert_right(session.run(batch), batch)
        assert len(session.notes) == 1
        assert session.notes[0].startswith("CUDA graphs are not used: ")
    assert caplog.text.count("CUDA graphs are not used") == 1
    assert machine.calls("cuStreamBeginCapture_v2") == 1
    assert_nothing_is_left(machine)


def test_a_driver_without_graphs(engine_bundle, install):
    install(graphs=False)
    with Session.open(engine_bundle) as session:
        assert session.notes == ("CUDA graphs are not used: the CUDA driver has no cuStreamBeginCapture_v2",)
        for _ in range(2):
            assert_right(session.run(random_batch(2)), random_batch(2))


def test_several_profiles(engine_bundle, install):
    machine = install(profiles=((1, 1, 1), (2, 4, 6)))
    with Session.open(engine_bundle) as session:
        assert session.max_batch == 6
        for count in (1, 3, 7, 1, 3):
            batch = random_batch(count, count)
            assert_right(session.run(batch), batch)
    assert_nothing_is_left(machine)


def test_bytes_in(tmp_path, install):
    machine = install()
    folder = write_bundle(tmp_path / "bundle")
    model = tiny_model()
    for node in model.graph.node:
        node.name = f"model/{node.output[0]}"
    model, _ = uint8_input(model, PREPROCESSING)
    onnx.save(model, folder / "model.fp32.onnx")
    old = read_manifest(folder)
    file = describe_file(folder / "model.fp32.onnx", kind="onnx", precision="fp32")
    plain = Manifest(old.model, old.labels, old.preprocessing, (file,), input_type="uint8")
    write_manifest(folder, plain)
    add_engine(folder, model.SerializeToString())
    crops = [np.random.default_rng(i).integers(0, 256, (20, 18, 3), dtype=np.uint8) for i in range(5)]
    with (
        Session.open(folder, backend="tensorrt") as first,
        Session.open(folder, backend="onnxruntime") as second,
    ):
        np.testing.assert_allclose(first(crops).logits, second(crops).logits, atol=1e-5)
    assert_nothing_is_left(machine)


def test_stages_are_told_once_for_each_piece(engine_bundle, install):
    install()
    told: list[tuple[str, float]] = []
    crops = [np.full((20, 20, 3), 9, np.uint8)] * 6
    with Session.open(engine_bundle) as session:
        session(crops, lambda stage, seconds: told.append((stage, seconds)))
    assert [stage for stage, _ in told] == ["preprocess", "copy in", "gpu", "copy out"] * 2
    assert all(seconds > 0 for _, seconds in told)
    assert [seconds for stage, seconds in told if stage == "gpu"] == [1e-3, 1e-3]


def test_results_stay_when_the_next_call_comes(engine_bundle, install):
    install()
    with Session.open(engine_bundle) as session:
        first = session.run(random_batch(2, 1))
        session.run(random_batch(2, 2))
        assert_right(first, random_batch(2, 1))


def test_threads_and_sessions_share_a_gpu(engine_bundle, install):
    machine = install()
    wrong: list[object] = []
    with Session.open(engine_bundle) as first, Session.open(engine_bundle) as second:
        assert machine.live("retained") == 2

        def work(session: Session, seed: int) -> None:
            batch = random_batch(1 + seed % 4, seed)
            expected = expected_outputs(batch)["logits"]
            for _ in range(20):
                if not np.allclose(session.run(batch).logits, expected, atol=1e-5):
                    wrong.append(seed)
            wrong.extend(machine.contexts)

        threads = [threading.Thread(target=work, args=((first, second)[i % 2], i)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        second.close()
        assert machine.live("retained") == 1
        assert_right(first.run(random_batch(2)), random_batch(2))
    assert_nothing_is_left(machine)


def test_what_was_current_before_is_so_afterwards(engine_bundle, install):
    """torch keeps the primary context current on its threads; a program may use pycuda itself."""
    machine = install()
    with machine.primary_current() as primary, Session.open(engine_bundle) as session:
        assert machine.contexts == [primary]
        session.run(random_batch(1))
        assert machine.contexts == [primary]
        session.close()
        assert machine.contexts == [primary]
    own = machine.cuda.Device(0).make_context()
    with Session.open(engine_bundle) as session:
        session.run(random_batch(1))
        assert (machine.contexts, machine.cuda.Context.get_current()) == ([own.handle], own)
    assert (machine.contexts, machine.cuda.Context.get_current()) == ([own.handle], own)
    own.detach()


def test_closing_while_a_call_runs_frees_when_it_has_ended(engine_bundle, install):
    machine = install()
    session = Session.open(engine_bundle)
    inside, go_on = threading.Event(), threading.Event()
    results = []

    def record(stage: str, seconds: float) -> None:
        if stage == "copy in" and not inside.is_set():
            inside.set()
            assert go_on.wait(10)

    batch = random_batch(6)
    thread = threading.Thread(target=lambda: results.append(session.run(batch, record)))
    thread.start()
    assert inside.wait(10)
    session.close()
    assert machine.live("retained") == 1
    with pytest.raises(EdgefelError, match="the session is closed"):
        session.run(batch)
    go_on.set()
    thread.join()
    assert_right(results[0], batch)
    assert_nothing_is_left(machine)
    session.close()


def test_a_session_that_nobody_closes_frees_all_when_it_is_collected(engine_bundle, install):
    machine = install()
    session = Session.open(engine_bundle)
    session.run(random_batch(1))
    assert machine.live("retained") == 1
    del session
    gc.collect()
    assert_nothing_is_left(machine)
    assert machine.contexts == []
