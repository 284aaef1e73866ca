"""`edgefel kernels compile`, end to end: real cubins for every target, from a process without interpreter."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgefel.cli.main import main
from edgefel.runtime.backends.cuda import import_pycuda
from edgefel.runtime.kernels import KernelFolder, LoadedKernel

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
        with pytest.raises(cuda.Error):
            kernel._function(*file.pack(pointers)[1:], block=(file.threads, 1, 1), grid=(1, 1), stream=stream)
        assert f"{file.entry} takes {by_pycuda.bytes} bytes of arguments" in machine.reports()[0]
        with pytest.raises(cuda.Error):
            kernel._function(
                *file.pack(pointers), block=(file.threads // 2, 1, 1), grid=(1, 1), stream=stream
            )
        assert f"was compiled for {file.threads} threads" in machine.reports()[0]
        wide = replace(file, shared=64 << 10)  # more than 48 KiB has to be asked for
        LoadedKernel(wide, cuda)(1, *pointers, stream=stream)
        launch(wide, 1, pointers, stream.handle, machine.driver)
        assert machine.launched().shared == 64 << 10
    stream.synchronize()
    for block in memory:
        block.free()
    del stream, kernel
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
