"""Labels a source part by part, on threads or a cluster, into a folder of Parquet files; resumed where it was ended.

Each part becomes one file, whose bytes depend on nothing but the part and the network: parts are divided, and batches
of faces are formed, without regard to workers. See `edgefel.files.resumable` for what is kept of an unfinished run.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgefel import __version__
from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_json
from edgefel.files.resumable import (
    JOURNAL,
    JournalFile,
    check_outside,
    discard,
    kept_when_full,
    partial_folder,
    put_in_place,
    sweep_finished,
)
from edgefel.files.write import atomic_file, check_free, json_text, write_json
from edgefel.runtime.bulk.plan import LabelPlan, Part
from edgefel.runtime.bulk.table import Counts, errors_of
from edgefel.runtime.bulk.work import LabelledPart, Labeller, Network
from edgefel.tasks.runner import Runner
from edgefel.text import counted
from edgefel.workers import one_opencv_thread

REPORT_NAME = "label.json"
_LABELS = "labels"
_FORM, _VERSION = "edgefel-label-journal", 1
_LINE = {"part": int, "bytes": int, "counts": dict, "broken": str}


@dataclass(frozen=True)
class Done:
    """A part whose file is written. size: in bytes."""

    size: int
    counts: Counts
    broken: str


def part_name(number: int) -> str:
    """The file of a part, counted from 0."""
    return f"part-{number:06d}.parquet"


def label(
    plan: LabelPlan,
    network: Network,
    output: Path,
    runner: Runner,
    *,
    restart: bool = False,
    begin: Callable[[int, int], None] = lambda done, total: None,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Writes the labels of all parts into the folder `output`, and returns the contents of label.json beside them.

    network: as `Network.chosen` gives it. restart: discards the work of an unfinished run. begin: called with the
    number of parts that are done already, and of all. progress: called when one more is done. Images and shards that
    cannot be read are counted; shards are named, too.

    Raises EdgefelError for an output that is not empty or is in the source, unfinished work of other options or data, a
    full disk (finished parts are kept), what `Labeller` raises, and if no image can be read.
    """
    work = partial_folder(output)
    sweep_finished(work, (_LABELS,))
    check_free(output)
    check_outside(output, Path(plan.source))
    if restart:
        discard(work)
    data = {"source": plan.source, "parts": len(plan.parts), "sha256": plan.digest}
    key = {"options": network.described(), "data": data}
    with kept_when_full(work):
        (work / _LABELS).mkdir(parents=True, exist_ok=True)
        with JournalFile.open(work / JOURNAL, _FORM, _VERSION, key) as journal, one_opencv_thread():
            done = _done(journal, work / _LABELS, len(plan.parts))
            begin(len(done), len(plan.parts))
            _label_parts(plan, network, runner, journal, work / _LABELS, done, progress)
            report = _report(plan, network, done)
            if report["images"] == report["unreadable"]:
                text = _nothing_read(plan, report, work / _LABELS)
                shutil.rmtree(work, ignore_errors=True)  # nothing in it is worth keeping
                raise EdgefelError(text)
            write_json(work / _LABELS / REPORT_NAME, report)
            put_in_place(work, _LABELS, output)
            shutil.rmtree(work, ignore_errors=True)
    return report


def _label_parts(
    plan: LabelPlan,
    network: Network,
    runner: Runner,
    journal: JournalFile,
    folder: Path,
    done: dict[int, Done],
    progress: Callable[[], None],
) -> None:
    def keep(item: NumberedPart, result: LabelledPart) -> None:
        with atomic_file(folder / part_name(item.number)) as temporary:
            temporary.write_bytes(result.data)
        entered = Done(len(result.data), result.counts, result.broken or "")
        line = {
            "part": item.number,
            "bytes": entered.size,
            "counts": result.counts.to_dict(),
            "broken": entered.broken,
        }
        journal.append(json_text(line).encode() + b"\n")
        done[item.number] = entered

    items = (NumberedPart(number, part) for number, part in enumerate(plan.parts) if number not in done)
    with closing(runner.run(partial(_make, network), items, keep)) as results:
        for _ in results:
            progress()


@dataclass(frozen=True)
class NumberedPart:
    """A part with its number: an item of the run."""

    number: int
    part: Part

    @property
    def place(self) -> str:
        """For messages."""
        return self.part.place


def _make(network: Network) -> Callable[[NumberedPart, Callable[[], bool]], LabelledPart]:
    labeller = Labeller(network)
    return lambda item, stop: labeller(item.part, stop)


def _done(journal: JournalFile, folder: Path, parts: int) -> dict[int, Done]:
    """The parts whose files are there and whole; those of broken shards, which may have been repaired, are not."""
    done: dict[int, Done] = {}
    for line in journal.lines:
        try:
            said = parse_json(line, str(journal.path), _LINE)
            number = said["part"]
            entered = Done(said["bytes"], Counts.from_dict(said["counts"]), said["broken"])
        except (EdgefelError, TypeError, AttributeError):
            raise journal.refuse(line) from None
        if not 0 <= number < parts:
            raise journal.refuse(line)
        done[number] = entered
    return {
        number: one for number, one in done.items() if not one.broken and _size(folder, number) == one.size
    }


def _size(folder: Path, number: int) -> int:
    try:
        return (folder / part_name(number)).stat().st_size
    except OSError:
        return -1


def _report(plan: LabelPlan, network: Network, done: Mapping[int, Done]) -> dict[str, Any]:
    """The contents of label.json. Plain JSON values, the same however the work was divided and interrupted."""
    total = Counts()
    for number in range(len(plan.parts)):
        total.merge(done[number].counts)
    return {
        "format": "edgefel-labels",
        "version": 1,
        "edgefel": __version__,
        "source": plan.source,
        "network": network.described(),
        "parts": len(plan.parts),
        **total.to_dict(),
        "broken": [
            {"part": part_name(number), "name": plan.parts[number].name, "reason": one.broken}
            for number, one in sorted(done.items())
            if one.broken
        ],
        "left_out": dict(plan.left_out),
    }


def _nothing_read(plan: LabelPlan, report: Mapping[str, Any], labels: Path) -> str:
    text = f"{plan.source}: none of its {counted(report['images'], 'image')} can be read"
    files = (labels / part_name(number) for number in range(len(plan.parts)))
    errors = itertools.chain.from_iterable(map(errors_of, files))
    broken = ((one["name"], one["reason"]) for one in report["broken"])
    if first := next(itertools.chain(errors, broken), None):
        return f"{text}; first: {first[0]}: {first[1]}; replace it or leave it out"
    return f"{text}; is it the right folder?"
