"""A record of three people, with a cut and an unsure stretch."""

from __future__ import annotations

import pytest
from seen_people import LABELS, played

from edgefel.runtime.stream.report.record import StreamRecord

SCRIPTS = (
    ((0, 4, "neutral"), (4, 7, "happiness"), (7, 10, "unsure")),
    ((1, 10, "anger"),),
    ((10, 14, "happiness"), (14, 20, "neutral")),
)


@pytest.fixture(scope="session")
def record() -> StreamRecord:
    found = StreamRecord(LABELS, thumbnails=True)
    for result in played(SCRIPTS, 20, cuts=[10.0]):
        found.add(result)
    found.close()
    return found
