"""Messages say "1 face" and "2 faces"."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgefel.text import counted

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 classes"),
        (1, "1 class"),
        (2, "2 classes"),
        (1.0, "1 class"),
        (1.5, "1.5 classes"),
        (1234567, "1234567 classes"),
        (np.int64(1), "1 class"),
        (np.float64(2), "2 classes"),
    ],
)
def test_counted(count, expected):
    assert counted(count, "class", "classes") == expected
    assert counted(count, "face") == expected.replace("classes", "faces").replace("class", "face")


NOUNS = (
    "faces|images|files|classes|labels|subjects|videos|groups|frames|cores|layers|seeds|epochs|steps|"
    "tensors|shards|engines|problems|pairs|runs"
)
# what is never one: constants, and counts that a message is about because they are others ("0 frames: give at least 1")
NEVER_ONE = (
    r"\{_?[A-Z][A-Z_]+\}",
    *(
        r": give (\d|at least|a number)",
        r"ValueError",
        r" runs( with|;| in)",
        r"one of \{",
        r"images/s",
        r"x\{own",
        r":,\} images and in the class",
        r"\{num_classes\}",
    ),
)


def test_every_message_counts_with_it():
    """A number and a plural noun in a formatted string is "1 faces" one day."""
    found = []
    for folder in ("edgefel", "bench", "calib", "export"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(file.read_text().splitlines(), start=1):
                for match in re.finditer(rf"\{{([^{{}}]*)\}} (?:[a-z]+able )?(?:{NOUNS})\b", line):
                    decimals = re.search(r":[^:]*\.\d", match[1])
                    if not decimals and not any(re.search(known, line) for known in NEVER_ONE):
                        found.append(f"{file.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []
