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

import onnx
import onnxruntime
import pytest
from exported import anchors_of, random_batch, tiny_graph, tiny_model
from real_tensorrt.environments import HERE, find, versions

from edgefel.export.onnx.fused import fuse_operators, fused_head
from edgefel.export.precision.half import float32_nodes, to_half
from edgefel.runtime.onnx_functions import DOMAIN, inlined

triton = pytest.importorskip("triton", reason="compiles kernels (extra kernels)")

ARCHS = ("sm_87", "sm_110", "sm_120")  # Jetson Orin, Jetson Thor, RTX 50
OUTPUTS = {"reliability_balance": 3}  # the others have one
TYPES = {"fp16": "HALF", "fp32": "FLOAT"}
NUMPY = {"float16": "HALF", "float32": "FLOAT"}
# the oldest of the versions has no plugins of this kind
WITH_PLUGINS = versions()[1:]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """A network in FP16 with its attentions and head as plugins' nodes."""
    graph, _ = to_half(tiny_graph(), float32_nodes(tiny_graph(), anchors_of(tiny_model())))
    return fuse_operators(graph, fused_head(tiny_model()))[0]


@pytest.fixture(scope="module")
def compiled(_once, network):
    """The folder of compiled kernels, and what compiled them says of each."""

    def make(folder: Path) -> None:
        folder.mkdir()
        onnx.save(network, folder / "model.onnx")
        command = [
            sys.executable,
            HERE / "compile_plugins.py",
            folder / "model.onnx",
            folder / "kernels",
            *ARCHS,
        ]
        own = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
        result = subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=500)
        assert result.returncode == 0, result.stderr
        (folder / "known.json").write_text(result.stdout.splitlines()[-1])

    folder = _once("plugin-kernels", make)
    return folder / "kernels", json.loads((folder / "known.json").read_text())


@pytest.fixture(scope="module")
def tensors(network) -> dict[str, list[tuple[str, list[int]]]]:
    """Type and shape of what each operator reads and writes, found by running the network; -1 follows the batch."""
    plain = onnx.load_from_string(inlined(network.SerializeToString()))
    nodes = {
        node.op_type: [*node.input, *node.output] for node in network.graph.node if node.domain == DOMAIN
    }
    needed = {name for each in nodes.values() for name in each}
    fixed = {one.name: onnx.numpy_helper.to_array(one) for one in plain.graph.initializer}
    names = sorted(needed - set(fixed))
    del plain.graph.output[:]
    plain.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(names, {"image": random_batch(count)}) for count in (1, 2)]
    one, two = (fixed | dict(zip(names, values, strict=True)) for values in runs)
    found = {}
    for name in needed:
        pairs = zip(one[name].shape, two[name].shape, strict=True)
        found[name] = (NUMPY[one[name].dtype.name], [a if a == b else -1 for a, b in pairs])
    return {operator: [found[name] for name in each] for operator, each in nodes.items()}


@pytest.fixture(scope="module", params=WITH_PLUGINS)
def built(request, stub, compiled, tensors):
    """Pairs of what is known of a kernel and what TensorRT got of its plugin."""
    bindings, (folder, known) = find(request.param, stub), compiled
    nodes = []
    for kernel in known:
        inputs = tensors[kernel["operator"]][: -OUTPUTS.get(kernel["operator"], 1)]
        nodes.append({"operator": kernel["operator"], "arch": kernel["arch"], "inputs": inputs})
    found = bindings.ask(HERE / "plugin_build.py", folder, json.dumps(nodes))
    assert len(found) == len(known) == len(tensors) * len(ARCHS)
    return list(zip(known, found, strict=True))


def test_the_files_tensors_are_the_kernels_arguments(compiled, tensors):
    """In this order: TensorRT passes addresses of inputs and outputs as the node has them. Sides of 1 move nothing."""
    for kernel in compiled[1]:
        arguments = [
            (TYPES[kind], [side for side in sides if side != 1]) for _, kind, sides in kernel["arguments"]
        ]
        there = [(kind, [side for side in sides if side != 1]) for kind, sides in tensors[kernel["operator"]]]
        assert arguments == there, kernel["operator"]


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
