"""Preprocessing against a float64 implementation written out step by step, and the same in
evaluation, calibration, comparison and on the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from vectors.preprocessing_vectors import FOLDER, digest

from edgefel.calib.images import load_images
from edgefel.calib.reader import CalibrationReader
from edgefel.data.images import read_rgb
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.evaluation.inference import run_model
from edgefel.export.parity.gate import onnx_outputs
from edgefel.runtime.manifest import Manifest, ModelInfo, describe_file, write_manifest
from edgefel.runtime.session import Session


def original(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(pixels: np.ndarray, crop: int, stride: int) -> np.ndarray:
    """float64 [3, crop / stride, crop / stride] of resized pixels, one value at a time."""
    start = (len(pixels) - crop) // 2
    size = crop // stride
    out = np.empty((3, size, size))
    for channel in range(3):
        for row in range(size):
            for column in range(size):
                value = int(pixels[start + row * stride, start + column * stride, channel])
                out[channel, row, column] = (value / 255 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
    return out


@pytest.mark.parametrize(("resize", "crop", "stride"), [(32, 28, 1), (32, 28, 2), (33, 28, 1), (21, 21, 3)])
def test_every_value_is_the_float64_one_rounded_once(resize, crop, stride):
    pixels = original(resize, resize)
    tensor = Preprocessing(resize, crop, stride).to_tensor(pixels)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, plain(pixels, crop, stride).astype(np.float32))


def test_known_values():
    grey = np.full((8, 8, 3), 255, np.uint8)
    grey[:, :, 1] = 0
    tensor = Preprocessing(8, 8).to_tensor(grey)
    np.testing.assert_allclose(
        tensor[:, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225], rtol=1e-6
    )


@pytest.mark.parametrize("size", [(300, 280), (100, 131), (256, 256), (500, 90)])
def test_stride_two_is_stride_one_subsampled(size):
    image = original(*size)
    full = Preprocessing(256, 224, 1).to_tensor(image)
    np.testing.assert_array_equal(Preprocessing(256, 224, 2).to_tensor(image), full[:, ::2, ::2])


def test_a_view_with_gaps_is_as_good_as_a_copy():
    view = original(60, 80)[5:45:2, ::-1]
    preprocessing = Preprocessing(32, 28)
    np.testing.assert_array_equal(preprocessing.to_tensor(view), preprocessing.to_tensor(view.copy()))


def test_batch_is_its_images_one_by_one():
    preprocessing = Preprocessing(32, 28, 2)
    images = [original(20, 30, 1), original(64, 64, 2), original(32, 32, 3)]
    batch = preprocessing.batch(images)
    assert batch.shape == (3, 3, 14, 14)
    assert batch.flags.c_contiguous
    for tensor, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(tensor, preprocessing.to_tensor(image))
    assert preprocessing.batch([]).shape == (0, 3, 14, 14)


def test_defaults():
    assert default_preprocessing(224) == Preprocessing(256, 224, 1, IMAGENET_MEAN, IMAGENET_STD)
    assert default_preprocessing(112) == Preprocessing(128, 112)
    assert Preprocessing(256, 224, 2).output_size == 112


def test_round_trip_through_json():
    preprocessing = Preprocessing(100, 80, 4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_resampling_travels_and_files_without_it_mean_area():
    own = Preprocessing(32, 28, resample="antialias")
    assert Preprocessing.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    # older runtimes read bundles of edgefel's own recipe, and refuse those that they would resize otherwise
    assert "resample" not in Preprocessing(32, 28).to_dict()


def test_detail_travels_and_files_without_it_lose_nothing():
    own = Preprocessing(32, 28, detail=12)
    assert Preprocessing.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    assert "detail" not in Preprocessing(32, 28).to_dict()
    assert own.summary == "reduce to 12, resize to 32 (area), crop 28 from the middle"


def test_a_network_of_grey_images_is_shown_grey_ones():
    """Luma by ITU-R BT.601; what is grey stays as it is, byte for byte."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    own = Preprocessing(32, 28, colour="grey")
    assert Preprocessing.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    found = own.resize_image(image)
    assert np.abs(found - (image @ np.array([0.299, 0.587, 0.114]))[:, :, None]).max() <= 0.51
    np.testing.assert_array_equal(own.resize_image(found), found)
    np.testing.assert_array_equal(found[:, :, 0], found[:, :, 2])
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(
        Preprocessing(1, 1, colour="grey").resize_image(levels[:, 7:8]), levels[:, 7:8]
    )
    np.testing.assert_array_equal(own.after_resizing.resize_image(found), found)


def test_a_recipe_for_another_input_size():
    published = Preprocessing(256, 224, resample="antialias")
    assert published.scaled(112) == Preprocessing(128, 112, resample="antialias")
    assert published.scaled(224) is published
    assert Preprocessing(256, 224, stride=2).scaled(224) == Preprocessing(256, 224)
    small = Preprocessing(256, 224, detail=100)
    assert small.scaled(112) == Preprocessing(128, 112, detail=100)
    assert small.scaled(56) == Preprocessing(64, 56)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resample": "lanczos"}, "resample is 'lanczos'; this edgefel knows area, antialias, bilinear"),
        ({"resize": 0}, "resize is 0"),
        ({"resize": 32.0}, "resize is 32.0"),
        ({"stride": True}, "stride is True"),
        ({"crop": 40}, "larger than resize"),
        ({"stride": 3}, "not a multiple"),
        ({"mean": [0.1, 0.2]}, "three numbers"),
        ({"mean": None}, "three numbers"),
        ({"mean": [0.1, 0.2, float("nan")]}, "finite"),
        ({"std": [0.1, 0.0, 0.3]}, "greater than 0"),
        ({"colour": "BGR"}, "colour is 'BGR'; this edgefel knows RGB, grey"),
        ({"detail": 32}, "detail is 32; it must be an integer from 1 to resize - 1"),
        ({"detail": True}, "detail is True"),
        ({"detail": 0}, "detail is 0"),
        ({"gamma": 2}, "unknown gamma"),
    ],
)
def test_impossible_settings(changes, message):
    values = {**Preprocessing(32, 28).to_dict(), **changes}
    with pytest.raises(EdgefelError, match=message):
        Preprocessing.from_dict(values)


def test_missing_settings_and_no_settings():
    with pytest.raises(EdgefelError, match="missing stride, mean, std, colour"):
        Preprocessing.from_dict({"resize": 32, "crop": 28})
    with pytest.raises(EdgefelError, match="expected an object"):
        Preprocessing.from_dict([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_only_uint8_rgb_images(image):
    with pytest.raises(EdgefelError, match="expected uint8 RGB"):
        Preprocessing(8, 8).to_tensor(image)


class Prediction(NamedTuple):
    primary: torch.Tensor
    probabilities: torch.Tensor


class Witness(torch.nn.Module):
    """A model that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, batch):
        self.seen.append(batch.numpy().copy())
        shares = torch.full((len(batch), 7), 1 / 7)
        return Prediction(shares, shares)


def witness_bundle(folder: Path, preprocessing: Preprocessing, kind: str) -> Path:
    """A bundle whose embedding is its input, value by value."""
    size = preprocessing.output_size
    count = 3 * size * size
    shape, element = (
        (["N", 3, size, size], TensorProto.FLOAT)
        if kind == "float32"
        else (["N", size, size, 3], TensorProto.UINT8)
    )
    constants = {
        "flat": np.array([-1, count], np.int64),
        "starts": np.array([0], np.int64),
        "ends": np.array([7], np.int64),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["real", "flat"], ["embedding"]),
        helper.make_node("Slice", ["embedding", "starts", "ends", "axes"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["primary"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ReduceMax", ["primary", "axes"], ["confidence"], keepdims=0),
    ]
    shapes = {name: ["N", 7] for name in ("logits", "primary", "probabilities")}
    shapes |= {"confidence": ["N"], "embedding": ["N", count]}
    graph = helper.make_graph(
        nodes,
        "witness",
        [helper.make_tensor_value_info("image", element, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir()
    path = folder / "model.fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    manifest = Manifest(
        model=ModelInfo("witness", 7, 0, 0.0, count),
        labels=EXPRESSIONS_7,
        preprocessing=preprocessing,
        files=(describe_file(path, kind="onnx", precision="fp32"),),
        source={"checkpoint": "none"},
        tools={},
        input_type=kind,
    )
    write_manifest(folder, manifest)
    return folder


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(32, 28),
        Preprocessing(64, 56, 2),
        Preprocessing(30, 30, resample="antialias"),
        Preprocessing(32, 28, detail=20, colour="grey"),
    ],
    ids=str,
)
def test_evaluation_calibration_comparison_and_device_give_the_model_the_same_bytes(tmp_path, preprocessing):
    names = ["larger", "smaller", "wider", "stride"]
    for number, name in enumerate(names):
        folder = tmp_path / "data/test" / EXPRESSIONS_7[number]
        folder.mkdir(parents=True)
        (folder / f"{name}.png").write_bytes((FOLDER / f"{name}.png").read_bytes())
    dataset = open_dataset(tmp_path / "data")
    order = [sample.path.stem for sample in dataset.samples]
    assert sorted(order) == sorted(names)
    images = [read_rgb(FOLDER / f"{name}.png") for name in order]
    expected = preprocessing.batch(images)

    witness = Witness()
    batches = ImageSource(dataset, preprocessing).readable(range(4), 3)
    run_model(witness, batches, preprocessing, 7)
    assert digest(np.concatenate(witness.seen)) == digest(expected)

    calibration = np.concatenate(list(CalibrationReader(dataset, range(4), preprocessing, batch_size=3)))
    assert digest(calibration) == digest(expected)

    bundle = witness_bundle(tmp_path / "bundle", preprocessing, "float32")
    originals = load_images(dataset, range(4), dataset.labels, preprocessing, "data", labelled=True)
    compared = onnx_outputs(bundle / "model.fp32.onnx", originals.batches(preprocessing), threads=1)
    assert digest(compared["embedding"]) == digest(expected)

    with Session.open(bundle, threads=1, max_batch=3) as session:
        assert digest(session(images).embedding) == digest(expected)

    in_graph = witness_bundle(tmp_path / "uint8", preprocessing, "uint8")
    with Session.open(in_graph, threads=1) as session:
        pixels = session(images).embedding.astype(np.uint8).reshape(4, *session.manifest.input_shape[1:])
    table = preprocessing.normalisation_table()
    normalised = np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=1)
    assert digest(normalised) == digest(expected)
