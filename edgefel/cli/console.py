"""Where tables are printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# of files and pipes, where nothing says how wide lines may be
_WIDTH = 140


def table_console() -> Console:
    """A console on stdout, as wide as the terminal or $COLUMNS; tables are fitted so that no word or number is cut."""
    from edgefel.cli.tables import TableConsole

    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return TableConsole()
    return TableConsole(width=_WIDTH)


@contextmanager
def working(on: str) -> Iterator[None]:
    """Says on stderr what takes long while the block runs, where that is a terminal; the line goes afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(on)):
        yield
