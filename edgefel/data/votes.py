"""The files of votes that FER+ is published with: which one a data set's labels are of, and how the other differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgefel.errors import EdgefelError

# of the whole set, to which the published counts refer, and of one folder of images; the first one is the default
VOTES_CSV, LABELS_CSV = "fer2013new.csv", "label.csv"
VOTES_FILES = (VOTES_CSV, LABELS_CSV)
VOTED_LAYOUTS = ("fer-plus", "fer-plus-7")


@dataclass(frozen=True)
class Votes:
    """Where the labels of a data set come from.

    layout: its name with the file, as `open_dataset` takes it. other: the second file, None where there is none or it
    cannot be read. compared: images that both list; votes_differ: those with other votes; class_differs: those that
    have a class by both, and not the same one.
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
        """How the two files differ, in words; None where they do not, or there is one."""
        if self.other is None or not self.votes_differ:
            return None
        return (
            f"labels are those of {self.file}; {self.other} differs in the votes of {self.votes_differ:,} of "
            f"{self.compared:,} images and in the class of {self.class_differs:,} (--votes {self.other} takes it)"
        )


def layout_with_votes(layout: str | None, votes: str | None) -> str | None:
    """`layout` with the file of votes, such as "fer-plus-7:label.csv"; without a layout, that of all eight classes.

    Raises EdgefelError for an unknown file, a layout without votes, and one that names the other file already.
    """
    if votes is None:
        return layout
    if votes not in VOTES_FILES:
        raise EdgefelError(f"votes {votes!r}: choose one of {', '.join(VOTES_FILES)}")
    name, _, own = (layout or VOTED_LAYOUTS[0]).partition(":")
    if name not in VOTED_LAYOUTS:
        raise EdgefelError(
            f"votes {votes}: of FER+ only, and the layout is {name}; leave out one of the two options"
        )
    if own not in ("", votes):
        raise EdgefelError(f"votes {votes}: the layout {layout} names another file; leave out one of the two")
    return f"{name}:{votes}"
