"""Is the exported file still the same network? PyTorch FP32 against ONNX Runtime, on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edgefel.errors import EdgefelError
from edgefel.export.progress import SILENT, Progress
from edgefel.runtime.manifest import INPUT_NAME, OUTPUT_NAMES

if TYPE_CHECKING:
    from edgefel.models.network import FacialExpressionModel

Outputs = Mapping[str, npt.NDArray[np.float32]]
MAX_SQNR_DB = 200.0  # what equal arrays get: JSON has no infinity


@dataclass(frozen=True)
class ParityLimits:
    """When a file passes. A limit that is None does not apply.

    max_deviation: largest |difference| of any output. min_sqnr_db: signal-to-quantization-noise ratio of the
    logits. min_agreement: share of images with the same label. fatal: a file beyond its limits must not be
    written; otherwise it is written and marked "warn".
    """

    max_deviation: float | None = None
    min_sqnr_db: float | None = None
    min_agreement: float | None = None
    fatal: bool = False


# Reduced precisions warn and do not stop: at random or barely trained weights labels sit on ties, and
# agreement then says little about the conversion.
LIMITS: dict[str, ParityLimits] = {
    "fp32": ParityLimits(max_deviation=1e-4, fatal=True),
    "fp16": ParityLimits(min_sqnr_db=30.0, min_agreement=0.99),
    "int8": ParityLimits(min_sqnr_db=10.0, min_agreement=0.95),
    "int8+fp16": ParityLimits(min_sqnr_db=10.0, min_agreement=0.95),
}


@dataclass(frozen=True)
class Parity:
    """The comparison of one file. max_abs, mean_abs: per output. status: "pass", "warn" or "fail"."""

    images: int
    max_abs: dict[str, float]
    mean_abs: dict[str, float]
    logits_sqnr_db: float
    top1_agreement: float
    status: str
    reasons: tuple[str, ...]

    @property
    def largest_deviation(self) -> float:
        """Over all outputs."""
        return max(self.max_abs.values())

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "images": self.images,
            "max_abs": self.max_abs,
            "mean_abs": self.mean_abs,
            "logits_sqnr_db": self.logits_sqnr_db,
            "top1_agreement": self.top1_agreement,
            "status": self.status,
            "reasons": list(self.reasons),
        }


def compare(reference: Outputs, actual: Outputs, limits: ParityLimits) -> Parity:
    """Judges `actual` by `reference`, both output name -> [N, ...].

    A value that is not finite fails whatever the limits. Raises EdgefelError when there is nothing to
    compare: names missing, no images, or shapes that differ.
    """
    for name in OUTPUT_NAMES:
        if name not in reference or name not in actual:
            raise EdgefelError(f"parity: output {name!r} is missing; nothing was compared")
        if reference[name].shape != actual[name].shape:
            raise EdgefelError(
                f"parity: {name} has shape {actual[name].shape}, the reference {reference[name].shape}"
            )
    images = len(reference["logits"])
    if images == 0:
        raise EdgefelError("parity: no images were compared; give a data set with readable pictures")
    wide = {name: np.abs(reference[name].astype(np.float64) - actual[name]) for name in OUTPUT_NAMES}
    broken = [name for name in OUTPUT_NAMES if not np.isfinite(wide[name]).all()]
    if broken:
        reason = f"{', '.join(broken)}: values are not finite"
        return Parity(images, {}, {}, 0.0, 0.0, "fail", (reason,))
    same = reference["probabilities"].argmax(-1) == actual["probabilities"].argmax(-1)
    parity = Parity(
        images=images,
        max_abs={name: float(wide[name].max()) for name in OUTPUT_NAMES},
        mean_abs={name: float(wide[name].mean()) for name in OUTPUT_NAMES},
        logits_sqnr_db=sqnr_db(reference["logits"], actual["logits"]),
        top1_agreement=float(same.mean()),
        status="pass",
        reasons=(),
    )
    return _judge(parity, limits)


def sqnr_db(reference: npt.NDArray[np.float32], actual: npt.NDArray[np.float32]) -> float:
    """10 log10(sum reference^2 / sum (reference - actual)^2), at most 200."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(reference.astype(np.float64) - actual).sum())
    if noise == 0.0:
        return MAX_SQNR_DB
    return min(MAX_SQNR_DB, 10.0 * math.log10(signal / noise)) if signal > 0 else -MAX_SQNR_DB


def reference_outputs(
    model: FacialExpressionModel, batches: Iterable[npt.NDArray[np.float32]], progress: Progress = SILENT
) -> dict[str, npt.NDArray[np.float32]]:
    """The PyTorch FP32 outputs for all batches, joined."""
    import torch

    rows: list[Sequence[npt.NDArray[np.float32]]] = []
    model = model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        for batch in batches:
            rows.append([value.float().cpu().numpy() for value in model(torch.from_numpy(batch).to(device))])
            progress.advance(len(batch))
    return _join(rows)


def onnx_outputs(
    path: Path, batches: Iterable[npt.NDArray[np.float32]], progress: Progress = SILENT
) -> dict[str, npt.NDArray[np.float32]]:
    """The file's outputs in ONNX Runtime on the CPU for all batches, joined."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows: list[Sequence[npt.NDArray[np.float32]]] = []
    for batch in batches:
        rows.append(session.run(list(OUTPUT_NAMES), {INPUT_NAME: batch}))
        progress.advance(len(batch))
    return _join(rows)


def _join(rows: Sequence[Sequence[npt.NDArray[np.float32]]]) -> dict[str, npt.NDArray[np.float32]]:
    if not rows:
        raise EdgefelError("parity: no images were compared; give a data set with readable pictures")
    return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(OUTPUT_NAMES)}


def _judge(parity: Parity, limits: ParityLimits) -> Parity:
    reasons = []
    worst = max(parity.max_abs, key=lambda name: parity.max_abs[name])
    if limits.max_deviation is not None and parity.largest_deviation > limits.max_deviation:
        reasons.append(f"{worst} deviates by {parity.largest_deviation:.2g}, limit {limits.max_deviation:g}")
    if limits.min_sqnr_db is not None and parity.logits_sqnr_db < limits.min_sqnr_db:
        reasons.append(
            f"SQNR of the logits is {parity.logits_sqnr_db:.1f} dB, limit {limits.min_sqnr_db:g} dB"
        )
    if limits.min_agreement is not None and parity.top1_agreement < limits.min_agreement:
        reasons.append(f"{parity.top1_agreement:.1%} of the labels agree, limit {limits.min_agreement:.0%}")
    if not reasons:
        return parity
    status = "fail" if limits.fatal else "warn"
    return Parity(
        parity.images,
        parity.max_abs,
        parity.mean_abs,
        parity.logits_sqnr_db,
        parity.top1_agreement,
        status,
        tuple(reasons),
    )
