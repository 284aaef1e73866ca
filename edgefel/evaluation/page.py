"""An evaluation as one self-contained page: the answer, tables, figures, and what it was made of."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from edgefel.evaluation.copies import copies_lines
from edgefel.evaluation.evaluate import Evaluation
from edgefel.evaluation.groups import LEAST_IMAGES, LEAST_OF_CLASS, Attribute, Share
from edgefel.evaluation.metrics import Metrics
from edgefel.evaluation.page_style import SCRIPT, STYLE
from edgefel.evaluation.stability import Spread
from edgefel.text import counted

_MISSING = "–"


@dataclass(frozen=True)
class SourceImage:
    """A figure of the page. png: None where there was nothing to draw; then `lacking` is said instead."""

    name: str
    title: str
    caption: str
    png: bytes | None
    lacking: str = ""


@dataclass(frozen=True)
class _Cell:
    """text, and what the column is sorted by: None for a missing value, which is always last."""

    text: str
    order: float | str | None = None
    strong: bool = False


def render(evaluation: Evaluation, images: Sequence[SourceImage]) -> str:
    """The page as HTML.

    Nothing is loaded from anywhere, and a content security policy says so: only this style and this script, known by
    their hashes, are taken, so that the name of a class or a file stays a name. Without JavaScript it reads the same,
    but does not sort.
    """
    parts = [_head(evaluation), _summary(evaluation), _classes(evaluation)]
    for image in images:
        parts.append(_figure(image))
        if image.name == "distributions":
            parts.append(_probabilities(evaluation))
        elif image.name == "groups":
            parts += [_attribute(evaluation, attribute) for attribute in evaluation.attributes]
    parts.append(_sources(evaluation))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation: {escape(evaluation.model)}</title>"
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head>\n<body>'
        + "\n".join(parts)
        + f"<script>{SCRIPT}</script></body></html>\n"
    )


def _policy() -> str:
    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {allowed(STYLE)}; script-src {allowed(SCRIPT)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _head(evaluation: Evaluation) -> str:
    final = evaluation.final
    answer = f"{_percent(final.accuracy)} accuracy, macro F1 {final.macro_f1:.3f}"
    if evaluation.with_head is not None:
        moved = 100 * (final.accuracy - evaluation.without_head.accuracy)
        answer += f"; the reliability head changes accuracy by {moved:+.1f} points"
        answer += f" and the calibration error (ECE) by {final.ece - evaluation.without_head.ece:+.3f}"
    else:
        answer += (
            ". The model has no reliability head: there is one set of numbers, and nothing on corrections"
        )
    about = f"{evaluation.split} split of {evaluation.dataset}, {counted(evaluation.images, 'image')}"
    notes = "".join(f'<p class="soft">{escape(note)}.</p>' for note in evaluation.class_notes)
    return (
        f"<header><h1>{escape(evaluation.model)}</h1>"
        f'<p class="soft">{escape(about)}</p><p class="answer">{escape(answer)}.</p>{notes}</header>'
    )


def _columns(evaluation: Evaluation) -> list[tuple[str, Metrics]]:
    if evaluation.with_head is None:
        return [("value", evaluation.without_head)]
    return [("without head", evaluation.without_head), ("with head", evaluation.with_head)]


def _summary(evaluation: Evaluation) -> str:
    columns = _columns(evaluation)
    shown: tuple[tuple[str, Callable[[Metrics], str]], ...] = (
        ("accuracy", lambda metrics: _percent(metrics.accuracy)),
        ("macro F1", lambda metrics: f"{metrics.macro_f1:.3f}"),
        ("ECE (15 bins)", lambda metrics: f"{metrics.ece:.3f}"),
    )
    lines = [[_Cell(name, name), *(_Cell(pick(metrics)) for _, metrics in columns)] for name, pick in shown]
    # of what the model predicts; what follows is of the network, whatever corrects it
    area = [*[_Cell(_MISSING)] * (len(columns) - 1), _Cell(f"{evaluation.coverage.risk_area:.4f}")]
    lines.append([_Cell("AURC (area under error against coverage)"), *area])
    single: list[tuple[str, str]] = []
    for name, scores in (
        ("embedding", evaluation.embedding_clustering),
        ("logits", evaluation.logits_clustering),
    ):
        if scores is not None:
            single.append((f"Davies-Bouldin, {name} (lower is better)", f"{scores.davies_bouldin:.3f}"))
            single.append(
                (f"Calinski-Harabasz, {name} (higher is better)", f"{scores.calinski_harabasz:.1f}")
            )
    lines += [[_Cell(name, name), *[_Cell(value)] * len(columns)] for name, value in single]
    table = _table("Summary", ["", *(name for name, _ in columns)], lines, sortable=False)
    said = "".join(f"<p>{escape(line)}.</p>" for line in copies_lines(evaluation))
    return f"<h2>Summary</h2>{table}{said}"


def _classes(evaluation: Evaluation) -> str:
    columns = _columns(evaluation)
    least = min(value for value in evaluation.final.recall if value is not None)
    lines = []
    for number, label in enumerate(evaluation.labels):
        cells = [_Cell(label, label), _Cell(str(evaluation.counts[number]), evaluation.counts[number])]
        for _, metrics in columns:
            value = metrics.recall[number]
            last = metrics is columns[-1][1]
            cells.append(_Cell(_percent(value), value, strong=last and value == least))
        if len(columns) == 2:
            before, after = (metrics.recall[number] for _, metrics in columns)
            change = None if before is None or after is None else after - before
            cells.append(_Cell(_MISSING if change is None else f"{100 * change:+.1f}", change))
        lines.append(cells)
    names = ["class", "images", *(f"recall {name}" if name != "value" else "recall" for name, _ in columns)]
    names += ["change (points)"] * (len(columns) == 2)
    return (
        '<h2>Recall by class</h2><p class="soft">Share of the images of each class that got its label; the worst '
        f"class is coloured.</p>{_table('Recall by class', names, lines)}"
    )


def _probabilities(evaluation: Evaluation) -> str:
    found = evaluation.probabilities
    rows: list[tuple[str, Spread | None]] = [
        ("all, without head", found.all_without_head),
        ("all, with head", found.all_with_head),
        ("drawn by class, without head", found.drawn_without_head),
        ("drawn by class, with head", found.drawn_with_head),
    ]
    if evaluation.with_head is None:
        rows = [(name.removesuffix(", without head"), spread) for name, spread in rows]
    lines = []
    for name, spread in rows:
        if spread is not None:
            values = [spread.std, spread.highest, spread.lowest]
            values += [spread.pooled_std, spread.pooled_highest, spread.pooled_lowest]
            cells = [_Cell(f"{value:.4f}", value) for value in values]
            lines.append([_Cell(name, name), _Cell(str(spread.images), spread.images), *cells])
    names = [
        "images",
        "number",
        "std",
        "highest",
        "lowest",
        "pooled std",
        "pooled highest",
        "pooled lowest",
    ]
    return (
        f'<h3>Spread of the probabilities</h3><p class="soft">{escape(found.definition)} A smaller standard '
        f"deviation means less decided probabilities.</p>{_table('Spread of the probabilities', names, lines)}"
    )


def _attribute(evaluation: Evaluation, attribute: Attribute) -> str:
    unknown = f", {counted(attribute.unknown, 'image')} without one" if attribute.unknown else ""
    spread = (
        f"{counted(attribute.values, 'value')}{unknown}. "
        f"Accuracy over the values: mean {_percent(attribute.spread_mean)}, standard deviation "
        f"{100 * attribute.spread_std:.1f} points, from {_percent(attribute.spread_least)} to "
        f"{_percent(attribute.spread_greatest)}. "
    )
    if attribute.accuracy_gap is None:
        text = spread + f"Fewer than two of them have {LEAST_IMAGES} images: none is compared alone."
        return f'<h3>{escape(attribute.name)}</h3><p class="soft">{escape(text)}</p>'
    gaps = [attribute.accuracy_gap, *attribute.recall_gaps]
    between = [
        [
            _Cell(gap.of if gap.of == "accuracy" else f"recall {gap.of}", gap.of),
            _Cell(gap.best, gap.best),
            _Cell(gap.worst, gap.worst),
            _Cell(f"{100 * gap.difference:.1f}", gap.difference),
            _Cell("overlap" if gap.overlap else "apart", str(gap.overlap), strong=not gap.overlap),
        ]
        for gap in gaps
    ]
    scores = [
        [_Cell(score.value, score.value), _share(score.accuracy), *(_share(share) for share in score.recall)]
        for score in attribute.scores
    ]
    gap_names = ["largest gap of", "best", "worst", "gap (points)", "95 % intervals"]
    note = (
        f"Values with at least {LEAST_IMAGES} images; recall gaps where two have at least {LEAST_OF_CLASS} of the "
        "class. Where intervals are apart the gap is more than chance, unless it is the largest of a great many."
    )
    names = [attribute.name, "accuracy", *(f"recall {label}" for label in evaluation.labels)]
    return (
        f'<h3>{escape(attribute.name)}</h3><p class="soft">{escape(spread + note)}</p>'
        f"{_table(f'{attribute.name}: gaps', gap_names, between)}{_table(attribute.name, names, scores)}"
    )


def _share(share: Share | None) -> _Cell:
    if share is None:
        return _Cell(_MISSING)
    text = f"{_percent(share.value)} ({100 * share.low:.0f}–{100 * share.high:.0f})"
    return _Cell(text, share.value)


def _figure(image: SourceImage) -> str:
    title = escape(image.title)
    if image.png is None:
        return f'<h2>{title}</h2><p class="soft">{escape(image.lacking)}</p>'
    data = base64.b64encode(image.png).decode()
    return (
        f"<h2>{title}</h2><figure><figcaption>{escape(image.caption)}</figcaption>"
        f'<img alt="{title}" src="data:image/png;base64,{data}"></figure>'
    )


def _sources(evaluation: Evaluation) -> str:
    lines = [
        f"checkpoint: {evaluation.checkpoint}",
        f"data: {evaluation.dataset}, split {evaluation.split}",
        *([] if evaluation.votes is None else [f"labels: votes of {evaluation.votes.file}"]),
        f"images: {evaluation.images}, unreadable and skipped: {len(evaluation.skipped)}",
    ]
    if evaluation.not_compared:
        lines.append(f"nothing to compare by: {', '.join(evaluation.not_compared)}")
    lines += [f"skipped: {path}" for path in evaluation.skipped]
    return f"<h2>What it was made of</h2><pre>{escape(chr(10).join(lines))}</pre>"


def _table(
    name: str, titles: Sequence[str], lines: Sequence[Sequence[_Cell]], *, sortable: bool = True
) -> str:
    """The first column holds names, unless its cells are ordered by numbers."""
    numeric = [
        column > 0 and not any(isinstance(line[column].order, str) for line in lines)
        for column in range(len(titles))
    ]
    head = "".join(
        f'<th scope="col"{" class=n" if number else ""}>{escape(title)}</th>'
        for title, number in zip(titles, numeric, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(_td(cell, number) for cell, number in zip(line, numeric, strict=True)) + "</tr>"
        for line in lines
    )
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table{kind}>'
        f"<caption>{escape(name)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _td(cell: _Cell, numeric: bool) -> str:
    kinds = " ".join(kind for kind, on in (("n", numeric), ("strong", cell.strong)) if on)
    order = "" if cell.order is None else f' data-order="{escape(str(cell.order))}"'
    kinds = f' class="{kinds}"' if kinds else ""
    return f"<td{kinds}{order}>{escape(cell.text)}</td>"


def _percent(share: float | None) -> str:
    return _MISSING if share is None else f"{100 * share:.1f} %"
