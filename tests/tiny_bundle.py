"""A bundle whose model is a few ONNX nodes: mean colour of the crop -> seven classes and five outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.preprocessing import Preprocessing
from edgefel.runtime.manifest import (
    OUTPUT_NAMES,
    Manifest,
    ModelInfo,
    describe_file,
    read_manifest,
    write_manifest,
)

PREPROCESSING = Preprocessing(resize=16, crop=14)
EMBEDDING_DIM = 5
CLASSES = len(EXPRESSIONS_7)


def weights(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The [3, 5] embedding and [5, 7] class matrices."""
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((3, EMBEDDING_DIM)).astype(np.float32),
        rng.standard_normal((EMBEDDING_DIM, CLASSES)).astype(np.float32),
    )


def tiny_model(
    size: int = PREPROCESSING.output_size, input_name: str = "image", seed: int = 3
) -> onnx.ModelProto:
    """mean over pixels -> embedding -> logits; primary = softmax(logits), probabilities = softmax(2 logits),
    confidence = 1 - entropy(probabilities) / log 7."""
    embed, classify = weights(seed)
    constants = {"embed": embed, "classify": classify, "two": np.float32(2), "one": np.float32(1)}
    constants |= {"scale": np.float32(1 / np.log(CLASSES)), "classes": np.array([1], np.int64)}
    nodes = [
        helper.make_node("GlobalAveragePool", [input_name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
        helper.make_node("MatMul", ["colour", "embed"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "classify"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["primary"], axis=1),
        helper.make_node("Mul", ["logits", "two"], ["sharper"]),
        helper.make_node("Softmax", ["sharper"], ["probabilities"], axis=1),
        helper.make_node("Log", ["probabilities"], ["log"]),
        helper.make_node("Mul", ["probabilities", "log"], ["p_log_p"]),
        helper.make_node("ReduceSum", ["p_log_p", "classes"], ["negative_entropy"], keepdims=0),
        helper.make_node("Mul", ["negative_entropy", "scale"], ["normalised"]),
        helper.make_node("Add", ["normalised", "one"], ["confidence"]),
    ]
    shapes = {"logits": ["N", CLASSES], "primary": ["N", CLASSES], "probabilities": ["N", CLASSES]}
    shapes |= {"confidence": ["N"], "embedding": ["N", EMBEDDING_DIM]}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def expected_outputs(batch: np.ndarray) -> dict[str, np.ndarray]:
    """What `tiny_model` gives, in float64."""
    embed, classify = (matrix.astype(np.float64) for matrix in weights())
    embedding = batch.astype(np.float64).mean(axis=(2, 3)) @ embed
    logits = embedding @ classify

    def softmax(values: np.ndarray) -> np.ndarray:
        exponentials = np.exp(values)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    probabilities = softmax(2 * logits)
    confidence = 1 + (probabilities * np.log(probabilities)).sum(axis=1) / np.log(CLASSES)
    return {
        "logits": logits,
        "primary": softmax(logits),
        "probabilities": probabilities,
        "confidence": confidence,
        "embedding": embedding,
    }


def write_bundle(folder: Path, precisions: tuple[str, ...] = ("fp32",), **changes: object) -> Path:
    """A bundle folder with one tiny ONNX file per precision (all FP32 inside; each with its own weights).

    changes: arguments of `tiny_model`.
    """
    folder.mkdir(parents=True)
    files = []
    for number, precision in enumerate(precisions):
        path = folder / f"model.{precision.replace('+', '-')}.onnx"
        onnx.save(tiny_model(**{"seed": 3 + number, **changes}), path)
        files.append(describe_file(path, kind="onnx", precision=precision))
    manifest = Manifest(
        model=ModelInfo("tiny", CLASSES, 50, 0.001, EMBEDDING_DIM),
        labels=EXPRESSIONS_7,
        preprocessing=PREPROCESSING,
        files=tuple(files),
        source={"checkpoint": "none", "sha256": "0" * 64},
        tools={"onnx": onnx.__version__},
    )
    write_manifest(folder, manifest)
    return folder


def rewritten(folder: Path, *, uint8: bool = False, outputs: tuple[str, ...] = OUTPUT_NAMES) -> Path:
    """The tiny bundle with another interface."""
    from edgefel.export.onnx.inputs import uint8_input
    from edgefel.export.onnx.passes import keep_outputs

    write_bundle(folder)
    model = tiny_model()
    for node in model.graph.node:
        node.name = f"model/{node.output[0]}"
    if uint8:
        model, _ = uint8_input(model, PREPROCESSING)
    model, _ = keep_outputs(model, outputs)
    path = folder / "model.fp32.onnx"
    onnx.save(model, path)
    old = read_manifest(folder)
    file = describe_file(path, kind="onnx", precision="fp32")
    kind = "uint8" if uint8 else "float32"
    new = Manifest(
        old.model,
        old.labels,
        old.preprocessing,
        (file,),
        old.source,
        old.tools,
        input_type=kind,
        outputs=outputs,
    )
    write_manifest(folder, new)
    return folder
