"""Messages say "1 face" and "2 faces"."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgefel.text import counted, without_password

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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:p%40ss@10.0.0.7:554/a?b=c@d", "rtsp://10.0.0.7:554/a?b=c@d"),
        ("rtsp://me:p@ss@[fe80::1]:554/a", "rtsp://[fe80::1]:554/a"),
        ("http://10.0.0.7/a", "http://10.0.0.7/a"),
        ("http://host:8080/a@b.mp4", "http://host:8080/a@b.mp4"),
        ("http://[fe80::1]/a@b", "http://[fe80::1]/a@b"),
        # not percent-encoded
        ("rtsp://me:pa/ss@host/a", "rtsp://host/a"),
        ("mqtt://me:pa#ss@host/a", "mqtt://host/a"),
        ("mqtt://me:pa?ss@host", "mqtt://host"),
        ("me:pass@host/a", "host/a"),
    ],
)
def test_passwords_are_not_shown(url, shown):
    assert without_password(url) == shown


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
