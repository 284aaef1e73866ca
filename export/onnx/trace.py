"""From a PyTorch model to one self-contained, simplified ONNX graph with readable names."""

from __future__ import annotations

import ast
import contextlib
import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnxsim

from edgefel.calib.graph import GraphIndex
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import EXACT_PASSES, apply_passes
from edgefel.files.write import atomic_file
from edgefel.runtime.manifest import INPUT_NAME, OUTPUT_NAMES

if TYPE_CHECKING:
    from edgefel.models.network import FacialExpressionModel

MIN_OPSET, DEFAULT_OPSET, MAX_OPSET = 19, 20, 20
BATCH_DIM = "N"
# the fusions turn every Linear on tokens whose bias is not 0 into Reshape, Gemm, Reshape without names, which hides
# attention from TensorRT's fusions; sharing equal constants would tie FP32 parts of the graph to FP16 ones
SKIPPED_OPTIMIZERS = [
    "fuse_matmul_add_bias_into_gemm",
    "fuse_matmul_add_bias_into_gemm_batched",
    "eliminate_duplicate_initializer",
]
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def export_onnx(
    model: FacialExpressionModel,
    *,
    input_size: int | None = None,
    opset: int = DEFAULT_OPSET,
    passes: Sequence[str] = tuple(EXACT_PASSES),
    fold_attention: bool = True,
) -> onnx.ModelProto:
    """Exports `model` in evaluation mode, FP32, with a dynamic batch; the model itself is not changed.

    Input `image` float32 [N, 3, S, S] with S = `input_size` (the model's own by default); outputs logits,
    primary, probabilities [N, C], confidence [N], embedding [N, E]. One-token attention becomes a matrix unless
    `fold_attention` is off; the exact `passes` of edgefel.export.onnx follow onnxsim. Nodes are named
    `module.scope/Op`, and nothing of the machine that exported stays in the graph: the same weights give the
    same bytes.

    Raises EdgefelError for an opset outside 19..20 (FP16 Q/DQ scales need 19), or a pass that is not known.
    """
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise EdgefelError(f"opset {opset}: choose {MIN_OPSET} to {MAX_OPSET}")
    size = model.config.input_size if input_size is None else input_size
    # ONNX has no fused window attention: it is written out, in the form that TensorRT fuses best
    prepared = copy.deepcopy(model).cpu().float().eval().use_attention("reference")
    if fold_attention:
        prepared.head.fold_attention()
    raw = _trace(prepared, size, opset)
    # 9 for these opsets, which ONNX Runtime 1.17 loads, and onnxsim folds with. The exporter's own version, 10, adds
    # metadata, which are stripped, and types that do not occur.
    raw.ir_version = onnx.helper.find_min_ir_version_for(list(raw.opset_import))
    _name_by_scope(raw.graph)
    simplified, valid = onnxsim.simplify(raw, skipped_optimizers=SKIPPED_OPTIMIZERS, certify=False)
    if not valid:
        raise EdgefelError(
            "exported graph: onnxsim's result differs from its input; this is a bug of onnxsim"
        )
    graph, _ = apply_passes(simplified, passes)
    tidy(graph, name=model.config.name)
    check_graph(graph)
    return graph


def serialize(model: onnx.ModelProto) -> bytes:
    """The bytes of the file, the same for the same model."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Writes one self-contained file, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(serialize(model))


def check_graph(model: onnx.ModelProto, outputs: Sequence[str] = OUTPUT_NAMES) -> None:
    """Runs onnx's checker with type and shape inference, and checks the names and shapes edgefel promises.

    outputs: names of the outputs, for a graph that has lost some. Raises EdgefelError naming the first thing
    that is wrong.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = str(error).strip().splitlines()[0]
        raise EdgefelError(f"exported graph: onnx.checker refuses it: {first}") from error
    names = tuple(value.name for value in model.graph.output)
    if names != tuple(outputs):
        raise EdgefelError(f"exported graph: outputs are {names}, expected {tuple(outputs)}")
    inputs = [value.name for value in model.graph.input]
    if inputs != [INPUT_NAME]:
        raise EdgefelError(f"exported graph: inputs are {inputs}, expected ['{INPUT_NAME}']")
    for value in [*model.graph.input, *model.graph.output]:
        batch = value.type.tensor_type.shape.dim[0]
        if batch.dim_param != BATCH_DIM:
            raise EdgefelError(f"exported graph: the batch of {value.name!r} is not dynamic ({batch})")


def tidy(model: onnx.ModelProto, *, name: str) -> None:
    """Renames nodes, tensors and constants after the modules they come from, and strips everything that
    differs between machines or runs: doc strings, metadata, intermediate shapes. Works in place."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "edgefel", ""
    model.domain = ""
    graph = model.graph
    graph.name, graph.doc_string = name, ""
    del graph.value_info[:]
    del graph.metadata_props[:]
    _rename_nodes(graph)
    _rename_tensors(graph)
    for item in [*graph.node, *graph.input, *graph.output, *graph.initializer]:
        del item.metadata_props[:]
        item.doc_string = ""


def _trace(model: FacialExpressionModel, size: int, opset: int) -> onnx.ModelProto:
    import torch

    # batch 2, since torch.export takes a 1 in an example for a constant
    example = torch.zeros(2, 3, size, size)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            dynamic_shapes=({0: torch.export.Dim(BATCH_DIM)},),
            verbose=False,
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks on missing torchvision and on its own deprecations off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _name_by_scope(graph: onnx.GraphProto) -> None:
    """Names nodes `scope/Op_i` from the exporter's metadata, which onnxsim drops."""
    scope = ""
    for i, node in enumerate(graph.node):
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        # helper nodes of a decomposition carry no metadata: they belong to the module before them
        scope = _module_scope(metadata[_SCOPES_KEY]) if _SCOPES_KEY in metadata else scope
        node.name = f"{scope}/{node.op_type}_{i}"


def _module_scope(scopes: str) -> str:
    """ "['', 'head', 'head.reduce', 'linear_3']" -> "head.reduce"; the last entry is the operation."""
    modules: list[Any] = ast.literal_eval(scopes)[:-1]
    last = str(modules[-1]) if modules else ""
    return "" if last.startswith("_") else last


def _rename_nodes(graph: onnx.GraphProto) -> None:
    """`scope/Op`, and `scope/Op_2` for the second of its kind. A Conv that swallowed its batch norm is named
    after its own weight."""
    initializers = {tensor.name for tensor in graph.initializer}
    seen: Counter[str] = Counter()
    for node in graph.node:
        scope = node.name.rpartition("/")[0]
        if node.op_type == "Conv" and node.input[1] in initializers and node.input[1].endswith(".weight"):
            scope = node.input[1].removesuffix(".weight")
        name = f"{scope or 'model'}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"


def _rename_tensors(graph: onnx.GraphProto) -> None:
    """Names each tensor after the node that makes it; constants after the parameter they are, or else after
    the first node that reads them and the position there."""
    index = GraphIndex(graph)
    kept = index.outputs | {value.name for value in graph.input}
    names: dict[str, str] = {}
    for node in graph.node:
        for i, output in enumerate(node.output):
            if output and output not in kept:
                names[output] = f"{node.name}:{i}"
        for i, value in enumerate(node.input):
            if value in index.initializers and value not in names:
                parameter = "." in value and value.rpartition(".")[0] == node.name.rpartition("/")[0]
                names[value] = value if parameter else f"{node.name}.constant{i}"
    for node in graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
