"""What an engine takes and gives, how batches are cut, and which versions are supported; without a GPU."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import fake_tensorrt
import numpy as np
import onnx
import pytest
from fake_tensorrt import DataType, Location
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tiny_bundle import tiny_model, write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import ModelFile
from edgefel.runtime.backends.tensorrt_binding import (
    OptimizationProfile,
    TensorSpec,
    check_binding,
    check_version,
    cut,
    read_binding,
)
from edgefel.runtime.manifest import read_manifest


def profiles(*sizes: tuple[int, int, int]) -> tuple[OptimizationProfile, ...]:
    return tuple(OptimizationProfile(index, *three) for index, three in enumerate(sizes))


def pieces(count: int, *sizes: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    return [dataclasses.astuple(piece) for piece in cut(count, profiles(*sizes))]


def test_a_batch_within_the_profile_is_one_piece():
    assert pieces(3, (1, 1, 8)) == [(0, 3, 3, 0)]
    assert pieces(8, (1, 1, 8)) == [(0, 8, 8, 0)]


def test_a_batch_above_the_profile_is_split():
    assert pieces(9, (1, 1, 4)) == [(0, 4, 4, 0), (4, 4, 4, 0), (8, 1, 1, 0)]


def test_a_batch_below_the_profile_is_padded():
    assert pieces(1, (4, 4, 8)) == [(0, 1, 4, 0)]
    assert pieces(9, (4, 4, 8)) == [(0, 8, 8, 0), (8, 1, 4, 0)]


def test_a_fixed_batch_pads_and_splits():
    assert pieces(5, (2, 2, 2)) == [(0, 2, 2, 0), (2, 2, 2, 0), (4, 1, 2, 0)]


def test_the_profile_with_the_nearest_optimum_is_taken():
    both = ((1, 1, 8), (1, 8, 8))
    assert [pieces(count, *both)[0][3] for count in range(1, 9)] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_gap_between_profiles_is_filled_from_below():
    assert pieces(5, (1, 1, 2), (8, 8, 8)) == [(0, 2, 2, 0), (2, 2, 2, 0), (4, 1, 1, 0)]


ranges = st.lists(st.integers(1, 12), min_size=3, max_size=3).map(sorted).map(tuple)


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(ranges, min_size=1, max_size=4))
def test_every_image_is_run_once_at_a_size_its_profile_allows(count, sizes):
    found = cut(count, profiles(*sizes))
    assert [i for piece in found for i in range(piece.start, piece.start + piece.count)] == list(range(count))
    for piece in found:
        low, _, high = sizes[piece.profile]
        assert low <= piece.size <= high
        assert piece.count <= piece.size


@pytest.mark.parametrize("sizes", [(0, 1, 2), (2, 1, 2), (1, 3, 2)])
def test_impossible_profiles(sizes):
    with pytest.raises(EdgefelError, match="optimization profile 0"):
        OptimizationProfile(0, *sizes)


def engine_of(model: onnx.ModelProto, sizes=((1, 2, 4),)) -> fake_tensorrt.Engine:
    return fake_tensorrt.Engine(None, model.SerializeToString(), sizes, None)


TRT = fake_tensorrt.tensorrt(None)


def test_what_an_engine_takes_and_gives(tmp_path):
    binding = read_binding(TRT, engine_of(tiny_model(), ((1, 2, 4), (5, 6, 9))), "model.engine")
    assert binding.inputs == (TensorSpec("image", np.dtype(np.float32), (3, 14, 14)),)
    assert {spec.name: spec.shape for spec in binding.outputs} == {
        "logits": (7,),
        "primary": (7,),
        "probabilities": (7,),
        "confidence": (),
        "embedding": (5,),
    }
    assert binding.profiles == (OptimizationProfile(0, 1, 2, 4), OptimizationProfile(1, 5, 6, 9))
    assert binding.max_batch == 9
    manifest = read_manifest(write_bundle(tmp_path / "bundle"))
    check_binding(binding, ModelFile.of(manifest, manifest.files[0]))


def test_an_engine_of_a_fixed_batch_has_one_profile():
    model = tiny_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 2
    assert read_binding(TRT, engine_of(model), "e").profiles == (OptimizationProfile(0, 2, 2, 2),)


def test_engines_of_another_kind_are_refused(monkeypatch):
    engine = engine_of(tiny_model())
    monkeypatch.setattr(engine, "get_tensor_dtype", lambda name: DataType.BF16)
    with pytest.raises(EdgefelError, match=r"e: image is of type BF16, which NumPy lacks; build it anew"):
        read_binding(TRT, engine, "e")
    engine = engine_of(tiny_model())
    monkeypatch.setattr(engine, "get_tensor_location", lambda name: Location.HOST)
    with pytest.raises(EdgefelError, match="image lies in host memory"):
        read_binding(TRT, engine, "e")
    with pytest.raises(
        EdgefelError, match=r"image has shape \[-1, 3, -1, 14\]; all but the batch must be fixed"
    ):
        read_binding(TRT, _dynamic_height(), "e")
    two = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("image", "other", "sum")
    ]
    graph = helper.make_graph([helper.make_node("Add", ["image", "other"], ["sum"])], "g", two[:2], two[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    with pytest.raises(EdgefelError, match=r"has 2 inputs \(image, other\), expected one"):
        read_binding(TRT, engine_of(model), "e")


def _dynamic_height() -> fake_tensorrt.Engine:
    model = tiny_model()
    model.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_value")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    return engine_of(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 16},
            r"takes image, float32 \[3, 16, 16\] per image, .*promises image, float32 \[3, 14, 14\]",
        ),
        ({"input_name": "pixels"}, "takes pixels"),
    ],
)
def test_an_engine_that_is_not_the_manifests(tmp_path, options, message):
    manifest = read_manifest(write_bundle(tmp_path / "bundle"))
    model = ModelFile.of(manifest, manifest.files[0])
    with pytest.raises(EdgefelError, match=message):
        check_binding(read_binding(TRT, engine_of(tiny_model(**options)), "e"), model)


def test_outputs_that_are_not_the_manifests(tmp_path):
    manifest = read_manifest(write_bundle(tmp_path / "bundle"))
    model = ModelFile.of(manifest, manifest.files[0])
    binding = read_binding(TRT, engine_of(tiny_model()), "e")
    with pytest.raises(EdgefelError, match="output probabilities is missing"):
        check_binding(dataclasses.replace(binding, outputs=binding.outputs[:2]), model)
    wide = [dataclasses.replace(spec, shape=(8,)) for spec in binding.outputs]
    with pytest.raises(EdgefelError, match=r"output logits is of shape \[8\] per image, .* promises \[7\]"):
        check_binding(dataclasses.replace(binding, outputs=tuple(wide)), model)


def version(name: str, number: str) -> ModuleType:
    module = ModuleType(name)
    module.__version__ = number
    return module


@pytest.mark.parametrize("number", ["8.6.1", "10.2.0", "10.0"])
def test_versions_that_are_too_old(number):
    with pytest.raises(EdgefelError, match=rf"tensorrt {number} is older than 10.3, .* JetPack 6.1"):
        check_version(version("tensorrt", number))


@pytest.mark.parametrize(
    "module", [("tensorrt", "10.3.0"), ("tensorrt", "11.4.1"), ("tensorrt_rtx", "1.0.0.21")]
)
def test_versions_that_are_supported(module):
    check_version(version(*module))
