"""docs/field-cases*.md name tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES = [
    line
    for page in sorted((ROOT / "docs").glob("field-cases*.md"))
    for line in page.read_text(encoding="utf-8").splitlines()
]


def named_tests() -> list[tuple[str, str]]:
    """(file, function) of every test that the pages name; "" for a whole file."""
    found = []
    for line in LINES:
        file = ""
        for path, name in re.findall(r"`([\w/]*\.py)?(?:::(\w+))?`", line.rpartition(" | ")[2]):
            file = path or file
            if file:
                found.append((file, name))
    return found


def test_every_row_names_a_test_that_exists():
    rows = [line for line in LINES if line.startswith("| ") and not line.startswith("| case |")]
    assert len(rows) > 100
    assert [row for row in rows if "`tests/" not in row.rpartition(" | ")[2]] == []
    missing = []
    for file, name in named_tests():
        path = ROOT / file
        if not path.is_file():
            missing.append(file)
        elif name and name not in {
            node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
        }:
            missing.append(f"{file}::{name}")
    assert missing == []
