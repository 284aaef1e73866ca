"""How far a file may be from PyTorch before the gate refuses it: defaults per precision, and a YAML file of others."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.documents import read_yaml


@dataclass(frozen=True)
class ParityLimits:
    """When a file passes; exactly at a limit is still within it. A limit that is None does not apply.

    Of every comparison: max_deviation, the largest |difference| of any output, as a share of the output's largest
    absolute value where that is above 1; min_sqnr_db, the signal-to-quantization-noise ratio of the logits.

    Of a comparison whose labels can be trusted (`edgefel.export.parity.compare`): min_agreement, the share of
    images with the reference's label, 0 to 1; max_recall_loss, of any class, max_f1_loss, of macro F1, and
    max_ece_rise, of the expected calibration error, all three in points (hundredths).

    min_images, min_per_class: fewer images, or fewer of one class, are too few to judge labels, or that
    class's recall, by. fatal: a file beyond its limits must not be written at all.

    Raises EdgefelError for a value that no comparison could meet or miss.
    """

    max_deviation: float | None = None
    min_sqnr_db: float | None = None
    min_agreement: float | None = None
    max_recall_loss: float | None = None
    max_f1_loss: float | None = None
    max_ece_rise: float | None = None
    min_images: int = 100
    min_per_class: int = 30
    fatal: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name not in _COUNTS:
                continue
            kind = (int,) if name in _COUNTS else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                number = "a whole number" if name in _COUNTS else "a number"
                bounds = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
                raise EdgefelError(f"{name} is {value!r}; it must be {number} {bounds}")

    @property
    def judges_labels(self) -> bool:
        """Whether any limit needs more than deviations and SQNR."""
        limits = (self.min_agreement, self.max_recall_loss, self.max_f1_loss, self.max_ece_rise)
        return any(limit is not None for limit in limits)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as the manifest keeps them."""
        return dataclasses.asdict(self)


_COUNTS = ("min_images", "min_per_class")
_RANGES: dict[str, tuple[float, float]] = {
    "max_deviation": (1e-12, 1e12),
    "min_sqnr_db": (-200.0, 200.0),
    "min_agreement": (0.0, 1.0),
    "max_recall_loss": (0.0, 100.0),
    "max_f1_loss": (0.0, 100.0),
    "max_ece_rise": (0.0, 100.0),
    "min_images": (1, math.inf),
    "min_per_class": (1, math.inf),
}

_INT8 = ParityLimits(
    min_sqnr_db=10.0, min_agreement=0.98, max_recall_loss=1.5, max_f1_loss=1.0, max_ece_rise=3.0
)
_WEIGHTS = dataclasses.replace(_INT8, min_sqnr_db=25.0, min_agreement=0.99)
LIMITS: Mapping[str, ParityLimits] = {
    "fp32": ParityLimits(max_deviation=1e-4, fatal=True),
    "fp16": ParityLimits(min_sqnr_db=30.0, min_agreement=0.995, max_recall_loss=1.5),
    "int8": _INT8,
    "int8+fp16": _INT8,
    "fp8": _INT8,
    "w8a16": _WEIGHTS,
    "w4a16": _INT8,
}


def load_limits(path: str | os.PathLike[str] | None) -> Mapping[str, ParityLimits]:
    """Limits per precision: the defaults, with the values of a YAML file `precision: {name: value}` over them.

    null switches a limit off. Without a path, the defaults. Raises EdgefelError naming the file for one that
    is missing or not YAML, an unknown precision or name, or an impossible value.
    """
    if path is None:
        return LIMITS
    given = read_yaml(path)
    if not isinstance(given, Mapping) or not given:
        raise EdgefelError(f"{path}: must hold precisions with their limits, e.g. int8: {{min_sqnr_db: 12}}")
    _refuse_unknown(given, LIMITS, f"{path}: unknown precision")
    limits = dict(LIMITS)
    for precision, values in given.items():
        if not isinstance(values, Mapping):
            raise EdgefelError(f"{path}: {precision} must hold names and values, not {values!r}")
        _refuse_unknown(values, _RANGES, f"{path}: {precision}: unknown limit")
        try:
            limits[precision] = dataclasses.replace(
                LIMITS[precision], **{name: _number(value) for name, value in values.items()}
            )
        except EdgefelError as error:
            raise EdgefelError(f"{path}: {precision}: {error}") from None
    return limits


def _refuse_unknown(given: Mapping[Any, Any], known: Mapping[str, Any], what: str) -> None:
    unknown = sorted(str(name) for name in given if name not in known)
    if unknown:
        raise EdgefelError(f"{what} {', '.join(unknown)}; known are {', '.join(known)}")


def _number(value: Any) -> Any:
    # YAML reads 1e-4, which has no dot, as text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
