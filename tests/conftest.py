"""Fixtures that more than one test folder uses."""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgefel.runtime.backends.base import BACKENDS
from edgefel.runtime.engines import find_gpu
from edgefel.workers import usable_cores

# Processes that test side by side share the cores; threads that wait for each other would slow all of them down, the
# more so if they spin while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# A shell that starts the tests in the background lets them ignore Ctrl-C, which what they start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Imported modules are millions of objects that stay: looking through them for garbage took a tenth of the time.
gc.set_threshold(50_000, 20, 100)

# pytest-xdist tells its processes the width of the terminal; tables are as wide as in a pipe
os.environ.pop("COLUMNS", None)

# Without a GPU the kernels run in Triton's interpreter, which has to be chosen before they are imported. Nothing here
# imports torch: the runtime's tests also run where it is not installed.
cpu_build = importlib.util.find_spec("torch") is not None and "+cpu" in importlib.metadata.version("torch")
if cpu_build or find_gpu() is None:
    os.environ["TRITON_INTERPRET"] = "1"

# tests run with --import-mode=importlib, which adds nothing to sys.path; helpers live beside this file
sys.path.insert(0, str(Path(__file__).parent))
pytest_plugins = ("object_store",)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than cores: many tests wait for a process, a device or a disk."""
    return usable_cores() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: a long one at the end would keep one process waiting for the other."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Says how a process of pytest-xdist ended that should not have: by which signal, or with which exit code."""
    process = getattr(getattr(node.gateway, "_io", None), "popen", None)
    if error is None or process is None:
        return
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        print("its pipe is closed, and it goes on", file=sys.stderr)
        return
    print(f"it ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}", file=sys.stderr)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Calibrated ranges and engines of other runs must not hide what is broken now, nor a detector that was got."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def _own_measurements(_own_cache: None) -> Iterator[None]:
    """What one test measured of a bundle must not choose the backend in another."""
    yield
    shutil.rmtree(Path(os.environ["EDGEFEL_CACHE"]) / "picks", ignore_errors=True)


@pytest.fixture(autouse=True)
def _backends_in_order() -> Iterator[None]:
    """monkeypatch puts what it took out of a dictionary back at its end, and the order of backends is their rank."""
    before = dict(BACKENDS)
    yield
    if list(BACKENDS) != list(before):
        BACKENDS.clear()
        BACKENDS.update(before)


@pytest.fixture(scope="session", autouse=True)
def _quick_is_quicker() -> Iterator[None]:
    """`bench --quick`, and `doctor` by `bench pick`, time each candidate for seconds; a moment does as much here."""
    from edgefel.bench import pick, timer

    brief = dataclasses.replace(timer.QUICK, settle_seconds=0.05, seconds=0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timer, "QUICK", brief)
        threads, _, *rest = pick.pick.__defaults__
        patch.setattr(pick.pick, "__defaults__", (threads, brief, *rest))
        yield


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small bundle, with a model card, in the place of the network that comes with edgefel; no copy is cached."""
    from tiny_bundle import write_bundle

    from edgefel.runtime import shipped

    folder = write_bundle(tmp_path / "networks" / shipped.NAME)
    (folder / "model-card.md").write_text("# Tiny\n")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def none_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without a network of its own."""
    from edgefel.runtime import shipped

    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "networks" / shipped.NAME)


@pytest.fixture(scope="session", autouse=True)
def _traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same network is traced once per run, not once per test and process: see `traced`."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    from traced import traced

    from edgefel.export.onnx import trace as tracing

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if workers else base) / "traced"
    folder.mkdir(exist_ok=True)
    trace = functools.wraps(tracing._trace)(functools.partial(traced, tracing._trace, folder=folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "_trace", trace)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interpreter_patches_once() -> Iterator[None]:
    """Triton's interpreter replaces what `triton.language` has before each launch, and again for every call of a device
    function, where all of it is replaced already: a third of a kernel's time."""
    if os.environ.get("TRITON_INTERPRET") != "1" or importlib.util.find_spec("triton") is None:
        yield
        return
    from triton import language
    from triton.runtime import interpreter

    replace = interpreter._patch_lang

    def replace_once(function: Any) -> Any:
        values = function.__globals__.values()
        used = [module for module in (language, language.core) if any(value is module for value in values)]
        if not used or any(language.core.is_builtin(module.load) for module in used):
            return replace(function)
        return interpreter._LangPatchScope()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", replace_once)
        yield


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def _once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes a folder once per run: the other processes wait for it. No test may change it."""
    import fcntl

    base = tmp_path_factory.getbasetemp()

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder = (base.parent if workers else base) / "once" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                make(folder.with_suffix(".part"))
                folder.with_suffix(".part").rename(folder)
        return folder

    return make_once


@pytest.fixture(scope="session")
def faces_folder(_once: Once) -> Path:
    """140 synthetic faces as a data set on disk."""
    from edgefel.data.synthetic import FaceOptions
    from edgefel.data.synthetic.write import write_faces

    return _once("faces", lambda folder: write_faces(folder, FaceOptions(count=140, size=128, subjects=20)))


@pytest.fixture(scope="session")
def nano_checkpoint(_once: Once) -> Path:
    """A nano model with random weights and sensible batch norm statistics."""
    torch = pytest.importorskip("torch", reason="exports a checkpoint")

    from edgefel.data.labels import EXPRESSIONS_7
    from edgefel.data.preprocessing import default_preprocessing
    from edgefel.models import build_model
    from edgefel.models.checkpoint import save_checkpoint

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        model = build_model("arbex-nano")
        with torch.no_grad():
            for _ in range(5):
                model(torch.randn(16, 3, 112, 112))
        save_checkpoint(folder, model.eval(), EXPRESSIONS_7, default_preprocessing(112).to_dict())

    return _once("checkpoint", make)


@pytest.fixture(scope="session")
def nano_bundle(nano_checkpoint: Path, faces_folder: Path, _once: Once) -> Path:
    """`nano_checkpoint` exported as FP32 and INT8."""

    def make(folder: Path) -> None:
        from edgefel.export.bundle import ExportOptions, export_bundle

        options = ExportOptions(precisions=("fp32", "int8"), per_class=4, parity_images=8)
        export_bundle(nano_checkpoint, folder, options, data=faces_folder)

    return _once("bundle", make)


@pytest.fixture(scope="session")
def _cuda(_once: Once) -> tuple[Any, dict[str, Any]]:
    """The driver of tests/cuda_driver, built once per run, and real pycuda's modules over it."""
    from cuda_driver import build, machine

    if (reason := build.missing()) is not None:
        pytest.skip(reason)
    driver = machine.load(_once("cuda-driver", build.build) / build.LIBRARY)
    try:
        return driver, machine.load_pycuda(driver)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_machine(_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes a GPU in host memory for this test: pycuda and libcuda are its own. What its driver reports, and what is
    left on it, fails the test."""
    from cuda_driver.machine import Machine

    from edgefel.runtime.backends import tensorrt_backend
    from edgefel.runtime.backends.cuda import import_pycuda

    driver, modules = _cuda
    machines = []

    def make(**options: Any) -> Machine:
        machine = Machine(driver, modules, **options)
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(tensorrt_backend, "load_libcuda", lambda: machine.libcuda)
        import_pycuda.cache_clear()
        machines.append(machine)
        return machine

    yield make
    import_pycuda.cache_clear()
    if machines:
        machines[-1].close()
