"""What edgefel uses of TensorRT is there in every supported version, or behind a check.

The uses are collected from the source (`statements.py`), the names and signatures from the real packages.
"""

from __future__ import annotations

import functools

import pytest
from real_tensorrt.environments import ROOT, versions
from real_tensorrt.program import Program
from real_tensorrt.statements import read_program

from edgefel.export.tensorrt import layers
from edgefel.export.tensorrt.options import HARDWARE_LEVELS
from edgefel.runtime.backends import tensorrt_binding

BINDING = "edgefel/runtime/backends/tensorrt_binding.py"
CONTEXT = "edgefel/runtime/backends/tensorrt_context.py"
ENGINES = "edgefel/runtime/engines.py"
BUILD = "export/tensorrt/engine.py"
LAYERS = "export/tensorrt/layers.py"
NETWORK = "export/tensorrt/network.py"
OPTIONS = "export/tensorrt/options.py"
OLD, NEW = versions()[0], versions()[-1]
# of other packages: ONNX Runtime's session, pycuda's stream, a JSON document; tensorrt.plugin is written in Python, and
# test_plugin.py calls it
OTHERS = ("(session)", "(onnxruntime)", "(stream)", "(document)", "plugin.py: _describe_attention(plugin)")
OTHERS = (*OTHERS, "plugin.py: _describe_balance(plugin)")
# classes of which something is used
CLASSES = {
    "Builder",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
}
CLASSES |= {"IOptimizationProfile", "ITensor", "ITimingCache", "OnnxParser", "ParserError", "Runtime"}
CLASSES |= {"EngineInspector", "IProgressMonitor"}


@functools.cache
def sources() -> dict[str, str]:
    """All files that speak of TensorRT."""
    folders = ("edgefel", "kernels", "calib", "export", "bench")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in paths}
    return {name: text for name, text in texts.items() if "tensorrt" in text.lower()}


@pytest.fixture(scope="module")
def program_of(package_of):
    return functools.cache(lambda version: read_program(package_of(version), sources()))


@pytest.fixture(scope="module", params=[*versions(), "rtx"])
def program(request, program_of) -> Program:
    return program_of(request.param)


def test_everything_used_is_there(program):
    assert program.problems == []


def test_uses_are_found(program):
    """Where the objects cannot be followed any more, nothing would be compared."""
    assert {use.what.partition(".")[0] for use in program.uses} >= CLASSES
    assert len({use.what for use in program.uses}) >= 90
    assert {use.where.partition(":")[0] for use in program.uses} >= {
        *(BINDING, CONTEXT, ENGINES, BUILD, LAYERS, NETWORK, OPTIONS)
    }
    lost = [one for one in program.unfollowed if not one.endswith(OTHERS)]
    assert lost == [], "parameters of type Any of which nothing is known"


def test_names_that_are_looked_up_exist_somewhere(program_of, package_of):
    everywhere = [package_of(version) for version in (*versions(), "rtx")]
    names = set().union(*(package.names for package in everywhere))
    for version in (*versions(), "rtx"):
        wrong = [(where, name) for where, name in program_of(version).checked if name not in names]
        assert wrong == []


# in a real file: what is there, what takes its place, the version that refuses it, what is said
BREAKS = [
    (ENGINES, "trt.Runtime(logger)", "trt.Runtime()", OLD, "Runtime() needs logger"),
    (NETWORK, "trt.OnnxParser(network, logger)", "trt.OnnxParser(network)", NEW, "OnnxParser() needs logger"),
    (NETWORK, "network.get_layer(i)", "network.get_layer()", NEW, "INetworkDefinition.get_layer() needs index"),
    (NETWORK, "str(path))", "file=str(path))", OLD, "OnnxParser.parse() has no argument file"),
    (NETWORK, "error.node_operator()", "error.operator()", OLD, "ParserError.operator is missing"),
    (NETWORK, 'getattr(trt.LayerType, "ATTENTION_INPUT", None)', "trt.LayerType.ATTENTION_INPUT", OLD,
     "LayerType.ATTENTION_INPUT is missing"),
    (NETWORK, "layer.__class__ = trt.IAttentionInputLayer", "pass", NEW, "ILayer.attention is missing"),
    (LAYERS, "network.num_layers", "len(network.layers)", OLD, "INetworkDefinition.layers is missing"),
    (BUILD, "self.trt.LayerInformationFormat.JSON", "self.trt.LayerType.SQUEEZE", OLD, "LayerType.SQUEEZE is missing"),
    (BINDING, "(name, index)", "(index, name)", OLD, "name is str, not plain int"),
    (BINDING, "trt.TensorLocation.DEVICE", "trt.TensorLocation.GPU", NEW, "TensorLocation.GPU is missing"),
    (CONTEXT, "set_device_memory(scratch, size)", "set_device_memory(scratch)", OLD, "needs size"),
    (CONTEXT, "_async(profile, stream.handle)", "_async(profile)", NEW, "needs stream_handle"),
    (CONTEXT, "self._engine.device_memory_size_v2", "self._engine.device_memory_size", NEW,
     "ICudaEngine.device_memory_size is missing"),
    (CONTEXT, "create_execution_context(self._how)", 'create_execution_context("user")', OLD, "strategy is"),
    (OPTIONS, "trt.BuilderFlag.VERSION_COMPATIBLE", "trt.BuilderFlag.FP16", NEW, "BuilderFlag.FP16"),
    (OPTIONS, "(pool, effort.workspace)", "(effort.workspace, pool)", OLD, "pool is"),
    (OPTIONS, "config.add_optimization_profile(profile)", "config.add_optimization_profile()", NEW, "needs profile"),
    (OPTIONS, "config.builder_optimization_level = effort.level", 'config.builder_optimization_level = "5"', NEW,
     "builder_optimization_level is typing.SupportsInt"),
    (BUILD, "deserialize_cuda_engine(plan)", "deserialize_cuda_engine(str(plan))", OLD, "serialized_engine is buffer"),
    (BUILD, "_monitor(self.trt, self.progress, cancelled)", "self.onnx.name", NEW, "progress_monitor is"),
    (BUILD, "(network, config)\n    except", "(network)\n    except", OLD, "build_serialized_network() needs config"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "version", "said"), BREAKS)
def test_a_wrong_use_is_found(package_of, file, old, new, version, said):
    assert old in sources()[file]
    broken = sources() | {file: sources()[file].replace(old, new)}
    problems = read_program(package_of(version), broken).problems
    assert any(said in problem for problem in problems), problems


def test_a_lookup_of_a_misspelt_name_is_found(package_of):
    broken = sources() | {NETWORK: sources()[NETWORK].replace('"ATTENTION_INPUT"', '"INPUT_ATTENTION"')}
    program = read_program(package_of(OLD), broken)
    assert "INPUT_ATTENTION" in {name for _, name in program.checked} - package_of(OLD).names


def test_a_parameter_that_nobody_passes_an_object_for_is_found(package_of):
    more = "\n\ndef _unused(engine: Any) -> int:\n    return int(engine.num_io_tensors)\n"
    broken = sources() | {BINDING: sources()[BINDING] + more}
    assert f"{BINDING}: _unused(engine)" in read_program(package_of(OLD), broken).unfollowed


def test_names_in_tables(package):
    """Names of types that are compared as text: data types, layers, levels of compatibility."""
    types = set(package.data["classes"]["DataType"]["members"])
    assert types >= set(tensorrt_binding._TYPES) | set(layers._PRECISIONS)
    found = set(package.data["classes"]["LayerType"]["members"])
    compared = layers._PASSING | set(layers._PRODUCTS) | {"SOFTMAX", "CONSTANT"}
    assert compared - found <= {"SQUEEZE", "UNSQUEEZE"}
    levels = set(package.data["classes"]["HardwareCompatibilityLevel"]["members"])
    assert {name.upper() for name in HARDWARE_LEVELS} - levels <= {"SAME_COMPUTE_CAPABILITY"}


# what a version lacks of what is used: a check in the source answers for each
MISSING = {
    "10.3.0": {"SAME_COMPUTE_CAPABILITY", "ATTENTION_INPUT", "SQUEEZE", "ComputeCapability"},
    "10.13.3.9": {"ATTENTION_INPUT", "ComputeCapability"},
    "10.14.1.48.post1": {"ComputeCapability"},
    "11.4.0.106": {"device_memory_size", "ComputeCapability", "FP16"},
}


def test_what_a_version_lacks(bindings, package_of):
    names = package_of(bindings.version).names
    assert MISSING[bindings.version] == set().union(*MISSING.values()) - names
