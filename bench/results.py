"""Result rows: one JSON object a line, only ever appended, each saying what was measured on what."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_json
from edgefel.files.read import read_regular, reason

SCHEMA = 1
# what each kind of row must measure
KINDS: dict[str, tuple[str, ...]] = {
    "latency": ("latency_ms",),
    "throughput": ("images_per_s", "latency_ms"),
    "compare": ("latency_ms", "ratio"),
    "train": ("images_per_s",),
    "roofline": ("floor_ms",),
    "data-path": ("images_per_s", "latency_ms"),
    "ablation": ("diverged",),
}
TIMING_FIELDS = ("p50", "p90", "p95", "p99", "mean", "min", "runs")


@dataclass(frozen=True)
class Row:
    """One measurement.

    kind: one of KINDS. subject: what was measured, plain values by name (model, precision, backend, batch, threads...);
    rows of the same kind and subject are repetitions. metrics: numbers, timings (`Timing.to_dict`) and ratios
    (`Ratio.to_dict`) by name. environment: of `environment.describe`. time: UTC, ISO 8601. command: what was typed.
    notes: what a reader must know, such as why it is unstable.
    """

    kind: str
    subject: Mapping[str, Any]
    metrics: Mapping[str, Any]
    environment: Mapping[str, Any]
    command: str
    time: str
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def device(self) -> str:
        """What it was measured on."""
        return str(self.environment["device"])

    @property
    def key(self) -> str:
        """The same for repetitions of one measurement, whatever the device."""
        return json.dumps([self.kind, self.subject], sort_keys=True)

    @property
    def name(self) -> str:
        """The subject for people: "arbex int8 onnxruntime, batch 1, 2 threads"."""
        known = ("model", "precision", "backend")
        first = " ".join(str(self.subject[field]) for field in known if self.subject.get(field))
        rest = [
            f"{field.replace('_', ' ')} {value}"
            for field, value in self.subject.items()
            if field not in known and value is not None
        ]
        return ", ".join([part for part in (first, *rest) if part]) or self.kind

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the schema first."""
        values = asdict(self)
        values["notes"] = list(self.notes)
        return {"schema": values.pop("schema"), **values}


@dataclass(frozen=True)
class Loaded:
    """Rows that could be read, and a line for each that could not."""

    rows: tuple[Row, ...] = ()
    problems: tuple[str, ...] = field(default=())


def make_row(
    kind: str,
    subject: Mapping[str, Any],
    metrics: Mapping[str, Any],
    environment: Mapping[str, Any],
    notes: Iterable[str] = (),
) -> Row:
    """A row of now. Raises ValueError if it is not one that `read_results` would take."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    row = Row(kind, dict(subject), dict(metrics), dict(environment), command_line(), now, tuple(notes))
    problem = _problem(row.to_dict())
    if problem is not None:
        raise ValueError(f"{kind} row: {problem}")
    return row


def command_line() -> str:
    """What was typed, with the program by its name."""
    program = Path(sys.argv[0]).name
    return shlex.join(["edgefel" if program.startswith("edgefel") else program, *sys.argv[1:]])


def check_writable(path: Path) -> None:
    """Raises EdgefelError if rows cannot be added to the file: to be called before measuring for minutes."""
    if path.is_dir():
        raise EdgefelError(f"{path}: is a folder; give a file for the rows, such as results.jsonl")
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if there != path and not there.is_dir():
        raise EdgefelError(f"{path}: cannot be written: {there} is not a folder; choose another place")
    if not os.access(there, os.W_OK):
        raise EdgefelError(f"{path}: cannot be written: no permission; choose another place")


def append_results(path: Path, rows: Iterable[Row]) -> None:
    """Adds rows at the end of a file, which is made if there is none; what stands in it is never changed.

    All of them in one write: an interrupted run leaves none, or whole lines. Raises EdgefelError where the file cannot
    be written.
    """
    text = "".join(json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    if not text:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # unbuffered: what a full disk refuses must not be tried again when the stream is closed
        with path.open("a+b", buffering=0) as stream:
            # a line that was cut off must not swallow the next one
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                text = text if stream.read(1) == b"\n" else "\n" + text
            data = memoryview(text.encode("utf-8", "backslashreplace"))
            try:
                while data:
                    data = data[stream.write(data) or 0 :]
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(end)
                raise
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be written: {error.strerror}; choose another place") from None


def read_results(path: Path) -> Loaded:
    """The good rows of a file, and a line on each other one. Raises EdgefelError if the file cannot be read at all."""
    try:
        lines = read_regular(path).splitlines()
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be read: {reason(error)}") from None
    rows, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = parse_json(line, "")
            problem = _problem(values)
        except EdgefelError:
            values, problem = {}, "not a line of JSON; was the file cut short?"
        if problem is None:
            rows.append(Row(**{**values, "notes": tuple(values["notes"])}))
        else:
            problems.append(f"{path}, line {number}: {problem}")
    return Loaded(tuple(rows), tuple(problems))


def _problem(values: Any) -> str | None:
    """Why these are not a row, in words; None if they are."""
    if not isinstance(values, Mapping) or "schema" not in values:
        return "not a result row: it has no schema"
    if values["schema"] != SCHEMA:
        newer = isinstance(values["schema"], int) and values["schema"] > SCHEMA
        what = "update edgefel to read it" if newer else "measure it again"
        return f"of schema {values['schema']!r}, this edgefel reads {SCHEMA}; {what}"
    kinds: dict[str, type | tuple[type, ...]] = {
        "kind": str,
        "subject": Mapping,
        "metrics": Mapping,
        "environment": Mapping,
        "command": str,
        "time": str,
        "notes": (list, tuple),
    }
    if missing := [name for name in kinds if name not in values]:
        return f"lacks {', '.join(missing)}"
    if unknown := sorted(set(values) - set(kinds) - {"schema"}):
        return f"has the unknown {', '.join(unknown)}"
    if wrong := [name for name, kind in kinds.items() if not isinstance(values[name], kind)]:
        return f"{wrong[0]} is {values[wrong[0]]!r}"
    if values["kind"] not in KINDS:
        return f"of the unknown kind {values['kind']!r}; known: {', '.join(KINDS)}"
    if not isinstance(values["environment"].get("device"), str):
        return "its environment names no device"
    metrics = values["metrics"]
    if lacking := [name for name in KINDS[values["kind"]] if name not in metrics]:
        return f"{values['kind']} without {', '.join(lacking)}"
    for name, value in metrics.items():
        problem = _METRICS.get(name, _any)(value)
        if problem is not None:
            return f"{name}: {problem}"
    return None


def _any(value: Any) -> str | None:
    return f"{value!r} is not finite" if isinstance(value, float) and not math.isfinite(value) else None


def _number(value: Any) -> str | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value < 0
    ):
        return f"{value!r} is no number of at least 0"
    return None


def _timing(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{value!r} is no timing"
    for name in TIMING_FIELDS:
        if name not in value:
            return f"lacks {name}"
        if (problem := _number(value[name])) is not None:
            return f"{name}: {problem}"
    return _interval(value.get("p50_interval"))


def _ratio(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{value!r} is no ratio"
    return _number(value.get("value")) or _interval(value.get("interval"))


def _interval(value: Any) -> str | None:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or any(_number(end) for end in value):
        return f"{value!r} is no interval"
    return None


_METRICS: dict[str, Callable[[Any], str | None]] = {
    "latency_ms": _timing,
    "ratio": _ratio,
    "images_per_s": _number,
    "floor_ms": _number,
}
