"""The quantizers that are compared: edgefel's, and those of NNCF, ONNX Runtime and NVIDIA ModelOpt, which are optional.

Each setting is what its project's documentation recommends (`Setting.source`). A function of a tool imports it when it
is called, and runs in a process of its own: the packages set up logging and replace functions of each other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.calib.thresholds import CalibrationMethod
from edgefel.runtime.backends.base import BACKENDS, ModelFile
from edgefel.runtime.doctor.machine import installed_version
from edgefel.runtime.manifest import INPUT_NAME

Array = npt.NDArray[np.float32]
# reads the FP32 file and images [N, 3, S, S], writes the INT8 file
Quantize = Callable[[Path, Array, Path], None]

BATCH = 16  # images of one call where a tool takes several: some keep all activations of a call
NNCF_DOCS = (
    "https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training/"
    "basic-quantization-flow.html"
)
ORT_DOCS = "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"
MODELOPT_DOCS = "https://nvidia.github.io/Model-Optimizer/guides/_onnx_quantization.html"


@dataclass(frozen=True)
class Tool:
    """A package. module: what is imported. pip: what installs it. distribution: whose version is recorded."""

    name: str
    module: str
    distribution: str
    pip: str

    @property
    def version(self) -> str | None:
        """The installed version."""
        return installed_version(self.distribution)

    def unavailable_reason(self) -> str | None:
        """Why it cannot run here, with what to do; None if it may."""
        if find_spec(self.module) is None:
            return f"not installed; run: pip install '{self.pip}'"
        return None


EDGEFEL = Tool("edgefel", "edgefel", "edgefel", "edgefel[export]")
NNCF = Tool("NNCF", "nncf", "nncf", "nncf")
ONNXRUNTIME = Tool("ONNX Runtime", "onnxruntime", "onnxruntime", "onnxruntime")
MODELOPT = Tool("NVIDIA ModelOpt", "modelopt", "nvidia-modelopt", "nvidia-modelopt[onnx]")


@dataclass(frozen=True)
class Setting:
    """A tool with the settings of one row. settings: for people. source: the documentation that recommends them."""

    tool: Tool
    settings: str
    quantize: Quantize
    source: str

    @property
    def name(self) -> str:
        """Tool and settings."""
        return f"{self.tool.name}, {self.settings}"


def all_settings(method: CalibrationMethod) -> tuple[Setting, ...]:
    """Every row of the bench; method: how edgefel chooses ranges."""
    docs = "docs/quantization.md"
    return (
        Setting(EDGEFEL, f"for ONNX Runtime, {method}", partial(edgefel, "int8", method), docs),
        Setting(EDGEFEL, f"for TensorRT, {method}", partial(edgefel, "int8+fp16", method), docs),
        Setting(NNCF, "mixed preset, transformer", partial(nncf, transformer=True), NNCF_DOCS),
        Setting(NNCF, "default", partial(nncf, transformer=False), NNCF_DOCS),
        Setting(ONNXRUNTIME, "QDQ S8S8, percentile", partial(onnxruntime, "Percentile"), ORT_DOCS),
        Setting(ONNXRUNTIME, "QDQ S8S8, entropy", partial(onnxruntime, "Entropy"), ORT_DOCS),
        Setting(
            ONNXRUNTIME,
            "QDQ S8S8, percentile, only Conv, Gemm and MatMul",
            partial(onnxruntime, "Percentile", operators=("Conv", "Gemm", "MatMul")),
            ORT_DOCS,
        ),
        Setting(MODELOPT, "INT8, entropy", partial(modelopt, "entropy"), MODELOPT_DOCS),
        Setting(MODELOPT, "INT8, max", partial(modelopt, "max"), MODELOPT_DOCS),
    )


def timed(quantize: Quantize, source: Path, images: Path, output: Path) -> float:
    """Seconds of quantizing the images in a file of NumPy; for a process of its own, whose output goes into a log."""
    with (output.with_suffix(".log")).open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    start = time.perf_counter()
    quantize(source, np.load(images), output)
    return time.perf_counter() - start


def run_once(runtime: str, model: ModelFile, threads: int) -> None:
    """Opens the file and runs zeros; for a process of its own. Raises EdgefelError as the runtime's backend does."""
    session = BACKENDS[runtime].load().open(model, threads=threads)
    session.run(np.zeros((1, *model.image_shape), model.dtype))
    session.close()


def edgefel(precision: str, method: CalibrationMethod, fp32: Path, images: Array, output: Path) -> None:
    """Ranges, placement and Q/DQ nodes as an export makes them. What is not INT8 stays FP32, as the others leave it."""
    import onnx

    from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
    from edgefel.calib.placement import place
    from edgefel.calib.quantize import quantize
    from edgefel.export.onnx.passes import spread_prelu
    from edgefel.export.onnx.trace import save_onnx
    from edgefel.export.precision.precisions import POLICIES

    graph = onnx.load(fp32)
    if precision == "int8":
        graph, _ = spread_prelu(graph)
    placement = place(graph, POLICIES[precision])
    histograms = collect_activations(graph, placement.activations, _batches(images))
    scales, ends = activation_scales(histograms, method), activation_ends(histograms, method)
    save_onnx(quantize(graph, placement, scales, ends), output)


def nncf(fp32: Path, images: Array, output: Path, *, transformer: bool) -> None:
    """`nncf.quantize` on all images, with its own defaults or those for transformers."""
    os.environ["NNCF_CI"] = "1"  # it sends statistics of its use otherwise
    import nncf as package
    import onnx

    dataset = package.Dataset([{INPUT_NAME: image[None]} for image in images])
    chosen: dict[str, Any] = {}
    if transformer:
        chosen = {"preset": package.QuantizationPreset.MIXED, "model_type": package.ModelType.TRANSFORMER}
    quantized = package.quantize(onnx.load(fp32), dataset, subset_size=len(images), **chosen)
    onnx.save(quantized, output)


def onnxruntime(
    method: str, fp32: Path, images: Array, output: Path, *, operators: tuple[str, ...] | None = None
) -> None:
    """`quantize_static` behind `quant_pre_process`: Q/DQ nodes, signed INT8, weights per channel.

    operators: types to quantize, None for all that it knows.
    """
    from onnxruntime.quantization import CalibrationMethod as Method
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = output.with_name("prepared.onnx")
    # its symbolic inference knows no opset 20 Gelu; ONNX's own infers all shapes of an exported file
    quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        output,
        _Reader(images),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=getattr(Method, method),
        op_types_to_quantize=None if operators is None else list(operators),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            # the activations of so many images are in memory at once, without it, of all; must divide their number
            "CalibStridedMinMax": max(size for size in range(1, BATCH + 1) if len(images) % size == 0),
        },
    )


def modelopt(method: str, fp32: Path, images: Array, output: Path) -> None:
    """`modelopt.onnx.quantization.quantize` in mode int8; what is not INT8 stays FP32."""
    from modelopt.onnx.quantization import quantize

    quantize(
        str(fp32),
        quantize_mode="int8",
        calibration_data={INPUT_NAME: images},
        calibration_method=method,
        calibration_eps=["cpu"],
        calibration_shapes=f"{INPUT_NAME}:{'x'.join(map(str, (1, *images.shape[1:])))}",
        high_precision_dtype="fp32",
        output_path=str(output),
        log_level="ERROR",
    )


def _batches(images: Array) -> Iterator[Array]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


class _Reader:
    """ONNX Runtime's `CalibrationDataReader`: one image at a time."""

    def __init__(self, images: Array) -> None:
        self._images = images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        """The images that are read next."""
        self._left = iter(self._images[start_index:end_index])

    def get_next(self) -> dict[str, Array] | None:
        """The next image as the graph's input; None at the end."""
        image = next(self._left, None)
        return None if image is None else {INPUT_NAME: image[None]}
