"""FP16: which nodes stay FP32, and what happens at the border."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported import anchors_of, random_batch, run_onnx, tiny_graph, tiny_model
from onnx import TensorProto, helper, numpy_helper
from small_graphs import pooled_graph

from edgefel.calib.graph import GraphIndex
from edgefel.export.onnx.passes import apply_passes
from edgefel.export.onnx.trace import check_graph
from edgefel.export.parity.compare import sqnr_db
from edgefel.export.precision.half import HALF_TINY, float32_nodes, half_constant, to_half


@pytest.fixture(scope="module")
def kept():
    return float32_nodes(tiny_graph(), anchors_of(tiny_model()))


@pytest.fixture(scope="module")
def half(kept):
    return to_half(tiny_graph(), kept)[0]


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {t.name: t.data_type for t in inferred.initializer}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        types[value.name] = value.type.tensor_type.elem_type
    return types


def test_the_anchor_branch_and_the_probabilities_stay_float32(kept):
    graph = GraphIndex(tiny_graph().graph)
    by_type = [name.rpartition("/")[2].split("_")[0] for name in kept]
    # the squared differences of the distances, their sum and root
    for operator in ("Sub", "ReduceSum", "Sqrt", "Softmax", "Log"):
        assert operator in by_type
    logarithms = {n.name for n in tiny_graph().graph.node if n.op_type == "Log"}
    assert logarithms <= set(kept)
    # whatever follows a kept node is kept, up to the outputs
    for name in kept:
        for output in graph.nodes[name].output:
            assert all(consumer.name in kept for consumer in graph.consumers.get(output, []))
    assert all(name.startswith("head") for name in kept)


def test_the_linear_layers_of_the_head_are_not_kept(kept):
    weighted = {n.name for n in tiny_graph().graph.node if n.op_type in ("Gemm", "MatMul", "Conv")}
    assert not weighted & set(kept)


def test_every_other_float_tensor_is_half(half, kept):
    types = types_of(half)
    for node in half.graph.node:
        if node.op_type == "Cast":
            continue
        floats = [types[name] for name in [*node.input, *node.output] if name and types[name] in (1, 10)]
        expected = TensorProto.FLOAT if node.name in kept else TensorProto.FLOAT16
        assert set(floats) <= {expected}, node.name


def test_inputs_and_outputs_stay_float32_and_the_border_has_few_casts(half):
    assert all(
        v.type.tensor_type.elem_type == TensorProto.FLOAT for v in [*half.graph.input, *half.graph.output]
    )
    casts = [(node.input[0], node.output[0]) for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))
    # image in; logits and embedding out, which the FP32 branch reads; the folded attention's logits into it
    assert len(casts) == 4
    check_graph(half)


def test_float32_neighbours_exchange_float32(half, kept):
    index = GraphIndex(half.graph)
    for name in kept:
        for value in index.nodes[name].input:
            producer = index.producers.get(value)
            if producer is not None and producer.op_type == "Cast":
                assert index.producers[producer.input[0]].name not in kept


def test_half_precision_agrees_with_float32(half):
    batch = random_batch(8, seed=3)
    reference, actual = run_onnx(tiny_graph(), batch), run_onnx(half, batch)
    assert sqnr_db(reference["logits"], actual["logits"]) > 45
    assert np.abs(reference["probabilities"] - actual["probabilities"]).max() < 0.05
    assert half.ByteSize() < 0.56 * tiny_graph().ByteSize()


def test_distances_that_overflow_half_do_not_here():
    """With anchors 300 away in each of 64 dimensions, the squares sum to 5.8e6, far beyond 65504."""
    model = onnx.ModelProto()
    model.CopyFrom(tiny_graph())
    flat = anchors_of(tiny_model()).tobytes()
    held = next(t for t in model.graph.initializer if numpy_helper.to_array(t).tobytes() == flat)
    far = numpy_helper.to_array(held) + np.float32(300.0)
    held.CopyFrom(numpy_helper.from_array(far, held.name))
    kept = float32_nodes(model, far)
    half, clamped = to_half(model, kept)
    assert clamped == ()
    index = GraphIndex(half.graph)
    distances = index.consumers[held.name][0]
    # the sum of squares is fetched as the file computes it: ONNX Runtime on a CPU would otherwise widen it
    total = next(n for n in half.graph.node if n.op_type == "ReduceSum" and n.name in kept)
    half.graph.output.append(helper.make_tensor_value_info(total.output[0], TensorProto.FLOAT, None))
    session = ort.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    sums, probabilities = session.run([total.output[0], "probabilities"], {"image": random_batch(4)})
    assert distances.name in kept
    assert sums.min() > np.finfo(np.float16).max
    assert np.isfinite(sums).all()
    assert np.abs(probabilities.sum(-1) - 1).max() < 1e-5


def test_anchors_that_are_not_in_the_graph_are_an_error():
    with pytest.raises(RuntimeError, match="anchors"):
        float32_nodes(tiny_graph(), anchors_of(tiny_model()) + 1)


def test_a_linear_head_keeps_its_softmax_and_confidence():
    kept = float32_nodes(tiny_graph("poster-v2-nano"), None)
    assert any("Softmax" in name for name in kept)
    assert any("Log" in name for name in kept)
    half, _ = to_half(tiny_graph("poster-v2-nano"), kept)
    check_graph(half)
    outputs = run_onnx(half, random_batch(3))
    assert np.array_equal(outputs["primary"], outputs["probabilities"])
    assert np.isfinite(outputs["confidence"]).all()


def test_scores_that_decide_which_tokens_are_dropped_stay_float32():
    graph, _ = apply_passes(pooled_graph())
    index = GraphIndex(graph.graph)
    kept = float32_nodes(graph, None)
    scored = [n for n in graph.graph.node if n.op_type == "TopK" and n.input[0] not in index.initializers]
    sums = [index.producers[n.input[0]] for n in scored]
    sums = [n for n in sums if n.op_type == "ReduceSum"]
    assert len(sums) == 3
    assert {n.name for n in sums} <= set(kept)
    half, _ = to_half(graph, kept)
    check_graph(half)
    types = {
        v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(half).graph.value_info
    }
    assert {types[n.output[0]] for n in sums} == {TensorProto.FLOAT}
    # what is dropped and kept is FP16 itself
    rows = [n for n in half.graph.node if n.op_type == "GatherND"]
    assert {types[n.output[0]] for n in rows} == {TensorProto.FLOAT16}


def test_unknown_nodes_are_refused():
    with pytest.raises(ValueError, match="no nodes"):
        to_half(tiny_graph(), ("head/Missing",))


@pytest.mark.parametrize(
    ("values", "expected", "clamped"),
    [
        ([1.0, -2.5], [1.0, -2.5], False),
        ([1e6, -1e6, np.inf, -np.inf], [65504.0, -65504.0, np.inf, -np.inf], True),
        ([1e-30], [HALF_TINY], False),
        ([-1e-30], [-HALF_TINY], False),
        ([0.0], [0.0], False),
        ([1e-30, 1.0], [0.0, 1.0], False),
    ],
)
def test_constants(values, expected, clamped):
    result, was_clamped = half_constant(np.asarray(values, dtype=np.float32))
    assert result.dtype == np.float16
    assert result.tolist() == expected
    assert was_clamped is clamped


def test_shared_constants_keep_their_precision_in_float32_nodes():
    """One constant, read by an FP16 and by an FP32 node: the latter must not see it rounded."""
    third = np.float32(1 / 3)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    nodes = [
        helper.make_node("Mul", ["image", "c"], ["a"], "half"),
        helper.make_node("Mul", ["a", "zero"], ["b"], "exact"),
        helper.make_node("Add", ["b", "c"], ["y"], "exact2"),
    ]
    constants = [
        numpy_helper.from_array(np.asarray(v, dtype=np.float32), n) for n, v in (("c", third), ("zero", 0))
    ]
    graph = helper.make_graph(nodes, "g", [image], [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    half, _ = to_half(model, ("exact", "exact2"))
    session = ort.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"image": np.ones((2, 3), dtype=np.float32)})
    assert (result == third).all()


def test_a_scale_too_small_for_fp16_does_not_become_zero():
    scales = np.array([1e-9, 0.5, 3e-8, 1e-12], np.float32)
    values, clamped = half_constant(scales, scales=True)
    assert values.tolist() == [HALF_TINY, 0.5, HALF_TINY, HALF_TINY]
    assert not clamped
    assert half_constant(scales)[0].tolist()[0] == 0.0  # of other constants
