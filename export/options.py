"""Options of an export, checked at construction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from edgefel.calib.sampling import DEFAULT_GROUP_CAP, DEFAULT_PER_CLASS
from edgefel.calib.thresholds import DEFAULT_METHOD, METHODS, CalibrationMethod
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import DEFAULT_OPSET
from edgefel.export.precision.mixed import DEFAULT_MAX_DROP, SEARCH_IMAGES
from edgefel.export.tensorrt.engine import EngineOptions
from edgefel.runtime.manifest import ENGINE_FORMATS, NEEDED_OUTPUTS, OUTPUT_NAMES

PRECISIONS = ("fp32", "fp16", "int8", *ENGINE_FORMATS)
CALIBRATED = ("int8", "fp8")
ATTENTIONS = ("decomposed", "onnx-attention", "plugin")
PARITY_IMAGES = 256  # labelled images: at 7 or 8 classes just above 30 of each, which a recall needs


@dataclass(frozen=True)
class ExportOptions:
    """What to export. precisions: any of PRECISIONS. engine: build a TensorRT engine of each.

    input_size: None for the model's own; half of it moves the encoder's stride-2 resample into preprocessing.
    per_class, group_cap, method: INT8 calibration; calibration_set: a file of `edgefel calibrate` instead of the
    first two. recalibrate: calibrate although the checkpoint was trained for INT8 and has ranges. layout: of the data
    set, as `open_dataset` takes it. seed: choice of images. parity_images: how many held-out images of the data every
    file is compared on, evenly from its classes; 32 at most where there is no data.

    auto: search for the layers to keep in float, with at most `max_drop` points of macro recall lost, on
    `search_images` further held-out images. attention: "decomposed"; "onnx-attention" for one operator of opset 23; or
    "plugin" for nodes that our kernels compute in an engine, with the decomposed graph as their body. uint8_input: the
    file takes uint8 [N, H, W, 3] and normalises itself. outputs: what the files give.
    cache: keep calibrated ranges and engines for the next export.
    """

    precisions: tuple[str, ...] = ("fp32",)
    engine: bool = False
    input_size: int | None = None
    opset: int = DEFAULT_OPSET
    per_class: int = DEFAULT_PER_CLASS
    group_cap: int = DEFAULT_GROUP_CAP
    calibration_set: str | None = None
    layout: str | None = None
    method: CalibrationMethod = DEFAULT_METHOD
    recalibrate: bool = False
    seed: int = 0
    parity_images: int = PARITY_IMAGES
    auto: bool = False
    max_drop: float = DEFAULT_MAX_DROP
    search_images: int = SEARCH_IMAGES
    attention: str = ATTENTIONS[0]
    uint8_input: bool = False
    outputs: tuple[str, ...] = OUTPUT_NAMES
    cache: bool = True
    engine_options: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        wrong = [name for name in self.precisions if name not in PRECISIONS]
        if wrong or not self.precisions or len(set(self.precisions)) != len(self.precisions):
            raise EdgefelError(
                f"precisions {self.precisions}: choose some of {', '.join(PRECISIONS)}, each once"
            )
        if self.method not in METHODS:
            raise EdgefelError(f"calibration method '{self.method}': choose one of {', '.join(METHODS)}")
        if self.calibration_set is not None and not self.calibrates:
            raise EdgefelError(
                f"calibration set {self.calibration_set}: only INT8 and FP8 are calibrated; add --int8 or --fp8"
            )
        for name in ("parity_images", "search_images"):
            if getattr(self, name) < 1:
                raise EdgefelError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.auto and "int8" not in self.precisions:
            raise EdgefelError(
                "auto (--auto) searches which layers can be INT8; add the precision int8 (--int8)"
            )
        if not 0 <= self.max_drop <= 100:
            raise EdgefelError(f"max_drop is {self.max_drop}; give points from 0 to 100")
        if self.attention not in ATTENTIONS:
            raise EdgefelError(f"attention '{self.attention}': choose one of {', '.join(ATTENTIONS)}")
        lacking = [name for name in NEEDED_OUTPUTS if name not in self.outputs]
        unknown = [name for name in self.outputs if name not in OUTPUT_NAMES]
        if lacking or unknown:
            raise EdgefelError(
                f"outputs {', '.join(self.outputs)}: choose from {', '.join(OUTPUT_NAMES)}; "
                f"{' and '.join(NEEDED_OUTPUTS)} must be among them"
            )

    @property
    def kept_outputs(self) -> tuple[str, ...]:
        """`outputs` in the order in which files have them."""
        return tuple(name for name in OUTPUT_NAMES if name in self.outputs)

    @property
    def onnx_precisions(self) -> tuple[str, ...]:
        """The ONNX files to write. INT8 comes in two: for ONNX Runtime, and over FP16 for OpenVINO and TensorRT."""
        extra = ("int8+fp16",) if "int8" in self.precisions else ()
        plain, formats = (
            tuple(name for name in PRECISIONS if name in self.precisions and (name in ENGINE_FORMATS) is last)
            for last in (False, True)
        )
        return plain + extra + formats

    @property
    def calibrates(self) -> bool:
        """Whether activations get ranges."""
        return any(name in self.precisions for name in CALIBRATED)

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
        f"input size {input_size}: this checkpoint takes {own.output_size}x{own.output_size} images; "
        f"choose {sizes}"
    )
