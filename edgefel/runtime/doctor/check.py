"""One thing that was looked at, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Status = Literal["ok", "note", "warn", "fail"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Check:
    """name: what was looked at. found: what is there, in one line. fix: what to do, in one line.

    ok: as it should be. note: good to know, and nothing is wrong. warn: works, worse than it could or not for all
    uses. fail: edgefel cannot be used, or not as this machine is meant to. A warning and a failure have a fix.
    """

    name: str
    status: Status
    found: str
    fix: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"{self.name}: status {self.status!r} is not one of {', '.join(STATUSES)}")
        if self.status in ("warn", "fail") and not self.fix:
            raise ValueError(f"{self.name}: a {self.status} needs a fix")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def count(checks: Iterable[Check]) -> dict[str, int]:
    """How many checks have each status."""
    found = [check.status for check in checks]
    return {status: found.count(status) for status in STATUSES}
