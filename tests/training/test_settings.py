"""Settings: checked and converted at construction."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgefel.errors import EdgefelError
from edgefel.training.settings import check_fields, setting


@dataclass(frozen=True)
class Config:
    rate: float = setting(0.5, "A rate.", minimum=0, above=True, maximum=1)
    count: int | None = setting(None, "A count.", minimum=1)
    kind: str = setting("a", "A kind.", choices=("a", "b"))
    on: bool = setting(False, "A switch.")
    paths: tuple[str, ...] = setting((), "Paths.")

    def __post_init__(self) -> None:
        check_fields(self, "part")


def test_values_are_converted():
    config = Config(rate="5e-1", count=3, paths="one")
    assert (config.rate, config.count, config.paths) == (0.5, 3, ("one",))
    assert Config(rate=1).rate == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 0}, r"part.rate is 0.0; it must be more than 0 and at most 1"),
        ({"rate": float("nan")}, r"part.rate is nan; it must be"),
        ({"count": 0}, r"part.count is 0; it must be at least 1"),
        ({"count": 1.5}, r"part.count is 1.5; it must be a whole number"),
        ({"count": True}, r"part.count is True; it must be a whole number"),
        ({"kind": "c"}, r"part.kind is 'c'; choose one of a, b"),
        ({"on": 1}, r"part.on is 1; it must be true or false"),
        ({"paths": [1]}, r"part.paths is \[1\]; it must be a list of texts"),
    ],
)
def test_what_is_wrong_is_named(values, message):
    with pytest.raises(EdgefelError, match=message):
        Config(**values)
