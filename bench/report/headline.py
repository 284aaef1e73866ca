"""The recommended row of a device, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefel.bench.report.rows import (
    NAMING,
    RUNNING,
    batch_size,
    described,
    mapping,
    number,
    p50,
    pair,
    steadiness,
    timing,
)
from edgefel.bench.results import Row
from edgefel.report.formats import interval, percent, significant, times
from edgefel.text import counted

# points of accuracy below the most accurate that a faster file may be
MOST_DROP = 1.0


@dataclass(frozen=True)
class Headline:
    """The sentence, and the row it recommends, if any."""

    text: str
    best: Row | None = None


def choose(rows: Sequence[Row], most_drop: float = MOST_DROP) -> Headline:
    """The fastest stable row whose accuracy is at most `most_drop` points below the most accurate one's.

    rows: of one device, one of each key. Considered are those of the smallest batch that have an accuracy, without
    files that failed their comparison with PyTorch, which the runtime refuses.
    """
    running = [row for row in rows if row.kind in RUNNING and row.metrics.get("verdict") != "fail"]
    if not running:
        return Headline("No model was timed by itself here, so nothing is recommended.")
    smallest = min(batch_size(row) for row in running)
    single = [row for row in running if batch_size(row) == smallest]
    judged = [row for row in single if number(row.metrics, "accuracy") is not None]
    if not judged:
        fastest = min(single, key=p50)
        return Headline(
            f"No accuracy was measured, so nothing is recommended; the fastest is {spoken(fastest)} at "
            f"{significant(p50(fastest))} ms{'' if steadiness(fastest)[0] else ' (not stable)'}. To get one, compare "
            "trained models: edgefel bench compare RUN --data DATA."
        )
    top = max(_accuracy(row) for row in judged)
    within = [row for row in judged if top - _accuracy(row) <= most_drop / 100 + 1e-9]
    stable = [row for row in within if steadiness(row)[0]]
    if not stable:
        return Headline(
            f"No row within {counted(most_drop, 'point')} of the best accuracy ({percent(top)}) is stable, so nothing "
            "is recommended; measure again on a machine that does nothing else."
        )
    best = min(stable, key=p50)
    return Headline(_sentence(best, top, smallest), best)


def spoken(row: Row) -> str:
    """The subject in words: "arbex int8 in openvino with 2 threads"."""
    subject = row.subject
    what = " ".join(str(subject[name]) for name in ("model", "precision") if subject.get(name)) or row.kind
    where = f" in {subject['backend']}" if subject.get("backend") else ""
    others = ((name, value) for name, value in subject.items() if name not in (*NAMING, "batch"))
    rest = ", ".join(described(name, value) for name, value in others if value is not None)
    return f"{what}{where}" + (f" with {rest}" if rest else "")


def per_call(batch: float) -> str:
    """ "an image", "a batch of 8"."""
    return "an image" if batch == 1 else f"a batch of {batch:g}"


def _sentence(best: Row, top: float, batch: float) -> str:
    ms = p50(best)
    ends = interval(pair(timing(best).get("p50_interval")), ms)
    behind = top - _accuracy(best)
    accuracy = f"accuracy {percent(_accuracy(best))}" + (
        f", {100 * behind:.1f} points below the most accurate" if behind > 0.0005 else ", the highest here"
    )
    ratio = mapping(best.metrics, "ratio")
    value, to = number(ratio, "value"), ratio.get("to")
    against = f", {times(value)} as fast as {to}" if value is not None and to and value != 1 else ""
    return f"Run {spoken(best)}: {significant(ms)} ms {per_call(batch)} (95 % interval {ends}), {accuracy}{against}."


def _accuracy(row: Row) -> float:
    return number(row.metrics, "accuracy") or 0.0
