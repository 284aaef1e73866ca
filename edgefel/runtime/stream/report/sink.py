"""The report as an output of a stream: a page and, beside it, a CSV file with a row for each person."""

from __future__ import annotations

import csv
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.files.unfinished import claimed_file
from edgefel.files.write import atomic_file, check_new_file, write_text
from edgefel.runtime.stream.frames import FrameResult
from edgefel.runtime.stream.report.page import About, render
from edgefel.runtime.stream.report.record import StreamRecord
from edgefel.runtime.stream.report.tables import csv_row
from edgefel.runtime.stream.report.timeline import Person

_SUFFIXES = (".html", ".htm")


def csv_beside(page: Path) -> Path:
    """Where the CSV file of a page is."""
    return page.with_suffix(".csv")


def check_report_target(page: Path, *, overwrite: bool = False) -> None:
    """Raises EdgefelError for another suffix than .html, and where the page or its CSV file cannot be written."""
    if page.suffix.lower() not in _SUFFIXES:
        raise EdgefelError(f"{page}: a report is a page; give a name that ends in .html")
    for path in (page, csv_beside(page)):
        check_new_file(path, overwrite=overwrite)


class ReportSink:
    """Collects a stream and writes its report when it is closed; without any frame it writes nothing.

    record: what was collected. Rows of people who have gone wait in a hidden file beside the page, so that neither
    their number nor the length of the stream costs memory.
    """

    needs_image = False

    def __init__(
        self,
        page: Path,
        about: About,
        *,
        thumbnails: bool = False,
        overwrite: bool = False,
    ) -> None:
        """thumbnails: show faces. Raises EdgefelError as `check_report_target` does, and where nothing can be
        written."""
        check_report_target(page, overwrite=overwrite)
        self.path, self.table = page, csv_beside(page)
        self.record = StreamRecord(about.labels, thumbnails=thumbnails, gone=self._add_row)
        self._about, self._overwrite = about, overwrite
        self._stack = ExitStack()
        self._closed = False
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            self._rows = self._stack.enter_context(claimed_file(self.table))
            file = self._rows.open("w", newline="", encoding="utf-8")
        except OSError as error:
            self._stack.close()
            raise EdgefelError(f"{page}: cannot be written: {error.strerror}; choose another place") from None
        self._file = self._stack.enter_context(file)
        columns = list(csv_row(Person(0, about.labels, 0.0)))
        self._writer = csv.DictWriter(file, columns, lineterminator="\n")
        self._writer.writeheader()

    def write(self, result: FrameResult, image: Image | None = None) -> None:
        self.record.add(result)

    def close(self) -> None:
        """Writes the report. The CSV file is written first, since drawing takes longer."""
        if self._closed:
            return
        self._closed = True
        with self._stack:
            if not self.record.frames:
                return
            self.record.close()
            self._file.close()
            with atomic_file(self.table, replace=self._overwrite) as temporary:
                shutil.copyfile(self._rows, temporary)
            write_text(self.path, render(self.record, self._about), replace=self._overwrite)

    def _add_row(self, person: Person) -> None:
        row: dict[str, Any] = csv_row(person)
        self._writer.writerow(row)
