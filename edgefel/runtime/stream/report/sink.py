"""The report as an output of a stream: a page and, beside it, a CSV file with a row for each person."""

from __future__ import annotations

import csv
from contextlib import ExitStack, suppress
from pathlib import Path

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_file, check_new_file
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


class _Nothing(Exception):
    """There is nothing to report."""


class ReportSink:
    """Collects a stream and writes its report when it is closed; without any frame it writes nothing.

    record: what was collected. Both files wait under hidden names beside their own until then. Rows of people who have
    gone are in the file already, so that their number costs no memory.
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
        self._about, self._closed = about, False
        self._page_files, self._table_files = ExitStack(), ExitStack()
        try:
            self._page = self._page_files.enter_context(atomic_file(page, replace=overwrite))
            rows = self._table_files.enter_context(atomic_file(self.table, replace=overwrite))
            self._file = self._table_files.enter_context(rows.open("w", newline="", encoding="utf-8"))
        except OSError as error:
            self._discard()
            raise EdgefelError(f"{page}: cannot be written: {error.strerror}; choose another place") from None
        self._writer = csv.DictWriter(
            self._file, list(csv_row(Person(0, about.labels, 0.0))), lineterminator="\n"
        )
        self._writer.writeheader()

    def write(self, result: FrameResult, image: Image | None = None) -> None:
        self.record.add(result)

    def close(self) -> None:
        """Writes the report. The CSV file is complete before the page is drawn, which takes longer."""
        if self._closed:
            return
        self._closed = True
        if not self.record.frames:
            self._discard()
            return
        with self._page_files:
            with self._table_files:
                self.record.close()
            page = render(self.record, self._about)
            self._page.write_text(page, encoding="utf-8", errors="backslashreplace")

    def _discard(self) -> None:
        with suppress(_Nothing), self._page_files, self._table_files:
            raise _Nothing

    def _add_row(self, person: Person) -> None:
        self._writer.writerow(csv_row(person))
