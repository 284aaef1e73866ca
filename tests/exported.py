"""Small models with random weights and their traced graphs, made once per test run."""

from __future__ import annotations

import atexit
import copy
import dataclasses
import functools
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import torch
from click.testing import CliRunner, Result

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.images import choose_images
from edgefel.calib.placement import ONNXRUNTIME, place
from edgefel.calib.quantize import quantize
from edgefel.cli.main import main
from edgefel.data.labels import expression_labels
from edgefel.data.preprocessing import default_preprocessing
from edgefel.export.onnx.trace import DEFAULT_OPSET, MIN_OPSET, export_onnx
from edgefel.export.tensorrt.engine import PACKAGES
from edgefel.models import build_model
from edgefel.models.checkpoint import save_checkpoint
from edgefel.runtime.backends.onnxruntime_backend import session_options
from edgefel.runtime.manifest import OUTPUT_NAMES

LABELS = expression_labels(8)
HAS_TENSORRT = any(importlib.util.find_spec(package) for package in PACKAGES)
TINY_ENCODER = {"image_units": (1, 1, 1), "landmark_units": (1, 1, 1), "depth": 1}


def tiny_model(name: str = "arbex-nano"):
    """The nano network with one block per stage; a few training batches give its batch norms statistics."""
    return _model(name)


@functools.cache
def _model(name: str):
    generator_state = torch.get_rng_state()
    torch.manual_seed(5)
    model = build_model(name, num_classes=8, encoder=dict(TINY_ENCODER)).train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(8, 3, 112, 112))
        # at initialization a head says nearly the same of every image; spread the labels
        for parameter in model.head.parameters():
            parameter.mul_(3.0)
    torch.set_rng_state(generator_state)
    return model.eval()


@functools.cache
def large_model():
    """The same weights behind a 224x224 input, which the encoder samples down to 112 itself."""
    model = build_model("arbex-nano", num_classes=8, input_size=224, encoder=dict(TINY_ENCODER))
    model.load_state_dict(tiny_model().state_dict())
    return model.eval()


def tiny_graph(name: str = "arbex-nano") -> onnx.ModelProto:
    """Its FP32 graph. Shared: copy it before changing it."""
    return _graph(name)


@functools.cache
def _graph(name: str) -> onnx.ModelProto:
    # a trace takes ten seconds: the networks with one linear layer show that the oldest opset works too
    return export_onnx(tiny_model(name), opset=MIN_OPSET if name.startswith("poster-v2") else DEFAULT_OPSET)


@functools.cache
def varied_model():
    """`tiny_model` with a shifted classifier: it gives every label to some image of `colour_batch`, and not
    nearly the same one to all."""
    model = copy.deepcopy(tiny_model())
    logits = run_torch(model, colour_batch(64, seed=99))["logits"]
    with torch.no_grad():
        model.head.classifier[8].bias -= torch.from_numpy(logits.mean(axis=0))
    return model.eval()


@functools.cache
def varied_graph() -> onnx.ModelProto:
    """Its FP32 graph: `tiny_graph` with that bias. Shared: copy it before changing it."""
    return with_shifted_logits(varied_shift())


def varied_shift() -> np.ndarray:
    """What `varied_model` adds to the logits of `tiny_model`."""
    shift = varied_model().head.classifier[8].bias - tiny_model().head.classifier[8].bias
    return shift.detach().numpy()


def with_shifted_logits(shift: np.ndarray | float) -> onnx.ModelProto:
    """A copy of `tiny_graph` whose logits are larger by `shift`."""
    model = onnx.ModelProto()
    model.CopyFrom(tiny_graph())
    last = next(node for node in model.graph.node if "logits" in node.output)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[2])
    value = onnx.numpy_helper.to_array(bias) + np.asarray(shift, dtype=np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(value, bias.name))
    return model


def varied_int8(factor: float = 1.0) -> onnx.ModelProto:
    """`varied_graph` in INT8; the weight scales of one convolution are `factor` times what they should be."""
    model = quantize(varied_graph(), *_varied_scales())
    layer = next(
        node for node in model.graph.node if node.op_type == "Conv" and "image_stream.stages.1" in node.name
    )
    dequantizer = next(node for node in model.graph.node if node.output[0] == layer.input[1])
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == dequantizer.input[1])
    value = onnx.numpy_helper.to_array(scale) * np.float32(factor)
    scale.CopyFrom(onnx.numpy_helper.from_array(value, scale.name))
    return model


@functools.cache
def _varied_scales():
    placement = place(varied_graph(), ONNXRUNTIME)
    histograms = collect_activations(
        varied_graph(), placement.activations, [colour_batch(8, s) for s in range(50, 54)]
    )
    return placement, activation_scales(histograms, "minmax")


def anchors_of(model: Any) -> np.ndarray:
    return model.head.anchors.detach().numpy()


def save(folder: Path, model: Any) -> Path:
    """A checkpoint folder of one of these models."""
    preprocessing = default_preprocessing(model.config.input_size).to_dict()
    save_checkpoint(folder, model, LABELS, preprocessing)
    return folder


@functools.cache
def large_bundle() -> tuple[Path, Result]:
    """`edgefel export` of the 224 model with --input-size 112 in every precision: the bundle's folder and
    what the command said. Of the images, one that calibration chooses cannot be read."""
    root = Path(tempfile.mkdtemp(prefix="edgefel-test-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    checkpoint = save(root / "large", large_model())
    faces = write_faces(root / "faces", LABELS, 5)
    chosen = choose_images(faces, LABELS, calibrate=True, per_class=3, group_cap=32, seed=0)
    chosen.dataset.samples[chosen.calibration.indices[0]].path.write_bytes(b"no image")
    engine = ["--engine"] if HAS_TENSORRT else []
    options = ["--fp32", "--fp16", "--int8", *engine, "--input-size", "112", "--per-class", "3", "--json"]
    arguments = ["export", str(checkpoint), "-o", str(root / "bundle"), "--data", str(faces), *options]
    return root / "bundle", CliRunner().invoke(main, arguments)


def random_batch(count: int, seed: int = 0, size: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, size, size), dtype=np.float32)


def colour_batch(count: int, seed: int = 0) -> np.ndarray:
    """Noisy images of one colour each, normalised: float32 [count, 3, 112, 112]."""
    colours = np.random.default_rng([seed, 1]).standard_normal((count, 3, 1, 1), dtype=np.float32)
    return 1.5 * colours + 0.5 * random_batch(count, seed)


def run_onnx(model: onnx.ModelProto | Path, batch: np.ndarray) -> dict[str, np.ndarray]:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, session_options(), providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUT_NAMES, session.run(list(OUTPUT_NAMES), {"image": batch}), strict=True))


def run_torch(model: torch.nn.Module, batch: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return dict(zip(OUTPUT_NAMES, (v.numpy() for v in model(torch.from_numpy(batch))), strict=True))


def colour_images(count: int) -> list[np.ndarray]:
    """Noisy images of one colour each, uint8 [112, 112, 3], which `varied_model` labels differently."""
    rng = np.random.default_rng(7)
    colours = np.clip(rng.normal(127, 80, (count, 1, 1, 3)), 0, 255)
    return list(np.clip(colours + rng.normal(0, 30, (count, 112, 112, 3)), 0, 255).astype(np.uint8))


def write_colours(root: Path, count: int) -> Path:
    """A data set, all of the split test, of images that `varied_model` labels; nine labels of ten are its own."""
    images = colour_images(count)
    batch = default_preprocessing(112).batch(images)
    labels = run_torch(varied_model(), batch)["probabilities"].argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % len(LABELS)
    root.mkdir(parents=True)
    rows = ["path,label,split,subject"]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        cv2.imwrite(str(root / f"{i:03}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        rows.append(f"{i:03}.png,{LABELS[label]},test,{i}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    (root / "dataset.json").write_text(json.dumps({"labels": list(LABELS)}))
    return root


def write_faces(root: Path, labels: tuple[str, ...], per_class: int, size: int = 64, seed: int = 0) -> Path:
    """A folder `class/*.png` of smooth random images."""
    rng = np.random.default_rng(seed)
    for label in labels:
        (root / label).mkdir(parents=True)
        for i in range(per_class):
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(root / label / f"{i}.png"), image)
    return root


# INT8 for the ViT and what feeds it alone: a dozen layers instead of all of them
VIT_ONLY = dataclasses.replace(
    ONNXRUNTIME,
    float_scopes=(
        "encoder.image_stream",
        "encoder.landmark_stream",
        "encoder.levels",
        "encoder.gate",
        "head",
    ),
)
BROKEN_LAYER = "encoder.blocks.0.mlp.fc1/MatMul"  # the one of them that tests give a wrong scale
