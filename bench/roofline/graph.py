"""Graphs to count, of a registered model or a bundle; and one at a batch size, with the shape of every tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.bench.results import check_names
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.runtime.manifest import ENGINE_FORMATS, MANIFEST_NAME, PRECISIONS, read_manifest
from edgefel.runtime.onnx_functions import inlined

# the names of the types that a layer computes in
TYPES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
DEFAULT_PRECISIONS = ("fp32", "fp16", "int8")
COUNTED = tuple(
    name for name in PRECISIONS if name not in ENGINE_FORMATS
)  # the devices have no ceilings for those


@dataclass(frozen=True)
class Graphs:
    """ONNX graphs of one model by precision. parameters: trained numbers of the model."""

    model: str
    parameters: int
    by_precision: Mapping[str, onnx.ModelProto]


def load_graphs(model: str, precisions: Sequence[str] | None = None) -> Graphs:
    """The graphs of a bundle folder, or of a registered model.

    precisions: by default all ONNX files of a bundle, and FP32, FP16 and INT8 of a registered model. Raises
    EdgefelError for an unknown name or precision, a bundle that cannot be read, or one without such a file.
    """
    check_names("precision", precisions, COUNTED)
    if Path(model).is_dir():
        return _of_bundle(Path(model), precisions)
    try:
        from edgefel.models.registry import MODELS
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), "train", f"counting the model {model!r}") from None
    if model not in MODELS:
        raise EdgefelError(
            f"{model}: neither a bundle folder (one with {MANIFEST_NAME}) nor a model; "
            f"known models: {', '.join(MODELS)}"
        )
    return _of_model(model, tuple(precisions or DEFAULT_PRECISIONS))


def _of_bundle(folder: Path, precisions: Sequence[str] | None) -> Graphs:
    manifest = read_manifest(folder)
    there = [file.precision for file in manifest.files if file.kind == "onnx" and file.precision in COUNTED]
    if not there and not precisions:
        raise EdgefelError(f"{folder}: no ONNX file in this bundle; export it again with one")
    paths = {name: manifest.verify(manifest.find(name)) for name in precisions or there}
    graphs = {name: onnx.load_from_string(inlined(path.read_bytes())) for name, path in paths.items()}
    return Graphs(manifest.model.name, manifest.model.parameters, graphs)


def _of_model(name: str, precisions: Sequence[str]) -> Graphs:
    import numpy as np

    from edgefel.export.onnx.trace import export_onnx
    from edgefel.export.precision.precisions import Ranges, make_graphs
    from edgefel.models.profile import profile
    from edgefel.models.registry import build_model

    network = build_model(name).eval()
    anchors = getattr(network.head, "anchors", None)
    made = make_graphs(
        export_onnx(network),
        precisions,
        anchors=None if anchors is None else anchors.detach().float().numpy(),
        # work and bytes do not depend on the scales
        calibrate=lambda graph, activations, *_: Ranges(
            {tensor: np.float32(1) for tensor in activations}, {}
        ),
    )
    return Graphs(name, profile(network.config).parameters, {key: one.model for key, one in made.items()})


@dataclass(frozen=True)
class Tensor:
    """Shape, and the type as ONNX numbers it."""

    shape: tuple[int, ...]
    kind: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one of them."""
        return int(helper.tensor_dtype_to_np_dtype(self.kind).itemsize)

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return self.elements * self.item_bytes


@dataclass(frozen=True)
class Network:
    """A flat graph with known shapes. constants: names of weights and other tensors in the file."""

    nodes: tuple[NodeProto, ...]
    tensors: Mapping[str, Tensor]
    constants: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def producers(self) -> dict[str, NodeProto]:
        """Tensor -> the node that makes it."""
        return {output: node for node in self.nodes for output in node.output if output}

    def tensor(self, name: str) -> Tensor:
        """Shape and type. Raises EdgefelError, naming the tensor, where shape inference found none."""
        found = self.tensors.get(name)
        if found is None:
            raise EdgefelError(f"tensor {name!r}: its shape cannot be inferred; export the network again")
        return found

    def type_of(self, name: str) -> str | None:
        """The type of TYPES that a tensor, or the source of its DequantizeLinear, has; None for other integers."""
        node = self.producers.get(name)
        if node is not None and node.op_type == "DequantizeLinear":
            return self.type_of(node.input[0])
        return TYPES.get(self.tensor(name).kind)


def read_network(model: onnx.ModelProto, batch: int) -> Network:
    """The graph at `batch` images per call.

    Duplicate QuantizeLinears, which ONNX Runtime needs for every reader, are merged. Raises EdgefelError for
    fewer than one image, for subgraphs, and where shapes cannot be inferred.
    """
    if batch < 1:
        raise EdgefelError(f"a batch of {batch}: give at least 1 image")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    for value in graph.input:
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_value = batch
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        first = str(error).strip().splitlines()[0]
        raise EdgefelError(f"the graph does not fit a batch of {batch}: {first}") from error
    tensors = {t.name: Tensor(tuple(t.dims), t.data_type) for t in inferred.initializer}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        tensor_type = value.type.tensor_type
        dims = tensor_type.shape.dim
        if tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            tensors[value.name] = Tensor(tuple(dim.dim_value for dim in dims), tensor_type.elem_type)
    return Network(
        nodes=_merge_quantizers(inferred),
        tensors=tensors,
        constants=frozenset(tensor.name for tensor in inferred.initializer),
        inputs=tuple(value.name for value in inferred.input),
        outputs=tuple(value.name for value in inferred.output),
    )


def _merge_quantizers(graph: onnx.GraphProto) -> tuple[NodeProto, ...]:
    """The nodes without QuantizeLinears of quantized tensors and without duplicates."""
    scales = {
        tensor.name: numpy_helper.to_array(tensor).tobytes()
        for tensor in graph.initializer
        if not tensor.dims
    }
    returned = {value.name for value in graph.output}
    renamed: dict[str, str] = {}
    quantized: dict[tuple[object, ...], str] = {}
    nodes = []
    for node in graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise EdgefelError(
                f"node {node.name!r} ({node.op_type}) has a subgraph; only flat graphs are counted"
            )
        if any(name in renamed for name in node.input):
            node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Sum" and len(node.input) == 1 and node.output[0] not in returned:
            renamed[node.output[0]] = node.input[0]
            continue
        by = tuple(scales.get(name, name) for name in node.input[1:])
        if node.op_type == "QuantizeLinear":
            known = quantized.setdefault((node.input[0], *by), node.output[0])
            if known != node.output[0]:
                renamed[node.output[0]] = known
                continue
        if node.op_type == "DequantizeLinear":
            # quantizing the result by the same scale gives what was dequantized
            made = (node.output[0], *by)
            quantized[made] = node.input[0]
        nodes.append(node)
    return tuple(nodes)
