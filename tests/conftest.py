"""Fixtures that more than one test folder uses."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgefel.runtime.engines import find_gpu

# Processes that test side by side share the cores; threads that wait for each other would slow all of them down, the
# more so if they spin while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# pytest-xdist tells its processes the width of the terminal; tables are as wide as in a pipe
os.environ.pop("COLUMNS", None)

# Without a GPU the kernels run in Triton's interpreter, which has to be chosen before they are imported. Nothing here
# imports torch: the runtime's tests also run where it is not installed.
cpu_build = importlib.util.find_spec("torch") is not None and "+cpu" in importlib.metadata.version("torch")
if cpu_build or find_gpu() is None:
    os.environ["TRITON_INTERPRET"] = "1"

# tests run with --import-mode=importlib, which adds nothing to sys.path; helpers live beside this file
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Calibrated ranges and engines of other runs must not hide what is broken now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same network is traced once per run, not once per test and process: it takes most of an export's time."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import onnx

    from edgefel.export.onnx import trace as tracing

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if workers else base) / "traced"
    folder.mkdir(exist_ok=True)
    trace = tracing._trace

    @functools.wraps(trace)
    def traced(model: Any, size: int, opset: int) -> onnx.ModelProto:
        key = hashlib.sha256(f"{model} {size} {opset}".encode())
        for name, tensor in sorted(model.state_dict().items()):
            key.update(name.encode() + tensor.contiguous().numpy().tobytes())
        path = folder / f"{key.hexdigest()}.onnx"
        if path.is_file():
            return onnx.load(path)
        graph = trace(model, size, opset)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(graph.SerializeToString())
        temporary.rename(path)
        return graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "_trace", traced)
        yield


@pytest.fixture(scope="session")
def faces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """140 synthetic faces as a data set on disk."""
    from edgefel.data.synthetic import FaceOptions
    from edgefel.data.synthetic.write import write_faces

    folder = tmp_path_factory.mktemp("data") / "faces"
    write_faces(folder, FaceOptions(count=140, size=128, subjects=20))
    return folder


@pytest.fixture(scope="session")
def nano_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model with random weights and sensible batch norm statistics."""
    torch = pytest.importorskip("torch", reason="exports a checkpoint")

    from edgefel.data.labels import EXPRESSIONS_7
    from edgefel.data.preprocessing import default_preprocessing
    from edgefel.models import build_model
    from edgefel.models.checkpoint import save_checkpoint

    torch.manual_seed(0)
    model = build_model("arbex-nano")
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(16, 3, 112, 112))
    folder = tmp_path_factory.mktemp("nano") / "checkpoint"
    save_checkpoint(folder, model.eval(), EXPRESSIONS_7, default_preprocessing(112).to_dict())
    return folder


@pytest.fixture(scope="session")
def nano_bundle(nano_checkpoint: Path, faces_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`nano_checkpoint` exported as FP32 and INT8."""
    from edgefel.export.bundle import ExportOptions, export_bundle

    folder = tmp_path_factory.mktemp("nano") / "bundle"
    options = ExportOptions(precisions=("fp32", "int8"), per_class=4, parity_images=8)
    export_bundle(nano_checkpoint, folder, options, data=faces_folder)
    return folder
