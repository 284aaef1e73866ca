"""Our plugins in TensorRT's real Python package: what the builder would get of them, compared with the kernels.

`plugin_build.py` calls the registration, the shape functions and `aot_impl` as the library does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_tensorrt.environments import HERE, find, versions

triton = pytest.importorskip("triton", reason="compiles kernels (extra kernels)")

ARCHS = ("sm_87", "sm_110", "sm_120")  # Jetson Orin, Jetson Thor, RTX 50
OUTPUTS = {"reliability_balance": 3}  # the others have one
TYPES = {"fp16": "HALF", "fp32": "FLOAT"}
# the oldest of the versions has no plugins of this kind
WITH_PLUGINS = versions()[1:]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compiled(_once):
    """The folder of compiled kernels, and what compiled them says of each."""

    def make(folder: Path) -> None:
        folder.mkdir()
        command = [sys.executable, HERE / "compile_plugins.py", folder / "kernels", *ARCHS]
        own = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
        result = subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=500)
        assert result.returncode == 0, result.stderr
        (folder / "known.json").write_text(result.stdout.splitlines()[-1])

    folder = _once("plugin-kernels", make)
    return folder / "kernels", json.loads((folder / "known.json").read_text())


@pytest.fixture(scope="module", params=WITH_PLUGINS)
def built(request, stub, compiled):
    """Pairs of what is known of a kernel and what TensorRT got of its plugin."""
    bindings, (folder, known) = find(request.param, stub), compiled
    nodes = []
    for kernel in known:
        arguments = kernel["arguments"][: -OUTPUTS.get(kernel["operator"], 1)]
        inputs = [(TYPES[kind], sides) for _, kind, sides in arguments]
        nodes.append({"operator": kernel["operator"], "arch": kernel["arch"], "inputs": inputs})
    found = bindings.ask(HERE / "plugin_build.py", folder, json.dumps(nodes))
    assert len(found) == len(known) == 3 * len(ARCHS)
    return list(zip(known, found, strict=True))


def test_types_and_shapes_of_the_outputs_are_the_kernels(built):
    for kernel, plugin in built:
        results = kernel["arguments"][-OUTPUTS.get(kernel["operator"], 1) :]
        assert plugin["types"] == [TYPES[kind] for _, kind, _ in results]
        for batch, shapes in plugin["shapes"].items():
            assert shapes == [[int(batch) if side < 0 else side for side in sides] for _, _, sides in results]


def test_formats_are_plain_arrays_of_the_kernels_types(built):
    for kernel, plugin in built:
        assert plugin["formats"] == [[TYPES[kind], "LINEAR"] for _, kind, _ in kernel["arguments"]]


def test_grid_block_and_shared_memory_are_the_kernels(built):
    for kernel, plugin in built:
        for batch, launch in plugin["launch"].items():
            grid = [launch[f"grid_{axis}"] for axis in "xyz"]
            block = [launch[f"block_{axis}"] for axis in "xyz"]
            assert grid == [kernel["programs"] * int(batch), 1, 1]
            assert block == [kernel["threads"], 1, 1]
            assert launch["shared_mem"] == kernel["shared"]
            # more has to be asked for, and nothing says that TensorRT does
            assert launch["shared_mem"] <= 48 * 1024


def test_the_ptx_takes_the_addresses_of_inputs_and_outputs_alone(built):
    for kernel, plugin in built:
        (entry,) = re.findall(r"\.entry\s+(\w+)\s*\((.*?)\)", plugin["ptx"], re.DOTALL)
        assert entry[0] == plugin["name"]
        parameters = [" ".join(one.split()) for one in entry[1].split(",")]
        assert len(parameters) == len(kernel["arguments"])
        assert all(one.startswith(".param .u64 .ptr .global") for one in parameters), parameters
        assert plugin["extra"] == []
        # TensorRT launches what it is told to; the kernel needs the number of threads it was compiled for
        assert re.findall(r"\.(?:req|max)ntid (\d+)", plugin["ptx"]) == [str(kernel["threads"])]


def test_the_ptx_assembles_to_the_kernel_that_was_measured(built, tmp_path):
    for kernel, plugin in built:
        source, cubin = tmp_path / "kernel.ptx", tmp_path / "kernel.cubin"
        source.write_text(plugin["ptx"])
        number = int(kernel["arch"].removeprefix("sm_"))
        nvidia = triton.knobs.nvidia
        tool = nvidia.ptxas_blackwell if number >= 100 else nvidia.ptxas
        (target,) = re.findall(r"^\.target (sm_\w+)", plugin["ptx"], re.MULTILINE)
        assert target.rstrip("a") == kernel["arch"]
        command = [tool.path, "-v", f"-arch={target}", "-o", cubin, source]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert result.returncode == 0, result.stderr
        used = int(re.search(r"Used (\d+) registers", result.stderr)[1])
        assert used == kernel["resources"]["registers"]
        assert re.search(rf"Compiling entry function '{plugin['name']}' for '{target}'", result.stderr)


def test_an_older_tensorrt_says_that_it_has_no_plugins(stub, compiled):
    bindings, (folder, known) = find(versions()[0], stub), compiled
    code = (
        "import json, sys; import tensorrt as trt; from edgefel.errors import EdgefelError\n"
        "from edgefel.export.tensorrt.plugin import register_plugins, unavailable_reason\n"
        "from edgefel.runtime.kernels import KernelFolder\n"
        "kernel = KernelFolder.open(sys.argv[1]).file(sys.argv[2], 'sm_87')\n"
        "try: register_plugins(trt, {sys.argv[2]: kernel})\n"
        "except EdgefelError as error: print(json.dumps([unavailable_reason(trt), str(error)]))"
    )
    reason, said = bindings.ask("-c", code, folder, known[0]["operator"])
    assert reason == "tensorrt 10.3.0 has no ahead-of-time plugins (tensorrt 10.13 and later have)"
    assert said == f"engine: {reason}"
