"""What an export is asked to do, checked before any work starts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from edgefel.calib.collect import METHODS, CalibrationMethod
from edgefel.calib.samples import DEFAULT_GROUP_CAP, DEFAULT_PER_CLASS
from edgefel.errors import EdgefelError
from edgefel.export.images import PARITY_IMAGES
from edgefel.export.onnx_graph import DEFAULT_OPSET
from edgefel.export.tensorrt_engine import EngineOptions
from edgefel.runtime.preprocessing import Preprocessing

PRECISIONS = ("fp32", "fp16", "int8")
FILE_STEMS = {
    "fp32": "model.fp32",
    "fp16": "model.fp16",
    "int8": "model.int8",
    "int8+fp16": "model.int8-fp16",
}


@dataclass(frozen=True)
class ExportOptions:
    """What to export. precisions: any of fp32, fp16, int8. engine: build a TensorRT engine of each.

    input_size: None for the model's own; half of it moves the encoder's stride-2 resample into preprocessing.
    per_class, group_cap, method: INT8 calibration; calibration_set: a file of `edgefel calibrate` instead of the
    first two. seed: choice of images. parity_images: how many images
    every file is compared on.
    """

    precisions: tuple[str, ...] = ("fp32",)
    engine: bool = False
    input_size: int | None = None
    opset: int = DEFAULT_OPSET
    per_class: int = DEFAULT_PER_CLASS
    group_cap: int = DEFAULT_GROUP_CAP
    calibration_set: str | None = None
    method: CalibrationMethod = "mse"
    seed: int = 0
    parity_images: int = PARITY_IMAGES
    engine_options: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        wrong = [name for name in self.precisions if name not in PRECISIONS]
        if wrong or not self.precisions or len(set(self.precisions)) != len(self.precisions):
            raise EdgefelError(
                f"precisions {self.precisions}: choose some of {', '.join(PRECISIONS)}, each once"
            )
        if self.method not in METHODS:
            raise EdgefelError(f"calibration method '{self.method}': choose one of {', '.join(METHODS)}")
        if self.calibration_set is not None and "int8" not in self.precisions:
            raise EdgefelError(f"calibration set {self.calibration_set}: only INT8 is calibrated; add --int8")
        if self.parity_images < 1:
            raise EdgefelError(f"parity_images is {self.parity_images}; give at least 1")

    @property
    def onnx_precisions(self) -> tuple[str, ...]:
        """The ONNX files to write; an INT8 engine needs its own, INT8 over FP16."""
        extra = ("int8+fp16",) if self.engine and "int8" in self.precisions else ()
        return tuple(name for name in PRECISIONS if name in self.precisions) + extra

    @property
    def engine_precisions(self) -> tuple[str, ...]:
        """The ONNX files to build engines from."""
        return tuple(name for name in self.onnx_precisions if name != "int8") if self.engine else ()


def exported_preprocessing(own: Preprocessing, input_size: int | None) -> Preprocessing:
    """The bundle's preprocessing: the checkpoint's own, or with the stride-2 resample in it.

    Raises EdgefelError unless `input_size` is None, the checkpoint's size, or half of a 224 input.
    """
    if input_size is None or input_size == own.output_size:
        return own
    if input_size * 2 == own.output_size and input_size == 112:
        return dataclasses.replace(own, stride=own.stride * 2)
    sizes = "224 or 112" if own.output_size == 224 else str(own.output_size)
    raise EdgefelError(
        f"input size {input_size}: this checkpoint takes {own.output_size}x{own.output_size} pictures; "
        f"choose {sizes}"
    )
