"""Result rows: one JSON object a line, appended only, with what was measured and on what."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, parse_json
from edgefel.files.read import read_regular, reading
from edgefel.files.write import check_new_file

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
    "kernels": (),
    "kernel-model": ("bound_us", "instructions_per_unit"),
    "quantizers": (),
    "profile": ("nodes", "groups"),
}
TIMING_FIELDS = ("p50", "p90", "p95", "p99", "mean", "min", "runs")
# as `check_shape` takes them
_ROW = {
    "kind": str,
    "subject": dict,
    "metrics": dict,
    "environment": {"device": str},
    "command": str,
    "time": str,
    "notes": [str],
}
_METRICS: dict[str, Any] = {
    "latency_ms": {**dict.fromkeys(TIMING_FIELDS, float), "p50_interval": [float]},
    "ratio": {"value": float, "interval": [float]},
    "images_per_s": float,
    "floor_ms": float,
    "bound_us": float,
    "instructions_per_unit": float,
}


@dataclass(frozen=True)
class Row:
    """One measurement.

    kind: one of KINDS. subject: what was measured, plain values by name (model, precision, backend, batch,
    threads...); rows of the same kind and subject are repetitions. metrics: numbers, timings
    (`Timing.to_dict`) and ratios (`Ratio.to_dict`) by name. environment: of `environment.describe`. time:
    UTC, ISO 8601. command: as typed. notes: for the reader, such as why a row is unstable.
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
        """Equal for repetitions of one measurement, whatever the device."""
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
        return {"schema": self.schema, **asdict(self), "notes": list(self.notes)}


@dataclass(frozen=True)
class Loaded:
    """Rows that could be read, and a line for each other one."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """Rows, and why the rest was not measured, by backend or file."""

    rows: tuple[Row, ...]
    skipped: Mapping[str, str]


def check_counts(least: int = 1, why: str = "", **counts: int | Sequence[int] | None) -> None:
    """Raises EdgefelError for an option whose numbers are below `least`, or that has none; None is not checked."""
    for name, given in counts.items():
        values = (given,) if isinstance(given, int) else given
        if values is not None and (not values or min(values) < least):
            numbers = ", ".join(map(str, values)) or "none"
            raise EdgefelError(f"{name} {numbers}: give numbers of at least {least}{why}")


def check_names(what: str, names: Collection[str] | None, known: Collection[str]) -> None:
    """Raises EdgefelError for a name that is not among the known ones, and for no name; None stands for all."""
    if names is not None and not names:
        raise EdgefelError(f"no {what} is named; name one, or leave the option out")
    if unknown := [name for name in names or () if name not in known]:
        raise EdgefelError(f"{what} {unknown[0]!r} is not known; choose from: {', '.join(known)}")


def make_row(
    kind: str,
    subject: Mapping[str, Any],
    metrics: Mapping[str, Any],
    environment: Mapping[str, Any],
    notes: Iterable[str] = (),
) -> Row:
    """A row with the current time. Raises ValueError for a row that `read_results` would refuse."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    row = Row(kind, dict(subject), dict(metrics), dict(environment), command_line(), now, tuple(notes))
    if (problem := _problem(row.to_dict())) is not None:
        raise ValueError(f"{kind} row: {problem}")
    return row


def command_line() -> str:
    """What was typed, with the program by its name."""
    program = Path(sys.argv[0]).name
    return shlex.join(["edgefel" if program.startswith("edgefel") else program, *sys.argv[1:]])


def check_writable(path: Path) -> None:
    """Raises EdgefelError if rows cannot be added to the file; to be called before long measurements."""
    check_new_file(path, overwrite=True)
    if not os.access(next(one for one in (path, *path.absolute().parents) if one.exists()), os.W_OK):
        raise EdgefelError(f"{path}: cannot be written: no permission; choose another place")


def append_results(path: Path, rows: Iterable[Row]) -> None:
    """Adds rows at the end of a file, which is created if missing; existing lines are never changed.

    One write: an interrupted run leaves none, or whole lines. Raises EdgefelError if it fails.
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
    """The valid rows of a file, and a line on each other one. Raises EdgefelError for an unreadable file."""
    with reading(path):
        lines = read_regular(path).splitlines()
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
    """Why these are not a valid row; None if they are."""
    if not isinstance(values, Mapping) or "schema" not in values:
        return "not a result row: it has no schema"
    if values["schema"] != SCHEMA:
        newer = isinstance(values["schema"], int) and values["schema"] > SCHEMA
        what = "update edgefel to read it" if newer else "measure it again"
        return f"of schema {values['schema']!r}, this edgefel reads {SCHEMA}; {what}"
    if unknown := sorted(set(values) - set(_ROW) - {"schema"}):
        return f"has the unknown {', '.join(unknown)}"
    try:
        check_shape(values, _ROW, "row")
        if values["kind"] not in KINDS:
            return f"of the unknown kind {values['kind']!r}; known: {', '.join(KINDS)}"
        metrics = values["metrics"]
        if lacking := [name for name in KINDS[values["kind"]] if name not in metrics]:
            return f"{values['kind']} without {', '.join(lacking)}"
        for name, value in metrics.items():
            check_shape(value, _METRICS.get(name), name)
            _check_numbers(name, value, least=0 if name in _METRICS else -math.inf)
    except EdgefelError as error:
        return str(error).removeprefix("row: ")
    return None


def _check_numbers(name: str, value: Any, least: float) -> None:
    """Raises EdgefelError for a number that is not finite or below `least`, and an interval without two ends."""
    if isinstance(value, Mapping):
        for inner, item in value.items():
            if inner.endswith("interval") and isinstance(item, list) and len(item) != 2:
                raise EdgefelError(f"{name}: {inner} is {item!r}, no interval")
            _check_numbers(name, item, least)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(name, item, least)
    elif isinstance(value, (int, float)) and not (math.isfinite(value) and value >= least):
        raise EdgefelError(f"{name}: {value!r} is no finite number{' of at least 0' if least == 0 else ''}")
