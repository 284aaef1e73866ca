"""Result rows as one self-contained page: what to run, tables, charts, and what all of it was measured on."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from edgefel.bench.report import charts, curves, tables
from edgefel.bench.report.formats import MISSING
from edgefel.bench.report.headline import MOST_DROP, Headline, choose, spoken
from edgefel.bench.report.rows import (
    RUNNING,
    Collection,
    Repeated,
    finite,
    repetitions,
    steadiness,
)
from edgefel.bench.report.script import SCRIPT
from edgefel.bench.report.style import STYLE
from edgefel.bench.results import Row
from edgefel.text import counted


def render(collection: Collection, most_drop: float = MOST_DROP) -> str:
    """The page as HTML. most_drop: points of accuracy below the most accurate that the recommended row may be.

    Nothing is loaded from anywhere, and a content security policy says so: only this style and this script, known by
    their hashes, run, so that a name in a row stays a name. Without JavaScript it reads the same, but does not sort.
    """
    groups = list(repetitions(collection.rows).values())
    parts = [_head(collection, groups, most_drop)]
    for index, device in enumerate(collection.devices):
        own = [group for group in groups if group.newest.device == device]
        parts.append(_device(index, device, own, most_drop))
    parts.append(_sources(collection))
    embedded = json.dumps([row.to_dict() for row in collection.rows], ensure_ascii=False).replace(
        "<", "\\u003c"
    )
    title = "Bench report: " + ", ".join(collection.devices)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>\n<body>'
        + "\n".join(parts)
        + f'<p id="hint" role="status" hidden></p><script type="application/json" id="rows">{embedded}</script>'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _policy() -> str:
    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {allowed(STYLE)}; script-src {allowed(SCRIPT)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _head(collection: Collection, groups: Sequence[Repeated], most_drop: float) -> str:
    devices = collection.devices
    links = [f'<a href="#device-{index}">{escape(name)}</a>' for index, name in enumerate(devices)]
    nav = f'<nav aria-label="Devices">{"".join(links)}</nav>' if len(devices) > 1 else ""
    times = sorted(row.time for row in collection.rows)
    when = times[0][:10] if times[0][:10] == times[-1][:10] else f"{times[0][:10]} to {times[-1][:10]}"
    measured = f"{counted(len(groups), 'result')} on {counted(len(devices), 'device')}, {when}"
    allowed = f"{most_drop:g} point{'' if most_drop == 1 else 's'}"
    unread = f"; {counted(len(collection.problems), 'line')} could not be read" if collection.problems else ""
    return (
        f'<header><h1>edgefel bench report</h1><p class="soft">{escape(measured + unread)}. Recommended is the fastest '
        f"stable file at most {allowed} of accuracy below the most accurate one.</p>{nav}</header>"
    )


def _device(index: int, device: str, groups: Sequence[Repeated], most_drop: float) -> str:
    rows = [group.newest for group in groups]
    found = choose(rows, most_drop)
    sections = [
        _answer(found),
        _summary(index, groups, found.best),
        *_pareto(rows),
        _figure("Stages", charts.stages(rows), "Where the time of a call goes, from image to labels."),
        _figure(
            "Distribution",
            charts.distributions([row for row in rows if row.kind in RUNNING]),
            "How much single calls differ from the median: a narrow strip is a latency to rely on.",
        ),
        _throughput(rows),
        _recall(rows),
        _table("Training", tables.training(rows), "Images per second of whole training steps."),
        _table("Data path", tables.data_path(rows), "Images per second up to the training step."),
        _table("Experiments", tables.experiments(rows), "Single runs of edgefel ablate."),
        _roofline(rows),
        _environment(groups),
    ]
    return f'<section id="device-{index}"><h2>{escape(device)}</h2>{"".join(sections)}</section>'


def _answer(found: Headline) -> str:
    return f'<p class="answer{"" if found.best else " none"}">{escape(found.text)}</p>'


def _summary(index: int, groups: Sequence[Repeated], best: Row | None) -> str:
    table = tables.summary(groups, best)
    if not table.lines:
        return ""
    older = sum(len(group.rows) - 1 for group in groups)
    notes = "Latency with the 95 % interval of the median; ratios from one run in which both took turns."
    if older:
        notes += f" Of repeated measurements the newest is shown; {counted(older, 'older one')} not."
    tools = (
        f'<div class="tools" data-table="summary-{index}" hidden><input type="search" aria-label="Filter rows" '
        'placeholder="Filter, such as: int8 openvino"><output></output></div>'
    )
    return (
        f'<h3>Summary</h3><p class="soft">{escape(notes)}</p>{tools}<div id="summary-{index}">'
        f"{tables.to_html(table, 'Summary')}</div>{_remarks([group.newest for group in groups])}"
    )


def _remarks(rows: Iterable[Row]) -> str:
    """Why rows are unstable, and their notes: hints alone would be lost on paper."""
    lines: dict[str, dict[str, None]] = {}
    for row in rows:
        stable, reason = steadiness(row)
        for line in ([f"unstable: {reason}"] if stable is False else []) + [str(note) for note in row.notes]:
            lines.setdefault(line, {})[spoken(row) + _batch(row)] = None
    if not lines:
        return ""
    items = "".join(f"<li>{escape('; '.join(names))}: {escape(line)}</li>" for line, names in lines.items())
    return (
        f"<details><summary>{counted(len(lines), 'remark')} on these rows</summary><ul>{items}</ul></details>"
    )


def _batch(row: Row) -> str:
    batch = row.subject.get("batch")
    return "" if batch in (None, 1) else f", batch {batch}"


def _pareto(rows: Sequence[Row]) -> list[str]:
    """One plot for each batch: milliseconds of different batches are no alternatives to each other."""
    running = [row for row in rows if row.kind in RUNNING]
    batches = sorted({finite(row.subject.get("batch")) or 1 for row in running})
    caption = "Up and to the left is better. Nothing beats the points on the line in both; point at one for numbers."
    figures = []
    for batch in batches:
        own = [row for row in running if (finite(row.subject.get("batch")) or 1) == batch]
        per = "an image" if batch == 1 else f"a batch of {batch:g}"
        title = "Latency against macro F1" + (f", batch {batch:g}" if len(batches) > 1 else "")
        figures.append(_figure(title, charts.pareto(own, per), caption))
    return figures


def _throughput(rows: Sequence[Row]) -> str:
    drawn = _figure(
        "Throughput",
        curves.throughput(rows),
        "More callers at once, along each curve. Beyond the knee they mostly wait for each other.",
    )
    if not drawn:
        return ""
    table = tables.to_html(tables.throughput(rows), "Throughput")
    return f"{drawn}<details><summary>The numbers</summary>{table}</details>"


def _recall(rows: Sequence[Row]) -> str:
    note = "Share of each class's images that got its label; the worst class of each row is coloured."
    return _table("Recall by class", tables.recall(rows), note)


def _roofline(rows: Sequence[Row]) -> str:
    table = tables.roofline(rows)
    if not table.lines:
        return ""
    return (
        '<h3>Roofline</h3><p class="bound">A bound, not a measurement.</p><p class="soft">No run can take less than '
        "the floor: every layer at the device's ceilings of operations and bytes. Reached: the floor as a share of the "
        f"measured time, where there is one.</p>{tables.to_html(table, 'Roofline: bounds')}"
    )


def _table(title: str, table: tables.Table, note: str) -> str:
    if not table.lines:
        return ""
    return f'<h3>{escape(title)}</h3><p class="soft">{escape(note)}</p>{tables.to_html(table, title)}'


def _figure(title: str, svg: str, caption: str) -> str:
    if not svg:
        return ""
    return (
        f"<h3>{escape(title)}</h3><figure><figcaption>{escape(caption)}</figcaption>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}, chart">{svg}</div></figure>'
    )


def _environment(groups: Sequence[Repeated]) -> str:
    """Everything that any row says of its surroundings; values that differ between rows are all listed."""
    found: dict[str, dict[str, None]] = {}
    for group in groups:
        for name, value in flat(group.newest.environment).items():
            found.setdefault(name, {})[value] = None
    lines = []
    for name, values in found.items():
        shown = [value for value in values if value != MISSING] or [MISSING]
        strong = ' class="wrap strong"' if len(values) > 1 else ' class="wrap"'
        differ = " <small>differs between rows</small>" if len(values) > 1 else ""
        lines.append(
            f'<tr><th scope="row">{escape(name)}</th><td{strong}>{escape(", ".join(shown))}{differ}</td></tr>'
        )
    return (
        '<h3>Environment</h3><div class="scroll" tabindex="0" role="region" aria-label="Environment"><table>'
        f"<caption>Environment</caption><tbody>{''.join(lines)}</tbody></table></div>"
    )


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested values by names such as "versions torch", as text."""
    found: dict[str, str] = {}
    for name, value in values.items():
        path = f"{before} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            found |= flat(value, path)
        elif isinstance(value, (list, tuple)):
            found[path] = ", ".join(map(str, value)) or MISSING
        else:
            found[path] = MISSING if value is None else str(value)
    return found


def _sources(collection: Collection) -> str:
    commands = dict.fromkeys(row.command for row in collection.rows)
    problems = "".join(f"<li>{escape(line)}</li>" for line in collection.problems)
    unread = f"<h2>Not read</h2><ul>{problems}</ul>" if problems else ""
    files = ", ".join(map(str, collection.files))
    return (
        f"<section>{unread}<h2>How these numbers were made</h2><pre>{escape(chr(10).join(commands))}</pre>"
        f'<p class="soft">{counted(len(collection.rows), "row")} of {escape(files)}.</p>'
        '<p class="save" hidden><button type="button" id="save">Save the rows as JSON Lines</button></p></section>'
    )
