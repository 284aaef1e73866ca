"""A real TensorRT parses and builds what the exporter writes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fake_tensorrt
import onnx
import pytest
import tiny_bundle
from exported import anchors_of, random_batch, tiny_graph, tiny_model

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, place
from edgefel.calib.quantize import quantize
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import spread_prelu
from edgefel.export.onnx.trace import save_onnx
from edgefel.export.precision.half import float32_nodes, to_half
from edgefel.export.tensorrt import engine as tensorrt_engine
from edgefel.export.tensorrt.engine import (
    PACKAGES,
    EngineCache,
    EngineOptions,
    build_engine,
    find_builder,
    load_tensorrt,
)
from edgefel.files.write import sha256
from edgefel.progress import Progress
from edgefel.runtime.engines import Gpu, find_gpu

pytestmark = pytest.mark.skipif(
    not any(importlib.util.find_spec(package) for package in PACKAGES),
    reason="no TensorRT installed; pip install edgefel[rtx] brings one that builds without a GPU",
)


def graph_of(precision: str) -> onnx.ModelProto:
    graph = tiny_graph()
    if precision == "int8":
        # placed for ONNX Runtime as by an older edgefel, with signed activations: TensorRT builds that all the same
        graph, _ = spread_prelu(graph)
    if precision.startswith("int8"):
        signed = dataclasses.replace(ONNXRUNTIME, unsigned=False)
        placement = place(graph, signed if precision == "int8" else TENSORRT)
        found = collect_activations(graph, placement.activations, [random_batch(4)])
        graph = quantize(graph, placement, activation_scales(found, "minmax"))
    if precision.endswith("fp16"):
        graph, _ = to_half(graph, float32_nodes(graph, anchors_of(tiny_model())))
    return graph


class Recorder(Progress):
    def __init__(self) -> None:
        self.steps = 0

    def advance(self, units: int = 1) -> None:
        self.steps += units


@pytest.fixture
def small(tmp_path) -> Path:
    """A model of a few nodes, which builds in a fraction of a second."""
    onnx.save(tiny_bundle.tiny_model(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_builds(precision, tmp_path):
    save_onnx(graph_of(precision), tmp_path / "model.onnx")
    progress = Recorder()
    options = EngineOptions(min_batch=2, opt_batch=3, max_batch=4)
    engine, report_path = tmp_path / "model.engine", tmp_path / "layers.json"
    entry = build_engine(tmp_path / "model.onnx", engine, options, progress, report_path=report_path)
    assert engine.stat().st_size > 100_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layers.json", "model.engine", "model.onnx"]
    assert entry["package"] in PACKAGES
    assert entry["version"] == load_tensorrt().__version__
    assert entry["batch"] == {"min": 2, "opt": 3, "max": 4}
    assert entry["source_sha256"] == sha256(tmp_path / "model.onnx")
    assert entry["layers"] > 100
    assert entry["cached"] is False
    assert progress.steps > 0
    assert json.dumps(entry, allow_nan=False)
    counts = entry["layer_report"]["precisions"]
    assert counts["fp32"] > 50  # the anchor branch stays FP32 in every precision
    assert (counts.get("fp16", 0) > 200) == precision.endswith("fp16")
    assert (counts.get("int8", 0) > 40) == precision.startswith("int8")
    report = json.loads(report_path.read_text())
    assert report["engine"] == "model.engine"
    assert report["precisions"] == counts
    modules = [f"encoder.levels.{level}.attention" for level in range(3)] + ["encoder.blocks.0.attention"]
    assert [attention["name"] for attention in report["attentions"]] == modules
    assert {tuple(a["precision"]) for a in report["attentions"]} == {
        ("fp16" if precision.endswith("fp16") else "fp32",)
    }
    if find_gpu() is None:
        assert (entry["gpu"], entry["loaded"], report["source"]) == (None, None, "network")
        assert "not inspected" in report["note"]
        assert all(attention["fused"] is None for attention in report["attentions"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EdgefelError, match="model.onnx: no such file"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")


@pytest.mark.skipif(find_gpu() is not None, reason="here engines can be loaded")
def test_an_engine_that_cannot_be_loaded_is_said(small, tmp_path, monkeypatch):
    """Where a GPU is named and none is there, the real runtime refuses the engine."""
    monkeypatch.setattr(tensorrt_engine, "find_gpu", lambda: Gpu("no GPU", (8, 9)))
    entry = build_engine(small, tmp_path / "model.engine")
    assert (entry["loaded"], entry["compute_capability"]) == (False, "8.9")
    assert entry["layer_report"]["source"] == "network"
    assert any("could not be loaded on this GPU: " in text for text in entry["warnings"])


@pytest.mark.slow
def test_a_workspace_that_is_too_small_fails_for_real_and_says_so(tmp_path):
    save_onnx(graph_of("fp16"), tmp_path / "model.onnx")
    with pytest.raises(EdgefelError, match="does not fit the workspace 1 MiB.*give a larger --workspace-mb"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine", EngineOptions(workspace_mb=1))
    assert not (tmp_path / "model.engine").exists()


def test_limits_reach_tensorrt_and_are_recorded(small, tmp_path):
    options = EngineOptions(workspace_mb=256, builder_level=1)
    entry = build_engine(small, tmp_path / "model.engine", options)
    assert (entry["workspace_mb"], entry["builder_level"]) == (256, 1)
    assert entry["options"] == options.to_dict()


# In a process of its own: the signal may reach whoever runs the tests instead of the build, and ends it.
INTERRUPTED_BUILD = """
import os, signal, sys
from pathlib import Path
from edgefel.progress import Progress
from edgefel.export.tensorrt.engine import build_engine

class Counted(Progress):
    steps = 0
    def __init__(self, interrupt):
        self.interrupt = interrupt
    def advance(self, units=1):
        self.steps += units
        if self.interrupt and self.steps == 1:
            os.kill(os.getpid(), signal.SIGINT)

# what is started in the background ignores the signal by default
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
whole, stopped = Counted(False), Counted(True)
build_engine(folder / "model.onnx", folder / "whole.engine", progress=whole)
try:
    build_engine(folder / "model.onnx", folder / "model.engine", progress=stopped)
except KeyboardInterrupt:
    print(stopped.steps, whole.steps)
"""


def test_ctrl_c_cancels_the_build(tmp_path):
    save_onnx(graph_of("fp32"), tmp_path / "model.onnx")
    command = [sys.executable, "-c", INTERRUPTED_BUILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    stopped, whole = map(int, done.stdout.split())
    assert stopped < whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "whole.engine"]


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path) -> EngineCache:
        return EngineCache(tmp_path / "cache")

    def test_the_same_build_is_copied_and_another_is_not(self, small, tmp_path, cache):
        first, second = tmp_path / "a" / "model.engine", tmp_path / "b" / "model.engine"
        report = tmp_path / "b" / "layers.json"
        built = build_engine(small, first, cache=cache)
        progress = Recorder()
        copied = build_engine(small, second, progress=progress, cache=cache, report_path=report)
        assert progress.steps == 0
        assert copied == {**built, "cached": True}
        assert second.read_bytes() == first.read_bytes()
        assert json.loads(report.read_text())["precisions"] == built["layer_report"]["precisions"]
        assert build_engine(small, second, EngineOptions(max_batch=9), cache=cache)["cached"] is False
        assert build_engine(small, second, cache=cache, reuse=False)["cached"] is False
        onnx.save(tiny_bundle.tiny_model(seed=4), small)
        assert build_engine(small, second, cache=cache)["cached"] is False

    @pytest.mark.parametrize("name", ["model.engine", "entry.json"])
    def test_a_damaged_entry_is_removed_and_built_anew(self, small, tmp_path, cache, name):
        engine = tmp_path / "model.engine"
        build_engine(small, engine, cache=cache)
        whole = engine.stat().st_size
        (entry,) = cache.folder.iterdir()
        (entry / name).write_bytes((entry / name).read_bytes()[:-9])
        again = build_engine(small, engine, cache=cache)
        assert again["cached"] is False
        assert [text for text in again["warnings"] if "was damaged and is built anew" in text]
        assert engine.stat().st_size == whole
        assert build_engine(small, engine, cache=cache)["cached"] is True

    def test_a_cache_that_cannot_be_written_costs_no_engine(self, small, tmp_path):
        (tmp_path / "file").write_text("")
        entry = build_engine(small, tmp_path / "model.engine", cache=EngineCache(tmp_path / "file"))
        assert (tmp_path / "model.engine").is_file()
        assert any("could not be cached" in text for text in entry["warnings"])


def test_a_full_disk_is_one_line_and_leaves_nothing(small, tmp_path):
    """A limit on file sizes fails a write as a full disk does: part of the way in."""
    code = (
        "import sys; from pathlib import Path; from edgefel.errors import EdgefelError\n"
        "from edgefel.export.tensorrt.engine import build_engine\n"
        "try: build_engine(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except EdgefelError as error: print(error)"
    )
    folder = tmp_path / "out"
    result = subprocess.run(
        [sys.executable, "-c", code, str(small), str(folder / "model.engine")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    (line,) = result.stdout.splitlines()
    assert "model.engine: cannot be written" in line
    assert "free disk space" in line
    assert list(folder.iterdir()) == []


def test_the_package_in_use_is_one_of_the_two():
    assert load_tensorrt().__name__ in PACKAGES


def null(logger):
    """What TensorRT's Python package does with a null pointer, as full TensorRT's builder without a GPU."""
    raise TypeError("pybind11::init(): factory function returned nullptr")


@pytest.fixture
def full(monkeypatch) -> ModuleType:
    """Full TensorRT beside TensorRT for RTX: it imports, and its builder does not start."""
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    module = ModuleType("tensorrt")
    module.__version__, module.Builder = "10.13.3", null
    module.ILogger = type("ILogger", (), {"Severity": fake_tensorrt.Severity})
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def test_a_package_that_cannot_build_gives_way_to_one_that_can(full, small, tmp_path):
    entry = build_engine(small, tmp_path / "model.engine", cache=EngineCache(tmp_path / "cache"))
    assert entry["package"] == "tensorrt_rtx"
    taken = f"built by tensorrt_rtx {entry['version']}, since tensorrt 10.13.3 cannot start here"
    assert any(text.startswith(taken) for text in entry["warnings"])
    # said of an engine out of the cache as well, and once
    again = build_engine(small, tmp_path / "again.engine", cache=EngineCache(tmp_path / "cache"))
    assert again["cached"]
    assert sum(text.startswith("built by") for text in again["warnings"]) == 1


def test_the_package_that_has_the_option_is_taken(full):
    """Full TensorRT starts here; targets are TensorRT for RTX's alone."""
    config = SimpleNamespace(create_builder_config=lambda: SimpleNamespace())
    full.Builder = lambda logger: config
    assert load_tensorrt() is full
    module, instead = find_builder(EngineOptions(compute_capabilities=("sm_86",)))
    assert module.__name__ == "tensorrt_rtx"
    assert "tensorrt 10.13.3 has no target compute capabilities" in instead


def test_when_none_can_build(full):
    with pytest.raises(
        EdgefelError, match=r"no TensorRT can build here: tensorrt 10.13.3 cannot .*; tensorrt_rtx"
    ):
        find_builder(EngineOptions(version_compatible=True))


def test_a_broken_package_is_named_and_the_other_one_taken(monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    load = tensorrt_engine.load_package
    monkeypatch.setattr(
        tensorrt_engine,
        "load_package",
        lambda name: "OSError: libnvinfer.so.10" if name == "tensorrt" else load(name),
    )
    module, instead = find_builder()
    assert module.__name__ == "tensorrt_rtx"
    assert instead == "tensorrt does not load: OSError: libnvinfer.so.10"


def test_what_else_the_package_raises_is_one_line(small, tmp_path, monkeypatch):
    trt = load_tensorrt()
    monkeypatch.setattr(trt, "OnnxParser", null)
    with pytest.raises(EdgefelError, match=r"model\.onnx: tensorrt\S* \S+ fails to build it \(TypeError"):
        build_engine(small, tmp_path / "model.engine")
    assert not (tmp_path / "model.engine").exists()
