"""Crop, stride and normalisation in the graph: what the runtime computes, of resized pixels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from small_graphs import make_model, node

from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.inputs import pixel_input, uint8_input

RECIPES = (
    Preprocessing(16, 16),
    Preprocessing(21, 16),  # an odd border: one pixel more on the right
    Preprocessing(40, 32, stride=2, mean=(0.1, 0.5, 0.9), std=(0.3, 0.2, 0.1)),
    Preprocessing(16, 16, colour="grey"),
)


def copy_model(kind: str = "plain") -> onnx.ModelProto:
    """Gives back its input [N, 3, 16, 16], through FP16 or INT8 if asked, and its batch size."""
    nodes = [node("Shape", "image", "count", start=0, end=1)]
    if kind == "half":
        nodes.append(node("Cast", "image", "half", to=TensorProto.FLOAT16))
        nodes.append(node("Cast", "half", "y", to=TensorProto.FLOAT))
    elif kind == "int8":
        nodes.append(node("QuantizeLinear", "image scale point", "quantized"))
        nodes.append(node("DequantizeLinear", "quantized scale point", "y"))
    else:
        nodes.append(node("Identity", "image", "y"))
    nodes.append(node("Cast", "count", "n", to=TensorProto.FLOAT))
    constants = {"scale": np.float32(0.02), "point": np.int8(0)} if kind == "int8" else {}
    return make_model(nodes, {"image": ["N", 3, 16, 16]}, {"y": ["N", 3, 16, 16], "n": [1]}, constants)


def crops(recipe: Preprocessing, count: int = 3) -> list[Image]:
    """Resized already; every byte is in the first."""
    rng = np.random.default_rng(4)
    images = [rng.integers(0, 256, (recipe.resize, recipe.resize, 3), dtype=np.uint8) for _ in range(count)]
    start = (recipe.resize - recipe.crop) // 2
    window = slice(start, start + recipe.crop, recipe.stride)
    images[0][window, window] = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    return images


def pixels(images: list[Image]) -> np.ndarray:
    """What an inference element feeds: float32 [N, 3, R, R] of 0..255."""
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["plain", "half", "int8"])
@pytest.mark.parametrize("takes", ["float32", "uint8"])
def test_every_byte_is_bitwise_the_runtimes(recipe, kind, takes):
    """ONNX's own evaluator: ONNX Runtime may skip rounding to FP16 on a CPU."""
    graph, images = copy_model(kind), crops(recipe)
    expected = ReferenceEvaluator(graph).run(["y"], {"image": recipe.batch(images)})[0]
    if takes == "uint8":
        graph, _ = uint8_input(graph, recipe)
    model = pixel_input(graph, recipe)
    onnx.checker.check_model(model, full_check=True)
    found = model.graph.input[0].type.tensor_type
    assert found.elem_type == TensorProto.FLOAT
    assert [dim.dim_value for dim in found.shape.dim[1:]] == [3, recipe.resize, recipe.resize]
    actual, count = ReferenceEvaluator(model).run(["y", "n"], {"image": pixels(images)})
    np.testing.assert_array_equal(actual, expected)
    assert count.tolist() == [3]


def test_uint8_is_not_left_in_the_graph():
    """TensorRT takes it at inputs only."""
    recipe = RECIPES[1]
    model = pixel_input(uint8_input(copy_model(), recipe)[0], recipe)
    types = [entry for entry in model.graph.node if entry.op_type == "Cast"]
    assert [entry.output[0] for entry in types] == ["n"]


def test_the_graph_passed_in_is_left_alone():
    graph = copy_model()
    before = graph.SerializeToString()
    pixel_input(graph, RECIPES[1])
    assert graph.SerializeToString() == before


def test_refusals():
    with pytest.raises(
        EdgefelError, match=r"the graph takes float \[N, 3, 16, 16\], the preprocessing makes float"
    ):
        pixel_input(copy_model(), Preprocessing(32, 32))
    graph, _ = uint8_input(copy_model(), RECIPES[0])
    cast = next(entry for entry in graph.graph.node if entry.input[0] == "image" and entry.op_type == "Cast")
    cast.attribute[0].i = TensorProto.FLOAT16
    with pytest.raises(EdgefelError, match="reads the uint8 input and is no Cast to float"):
        pixel_input(graph, RECIPES[0])
