"""Where tables are printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def table_console() -> Console:
    """A console on stdout; as wide as the terminal, or wide enough not to cut tables in files and pipes."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=140)
