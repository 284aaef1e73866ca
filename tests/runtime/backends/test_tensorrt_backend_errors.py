"""What the TensorRT backend says of engines, packages and GPUs that fail, over the same driver."""

from __future__ import annotations

import gc
import logging
import sys
import weakref

import fake_tensorrt
import pytest
from engine_files import ORIN, add_engine, assert_nothing_is_left, assert_right, random_batch
from tiny_bundle import write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime import engines
from edgefel.runtime.backends.cuda import import_pycuda
from edgefel.runtime.session import Session


def test_a_closed_backend_says_so(engine_bundle, install):
    install()
    session = Session.open(engine_bundle)
    runner = session._runner
    session.close()
    runner.close()
    with pytest.raises(EdgefelError, match="the engine is closed"):
        runner.run(random_batch(1))


def test_a_run_that_fails_says_what_tensorrt_said(engine_bundle, install):
    machine = install()
    with Session.open(engine_bundle, backend="tensorrt") as session:
        machine.fails = True
        with pytest.raises(
            EdgefelError, match=r"model.fp32.engine: TensorRT refuses to run: enqueueV3: illegal"
        ):
            session.run(random_batch(1))
        machine.fails = False
        assert_right(session.run(random_batch(1)), random_batch(1))


def test_a_refusal_that_tensorrts_package_raises(engine_bundle, install, monkeypatch):
    """Its `set_optimization_profile_async` and `infer_shapes` raise RuntimeError."""
    install()

    def refuse(self):
        raise RuntimeError("Error in\ninfer shapes")

    monkeypatch.setattr(fake_tensorrt.ExecutionContext, "infer_shapes", refuse)
    message = r"model.fp32.engine: TensorRT refuses \[2, 3, 14, 14\]: Error in infer shapes"
    with (
        Session.open(engine_bundle, backend="tensorrt") as session,
        pytest.raises(EdgefelError, match=message),
    ):
        session.run(random_batch(2))


def test_too_little_gpu_memory(engine_bundle, install):
    machine = install(capacity=5000)
    with pytest.raises(EdgefelError, match=r"memory does not hold it .*smaller --max-batch"):
        Session.open(engine_bundle, backend="tensorrt")
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


def test_other_engines_may_not(engine_bundle, install):
    machine = install()
    Session.open(engine_bundle, backend="tensorrt").close()
    assert [runtime.engine_host_code_allowed for runtime in machine.trt.runtimes] == [False]


def test_a_tensorrt_that_is_too_old(tmp_path, install):
    install(version="8.6.1")
    folder = add_engine(write_bundle(tmp_path / "bundle"), version="8.6.1")
    with pytest.raises(EdgefelError, match=r"tensorrt 8.6.1 is older than 10.3"):
        Session.open(folder, backend="tensorrt")


def test_reasons_against_it(engine_bundle, install, monkeypatch):
    install(version="10.7.0")
    with pytest.raises(EdgefelError, match=r"built with tensorrt 10.3.0, and here is 10.7.0; build it here"):
        Session.open(engine_bundle, backend="tensorrt")
    install()
    monkeypatch.setattr(engines, "find_gpu", lambda: None)
    with pytest.raises(EdgefelError, match="engines run on an NVIDIA GPU, and none is found here"):
        Session.open(engine_bundle, backend="tensorrt")
    monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    import_pycuda.cache_clear()
    with pytest.raises(EdgefelError, match=r"pycuda is not installed; run: pip install 'edgefel\[jetson\]'"):
        Session.open(engine_bundle, backend="tensorrt")


def null(*arguments):
    """What TensorRT's Python package does with a null pointer."""
    raise TypeError("pybind11::init(): factory function returned nullptr")


def fails(error):
    def call(*arguments, **named):
        raise error

    return call


BROKEN = {
    "no runtime": lambda trt: setattr(trt, "Runtime", null),
    "runtime is None": lambda trt: setattr(trt, "Runtime", lambda logger: None),
    "reading raises": lambda trt: setattr(
        trt.Runtime, "deserialize_cuda_engine", fails(RuntimeError("CUDA error 35"))
    ),
    "no logger": lambda trt: setattr(trt, "ILogger", None),
}
SYSTEM_DRIVER_MISMATCH, INVALID_DEVICE, OUT_OF_MEMORY, ILLEGAL_ADDRESS = 803, 101, 2, 700
FAILING = {
    "cuInit": SYSTEM_DRIVER_MISMATCH,
    "cuDeviceGet": INVALID_DEVICE,
    "cuDevicePrimaryCtxRetain": OUT_OF_MEMORY,
    "cuStreamCreate": OUT_OF_MEMORY,
    "cuEventCreate": OUT_OF_MEMORY,
    "cuMemHostAlloc": OUT_OF_MEMORY,
}


@pytest.mark.parametrize("how", [*BROKEN, *FAILING])
def test_a_broken_cuda_is_passed_over_with_a_warning_and_an_error_when_named(
    engine_bundle, install, caplog, how
):
    machine = install()
    if how in BROKEN:
        BROKEN[how](machine.trt)
    else:
        machine.fail(how, FAILING[how])
    with pytest.raises(EdgefelError):
        Session.open(engine_bundle, backend="tensorrt")
    with caplog.at_level(logging.WARNING), Session.open(engine_bundle) as session:
        assert session.backend != "tensorrt"
        assert "tensorrt" in session.choice.skipped
        assert_right(session.run(random_batch(2)), random_batch(2))
    if how != "cuInit":  # that is found before anything is loaded
        assert "backend tensorrt is passed over" in caplog.text


@pytest.mark.parametrize(
    "made", [lambda self, strategy: None, fails(TypeError("nullptr"))], ids=["None", "raises"]
)
def test_no_execution_context(engine_bundle, install, monkeypatch, caplog, made):
    machine = install()
    monkeypatch.setattr(fake_tensorrt.Engine, "create_execution_context", made)
    with Session.open(engine_bundle, backend="tensorrt") as session, pytest.raises(EdgefelError):
        session.run(random_batch(1))
    with Session.open(engine_bundle) as session:
        assert session.backend != "tensorrt"
    assert "backend tensorrt is passed over" in caplog.text
    assert_nothing_is_left(machine)


@pytest.mark.parametrize(
    "error", [RuntimeError("numpy.core.multiarray failed to import"), SystemError("x"), OSError("y")]
)
def test_a_tensorrt_that_does_not_import(engine_bundle, install, monkeypatch, error):
    install()
    load = engines.importlib.import_module
    monkeypatch.setattr(
        engines.importlib,
        "import_module",
        lambda name, *rest: fails(error)() if name == "tensorrt" else load(name, *rest),
    )
    with pytest.raises(EdgefelError, match=rf"which does not load here \({type(error).__name__}: "):
        Session.open(engine_bundle, backend="tensorrt")


@pytest.mark.parametrize("call", ["cuMemcpyHtoDAsync_v2", "cuEventRecord", "cuEventSynchronize"])
def test_a_gpu_that_fails_in_a_run(engine_bundle, install, call):
    machine = install()
    with Session.open(engine_bundle, backend="tensorrt") as session:
        session.run(random_batch(1))
        machine.fail(call, ILLEGAL_ADDRESS)
        with pytest.raises(
            EdgefelError, match=r"the GPU failed on \[2, 3, 14, 14\] \(.*700\); open the session anew"
        ):
            session.run(random_batch(2))
        machine.fail(call, 0)
    assert_nothing_is_left(machine)


def test_a_graph_that_does_not_run(engine_bundle, install):
    machine = install()
    with Session.open(engine_bundle, backend="tensorrt") as session:
        session.run(random_batch(1))
        machine.fail("cuGraphLaunch", ILLEGAL_ADDRESS)
        with pytest.raises(EdgefelError, match=r"the CUDA graph does not run \(CUDA error 700\)"):
            session.run(random_batch(1))


@pytest.mark.parametrize("call", ["cuStreamSynchronize", "cuCtxPushCurrent_v2"])
def test_a_gpu_that_fails_while_it_is_closed(engine_bundle, install, caplog, call):
    """After an error on the GPU the driver refuses to free too; that must not hide the first error, nor end the
    process: pycuda's destructors would."""
    machine = install()
    with caplog.at_level(logging.WARNING), Session.open(engine_bundle, backend="tensorrt") as session:
        session.run(random_batch(1))
        kept = weakref.ref(session._runner)
        machine.fail(call, ILLEGAL_ADDRESS)
    assert "the GPU's memory is not freed" in caplog.text
    gc.collect()
    machine.fail(call, 0)
    kept().close()
    assert_nothing_is_left(machine)
