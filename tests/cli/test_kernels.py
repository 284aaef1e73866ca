"""`edgefel kernels compile`, end to end: real cubins for every target, from a process without interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.export.tensorrt import plugin
from edgefel.runtime.backends.cuda import import_pycuda
from edgefel.runtime.engines import Gpu
from edgefel.runtime.kernels import KernelFolder, LoadedKernel
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.onnx_functions import fused_nodes

sys.path.insert(0, str(Path(__file__).parent.parent / "gpu"))
from driver_launch import launch

pytest.importorskip("triton")

TARGETS = (75, 80, 87, 90, 110, 120)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, compiling) -> tuple[Path, list[dict]]:
    """The full model's kernels for every target: the folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("kernels")
    archs = [part for arch in TARGETS for part in ("--arch", f"sm_{arch}")]
    result = compiling("kernels", "compile", "-o", folder / "out", *archs, "--json")
    assert result.returncode == 0, result.stderr
    return folder / "out", json.loads(result.stdout)


@pytest.mark.slow
def test_every_inference_kernel_compiles_for_every_target(compiled):
    _, rows = compiled
    assert len(rows) == 5 * len(TARGETS)
    assert {row["arch"] for row in rows} == {f"sm_{arch}" for arch in TARGETS}


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 87, 90, 110, 120])
def test_nothing_spills_and_it_fits_an_orin(compiled, arch):
    rows = [row for row in compiled[1] if row["arch"] == f"sm_{arch}"]
    assert len(rows) == 5
    for row in rows:
        resources = row["resources"]
        assert 16 <= resources["registers"] <= 255, row["name"]
        for name in ("stack_bytes", "local_bytes", "spill_store_bytes", "spill_load_bytes"):
            assert resources[name] == 0, f"{row['name']} on sm_{arch}: {name} {resources[name]}"
        if arch == 87:
            assert resources["shared_bytes"] <= 100 * 1024
            assert row["blocks_per_multiprocessor"] >= 2


@pytest.mark.slow
def test_the_folder_says_all_that_a_launch_needs(compiled):
    folder, rows = compiled
    kernels = KernelFolder.open(folder)
    assert kernels.archs == [f"sm_{arch}" for arch in TARGETS]
    row = next(r for r in rows if r["name"] == "window_cross_attention_level1" and r["arch"] == "sm_87")
    file = kernels.file("window_cross_attention_level1", "sm_87")
    assert file.arguments == ("q_ptr", "k_ptr", "v_ptr", "table_ptr", "out_ptr")
    assert file.grid(3) == (3 * row["grid"]["x"]["programs_per_image"], 1, 1)
    assert file.threads == 32 * row["warps"]
    # the PTX beside it takes exactly the stated arguments
    ptx = file.cubin.with_suffix(".ptx").read_text()
    header = ptx[ptx.index(f".entry {file.entry}(") :].split(")")[0]
    assert header.count(".param") == len(file.arguments) + file.nulls
    assert ".target sm_87" in ptx


@pytest.mark.slow
@pytest.mark.parametrize("arch", TARGETS)
def test_every_kernel_is_launched_as_it_was_compiled(compiled, make_machine, arch):
    """By pycuda, and by the C interface as on torch's context; the driver compares arguments and threads with what the
    cubin says."""
    machine, folder = make_machine(arch=arch), KernelFolder.open(compiled[0])
    cuda = import_pycuda()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    stream, memory = cuda.Stream(1), [cuda.mem_alloc(64) for _ in range(16)]
    for name in folder.names:
        file = folder.file(name, f"sm_{arch}")
        pointers = memory[: len(file.arguments)]
        kernel, before = folder.load(name), machine.launched().count
        kernel(3, *pointers, stream=stream)
        by_pycuda = machine.launched()
        launch(file, 3, pointers, stream.handle, machine.driver)
        for count, told in enumerate((by_pycuda, machine.launched()), before + 1):
            assert (told.count, told.name, told.stream) == (count, file.entry.encode(), stream.handle)
            assert (tuple(told.grid), tuple(told.block)) == (file.grid(3), (file.threads, 1, 1))
            assert told.shared == file.shared
            assert list(told.arguments)[: told.bytes // 8] == [*map(int, pointers), *[0] * file.nulls]
        arguments, right = (
            file.pack(pointers),
            {"block": (file.threads, 1, 1), "grid": (1, 1), "stream": stream},
        )
        for given, wrong, report in (
            (arguments[1:], {}, f"{file.entry} takes {by_pycuda.bytes} bytes of arguments"),
            (arguments, {"block": (file.threads // 2, 1, 1)}, f"was compiled for {file.threads} threads"),
            (arguments, {"grid": (1, 65536)}, "grid 1 x 65536 x 1"),
            (arguments, {"shared": 64 << 10}, "65536 bytes of shared memory"),
        ):
            with pytest.raises(cuda.Error):
                kernel._function(*given, **right | wrong)
            assert report in machine.reports()[0]
        wide = replace(file, shared=64 << 10)  # more than 48 KiB has to be asked for
        LoadedKernel(wide, cuda)(1, *pointers, stream=stream)
        launch(wide, 1, pointers, stream.handle, machine.driver)
        assert machine.launched().shared == 64 << 10
    stream.synchronize()
    for block in memory:
        block.free()
    del stream, kernel, right
    context.detach()
    machine.driver.cuCtxPopCurrent_v2(None)


@pytest.mark.slow
def test_a_checkpoint_and_fp32(nano_checkpoint, tmp_path, compiling):
    options = ["--model", nano_checkpoint, "--arch", "87", "--dtype", "fp32"]
    result = compiling("kernels", "compile", "-o", tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    assert "window_cross_attention_level3" in result.stdout
    description = json.loads((tmp_path / "out/sm_87/window_cross_attention_level1.json").read_text())
    assert description["arguments"][0]["type"] == "fp32"
    assert description["constants"]["PRECISION"] == "tf32x3"
    assert description["resources"]["stack_bytes"] == 0


def refused(*arguments: object) -> Result:
    """In this process: what is refused before anything is compiled."""
    result = CliRunner().invoke(main, ["kernels", "compile", *map(str, arguments)])
    assert result.exit_code == 2
    return result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "sm_61"], "architecture 'sm_61' is unknown; known: sm_75, sm_80"),
        (["--model", "resnet"], "unknown model 'resnet'"),
    ],
)
def test_what_cannot_be_compiled_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
    result = refused("-o", tmp_path / "out", *arguments)
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused_before_compiling(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "not empty" in refused("-o", tmp_path).stderr
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_the_interpreter_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "unset it" in refused("-o", tmp_path / "out").stderr


OPERATORS = {
    "window_cross_attention_w7_h2_d16_fp16": {"window": 7, "heads": 2, "width": 16, "scale": 0.25},
    "reliability_balance": {"classes": 8, "anchors": 10, "width": 64, "attentive": 1, "inverse_delta": 1.0},
}


@pytest.fixture
def fused_bundle(tmp_path) -> Path:
    """A bundle of `arbex-nano` whose FP32 file has two fused operators, which nothing reads."""
    folder = write_bundle(tmp_path / "bundle", ("fp32",))
    manifest = read_manifest(folder)
    path = folder / manifest.files[0].name
    model = onnx.load(path)
    for name, sizes in OPERATORS.items():
        model.graph.node.append(
            helper.make_node(name, ["image"], [name], f"x/{name}", domain="edgefel", **sizes)
        )
        body = [helper.make_node("Identity", ["a"], ["b"], "Identity")]
        model.functions.append(helper.make_function("edgefel", name, ["a"], ["b"], body, model.opset_import))
    onnx.save(model, path)
    info = replace(manifest.model, name="arbex-nano")
    files = (describe_file(path, kind="onnx", precision="fp32"),)
    write_manifest(folder, replace(manifest, model=info, files=files))
    return folder


@pytest.mark.slow
def test_kernels_of_a_bundle_are_what_its_engine_takes(fused_bundle, tmp_path, compiling, monkeypatch):
    """Compiled for its operators, found for a GPU of that target, and PTX that assembles as TensorRT gets it."""
    import triton

    out = tmp_path / "kernels"
    result = compiling("kernels", "compile", "-o", out, "--bundle", fused_bundle, "--arch", "sm_87")
    assert result.returncode == 0, result.stderr
    monkeypatch.setattr(plugin, "unavailable_reason", lambda trt: None)
    nodes = fused_nodes((fused_bundle / "model.fp32.onnx").read_bytes())
    chosen = plugin.choose_kernels(ModuleType("tensorrt"), nodes, out, Gpu("Orin", (8, 7)))
    assert chosen.notes == ()
    assert list(chosen.kernels) == list(OPERATORS)
    for name, kernel in chosen.kernels.items():
        text = plugin.launchable_ptx(kernel, name)
        assert text.count(".param .u64") == len(kernel.arguments)
        assert ".version 8.0" in text, "a driver of CUDA 12 loads it"
        (tmp_path / "kernel.ptx").write_text(text)
        command = [
            triton.knobs.nvidia.ptxas.path,
            "-arch",
            "sm_87",
            tmp_path / "kernel.ptx",
            "-o",
            "/dev/null",
        ]
        assert subprocess.run(command, check=False, timeout=120).returncode == 0
