"""Ranges of activations over calibration images: streaming, with memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import INPUT_NAME

CalibrationMethod = Literal["minmax", "percentile", "mse"]
METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)
BINS = 2048
QMAX = 127
PERCENTILE = 99.99


class ActivationHistogram:
    """How often |x| occurs, in `BINS` equal bins from 0 up to a limit that doubles when it is exceeded.

    Doubling merges neighbouring bins exactly, so the result does not depend on how the values were cut into
    batches. Values are |x| because quantization is symmetric.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forgets everything collected."""
        self.counts = np.zeros(BINS, dtype=np.int64)
        self.limit = 0.0
        self.maximum = 0.0

    def collect(self, values: npt.NDArray[np.float32]) -> None:
        """Adds an activation of any shape. Raises EdgefelError naming the tensor if it is not finite."""
        magnitude = np.abs(values, dtype=np.float32).ravel()
        top = float(magnitude.max(initial=0.0))
        if not np.isfinite(top):
            raise EdgefelError(
                f"calibration: the activation {self.name!r} is not finite; "
                "check the checkpoint (training may have diverged) and the images"
            )
        if top == 0.0:
            self.counts[0] += magnitude.size
            return
        self._grow(top)
        self.maximum = max(self.maximum, top)
        bins = (magnitude * np.float32(BINS / self.limit)).astype(np.int32)
        np.minimum(bins, BINS - 1, out=bins)
        self.counts += np.bincount(bins, minlength=BINS)

    def threshold(self, method: CalibrationMethod) -> float:
        """The |x| that maps to 127: the largest, a percentile, or the one of least squared error."""
        if method == "minmax" or self.maximum == 0.0:
            return self.maximum
        if method == "percentile":
            return min(self.maximum, self._percentile())
        return min(self.maximum, self._least_squares())

    def _grow(self, top: float) -> None:
        if self.limit == 0.0:
            # a power of two, so that limits of different batch orders agree
            self.limit = float(2.0 ** np.ceil(np.log2(top)))
        while top > self.limit:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(BINS // 2, dtype=np.int64)])
            self.limit *= 2.0

    def _percentile(self) -> float:
        cumulative = np.cumsum(self.counts)
        position = int(np.searchsorted(cumulative, cumulative[-1] * PERCENTILE / 100.0))
        return self.limit * (min(position, BINS - 1) + 1) / BINS

    def _least_squares(self) -> float:
        centres = (np.arange(BINS) + 0.5) * (self.limit / BINS)
        candidates = self.maximum * np.linspace(0.2, 1.0, 81)
        scales = candidates[:, None] / QMAX
        rounded = np.clip(np.rint(centres / scales), 0, QMAX) * scales
        errors = ((rounded - centres) ** 2 * self.counts).sum(axis=1)
        return float(candidates[int(np.argmin(errors))])


def collect_activations(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Iterable[npt.NDArray[np.float32]],
    advance: Callable[[int], None] | None = None,
) -> dict[str, ActivationHistogram]:
    """Runs the float graph over `batches` [N, 3, H, W] and records the named activations.

    `advance` is called with the number of images after each batch. Raises EdgefelError if there is no batch,
    or an activation is not finite.
    """
    histograms = {name: ActivationHistogram(name) for name in tensors}
    fetched = [name for name in tensors if name != INPUT_NAME]
    session = _session_with_outputs(model, fetched)
    images = 0
    for batch in batches:
        if INPUT_NAME in histograms:
            histograms[INPUT_NAME].collect(batch)
        for name, values in zip(fetched, session.run(fetched, {INPUT_NAME: batch}), strict=True):
            histograms[name].collect(values)
        images += len(batch)
        if advance is not None:
            advance(len(batch))
    if images == 0:
        raise EdgefelError("calibration: no images; give a data set with readable pictures")
    return histograms


def activation_scales(
    histograms: Mapping[str, ActivationHistogram], method: CalibrationMethod
) -> dict[str, np.float32]:
    """INT8 scale of every activation: threshold / 127; exactly 1 where it is 0 everywhere."""
    thresholds = {name: histogram.threshold(method) for name, histogram in histograms.items()}
    return {
        name: np.float32(value / QMAX) if value > 0 else np.float32(1.0) for name, value in thresholds.items()
    }


def _session_with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> ort.InferenceSession:
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    present = {value.name for value in observed.graph.output}
    for name in tensors:
        if name not in present:
            observed.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
