"""Tables of docs/kernels-model.md: counts of instructions, and the bounds that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from markdown_tables import Cell, Values, device, grid, load, numbers, paragraphs, table, text

from edgefel.bench.kernels.model.pipes import PIPES

KERNEL_MODEL = "kernel-model.jsonl"
# targets and batches that are shown: many images on large GPUs, one on small ones
SHOWN = {"sm_90": 256, "sm_120": 256, "sm_87": 1, "sm_110": 1}

SUM = "sum of its launches"


def kernel_name(row: Values) -> str:
    """Of ours by its function; of others by who made it."""
    ours = f"`{row['op']}` {row['kernel'].removesuffix('_kernel')}"
    return ours if row["implementation"] == "edgefel" else f"{row['implementation']}: `{row['op']}`"


@table("kernel-pipes", KERNEL_MODEL, "kernel-model")
def kernel_pipes(rows: Sequence[Values]) -> str:
    """Instructions by pipe, and resources, on one target."""
    columns: dict[str, Cell] = {
        "sm_90": kernel_name,
        "^": "{problem}",
        "unit": "{unit}",
        "instructions": "**{instructions_per_unit:.1f}**",
        **{name: f"{{by_pipe[{name}]:.1f}}" for name in PIPES},
        "registers": "{registers}",
        "shared KiB": lambda row: f"{row['shared_bytes'] / 1024:.1f}",
        "spilled": "{spill_bytes}",
        "blocks": "{blocks_per_multiprocessor}",
    }
    # what has nearly the same code is shown once
    alike = {("level 3", "bias_kernel"), ("level 3", "delta_kernel"), ("116 to 104", "token_kernel")}
    chosen = [
        row
        for row in rows
        if (row["target"], row["batch"]) == ("sm_90", SHOWN["sm_90"])
        and row["problem"] != "level 2"
        and (row["problem"], row["kernel"]) not in alike | {("116 to 104", "backward_kernel")}
        and (row["mode"], row["kernel"]) != ("backward", "bias_kernel")
    ]
    return paragraphs(grid(chosen, columns, (0, 1, 2)), f"{device(rows)} Triton {rows[0]['triton']}.")


def bounds(keys: Iterable[Any], name: Callable[[Any], str], cell: Callable[[str, Any], str]) -> str:
    """A table of bounds: a row for each key, a column for each target that is shown."""
    columns: dict[str, Cell] = {"us": name}
    columns |= {f"{target}, batch {batch}": partial(cell, target) for target, batch in SHOWN.items()}
    return paragraphs(grid(keys, columns))


def shown(rows: Sequence[Values], attention: bool) -> list[Values]:
    """Those of the attention, or of the other ops, at the batch that is shown of each target."""
    return [
        row
        for row in rows
        if row["batch"] == SHOWN[row["target"]] and (row["op"] == "window_cross_attention") == attention
    ]


@table("kernel-bounds", KERNEL_MODEL, "kernel-model")
def kernel_bounds(rows: Sequence[Values]) -> str:
    """Lower bounds of the attention by level, with what sets them, and the sum of the backward pass's launches."""
    found: dict[tuple[str, str, str], dict[tuple[str, str], Values]] = {}
    for row in shown(rows, attention=True):
        key = row["implementation"], row["mode"], row["kernel"]
        found.setdefault(key, {})[row["target"], row["problem"]] = row
    levels = sorted({row["problem"] for row in rows if row["op"] == "window_cross_attention"})
    backward = [key for key in found if key[:2] == ("edgefel", "backward")]
    total = "edgefel", "backward", SUM
    keys = list(found)
    if backward:
        keys.insert(keys.index(backward[-1]) + 1, total)

    def name(key: tuple[str, str, str]) -> str:
        who, mode, kernel = key
        return f"{mode}: {kernel.removesuffix('_kernel')}" if who == "edgefel" else who

    def cell(target: str, key: tuple[str, str, str]) -> str:
        if key == total:
            parts = [[found[one].get((target, level)) for one in backward] for level in levels]
            # of some of the launches there is no sum
            whole = [[row["bound_us"] for row in launches if row is not None] for launches in parts]
            sums = [sum(us) for us in whole if len(us) == len(backward)]
            return ", ".join(f"**{us:.1f}**" for us in sums)
        each = (found[key].get((target, level)) for level in levels)
        return ", ".join("" if row is None else text("{bound_us:.1f} {bound_by}", row) for row in each).strip(
            ", "
        )

    return bounds(keys, name, cell)


@table("kernel-before", "kernel-model-before.jsonl", "kernel-model")
def kernel_before(before: Sequence[Values]) -> str:
    """Instructions a score and bounds of the attention's first kernels, and of today's, on one target and batch."""
    now = [
        row
        for row in shown(load(KERNEL_MODEL, "kernel-model"), attention=True)
        if (row["target"], row["implementation"]) == ("sm_90", "edgefel")
    ]

    def cell(level: str, name: str, form: str, mode: str) -> str:
        sums = (
            sum(
                row[name]
                for row in rows
                if (row["mode"], row["problem"]) == (mode, level)
                and (name == "bound_us" or row["unit"] == "score")
            )
            for rows in (before, now)
        )
        return " to ".join(format(value, form) for value in sums)

    columns: dict[str, Cell] = {"sm_90, batch 256": str}
    for level in sorted({row["problem"] for row in before}):
        columns[f"{level}: instructions a score"] = partial(cell, level, "instructions_per_unit", ".1f")
        columns[f"{level}: bound, us"] = partial(cell, level, "bound_us", ".0f")
    return paragraphs(grid(("forward", "backward"), columns), f"The first kernels. {numbers(*before)}")


@table("kernel-bounds-others", KERNEL_MODEL, "kernel-model")
def kernel_bounds_others(rows: Sequence[Values]) -> str:
    """Lower bounds of the other ops, with what sets them, and the programs of each launch."""
    found: dict[tuple[str, str, str, str], dict[str, Values]] = {}
    for row in shown(rows, attention=False):
        key = row["op"], row["problem"], row["mode"], row["kernel"]
        found.setdefault(key, {})[row["target"]] = row

    def name(key: tuple[str, str, str, str]) -> str:
        op, problem, mode, kernel = key
        return f"`{op}` {problem}, {mode}: {kernel.removesuffix('_kernel')}"

    def cell(target: str, key: tuple[str, str, str, str]) -> str:
        row = found[key].get(target)
        return "" if row is None else text("{bound_us:.2f} {bound_by} ({programs})", row)

    return bounds(found, name, cell)


@table("kernel-gpus", KERNEL_MODEL, "kernel-model")
def kernel_gpus(rows: Sequence[Values]) -> str:
    """What the bounds are stated for."""
    gpus = {row["target"]: row["gpu"] for row in rows}
    columns: dict[str, Cell] = {
        "target": lambda item: item[0],
        "": lambda item: item[1]["title"],
        "multiprocessors": lambda item: str(item[1]["multiprocessors"]),
        "MHz": lambda item: f"{item[1]['megahertz']:g}",
        "FP16 multiply-adds per clock and multiprocessor": lambda item: str(item[1]["multiply_adds"]),
        "GB/s": lambda item: f"{item[1]['bytes_per_s'] / 1e9:g}",
        "source": lambda item: ", ".join(
            f"[{number}]({source})" for number, source in enumerate(item[1]["source"].split(" and "), start=1)
        ),
    }
    return paragraphs(grid(gpus.items(), columns, (0, 1, 6)))
