"""Where tables are printed."""

from __future__ import annotations

import os
import sys
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
