"""Reads untrusted files, on a disk or at an address (`edgefel.files.remote`).

Regular, of bounded size, text in a known encoding; else an error in one line.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from edgefel.errors import EdgefelError
from edgefel.files.remote import as_os_error, as_path, fetch, fetch_range, is_address, open_address
from edgefel.text import one_line

# The largest texts that edgefel writes are ground truths of synthetic videos (some 10 MB) and calibration sets.
MOST_BYTES = 256 << 20


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file.

    Raises OSError whose `strerror` names what it is instead: a pipe would block, a device never ends.
    """
    # before it is opened, since opening some devices has effects, and again after, since it may be replaced
    check_regular(path)
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_mode(os.fstat(handle).st_mode, path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_regular(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file. Raises OSError for anything else, and for more than `most` bytes."""
    if is_address(path):
        return fetch(path, most)
    with open(open_regular(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(most + 1) if size <= most else b""
    if size > most or len(data) > most:  # the second: files of /proc have no size, others may be growing
        raise OSError(errno.EFBIG, f"has more than {most >> 20} MiB", str(path))
    return data


def read_range(path: str | os.PathLike[str], start: int, size: int) -> bytes:
    """`size` bytes of a file from `start` on, fewer where it ends before. Raises OSError."""
    if is_address(path):
        return fetch_range(path, start, size)
    with Path(path).open("rb", buffering=0) as stream:
        stream.seek(start)
        return stream.read(size) or b""


@contextmanager
def open_binary(path: str | os.PathLike[str], *, ahead: bool = True) -> Iterator[IO[bytes]]:
    """A regular file that can be read from any byte on; of an address only what is read is fetched. Raises OSError.

    ahead: whether it is read in order, see `open_address`.
    """
    with (
        as_os_error(),
        open_address(path, ahead=ahead) if is_address(path) else open(open_regular(path), "rb") as stream,
    ):
        yield stream


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raises OSError unless it is a regular file; for libraries that open files themselves."""
    _check_mode(Path(path).stat().st_mode, path)


def _check_mode(mode: int, path: str | os.PathLike[str]) -> None:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
    if not stat.S_ISREG(mode):
        what = next((name for test, name in kinds if test(mode)), "a device")
        raise OSError(errno.EINVAL, f"is {what}, not a regular file", str(path))


def native_path(path: str | os.PathLike[str]) -> str:
    """The path for libraries in C++. Raises EdgefelError for one that is not UTF-8: OpenCV's bindings crash."""
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EdgefelError(
            f"{text}: its name is not UTF-8, as the libraries that open it need; rename it"
        ) from None
    return text


def reason(error: OSError) -> str:
    """What went wrong, without the number and the path."""
    return one_line(error.strerror or error)


@contextmanager
def reading(path: str | os.PathLike[str], kind: str = "UTF-8 text") -> Iterator[None]:
    """Turns errors of reading and decoding a file into EdgefelError that names it."""
    try:
        with as_os_error():
            yield
    except FileNotFoundError:
        raise EdgefelError(f"{path}: no such file") from None
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be read ({reason(error)})") from None
    except UnicodeDecodeError as error:
        raise EdgefelError(
            f"{path}: cannot be read as {kind} ({position(error)}); save it as UTF-8"
        ) from None


def read_text(path: str | os.PathLike[str], most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file, or of UTF-16 with a byte order mark (Windows writes both).

    Raises EdgefelError, naming the file, for one that is missing, not regular, too large, or in another encoding.
    """
    with reading(path):
        return decoded(read_regular(path, most)).replace("\r\n", "\n").replace("\r", "\n")


def decoded(data: bytes) -> str:
    """UTF-8, with or without a byte order mark, or UTF-16 with one. Raises UnicodeDecodeError."""
    return data.decode(_encoding(data))


def _encoding(head: bytes) -> str:
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def position(error: UnicodeDecodeError) -> str:
    """Where and what: "byte 3 is 0xff"."""
    return f"byte {error.start} is 0x{error.object[error.start]:02x}"


def open_text(path: str | os.PathLike[str], errors: str = "strict") -> TextIO:
    """Opens a regular file of UTF-8 or marked UTF-16 text, to be read line by line. Raises OSError."""
    # closed with the stream of text
    raw = (
        io.BufferedReader(open_address(path)) if is_address(path) else open(open_regular(path), "rb")  # noqa: SIM115
    )
    return io.TextIOWrapper(raw, _encoding(raw.peek(2)[:2]), errors, newline="")


class CsvTable:
    """The rows of a CSV file while they are read. columns: the names in the first line, stripped."""

    def __init__(self, path: Path, lines: Iterable[str], delimiter: str) -> None:
        self.path = path
        self._reader = csv.reader(lines, delimiter=delimiter)
        self.columns = [name.strip() for name in next(self._reader, [])]

    @property
    def line(self) -> int:
        """Number of the last line read, from 1."""
        return self._reader.line_num

    def __iter__(self) -> Iterator[list[str]]:
        """The rows after the first line, without blank ones."""
        return (row for row in self._reader if row)


@contextmanager
def open_csv(path: str | os.PathLike[str]) -> Iterator[CsvTable]:
    """A CSV file as spreadsheets write it: UTF-8 or marked UTF-16, any line ends; commas, else semicolons or tabs.

    Raises EdgefelError, naming the file and line, also within the block: for one that is missing or not regular, in
    another encoding, with NUL characters, or with an unclosed quote.
    """
    path = as_path(path)
    table = None
    try:
        with reading(path, "a UTF-8 CSV file"), open_text(path) as stream:
            first = stream.readline(1 << 20)
            stream.seek(0)
            delimiter = next((mark for mark in ",;\t" if mark in first), ",")
            table = CsvTable(path, _lines(stream), delimiter)
            yield table
    except csv.Error as error:
        line = f" line {table.line}" if table is not None else ""
        raise EdgefelError(
            f"{path}{line}: cannot be read as a CSV file ({error}); is a quote not closed?"
        ) from None


def _lines(stream: TextIO) -> Iterator[str]:
    for line in stream:
        # an error in Python 3.10 and text in later versions; never part of a file name or label
        if "\0" in line:
            raise csv.Error("line contains NUL")
        yield line
