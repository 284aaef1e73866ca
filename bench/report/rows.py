"""Result rows of several files: collected, grouped by device and key, and named by what differs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefel.bench.results import Row, read_results
from edgefel.errors import EdgefelError
from edgefel.text import counted

# kinds whose latency is of a model that is run, so that they stand in one table
RUNNING = ("compare", "latency")
NAMING = ("model", "precision", "backend")


@dataclass(frozen=True)
class Collection:
    """Rows of several files in the order they were read, the files, and a line for each that is no row."""

    rows: tuple[Row, ...]
    files: tuple[Path, ...]
    problems: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """In the order they first appear."""
        return tuple(dict.fromkeys(row.device for row in self.rows))

    def by_device(self) -> dict[str, list[Repeated]]:
        """The repetitions of each device."""
        groups = repetitions(self.rows).items()
        return {name: [found for (device, _), found in groups if device == name] for name in self.devices}


@dataclass(frozen=True)
class Repeated:
    """All rows of one device and key, the oldest first."""

    rows: tuple[Row, ...]

    @property
    def newest(self) -> Row:
        """The row that is shown."""
        return self.rows[-1]


def collect(paths: Iterable[Path]) -> Collection:
    """Reads files, and every *.jsonl directly in the folders.

    Raises EdgefelError for a path that is not there or cannot be read, a folder without such files, and where no line
    at all is a row.
    """
    # a file that is named twice is no repetition
    files = tuple(dict.fromkeys(file for path in paths for file in _files(path)))
    loaded = [read_results(file) for file in files]
    rows = tuple(row for one in loaded for row in one.rows)
    problems = tuple(problem for one in loaded for problem in one.problems)
    if not rows:
        why = f"; {problems[0]}" if problems else ""
        raise EdgefelError(f"{', '.join(map(str, files))}: no result rows{why}; measure with edgefel bench")
    return Collection(rows, files, problems)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise EdgefelError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.glob("*.jsonl") if file.is_file())
    if not found:
        raise EdgefelError(f"{path}: holds no *.jsonl; give a file of result rows, or a folder of them")
    return found


def repetitions(rows: Iterable[Row]) -> dict[tuple[str, str], Repeated]:
    """By (device, key); the time in the rows decides which is newest, their order where it is the same."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.device, row.key), []).append(row)
    return {name: Repeated(tuple(sorted(found, key=lambda row: row.time))) for name, found in groups.items()}


def varying(rows: Sequence[Row]) -> list[str]:
    """Fields of the subjects that do not have the same value in all rows, in the order they appear."""
    fields = dict.fromkeys(field for row in rows for field in row.subject)
    return [field for field in fields if len({str(row.subject.get(field)) for row in rows}) > 1]


def short_names(rows: Sequence[Row]) -> list[str]:
    """A short name for each row, of the fields that differ: "int8 openvino, 2 threads" where all have one model."""
    fields = varying(rows)
    names = [_short(row, fields) if fields else row.name for row in rows]
    # the same model may have been timed by two benches
    return [
        f"{name} ({row.kind})" if names.count(name) > 1 else name
        for name, row in zip(names, rows, strict=True)
    ]


def _short(row: Row, fields: Sequence[str]) -> str:
    first = [str(row.subject[field]) for field in NAMING if field in fields and row.subject.get(field)]
    others = ((field, row.subject.get(field)) for field in fields if field not in NAMING)
    rest = (described(field, value) for field, value in others if value is not None)
    return ", ".join(filter(None, (" ".join(first), *rest))) or row.name


def described(field: str, value: object) -> str:
    """A field of a subject in words: "batch 8", "1 thread"."""
    if field == "threads" and isinstance(value, int):
        return counted(value, "thread")
    return f"{field.replace('_', ' ')} {value}"


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A finite number by that name; None for anything else, which files may hold too."""
    return finite(values.get(name))


def finite(value: Any) -> float | None:
    """The value as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # JSON's integers have no end
        return None


def mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping by that name, or an empty one."""
    value = values.get(name)
    return value if isinstance(value, Mapping) else {}


def pair(value: Any) -> tuple[float, float] | None:
    """An interval as (low, high), or None."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = (finite(end) for end in value)
    return None if low is None or high is None else (low, high)


def timing(row: Row) -> Mapping[str, Any]:
    """The row's latency; empty where it has none."""
    return mapping(row.metrics, "latency_ms")


def p50(row: Row) -> float:
    """The row's median latency in ms, 0 where it has none."""
    return number(timing(row), "p50") or 0.0


def batch_size(row: Row) -> float:
    """Images of a call."""
    return number(row.subject, "batch") or 1


def steadiness(row: Row) -> tuple[bool | None, str]:
    """Whether every number of the row is stable, and the reason if not; None where nothing says so."""
    parts = (timing(row), mapping(row.metrics, "ratio"))
    judged = [part for part in parts if isinstance(part.get("stable"), bool)]
    for part in judged:
        if not part["stable"]:
            return False, str(part.get("reason") or "no reason given")
    return (True, "") if judged else (None, "")
