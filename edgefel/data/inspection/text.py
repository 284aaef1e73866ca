"""An inspection as lines of text."""

from __future__ import annotations

from edgefel.data.inspection.inspect import Inspection
from edgefel.text import counted

_SHOWN = 5  # findings of each kind


def facts(inspection: Inspection) -> list[str]:
    """Groups, labels, sizes, copies and near-duplicates, as counts."""
    groups, sizes, copies, near = inspection.groups, inspection.sizes, inspection.copies, inspection.near
    spread = f"{groups.smallest} to {counted(groups.largest, 'image')}, median {groups.median:g}"
    lines = [
        f"groups: {groups.number}, of {spread}; {groups.across_splits} in more than one split",
        f"soft labels: {'yes' if inspection.soft_labels else 'no'}; boxes: {inspection.boxes or 'no'}",
    ]
    if sizes is not None:
        smallest, median, largest = sizes.shorter
        lines.append(
            f"shorter side: {smallest} to {counted(largest, 'pixel')}, median {median:g}; "
            f"{counted(sizes.small, 'face')} smaller than 112"
        )
        bins = ", ".join(
            f"{low}{'+' if high is None else f'-{high - 1}'}: {count}"
            for low, high, count in sizes.histogram
            if count
        )
        lines.append(f"  {bins}")
    if inspection.votes is not None:
        lines.append(f"labels: votes of {inspection.votes.file}")
    lines += [
        f"  by {one.file}: {counted(sum(one.per_split.values()), 'image')} "
        f"({', '.join(f'{name} {count}' for name, count in one.per_split.items())}); contradicting: "
        f"{counted(one.copies.contradicting, 'set')} of equal files, "
        f"{counted(one.near.contradicting, 'pair')} alike to look at"
        for one in inspection.by_file
    ]
    at_least = "" if near.complete else "at least "
    return [
        *lines,
        f"grey: {inspection.grey}; of one colour: {inspection.flat}; unreadable: {len(inspection.unreadable)}",
        f"copies: {counted(copies.sets, 'file is', 'files are')} there more than once, "
        f"{copies.superfluous} superfluous; {copies.across_splits} across splits, {copies.contradicting} "
        "under different labels",
        f"look alike (up to {near.distance} of 64 bits): {at_least}{counted(near.pairs, 'pair')}; "
        f"{near.across_splits} across splits, {near.contradicting} under different labels; "
        f"{near.within_group} more inside a group and split",
    ]


def findings(inspection: Inspection) -> list[str]:
    """The first findings of each kind, by name."""

    def named(index: int) -> str:
        seen = inspection.describe(index)
        return f"{seen['path']} ({seen['split']}, {seen['label']})"

    samples = inspection.dataset.samples
    groups, copies, near = inspection.groups, inspection.copies, inspection.near
    kinds = {
        "unreadable": (
            len(inspection.unreadable),
            [f"{samples[i].path}: {reason}" for i, reason in [*inspection.unreadable.items()][:_SHOWN]],
        ),
        "group in several splits": (
            groups.across_splits,
            [
                f"{name}: {', '.join(f'{split} {count}' for split, count in counts.items())}"
                for name, counts in groups.listed[:_SHOWN]
            ],
        ),
        "copies": (
            copies.sets - copies.within_group,
            [
                " = ".join(named(index) for index in one.indices[:2]) + (", ..." if one.count > 2 else "")
                for one in copies.listed[:_SHOWN]
            ],
        ),
        "look alike": (
            near.pairs,
            [
                f"{named(one.indices[0])} ~ {named(one.indices[1])}, {one.distance} bits"
                for one in near.listed[:_SHOWN]
            ],
        ),
    }
    lines = []
    for kind, (count, shown) in kinds.items():
        lines += [f"{kind}: {line}" for line in shown]
        if shown and count > len(shown):
            lines.append(f"{kind}: and {count - len(shown)} more")
    return lines
