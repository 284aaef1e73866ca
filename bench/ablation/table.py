"""An experiment's outcome as Markdown and as rows of the console's table."""

from __future__ import annotations

import math
from typing import Any

from edgefel.bench.ablation.experiment import Variant
from edgefel.bench.ablation.verdict import Interval, Outcome, interval, summary

COLUMNS = ("variant", "accuracy", "paper", "macro F1", "paper", "ECE", "without the head", "runs")


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each variant with results, of COLUMNS; columns of the papers are "" where they give nothing."""
    return [_row(outcome, variant) for variant in outcome.variants]


def _row(outcome: Outcome, variant: Variant) -> tuple[str, ...]:
    def of(name: str, part: str = "corrected") -> Interval:
        return interval(outcome.values(variant.name, name, part))

    accuracy, diverged = of("accuracy"), _diverged(outcome, variant)
    stated, stated_f1 = variant.paper.get("accuracy"), variant.paper.get("macro_f1")
    return (
        variant.name,
        _percent(accuracy),
        "" if stated is None else f"{100 * stated:.2f}",
        _plain(of("macro_f1")),
        "" if stated_f1 is None else f"{stated_f1:.3f}",
        _plain(of("ece")),
        _percent(of("accuracy", "primary")),
        f"{accuracy.n}" + (f", {diverged} diverged" if diverged else ""),
    )


def _diverged(outcome: Outcome, variant: Variant) -> int:
    return sum(bool(result["diverged"]) for result in outcome.results[variant.name].values())


def claims(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each claim: itself, the difference here, the papers' and the verdict."""
    found: list[tuple[str, ...]] = []
    for judged in outcome.judged():
        scale = 100 if judged.claim.metric == "accuracy" else 1
        digits = 1 if scale == 100 else 3
        here = "" if judged.difference is None else _signed(judged.difference, scale, digits)
        paper = (
            "" if judged.paper is None else f"{scale * judged.paper:+.{digits + 1 if scale == 100 else 3}f}"
        )
        beside = judged.beside_paper
        ending = f", {beside} than in the paper" if beside in ("less", "more") else ""
        found.append((str(judged.claim), here, paper, judged.verdict + ending))
    return found


def markdown(outcome: Outcome, about: str) -> str:
    """Table, claims and verdict; `about` says what was trained on what."""
    experiment = outcome.experiment
    lines = [f"## {experiment.title}", "", f"{experiment.source}. {about}", ""]
    if experiment.note:
        lines += [experiment.note, ""]
    lines += [*_table(COLUMNS, rows(outcome), {0}), ""]
    lines += _table(
        ("claim of the paper", "difference here", "in the paper", "verdict"), claims(outcome), {0, 3}
    )
    tau = outcome.rank_agreement()
    agreement = "" if tau is None else f" Kendall's tau between its accuracies and ours: {tau:.2f}."
    return "\n".join([*lines, "", f"**{summary(outcome)}**{agreement}", ""])


def _table(head: tuple[str, ...], body: list[tuple[str, ...]], left: set[int]) -> list[str]:
    rule = ["---" if number in left else "---:" for number in range(len(head))]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]


def _percent(value: Interval) -> str:
    return f"{100 * value.mean:.1f} %" + (f" ± {100 * value.half:.1f}" if math.isfinite(value.half) else "")


def _plain(value: Interval) -> str:
    return f"{value.mean:.3f}" + (f" ± {value.half:.3f}" if math.isfinite(value.half) else "")


def _signed(value: Interval, scale: float, digits: int) -> str:
    text = f"{scale * value.mean:+.{digits}f}"
    return text + (f" ± {scale * value.half:.{digits}f}" if math.isfinite(value.half) else "")


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Plain JSON values of everything that the Markdown says."""
    return {
        "experiment": outcome.experiment.name,
        "source": outcome.experiment.source,
        "variants": {
            variant.name: {
                "paper": dict(variant.paper),
                "diverged": _diverged(outcome, variant),
                **{
                    name: interval(outcome.values(variant.name, name)).to_dict()
                    for name in ("accuracy", "macro_f1", "ece")
                },
                "without_head": interval(outcome.values(variant.name, "accuracy", "primary")).to_dict(),
                "seeds": sorted(outcome.results[variant.name]),
            }
            for variant in outcome.variants
        },
        "claims": [judged.to_dict() for judged in outcome.judged()],
        "rank_agreement": outcome.rank_agreement(),
        "verdict": summary(outcome),
    }
