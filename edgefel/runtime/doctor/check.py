"""The result of one check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Status = Literal["ok", "note", "warn", "fail"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Check:
    """name: what was checked. found: the finding, in one line. fix: what to do, in one line.

    ok: as it should be. note: for information. warn: edgefel works, but not as well as it could or not for all uses.
    fail: edgefel cannot be used, or not as intended for this machine. Warnings and failures have a fix.
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
    """Number of checks by status."""
    found = [check.status for check in checks]
    return {status: found.count(status) for status in STATUSES}
