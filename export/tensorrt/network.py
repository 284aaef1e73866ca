"""ONNX file -> TensorRT network, with every node that the parser refuses named."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.runtime.engines import Messages
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.runtime.onnx_functions import inlined

_SHOWN_MESSAGES = 5


def create_builder(trt: ModuleType, logger: Any, messages: Messages) -> Any:
    """TensorRT's builder; raises EdgefelError where it cannot start, as full TensorRT without a GPU."""
    try:
        return trt.Builder(logger)
    except (TypeError, RuntimeError) as error:
        raise EdgefelError(
            f"{trt.__name__} {trt.__version__} cannot start here{because(messages.errors) or f': {error}'}; "
            "full TensorRT needs a GPU, 'pip install edgefel[rtx]' brings a TensorRT that builds without one"
        ) from error


def parse_network(
    trt: ModuleType,
    builder: Any,
    logger: Any,
    messages: Messages,
    path: Path,
    input_shape: tuple[int, ...] | None = None,
    plugins: Collection[str] = (),
) -> Any:
    """The strongly typed network of an ONNX file with the input `image`, or with one input of any name, which gets
    `input_shape`. plugins: fused operators that are registered; of the others the bodies are taken.

    Raises EdgefelError naming every node that TensorRT refuses, its operator and the reason.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    # the path is for weights that the file keeps in files beside it
    if not parser.parse(inlined(path.read_bytes(), keep=plugins), str(path)):
        raise _refused(trt, parser, messages, path)
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    if input_shape is not None and len(names) == 1:
        network.get_input(0).shape = input_shape
    elif names != [INPUT_NAME]:
        raise EdgefelError(
            f"{path.name}: takes {', '.join(names) or 'no input'} and not {INPUT_NAME}; an engine is built of "
            "what 'edgefel export' wrote"
        )
    _allow_decomposition(trt, network)
    return network


def _allow_decomposition(trt: ModuleType, network: Any) -> None:
    """Lets TensorRT compute an `Attention` operator for which it has no kernel of its own, FP32 ones for instance, as
    products and a softmax: the parser leaves that forbidden, and then the build fails."""
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    if kind is None:  # TensorRT 10.3 to 10.13, whose parser has no such operator
        return
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.type == kind:
            # the binding hands out the base class
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def _refused(trt: ModuleType, parser: Any, messages: Messages, path: Path) -> EdgefelError:
    here = f"{path.name}: {trt.__name__} {trt.__version__} cannot parse it"
    reasons: dict[str, list[str]] = {}
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        if error.node_operator():
            node = f"node '{error.node_name() or error.node()}'"
            reasons.setdefault(f"({error.node_operator()}): {_reason(error)}", []).append(node)
        else:
            reasons.setdefault(_reason(error), [])
    listed = "; ".join(" ".join(filter(None, (", ".join(nodes), text))) for text, nodes in reasons.items())
    if any(reasons.values()):
        return EdgefelError(
            f"{here}: {listed}. Use a TensorRT that knows these operators, export with another --opset, or "
            "leave out --engine and run the ONNX file"
        )
    detail = f": {listed}" if listed else because(messages.errors)
    return EdgefelError(f"{here}{detail}; is it a whole ONNX file? Export or copy it again")


def _reason(error: Any) -> str:
    # some descriptions are a bare failed condition such as "false"; the code says what kind of refusal it is
    kind = str(error.code()).rpartition(".")[2].lower().replace("_", " ")
    return f"{kind}: {' '.join(error.desc().split())}"


def because(errors: list[str]) -> str:
    """ ": first; second" of TensorRT's messages for the end of a sentence; empty without any."""
    return f": {'; '.join(errors[:_SHOWN_MESSAGES])}" if errors else ""
