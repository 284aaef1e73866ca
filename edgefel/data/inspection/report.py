"""An inspection as lines of text, and as plots: class balance, and similar images side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.data.inspection.contact_sheet import contact_sheet
from edgefel.data.inspection.inspect import Inspection
from edgefel.report.figures import new_figure
from edgefel.text import counted

_SHOWN = 5  # findings of each kind
_COLOURS = {"train": "#2166ac", "val": "#67a9cf", "test": "#ef8a62"}
_OTHER = "#999999"
_NAME, _GUTTER = 26, 250  # characters of a name, and the pixels that they take


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
    if inspection.framing is not None:
        lines.append(f"framing: {inspection.framing.summary}")
    if (votes := inspection.dataset.votes) is not None:
        lines.append(f"labels: votes of {votes.file}")
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


def balance_figure(inspection: Inspection) -> Any:
    """A matplotlib Figure, without a display: a bar per class, stacked by split, with its count and share."""
    counts = inspection.counts
    figure = new_figure(2.2 + 0.9 * len(inspection.classes), 4.4)
    axis = figure.subplots()
    positions = np.arange(len(inspection.classes))
    bottom = np.zeros(len(positions), np.int64)
    for number, split in enumerate(inspection.splits):
        axis.bar(positions, counts[:, number], 0.7, bottom, color=_COLOURS.get(split, _OTHER), label=split)
        bottom += counts[:, number]
    for position, count in zip(positions, bottom, strict=True):
        text = f"{count:,}\n{count / max(bottom.sum(), 1):.1%}"
        axis.annotate(
            text, (position, count), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8
        )
    axis.set_xticks(positions, inspection.classes, rotation=30, ha="right", rotation_mode="anchor")
    axis.set(xlabel="class", ylabel="images", ylim=(0, max(1.0, 1.16 * float(bottom.max()))))
    axis.set_title(f"{inspection.dataset.root.name}: {counted(int(bottom.sum()), 'image')}", fontsize=10)
    figure.legend(title="split", fontsize=8, loc="outside right upper")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def pairs_sheet(inspection: Inspection, rows: int = 40, side: int = 112) -> NDArray[np.uint8] | None:
    """The first pairs that look alike, RGB: a row for each, with name, split and label of both. None without pairs."""
    pairs = inspection.near.listed[:rows]
    if not pairs:
        return None
    named = []
    for pair in pairs:
        lines = [_described(inspection, index) for index in pair.indices]
        named.append(("\n".join(lines), [inspection.dataset.load(index) for index in pair.indices]))
    return contact_sheet(named, 2, side, _GUTTER)


def _described(inspection: Inspection, index: int) -> str:
    """Two lines: the end of the image's name; its split and label. OpenCV draws ASCII only."""
    seen = inspection.describe(index)
    name = Path(seen["path"]).name.encode("ascii", "replace").decode()
    return f"{name[-_NAME:]}\n  {seen['split']}, {seen['label']}"
