"""The files of votes published with FER+: the one used for a data set's labels, and how the other differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgefel.errors import EdgefelError

# for the whole set, to which the published counts refer, and for one folder of images; the first is the default
VOTES_CSV, LABELS_CSV = "fer2013new.csv", "label.csv"
VOTES_FILES = (VOTES_CSV, LABELS_CSV)
VOTED_LAYOUTS = ("fer-plus", "fer-plus-7")


@dataclass(frozen=True)
class Votes:
    """The source of a data set's labels.

    layout: its name with the file, for `open_dataset`. other: the second file, None if it is missing or unreadable.
    compared: images in both files; votes_differ: those with different votes; class_differs: those with two different
    classes.
    """

    layout: str
    file: str
    other: str | None = None
    compared: int = 0
    votes_differ: int = 0
    class_differs: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @property
    def disagreement(self) -> str | None:
        """A description of how the two files differ; None if they don't, or there is only one."""
        if self.other is None or not self.votes_differ:
            return None
        return (
            f"labels are those of {self.file}; {self.other} differs in the votes of {self.votes_differ:,} of "
            f"{self.compared:,} images and in the class of {self.class_differs:,} (--votes {self.other} takes it)"
        )


def layout_with_votes(layout: str | None, votes: str | None) -> str | None:
    """`layout` with the file of votes, such as "fer-plus-7:label.csv"; by default the layout with eight classes.

    Raises EdgefelError for an unknown file, a layout without votes, and one that already names the other file.
    """
    if votes is None:
        return layout
    if votes not in VOTES_FILES:
        raise EdgefelError(f"votes {votes!r}: choose one of {', '.join(VOTES_FILES)}")
    name, _, own = (layout or VOTED_LAYOUTS[0]).partition(":")
    if name not in VOTED_LAYOUTS:
        raise EdgefelError(f"votes {votes}: of FER+ only, and the layout is {name}; leave one of the two out")
    if own not in ("", votes):
        raise EdgefelError(f"votes {votes}: the layout {layout} names another file; leave out one of the two")
    return f"{name}:{votes}"
