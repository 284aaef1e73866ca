"""The TensorRT backend over the stand-in of tests/fake_cuda.py and fake_tensorrt.py, whose engines are ONNX files.

This shows the order of copies, runs and waits, padding, splitting, which graph is captured and replayed, that contexts
are pushed and popped in pairs, and that memory is freed. It says nothing of real engines, drivers, pycuda or speed;
tests/gpu/test_tensorrt_backend.py does, on a machine with a GPU.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading

import fake_tensorrt
import numpy as np
import onnx
import pytest
from fake_cuda import Error, Machine
from tiny_bundle import PREPROCESSING, expected_outputs, tiny_model, write_bundle

from edgefel.errors import EdgefelError
from edgefel.export.onnx.inputs import uint8_input
from edgefel.runtime import engines
from edgefel.runtime.backends import tensorrt_backend
from edgefel.runtime.backends.cuda import import_pycuda
from edgefel.runtime.engines import Gpu
from edgefel.runtime.manifest import Manifest, describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session

ORIN = Gpu("Orin", (8, 7))


def add_engine(folder, data=None, precision="fp32", version="10.3.0", **options):
    """An engine that is really an ONNX file, built for the Orin."""
    path = folder / f"model.{precision}.engine"
    path.write_bytes(tiny_model().SerializeToString() if data is None else data)
    builder = {"package": "tensorrt", "version": version, "gpu": ORIN.name, "compute_capability": "8.7"}
    builder |= {"options": options, "source": f"model.{precision}.onnx"}
    file = describe_file(path, kind="engine", precision=precision, builder=builder)
    write_manifest(folder, read_manifest(folder).with_file(file))
    return folder


@pytest.fixture
def bundle(tmp_path):
    return add_engine(write_bundle(tmp_path / "bundle"))


@pytest.fixture
def install(monkeypatch):
    """Puts a machine and a TensorRT in the place of the real ones."""
    machines = []

    def put(machine: Machine | None = None, **options) -> Machine:
        machine = machine or Machine()
        trt = machine.trt = fake_tensorrt.tensorrt(machine, **options)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, "pycuda.driver", machine.cuda)
        monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)
        monkeypatch.setattr(tensorrt_backend, "load_libcuda", lambda: machine.libcuda)
        import_pycuda.cache_clear()
        machines.append(machine)
        return machine

    yield put
    import_pycuda.cache_clear()
    for machine in machines:
        assert machine.driver_stack == machine.pycuda_stack == []


def random_batch(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 14, 14)).astype(np.float32)


def assert_right(predictions, batch) -> None:
    for name, expected in expected_outputs(batch).items():
        np.testing.assert_allclose(getattr(predictions, name), expected, atol=1e-5, err_msg=name)


def assert_nothing_is_left(machine: Machine) -> None:
    assert (machine.memory, machine.pinned, machine.graphs, machine.retained) == ({}, {}, {}, 0)


@pytest.mark.parametrize("unified", [False, True], ids=["card", "Jetson"])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 11])
def test_outputs_are_those_of_the_network(bundle, install, unified, count):
    machine = install(Machine(unified=unified))
    with Session.open(bundle, max_batch=64) as session:
        assert (session.backend, session.file.name, session.max_batch) == ("tensorrt", "model.fp32.engine", 4)
        for seed in range(3):  # plain, then captured, then another batch through the graph
            batch = random_batch(count, seed)
            assert_right(session.run(batch), batch)
        assert session.notes == ()
    assert_nothing_is_left(machine)


def test_what_is_larger_than_the_profile_is_split_by_the_backend_too(bundle, install):
    install()
    with Session.open(bundle, backend="tensorrt") as session:
        batch = random_batch(9)
        outputs = session._runner.run(batch)
        np.testing.assert_allclose(outputs["logits"], expected_outputs(batch)["logits"], atol=1e-5)
        assert outputs["confidence"].shape == (9,)


def test_what_is_smaller_than_the_profile_is_padded_with_zeros(bundle, install):
    machine = install(profiles=((3, 3, 4),))
    with Session.open(bundle) as session:
        full, batch = random_batch(4, 5), random_batch(1)
        assert_right(session.run(full), full)
        assert_right(session.run(batch), batch)
        (image,) = [pinned.array for pinned in machine.pinned.values() if pinned.array.ndim == 4]
        assert not image[1:3].any()
        assert np.array_equal(image[3], full[3])


def test_each_batch_size_has_a_context_and_a_graph_from_its_second_call_on(bundle, install):
    machine = install()
    with Session.open(bundle, backend="tensorrt") as session:
        for count in (1, 2, 1, 2, 1, 1):
            batch = random_batch(count, count)
            assert_right(session.run(batch), batch)
        # a plain run and a capture for each of the two sizes; all other runs are replays
        assert machine.calls["enqueue"] == 4
        assert machine.calls["cuStreamBeginCapture_v2"] == 2
        assert machine.calls["cuGraphLaunch"] == 4
        assert machine.calls["cuGraphDestroy"] == 2
        assert len(machine.graphs) == 2
    assert machine.calls["cuGraphExecDestroy"] == 2
    assert_nothing_is_left(machine)


def test_contexts_that_were_not_used_for_longest_make_room(bundle, install, monkeypatch):
    monkeypatch.setattr(tensorrt_backend, "_CONTEXTS", 2)
    machine = install()
    with Session.open(bundle) as session:
        for count in (1, 2, 1, 3, 1, 2):
            batch = random_batch(count, count)
            assert_right(session.run(batch), batch)
            assert len(machine.graphs) <= 2
        # 1 stayed all the time; 2 was made, made room for 3, and was made again
        assert machine.calls["cuStreamBeginCapture_v2"] == 4


@pytest.mark.parametrize("where", ["begin", "enqueue", "end", "instantiate"])
def test_a_refused_capture_is_said_once_and_runs_go_on_plainly(bundle, install, caplog, where):
    machine = install()
    machine.refuse_capture = where
    with caplog.at_level(logging.WARNING, "edgefel.runtime"), Session.open(bundle) as session:
        for count in (1, 2, 1, 2):
            batch = random_batch(count, count)
            assert_right(session.run(batch), batch)
        assert len(session.notes) == 1
        assert session.notes[0].startswith("CUDA graphs are not used: ")
    assert caplog.text.count("CUDA graphs are not used") == 1
    assert machine.calls["cuStreamBeginCapture_v2"] == 1
    assert_nothing_is_left(machine)


def test_a_driver_without_graphs(bundle, install):
    install(Machine(graphs=False))
    with Session.open(bundle) as session:
        assert session.notes == ("CUDA graphs are not used: the CUDA driver has no cuStreamBeginCapture_v2",)
        for _ in range(2):
            assert_right(session.run(random_batch(2)), random_batch(2))


def test_several_profiles(bundle, install):
    machine = install(profiles=((1, 1, 1), (2, 4, 6)))
    with Session.open(bundle) as session:
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


def test_stages_are_told_once_for_each_piece(bundle, install):
    install()
    told: list[tuple[str, float]] = []
    crops = [np.full((20, 20, 3), 9, np.uint8)] * 6
    with Session.open(bundle) as session:
        session(crops, lambda stage, seconds: told.append((stage, seconds)))
    assert [stage for stage, _ in told] == ["preprocess", "copy in", "gpu", "copy out"] * 2
    assert all(seconds > 0 for _, seconds in told)
    assert [seconds for stage, seconds in told if stage == "gpu"] == [1e-3, 1e-3]


def test_results_stay_when_the_next_call_comes(bundle, install):
    install()
    with Session.open(bundle) as session:
        first = session.run(random_batch(2, 1))
        session.run(random_batch(2, 2))
        assert_right(first, random_batch(2, 1))


def test_threads_and_sessions_share_a_gpu(bundle, install):
    machine = install()
    wrong: list[object] = []
    with Session.open(bundle) as first, Session.open(bundle) as second:
        assert machine.retained == 2

        def work(session: Session, seed: int) -> None:
            batch = random_batch(1 + seed % 4, seed)
            expected = expected_outputs(batch)["logits"]
            for _ in range(20):
                if not np.allclose(session.run(batch).logits, expected, atol=1e-5):
                    wrong.append(seed)
            wrong.extend(machine.driver_stack + machine.pycuda_stack)

        threads = [threading.Thread(target=work, args=((first, second)[i % 2], i)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        second.close()
        assert machine.retained == 1
        assert_right(first.run(random_batch(2)), random_batch(2))
    assert_nothing_is_left(machine)


def test_what_was_current_before_is_so_afterwards(bundle, install):
    """torch keeps the primary context current on its threads; a program may use pycuda itself."""
    machine = install()
    machine.driver_stack.append("primary")
    with Session.open(bundle) as session:
        assert machine.driver_stack == ["primary"]
        session.run(random_batch(1))
        assert machine.driver_stack == ["primary"]
    assert machine.driver_stack == ["primary"]
    machine.driver_stack.clear()

    class Foreign:
        handle = "foreign"

    machine.driver_stack.append("foreign")
    machine.pycuda_stack.append(Foreign)
    with Session.open(bundle) as session:
        session.run(random_batch(1))
        assert (machine.driver_stack, machine.pycuda_stack) == (["foreign"], [Foreign])
    assert (machine.driver_stack, machine.pycuda_stack) == (["foreign"], [Foreign])
    machine.driver_stack.clear()
    machine.pycuda_stack.clear()


def test_closing_while_a_call_runs_frees_when_it_has_ended(bundle, install):
    machine = install()
    session = Session.open(bundle)
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
    assert machine.retained == 1
    with pytest.raises(EdgefelError, match="the session is closed"):
        session.run(batch)
    go_on.set()
    thread.join()
    assert_right(results[0], batch)
    assert_nothing_is_left(machine)
    session.close()


def test_a_closed_backend_says_so(bundle, install):
    install()
    session = Session.open(bundle)
    runner = session._runner
    session.close()
    runner.close()
    with pytest.raises(EdgefelError, match="the engine is closed"):
        runner.run(random_batch(1))


def test_a_run_that_fails_says_what_tensorrt_said(bundle, install):
    machine = install()
    with Session.open(bundle, backend="tensorrt") as session:
        machine.log.append("fail")
        with pytest.raises(
            EdgefelError, match=r"model.fp32.engine: TensorRT refuses to run: enqueueV3: illegal"
        ):
            session.run(random_batch(1))
        machine.log.clear()
        assert_right(session.run(random_batch(1)), random_batch(1))


def test_a_refusal_that_tensorrts_package_raises(bundle, install, monkeypatch):
    """Its `set_optimization_profile_async` and `infer_shapes` raise RuntimeError."""
    install()

    def refuse(self):
        raise RuntimeError("Error in\ninfer shapes")

    monkeypatch.setattr(fake_tensorrt.ExecutionContext, "infer_shapes", refuse)
    message = r"model.fp32.engine: TensorRT refuses \[2, 3, 14, 14\]: Error in infer shapes"
    with Session.open(bundle, backend="tensorrt") as session, pytest.raises(EdgefelError, match=message):
        session.run(random_batch(2))


def test_too_little_gpu_memory(bundle, install):
    machine = install(Machine(capacity=5000))
    with pytest.raises(EdgefelError, match=r"memory does not hold it .*smaller --max-batch"):
        Session.open(bundle, backend="tensorrt")
    gc.collect()
    assert_nothing_is_left(machine)


def test_an_engine_that_does_not_load(tmp_path, install, caplog):
    machine = install()
    folder = add_engine(write_bundle(tmp_path / "bundle"), data=b"no engine")
    message = r"tensorrt 10.3.0 cannot load it \(Serialization assertion magicTag failed\); build it here"
    with pytest.raises(EdgefelError, match=message):
        Session.open(folder, backend="tensorrt")
    assert_nothing_is_left(machine)
    with Session.open(folder) as session:  # auto goes on, and not in silence
        assert session.backend != "tensorrt"
        assert "magicTag" in session.choice.skipped["tensorrt"]
    assert "backend tensorrt is passed over" in caplog.text
    assert "magicTag" in caplog.text


def test_version_compatible_engines_may_bring_code(tmp_path, install):
    machine = install(version="10.7.0")
    folder = add_engine(write_bundle(tmp_path / "bundle"), version_compatible=True)
    Session.open(folder, backend="tensorrt").close()
    assert [runtime.engine_host_code_allowed for runtime in machine.trt.runtimes] == [True]


def test_other_engines_may_not(bundle, install):
    machine = install()
    Session.open(bundle, backend="tensorrt").close()
    assert [runtime.engine_host_code_allowed for runtime in machine.trt.runtimes] == [False]


def test_a_tensorrt_that_is_too_old(tmp_path, install):
    install(version="8.6.1")
    folder = add_engine(write_bundle(tmp_path / "bundle"), version="8.6.1")
    with pytest.raises(EdgefelError, match=r"tensorrt 8.6.1 is older than 10.3"):
        Session.open(folder, backend="tensorrt")


def test_reasons_against_it(bundle, install, monkeypatch):
    install(version="10.7.0")
    with pytest.raises(EdgefelError, match=r"built with tensorrt 10.3.0, and here is 10.7.0; build it here"):
        Session.open(bundle, backend="tensorrt")
    install()
    monkeypatch.setattr(engines, "find_gpu", lambda: None)
    with pytest.raises(EdgefelError, match="engines run on an NVIDIA GPU, and none is found here"):
        Session.open(bundle, backend="tensorrt")
    monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    import_pycuda.cache_clear()
    with pytest.raises(EdgefelError, match=r"pycuda is not installed; run: pip install 'edgefel\[jetson\]'"):
        Session.open(bundle, backend="tensorrt")


def null(*arguments):
    """What TensorRT's Python package does with a null pointer."""
    raise TypeError("pybind11::init(): factory function returned nullptr")


def fails(error):
    def call(*arguments, **named):
        raise error

    return call


BROKEN = {
    "no runtime": lambda trt, cuda: setattr(trt, "Runtime", null),
    "runtime is None": lambda trt, cuda: setattr(trt, "Runtime", lambda logger: None),
    "reading raises": lambda trt, cuda: setattr(
        trt.Runtime, "deserialize_cuda_engine", fails(RuntimeError("CUDA error 35"))
    ),
    "no logger": lambda trt, cuda: setattr(trt, "ILogger", None),
    "cuInit": lambda trt, cuda: setattr(
        cuda, "init", fails(RuntimeError("cuInit failed: system driver mismatch"))
    ),
    "no device": lambda trt, cuda: setattr(
        cuda, "Device", fails(Error("cuDeviceGet failed: invalid device"))
    ),
    "no stream": lambda trt, cuda: setattr(cuda, "Stream", fails(MemoryError())),
}


@pytest.mark.parametrize("how", list(BROKEN))
def test_a_broken_cuda_is_passed_over_with_a_warning_and_an_error_when_named(bundle, install, caplog, how):
    machine = install()
    BROKEN[how](machine.trt, machine.cuda)
    with pytest.raises(EdgefelError):
        Session.open(bundle, backend="tensorrt")
    with caplog.at_level(logging.WARNING), Session.open(bundle) as session:
        assert session.backend != "tensorrt"
        assert "tensorrt" in session.choice.skipped
        assert_right(session.run(random_batch(2)), random_batch(2))
    if how != "cuInit":  # that is found before anything is loaded
        assert "backend tensorrt is passed over" in caplog.text


@pytest.mark.parametrize(
    "made", [lambda self, strategy: None, fails(TypeError("nullptr"))], ids=["None", "raises"]
)
def test_no_execution_context(bundle, install, monkeypatch, caplog, made):
    machine = install()
    monkeypatch.setattr(fake_tensorrt.Engine, "create_execution_context", made)
    with Session.open(bundle, backend="tensorrt") as session, pytest.raises(EdgefelError):
        session.run(random_batch(1))
    with Session.open(bundle) as session:
        assert session.backend != "tensorrt"
    assert "backend tensorrt is passed over" in caplog.text
    assert_nothing_is_left(machine)


@pytest.mark.parametrize(
    "error", [RuntimeError("numpy.core.multiarray failed to import"), SystemError("x"), OSError("y")]
)
def test_a_tensorrt_that_does_not_import(bundle, install, monkeypatch, error):
    install()
    load = engines.importlib.import_module
    monkeypatch.setattr(
        engines.importlib,
        "import_module",
        lambda name, *rest: fails(error)() if name == "tensorrt" else load(name, *rest),
    )
    with pytest.raises(EdgefelError, match=rf"which does not load here \({type(error).__name__}: "):
        Session.open(bundle, backend="tensorrt")


def test_a_gpu_that_fails_while_it_is_closed(bundle, install, caplog):
    """After an error on the GPU the driver refuses to free too; that must not hide the first error."""
    machine = install()
    with caplog.at_level(logging.WARNING), Session.open(bundle, backend="tensorrt") as session:
        session.run(random_batch(1))
        for buffer in session._runner._buffers.values():
            buffer.free = fails(Error("cuMemFree failed: an illegal memory access was encountered"))
    assert "the GPU's memory is not freed" in caplog.text
    machine.driver_stack.clear()
    machine.pycuda_stack.clear()
