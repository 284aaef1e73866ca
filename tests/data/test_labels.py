"""The one owner of label order: names that may stand, and two orders matched by name."""

from __future__ import annotations

import pytest

from edgefel.data.labels import check_labels
from edgefel.errors import EdgefelError


def test_names_of_ones_own_stand() -> None:
    names = ("Freude", "tristesse profonde", "خشم‌ناک", "a;b")
    assert check_labels(list(names), "x") == names


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", "b", "a"], "'a' occurs twice"),
        (["a", "b\nc"], r"'b\\nc' has a line break"),
        (["a", "\x1b[2J"], r"'\\x1b\[2J' has a line break or control"),
        (["a", "b\u2028c"], "line break"),
        (["a", "\ud800"], "control"),
        (["a", "  "], "label 1 is empty"),
        (["a", 3], "3 is not text"),
        ([], "no labels"),
        ("abcdefg", "not a list"),
        (None, "not a list"),
    ],
)
def test_names_that_cannot_stand(labels: object, said: str) -> None:
    with pytest.raises(EdgefelError, match=f"^somewhere: .*{said}"):
        check_labels(labels, "somewhere")
