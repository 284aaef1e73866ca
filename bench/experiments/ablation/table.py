"""An experiment's outcome as Markdown and as rows of the console's table."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from edgefel.bench.experiments.ablation.experiment import METRICS, Variant
from edgefel.bench.experiments.ablation.verdict import Judged, MeanInterval, Outcome, interval, summary

COLUMNS = ("variant", "accuracy", "paper", "macro F1", "paper", "ECE", "without the head", "runs")
CLAIM_COLUMNS = ("claim of the paper", "difference here", "in the paper", "verdict")


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each variant with results, of COLUMNS; columns of the papers are "" where they give nothing."""

    def row(variant: Variant) -> tuple[str, ...]:
        def of(name: str, part: str = "corrected") -> MeanInterval:
            return interval(outcome.values(variant.name, name, part))

        diverged = _diverged(outcome, variant)
        stated, stated_f1 = variant.paper.get("accuracy"), variant.paper.get("macro_f1")
        return (
            variant.name,
            _number(of("accuracy"), ".1f", 100, " %"),
            "" if stated is None else f"{100 * stated:.2f}",
            _number(of("macro_f1"), ".3f"),
            "" if stated_f1 is None else f"{stated_f1:.3f}",
            _number(of("ece"), ".3f"),
            _number(of("accuracy", "primary"), ".1f", 100, " %"),
            f"{len(outcome.results[variant.name])}" + (f", {diverged} diverged" if diverged else ""),
        )

    return [row(variant) for variant in outcome.variants]


def _diverged(outcome: Outcome, variant: Variant) -> int:
    return sum(bool(result["diverged"]) for result in outcome.results[variant.name].values())


def claims(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each claim: itself, the difference here, the papers' and the verdict."""

    def row(judged: Judged) -> tuple[str, ...]:
        accuracy, beside = judged.claim.metric == "accuracy", judged.beside_paper
        scale, here, paper = (100, "+.1f", "+.2f") if accuracy else (1, "+.3f", "+.3f")
        return (
            str(judged.claim),
            "" if judged.difference is None else _number(judged.difference, here, scale),
            "" if judged.paper is None else format(scale * judged.paper, paper),
            judged.verdict + (f", {beside} than in the paper" if beside in ("less", "more") else ""),
        )

    return [row(judged) for judged in outcome.judged()]


def markdown(outcome: Outcome, about: str) -> str:
    """Table, claims and verdict. about: what was trained on what."""
    experiment = outcome.experiment
    lines = [f"## {experiment.title}", "", f"{experiment.source}. {about}", ""]
    if experiment.note:
        lines += [experiment.note, ""]
    lines += [*markdown_table(COLUMNS, rows(outcome)), ""]
    lines += markdown_table(CLAIM_COLUMNS, claims(outcome), {0, 3})
    tau = outcome.rank_agreement()
    agreement = "" if tau is None else f" Kendall's tau between its accuracies and ours: {tau:.2f}."
    return "\n".join([*lines, "", f"**{summary(outcome)}**{agreement}", ""])


def markdown_table(
    head: Sequence[str], body: Iterable[Sequence[str]], left: Collection[int] = (0,), gap: str = " "
) -> list[str]:
    """Lines of a Markdown table. left: columns of text; numbers stand right. gap: around the dashes of the rule."""
    rule = [f"{gap}---{'' if number in left else ':'}{gap}" for number in range(len(head))]
    return [
        f"| {' | '.join(head)} |".replace("  ", " "),
        f"|{'|'.join(rule)}|",
        *(f"| {' | '.join(row)} |" for row in body),
    ]


def _number(value: MeanInterval, form: str, scale: float = 1, unit: str = "") -> str:
    half = f" ± {format(scale * value.half, form.lstrip('+'))}" if math.isfinite(value.half) else ""
    return format(scale * value.mean, form) + unit + half


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Plain JSON values of everything that the Markdown says."""

    def entry(variant: Variant) -> dict[str, Any]:
        metrics = {name: interval(outcome.values(variant.name, name)).to_dict() for name in METRICS}
        return {
            "paper": dict(variant.paper),
            "diverged": _diverged(outcome, variant),
            **metrics,
            "without_head": interval(outcome.values(variant.name, "accuracy", "primary")).to_dict(),
            "seeds": sorted(outcome.results[variant.name]),
        }

    return {
        "experiment": outcome.experiment.name,
        "source": outcome.experiment.source,
        "variants": {variant.name: entry(variant) for variant in outcome.variants},
        "claims": [judged.to_dict() for judged in outcome.judged()],
        "rank_agreement": outcome.rank_agreement(),
        "verdict": summary(outcome),
    }
