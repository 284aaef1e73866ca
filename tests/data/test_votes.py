"""The choice of a file of votes, as part of a layout's name."""

from __future__ import annotations

import pytest

from edgefel.data.votes import LABELS_CSV, VOTES_CSV, Votes, layout_with_votes
from edgefel.errors import EdgefelError


@pytest.mark.parametrize(
    ("layout", "votes", "named"),
    [
        (None, None, None),
        ("raf-db", None, "raf-db"),
        (None, LABELS_CSV, "fer-plus:label.csv"),
        ("fer-plus-7", VOTES_CSV, "fer-plus-7:fer2013new.csv"),
        ("fer-plus:label.csv", LABELS_CSV, "fer-plus:label.csv"),
    ],
)
def test_a_layout_names_its_file(layout, votes, named):
    assert layout_with_votes(layout, votes) == named


@pytest.mark.parametrize(
    ("layout", "votes", "message"),
    [
        (None, "majority.csv", "'majority.csv': choose one of fer2013new.csv, label.csv"),
        ("raf-db", LABELS_CSV, r"of FER\+ only, and the layout is raf-db"),
        ("fer-plus:label.csv", VOTES_CSV, "fer-plus:label.csv names another file"),
    ],
)
def test_a_file_that_does_not_fit(layout, votes, message):
    with pytest.raises(EdgefelError, match=message):
        layout_with_votes(layout, votes)


def test_a_difference_is_described_where_there_is_one():
    assert Votes("fer-plus", VOTES_CSV).disagreement is None
    assert Votes("fer-plus", VOTES_CSV, LABELS_CSV, 35_710).disagreement is None
    assert Votes("fer-plus", VOTES_CSV, LABELS_CSV, 35_710, 1602, 119).disagreement == (
        "labels are those of fer2013new.csv; label.csv differs in the votes of 1,602 of 35,710 images and in the class "
        "of 119 (--votes label.csv takes it)"
    )
