"""Compares the outputs of an exported file with PyTorch FP32's on the same images, and judges them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.data.labels import match_labels
from edgefel.errors import EdgefelError
from edgefel.evaluation.metrics import compute_metrics
from edgefel.export.parity.label_metrics import (
    CHANCE_LEVEL,
    ClassParity,
    chance_p_value,
    kl_divergence,
    recall_change,
    share_interval,
)
from edgefel.export.parity.limits import ParityLimits
from edgefel.runtime.manifest import OUTPUT_NAMES, Verdict
from edgefel.text import counted

Outputs = Mapping[str, npt.NDArray[np.float32]]

MAX_SQNR_DB = 200.0  # what equal arrays get: JSON has no infinity
_ROUNDING = 1e-9  # of metrics that are computed in floating point: exactly at the limit is within it


@dataclass(frozen=True)
class LabelParity:
    """What true labels show of PyTorch (`*_reference`) and the file; all 0 to 1, `classes` in points.

    chance_p_value: how likely a guesser is to do as well as PyTorch; see `chance_p_value`.
    """

    accuracy_reference: float
    accuracy: float
    macro_f1_reference: float
    macro_f1: float
    ece_reference: float
    ece: float
    chance_p_value: float
    classes: tuple[ClassParity, ...]


@dataclass(frozen=True)
class Before:
    """The file beside the FP32 network before quantization-aware training, on the same images.

    fp32_agreement: of the network that was exported, in FP32, with the one before. accuracy: of the one before; None
    without true labels. The others as in `Parity`, against the one before.
    """

    fp32_agreement: float
    top1_agreement: float
    agreement_interval: tuple[float, float]
    kl_mean: float
    logits_sqnr_db: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Parity:
    """The comparison of one file.

    max_abs, mean_abs: of the differences, per output. scale: of each output, the reference's largest absolute value
    where that is above 1, else 1. agreement_interval: 95 %. kl_mean, kl_max: KL(PyTorch || file) of the corrected
    probabilities, nats per image. labels: None where there are no true labels. before: None unless the network was
    trained for INT8. reasons: why the verdict is not "pass", failures first. limits: what it was judged by. Where
    values are not finite, only `images`, `verdict` and `reasons` say something.
    """

    images: int
    verdict: Verdict
    reasons: tuple[str, ...]
    limits: ParityLimits
    max_abs: dict[str, float] = dataclasses.field(default_factory=dict)
    mean_abs: dict[str, float] = dataclasses.field(default_factory=dict)
    scale: dict[str, float] = dataclasses.field(default_factory=dict)
    logits_sqnr_db: float | None = None
    top1_agreement: float | None = None
    agreement_interval: tuple[float, float] | None = None
    kl_mean: float | None = None
    kl_max: float | None = None
    labels: LabelParity | None = None
    before: Before | None = None

    @property
    def largest_deviation(self) -> float | None:
        """Over all outputs."""
        return max(self.max_abs.values(), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (lists, not tuples), for the manifest."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        return values


def compare(
    reference: Outputs,
    actual: Outputs,
    limits: ParityLimits,
    *,
    targets: npt.NDArray[np.integer[Any]] | None = None,
    labels: Sequence[str] = (),
    columns: Sequence[int] | None = None,
    seed: int = 0,
    outputs: Sequence[str] = OUTPUT_NAMES,
) -> Parity:
    """Judges `actual` by `reference`, both output name -> [N, ...], by the outputs named in `outputs`.

    targets: true class of every image [N], in the order of the outputs' columns, whose names are `labels`.
    columns: the outputs whose classes the images can have, where these are not all: what `labels` shows is of the
    probabilities of these alone, everything else of all outputs. seed: of the resampling behind intervals.

    Point estimates beyond a limit make the verdict "fail". A limit that this comparison cannot judge makes it
    "warn": limits on labels need targets, `min_images` images and a reference that is better than chance on
    them; a class's recall needs `min_per_class` images; SQNR needs the logits. Values that are not finite fail
    whatever the limits.

    Raises EdgefelError when there is nothing to compare: names missing, no images, or shapes that differ.
    """
    images = _check_shapes(reference, actual, targets, outputs)
    wide = {name: np.abs(reference[name].astype(np.float64) - actual[name]) for name in outputs}
    broken = [name for name in outputs if not np.isfinite(wide[name]).all()]
    if broken:
        return Parity(images, "fail", (f"{', '.join(broken)}: values are not finite",), limits)
    before, after = reference["probabilities"], actual["probabilities"]
    same = int((before.argmax(axis=-1) == after.argmax(axis=-1)).sum())
    divergence = kl_divergence(before, after)
    measured = Parity(
        images=images,
        verdict="pass",
        reasons=(),
        limits=limits,
        max_abs={name: float(wide[name].max()) for name in outputs},
        mean_abs={name: float(wide[name].mean()) for name in outputs},
        scale={name: max(1.0, float(np.abs(reference[name]).max())) for name in outputs},
        logits_sqnr_db=sqnr_db(reference["logits"], actual["logits"]) if "logits" in outputs else None,
        top1_agreement=same / images,
        agreement_interval=share_interval(same, images),
        kl_mean=float(divergence.mean()),
        kl_max=float(divergence.max()),
        labels=None if targets is None else _label_parity(before, after, targets, labels, columns, seed),
    )
    return _judge(measured, limits)


def sqnr_db(reference: npt.NDArray[np.float32], actual: npt.NDArray[np.float32]) -> float:
    """10 log10(sum reference^2 / sum (reference - actual)^2), at most 200."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(reference.astype(np.float64) - actual).sum())
    if noise == 0.0:
        return MAX_SQNR_DB
    return min(MAX_SQNR_DB, 10.0 * math.log10(signal / noise)) if signal > 0 else -MAX_SQNR_DB


def _check_shapes(
    reference: Outputs,
    actual: Outputs,
    targets: npt.NDArray[np.integer[Any]] | None,
    outputs: Sequence[str],
) -> int:
    """How many images there are."""
    for name in outputs:
        if name not in reference or name not in actual:
            raise EdgefelError(f"parity: output {name!r} is missing; nothing was compared")
        if reference[name].shape != actual[name].shape:
            raise EdgefelError(
                f"parity: {name} has shape {actual[name].shape}, the reference {reference[name].shape}"
            )
    images, classes = reference["probabilities"].shape
    if images == 0:
        raise EdgefelError("parity: no images were compared; give a data set with readable images")
    if targets is not None and (len(targets) != images or targets.min() < 0 or targets.max() >= classes):
        raise EdgefelError(
            f"parity: {counted(len(targets), 'target')} for {counted(images, 'image')} of "
            f"{counted(classes, 'class', 'classes')}; give one class per image"
        )
    return images


def _label_parity(
    before: npt.NDArray[np.float32],
    after: npt.NDArray[np.float32],
    targets: npt.NDArray[np.integer[Any]],
    labels: Sequence[str],
    columns: Sequence[int] | None,
    seed: int,
) -> LabelParity:
    every = tuple(labels) or tuple(f"class {i}" for i in range(before.shape[1]))
    match = match_labels(every, every if columns is None else [every[i] for i in columns])
    before, after = match.restrict(before), match.restrict(after)
    targets = np.searchsorted(match.columns, targets)  # ascending, as `columns`
    first, second = compute_metrics(before, targets), compute_metrics(after, targets)
    return LabelParity(
        accuracy_reference=first.accuracy,
        accuracy=second.accuracy,
        macro_f1_reference=first.macro_f1,
        macro_f1=second.macro_f1,
        ece_reference=first.ece,
        ece=second.ece,
        chance_p_value=chance_p_value(before, targets),
        classes=recall_change(before, after, targets, match.labels, seed=seed),
    )


def _judge(parity: Parity, limits: ParityLimits) -> Parity:
    failures = _numeric_failures(parity, limits)
    doubts = []
    if limits.min_sqnr_db is not None and parity.logits_sqnr_db is None:
        doubts.append("the file has no logits: their SQNR was not judged")
    if limits.judges_labels:
        reason = _labels_unavailable_reason(parity, limits)
        if reason is None:
            failures += _label_failures(parity, limits)
            doubts += [
                f"{text}: too few to tell" for text, shown in _recall_losses(parity, limits) if not shown
            ]
            doubts += _small_classes(parity, limits)
        else:
            doubts.append(f"{reason}: judged by deviations and SQNR only")
    verdict: Verdict = "fail" if failures else "warn" if doubts else "pass"
    return dataclasses.replace(parity, verdict=verdict, reasons=(*failures, *doubts))


def _numeric_failures(parity: Parity, limits: ParityLimits) -> list[str]:
    failures = []
    # a float's rounding grows with its size: logits around 100 cannot be as exact as probabilities
    shares = {name: parity.max_abs[name] / parity.scale[name] for name in parity.max_abs}
    worst = max(shares, key=lambda name: shares[name])
    if limits.max_deviation is not None and shares[worst] > limits.max_deviation:
        of = f" of {parity.scale[worst]:.3g}" if parity.scale[worst] > 1 else ""
        limit = limits.max_deviation * parity.scale[worst]
        failures.append(f"{worst} deviates by {parity.max_abs[worst]:.2g}{of}, limit {limit:.2g}")
    sqnr = parity.logits_sqnr_db
    if limits.min_sqnr_db is not None and sqnr is not None and sqnr < limits.min_sqnr_db:
        failures.append(f"SQNR of the logits is {sqnr:.1f} dB, limit {limits.min_sqnr_db:g} dB")
    return failures


def _labels_unavailable_reason(parity: Parity, limits: ParityLimits) -> str | None:
    """Why labels cannot be judged; a network that guesses makes near-ties, which flip with the last bit."""
    if parity.labels is None:
        return "there are no labelled images"
    if parity.images < limits.min_images:
        are = counted(parity.images, "image is", "images are")
        return f"{are} too few to judge labels by (at least {limits.min_images})"
    if parity.labels.chance_p_value > CHANCE_LEVEL:
        accuracy = parity.labels.accuracy_reference
        return f"PyTorch itself is at chance here ({accuracy:.1%} of the labels are right)"
    return None


def _label_failures(parity: Parity, limits: ParityLimits) -> list[str]:
    labels, agreement = parity.labels, parity.top1_agreement
    assert labels is not None
    assert agreement is not None
    failures = []
    if limits.min_agreement is not None and agreement < limits.min_agreement:
        failures.append(f"{agreement:.2%} of the labels agree, limit {limits.min_agreement:.2%}")
    failures += [text for text, shown in _recall_losses(parity, limits) if shown]
    for name, limit, verb, points in (
        ("macro F1", limits.max_f1_loss, "falls", 100 * (labels.macro_f1_reference - labels.macro_f1)),
        ("the calibration error", limits.max_ece_rise, "rises", 100 * (labels.ece - labels.ece_reference)),
    ):
        if limit is not None and points > limit + _ROUNDING:
            failures.append(f"{name} {verb} by {points:.2f} points, limit {limit:g}")
    return failures


def _recall_losses(parity: Parity, limits: ParityLimits) -> list[tuple[str, bool]]:
    """Classes that lose more than the limit, and whether the loss is shown: its interval does not reach 0.

    A file changes a few labels in a hundred in either direction. Among a few dozen images of a class, one such
    image more lost than won is beyond any useful limit and says nothing.
    """
    assert parity.labels is not None
    if limits.max_recall_loss is None:
        return []
    return [
        (
            f"recall of {row.label} falls by {-row.change:.1f} points (95 % interval {row.interval[0]:+.1f} to "
            f"{row.interval[1]:+.1f}, {counted(row.images, 'image')}), limit {limits.max_recall_loss:g}",
            row.interval[1] < 0,
        )
        for row in parity.labels.classes
        if row.change is not None
        and row.interval is not None
        and row.images >= limits.min_per_class
        and -row.change > limits.max_recall_loss + _ROUNDING
    ]


def _small_classes(parity: Parity, limits: ParityLimits) -> list[str]:
    assert parity.labels is not None
    small = [row for row in parity.labels.classes if row.images < limits.min_per_class]
    if not small or limits.max_recall_loss is None:
        return []
    listed = ", ".join(f"{counted(row.images, 'image')} of {row.label}" for row in small)
    its = "its" if len(small) == 1 else "their"
    return [f"{listed} are too few to judge {its} recall by (at least {limits.min_per_class})"]
