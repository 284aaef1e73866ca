"""A bundle of `--attention plugin`: what runs it, what builds it, and what it is refused for."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from exported import HAS_TENSORRT, LABELS, save, tiny_model, write_faces
from onnx import inliner

from edgefel.bench.roofline.graph import load_graphs
from edgefel.calib.graph import node_macs
from edgefel.cli.main import main
from edgefel.deploy.kernel_files import bundle_nodes
from edgefel.export.bundle import export_bundle
from edgefel.export.options import ExportOptions
from edgefel.export.tensorrt import bundle, engine
from edgefel.export.tensorrt.plugin import ChosenKernels
from edgefel.runtime.backends.base import ModelFile
from edgefel.runtime.kernels import KernelFile
from edgefel.runtime.manifest import OUTPUT_NAMES, read_manifest
from edgefel.runtime.onnx_functions import inlined
from edgefel.runtime.session import Session
from edgefel.runtime.telemetry.sysfs import lacks_vnni

pytestmark = pytest.mark.slow

OPERATORS = [
    "window_cross_attention_w14_h1_d8",
    "window_cross_attention_w14_h1_d16",
    "window_cross_attention_w7_h2_d16",
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("plugin")
    checkpoint = save(root / "checkpoint", tiny_model())
    faces = write_faces(root / "faces", LABELS, 5)
    options = ExportOptions(
        ("fp32", "fp16", "int8"),
        engine=HAS_TENSORRT,
        per_class=2,
        parity_images=8,
        attention="plugin",
        cache=False,
    )
    return root / "bundle", export_bundle(checkpoint, root / "bundle", options, data=faces)


def onnx_files(folder):
    return [file for file in read_manifest(folder).files if file.kind == "onnx"]


def images(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8))


def test_every_precision_is_fused_and_passes_its_comparison(exported):
    folder, report = exported
    assert not report.refused
    for file in onnx_files(folder):
        model = onnx.load(folder / file.name)
        kind = "fp16" if file.precision.endswith("fp16") else "fp32"
        expected = [*(f"{name}_{kind}" for name in OPERATORS), "reliability_balance"]
        assert [node.op_type for node in model.graph.node if node.domain == "edgefel"] == expected
        assert file.builder["attention"] == "plugin"
        assert (file.requires["ir_version"], file.requires["onnxruntime"]) == (9, ">=1.17")
    assert len({node.operator for node in bundle_nodes(read_manifest(folder))}) == 7


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_onnxruntime_gives_the_bits_of_the_decomposed_file(exported, precision, tmp_path):
    folder, _ = exported
    file = read_manifest(folder).find(precision)
    session = onnx_session((folder / file.name).read_bytes())
    plain = onnx_session(inlined((folder / file.name).read_bytes()))
    batch = np.random.default_rng(1).standard_normal((3, 3, 112, 112)).astype(np.float32)
    for one, other in zip(
        session.run(None, {"image": batch}), plain.run(None, {"image": batch}), strict=True
    ):
        assert np.array_equal(one, other)


def onnx_session(data: bytes):
    import onnxruntime

    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("precision", ["fp32", "int8+fp16"])
def test_openvino_reads_it_with_the_bodies_written_out(exported, precision, tmp_path):
    pytest.importorskip("openvino", reason="needs OpenVINO; pip install edgefel[openvino]")
    from edgefel.runtime.backends.openvino_backend import OpenVinoBackend

    folder, _ = exported
    manifest = read_manifest(folder)
    model = ModelFile.of(manifest, manifest.find(precision))
    flat = dataclasses.replace(model, path=tmp_path / "flat.onnx")
    onnx.save(inliner.inline_local_functions(onnx.load(model.path)), flat.path)
    batch = np.random.default_rng(2).standard_normal((3, 3, 112, 112)).astype(np.float32)
    found, expected = (OpenVinoBackend.open(one, threads=1).run(batch) for one in (model, flat))
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
    if precision != "fp32" and lacks_vnni():
        return
    with Session.open(folder, precision, backend="openvino", threads=1) as session:
        assert np.isfinite(session(images(2)).probabilities).all()


@pytest.mark.skipif(not HAS_TENSORRT, reason="no TensorRT installed")
def test_a_tensorrt_without_plugins_builds_the_bodies_and_says_so(exported):
    folder, _ = exported
    engines = [file for file in read_manifest(folder).files if file.kind == "engine"]
    assert len(engines) == 3
    for file in engines:
        (note,) = [text for text in file.builder["warnings"] if "decomposed graph" in text]
        assert note.startswith(OPERATORS[0])
        assert note.endswith("has no ahead-of-time plugins (tensorrt 10.13 and later have)")
        assert "plugins" not in file.builder
        layers = json.loads((folder / f"{file.name}.layers.json").read_text())
        assert layers["plugins"] == []
        scopes = [attention["name"] for attention in layers["attentions"]]
        kind = "fp16" if file.precision.endswith("fp16") else "fp32"
        assert f"encoder.levels.2.attention/window_cross_attention_w7_h2_d16_{kind}" in scopes


@pytest.fixture
def chosen(exported, tmp_path) -> ChosenKernels:
    """A kernel for one operator of the FP16 file."""
    (tmp_path / "kernel.ptx").write_text("not asked for: this TensorRT has no plugins")
    kernel = KernelFile(
        "k", "sm_80", "k", tmp_path / "kernel.cubin", ("q", "kv", "table", "out"), 0, 1, 32, 0
    )
    return ChosenKernels({f"{OPERATORS[2]}_fp16": kernel})


@pytest.mark.skipif(not HAS_TENSORRT, reason="no TensorRT installed")
def test_a_build_that_fails_with_kernels_is_repeated_without(exported, chosen, tmp_path, monkeypatch):
    folder, _ = exported
    monkeypatch.setattr(engine, "prepare_plugins", lambda *_: chosen)
    builder = engine.build_engine(folder / "model.fp16.onnx", tmp_path / "model.engine")
    assert (tmp_path / "model.engine").stat().st_size > 100_000
    assert builder["plugins"] == []
    assert builder["kernels_sha256"] == chosen.digest
    (note,) = [text for text in builder["warnings"] if "decomposed graph" in text]
    # the parser was given the operator without its body, and has no plugin of that name
    assert f"with their kernels it fails (model.fp16.onnx: {builder['package']}" in note
    assert "level" in note
    assert "\n" not in note


@pytest.mark.skipif(not HAS_TENSORRT, reason="no TensorRT installed")
def test_an_engine_without_the_kernels_that_are_there_is_replaced_on_request(
    exported, chosen, monkeypatch, tmp_path
):
    folder, _ = exported
    kept = ("engine", folder, "--precision", "fp16", "--no-kernels")
    assert CliRunner().invoke(main, [str(argument) for argument in kept]).exit_code == 0
    monkeypatch.setattr(bundle, "choose_kernels", lambda *_: chosen)
    line = invoke("engine", folder, "--precision", "fp16", "--kernels", tmp_path)
    assert f"model.fp16.engine: was built without the kernels of {tmp_path}; pass --rebuild" in line


def test_work_is_counted_through_the_bodies(exported):
    folder, _ = exported
    (graph,) = load_graphs(str(folder), ["fp32"]).by_precision.values()
    counted = {name: macs for name, macs in node_macs(graph).items() if "window_cross_attention" in name}
    # q k^T and weights v: four windows of 14, one of 14, one of 7
    assert sum(counted.values()) == 2 * (4 * 196 * 196 * 8 + 196 * 196 * 16 + 49 * 49 * 32)


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.mark.skipif(not HAS_TENSORRT, reason="no TensorRT installed")
def test_bad_combinations_are_refused_in_one_line(exported, tmp_path, nano_bundle):
    folder, _ = exported
    both = invoke("engine", folder, "--kernels", tmp_path, "--no-kernels")
    assert "--kernels and --no-kernels exclude each other; leave one out" in both
    plain = invoke("engine", nano_bundle, "--kernels", tmp_path)
    assert "its ONNX files have no fused operators; export it with --attention plugin" in plain
    compiled = tmp_path / "compiled"
    none = invoke("kernels", "compile", "-o", compiled, "--bundle", nano_bundle)
    assert "has no fused operators; export it with --attention plugin, or give --model" in none
    twice = invoke("kernels", "compile", "-o", compiled, "--bundle", folder, "--model", "arbex")
    assert "--bundle and --model exclude each other" in twice
    assert not compiled.exists()
