"""The tables of docs/cluster.md, and the plan to large sets, from docs/results/cluster.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_tables import grid, paragraphs, table

FRAMES = 1_000_000_000
_MACHINES = 100
_CORES = 64


@table("cluster-start", "cluster.json")
def start(found: Mapping[str, Any]) -> str:
    words = {
        "cluster": "a Ray cluster of two cores",
        "process": "a process as of `ablate`",
        "threads": "threads",
    }
    rows = [{"what": words[name], **found["start"][name]} for name in words]
    columns = {
        "until a first task is over": "{what}",
        "seconds": "{seconds:.1f}",
        "MB of further processes": "{children_mb:,}",
    }
    return paragraphs(grid(rows, columns), _source(found, "start"))


@table("cluster-rates", "cluster.json")
def rates(found: Mapping[str, Any]) -> str:
    of = found["rates"]
    rows = []
    ways = {
        "threads": "threads of one process",
        "cluster": "a cluster of two machines on one",
        "apart": "processes that nothing connects: the ideal",
    }
    for where, words in ways.items():
        if f"{where}_1" in of:  # older results lack the ideal
            one, two = of[f"{where}_1"], of[f"{where}_2"]
            rows.append(
                {"where": words, "one": one, "two": two, "ratio": of.get(f"{where}_ratio", two / one)}
            )
    columns = {
        "`edgefel label --no-detect`, images/s": "{where}",
        "1 worker": "{one:,.0f}",
        "2 workers": "{two:,.0f}",
        "ratio": "{ratio:.2f}",
    }
    repeats = f"Medians of {of['repeats']} repeats in turn. " if "repeats" in of else ""
    return paragraphs(
        grid(rows, columns),
        f"{repeats}A task that does nothing takes {of['task_ms']:.1f} ms of the cluster, which is the overhead of a "
        f"part. {_source(found, 'rates')}",
    )


@table("cluster-loss", "cluster.json")
def loss(found: Mapping[str, Any]) -> str:
    rows = []
    for name, step in (("prepare", "`data prepare`"), ("label", "`label`")):
        of = found["loss"][name]
        rows.append({"step": step, "same": _equal(of), **of})
    columns = {
        "three machines, one killed": "{step}",
        "faces": "{faces:,}",
        "done when it was killed": "{killed_after:,}",
        "tasks repeated": "{tasks_repeated}",
        "files": "{files:,}",
        "beside the run on threads": "{same}",
    }
    grids = found["ablate"]
    return paragraphs(
        grid(rows, columns),
        f"Of `edgefel ablate head` with {grids['runs']} runs, a training was killed {_times(grids['killed'])}: "
        f"its rows are {_equal(grids)}. {_source(found, 'loss')}",
    )


@table("cluster-plan", "cluster.json")
def plan(found: Mapping[str, Any]) -> str:
    """A billion frames by the rate of one core, and what the machine with the command has to take."""
    prepared = found["loss"]["prepare"]
    rates = {
        "label": found["rates"]["threads_1"],
        "data prepare": prepared["faces"] / prepared["seconds_threads"] / 2,
    }
    rows = []
    for name, rate in rates.items():
        size = found["loss"][name.removeprefix("data ")]["bytes_per_face"]
        hours = FRAMES / rate / 3600
        wall = hours / (_MACHINES * _CORES)
        gigabytes = FRAMES * size / 1e9
        rows.append(
            {
                "step": f"`{name}`",
                "rate": rate,
                "hours": hours,
                "wall": wall,
                "gigabytes": gigabytes,
                "speed": gigabytes * 1000 / (wall * 3600),
            }
        )
    columns = {
        "10^9 faces": "{step}",
        "images/s of a core": "{rate:,.0f}",
        "core hours": "{hours:,.0f}",
        f"hours of {_MACHINES} machines of {_CORES} cores": "{wall:.1f}",
        "output": "{gigabytes:,.0f} GB",
        "MB/s into the one that writes": "{speed:,.0f}",
    }
    return paragraphs(grid(rows, columns), f"From the rates above.{_busy(found, 'rates', 'loss')}")


def _equal(found: Mapping[str, Any]) -> str:
    return "the same" if found["equal"] else "not the same"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _source(found: Mapping[str, Any], step: str) -> str:
    device, load = found["environment"]["device"], found[step]["load_before"]
    # steps may be repeated one by one
    command = found[step].get("command", found["command"])
    made = f"[results/cluster.json](results/cluster.json), made by `{command}`"
    return f"{device}, load {load:g} before.{_busy(found, step)} Numbers: {made}."


def _busy(found: Mapping[str, Any], *steps: str) -> str:
    """A sentence where more processes than there are cores wanted to run before one of the steps; else ""."""
    if all(found[step]["load_before"] <= found["environment"]["cores"] for step in steps):
        return ""
    return " The machine was busy with other work: times and rates are to be repeated on a quiet one."
